"""The paired bootstrap against formulas for the spread, and McNemar against the binomial."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from shrinkkit.errors import InputError
from shrinkkit.measure import (
    Interval,
    difference,
    lead,
    mcnemar,
    paired_interval,
    perplexity,
    share,
    times,
    token_scores,
)

RNG = np.random.default_rng(0)
LEFT = (RNG.random(3000) < 0.8).astype(int)
RIGHT = np.where(RNG.random(3000) < 0.9, LEFT, 1 - LEFT)  # agrees with LEFT on nine of ten


def half_width(found: Interval) -> float:
    return (found.high - found.low) / 2


def test_a_difference_has_the_spread_of_the_differences() -> None:
    found = paired_interval(difference, LEFT, RIGHT)
    each = LEFT - RIGHT
    assert found.value == pytest.approx(each.mean())
    assert half_width(found) == pytest.approx(1.96 * each.std() / math.sqrt(3000), rel=0.05)
    # unpaired, the same two rates would be known much less well
    unpaired = 1.96 * math.sqrt((LEFT.var() + RIGHT.var()) / 3000)
    assert half_width(found) < 0.75 * unpaired


def test_a_share_has_the_spread_of_the_delta_method() -> None:
    found = paired_interval(share, RIGHT, LEFT)
    ratio = RIGHT.mean() / LEFT.mean()
    spread = (RIGHT - ratio * LEFT).std() / LEFT.mean() / math.sqrt(3000)
    assert found.value == pytest.approx(ratio)
    assert half_width(found) == pytest.approx(1.96 * spread, rel=0.05)


def test_items_that_belong_together_are_one_witness() -> None:
    doubled = [np.repeat(part, 4) for part in (LEFT, RIGHT)]
    alone = paired_interval(difference, LEFT, RIGHT)
    together = paired_interval(difference, *doubled, groups=np.repeat(np.arange(3000), 4))
    blind = paired_interval(difference, *doubled)
    assert half_width(together) == pytest.approx(half_width(alone), rel=0.05)
    assert half_width(blind) == pytest.approx(half_width(alone) / 2, rel=0.05)


def test_groups_of_unlike_sizes_weigh_by_their_items() -> None:
    a, b = [1, 1, 1, 0, 1], [0, 1, 1, 0, 0]
    found = paired_interval(difference, a, b, groups=["x", "x", "y", "y", "z"])
    assert found.value == pytest.approx(0.4)  # of items, not of groups
    # the nine draws of three groups of 2, 2 and 1 items, their differences 1, 0 and 1 items
    assert (found.low, found.high) == (0.0, 1.0)


def test_trainings_are_drawn_too() -> None:
    seeds = np.stack([LEFT, LEFT, RIGHT])  # one training of three came out otherwise
    found = paired_interval(difference, seeds, RIGHT)
    gap = LEFT.mean() - RIGHT.mean()
    assert found.value == pytest.approx(gap * 2 / 3)
    assert paired_interval(difference, [LEFT, LEFT], [LEFT, LEFT]) == Interval(0.0, 0.0, 0.0, 3000)


def test_the_luck_of_training_widens_the_interval() -> None:
    same = np.full((4, 500), 0.5)
    offsets = np.array([[-0.2], [-0.1], [0.1], [0.2]])
    found = paired_interval(difference, same + offsets, same[:1])
    spread = offsets.std() / math.sqrt(4)
    assert half_width(found) == pytest.approx(1.96 * spread, rel=0.15)


def test_losses_give_perplexity_as_a_multiple() -> None:
    found = paired_interval(times, np.log([8.0, 2.0]), np.log([4.0, 2.0]))
    assert found.value == pytest.approx(math.sqrt(2))
    assert (found.low, found.high) == pytest.approx((1.0, 2.0))


def test_lead_is_the_part_of_the_gap_to_the_rival() -> None:
    teacher, student, rival = ([1] * k + [0] * (100 - k) for k in (84, 80, 74))
    assert paired_interval(lead, student, teacher, rival).value == pytest.approx(0.6)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for draw in range(200):
        a = rng.random(150) < 0.8
        b = np.where(rng.random(150) < 0.8, a, rng.random(150) < 0.6)
        truth = 0.8 - (0.8 * 0.8 + 0.2 * 0.6)
        found = paired_interval(difference, a, b, n_resamples=500, seed=draw)
        hits += found.low <= truth <= found.high
    assert 180 <= hits <= 199  # 95 % of 200, within three standard deviations and a little


def test_same_seed_same_interval() -> None:
    a, b = (paired_interval(share, LEFT, RIGHT, seed=s) for s in (3, 3))
    assert a == b
    assert paired_interval(share, LEFT, RIGHT, seed=4) != a


@pytest.mark.parametrize(
    ("low", "high", "bound", "verdict"),
    [
        (0.96, 0.99, {"at_least": 0.95}, "holds"),
        (0.95, 0.99, {"at_least": 0.95}, "holds"),
        (0.94, 0.99, {"at_least": 0.95}, "undecided"),
        (0.90, 0.94, {"at_least": 0.95}, "not here"),
        (1.01, 1.04, {"at_most": 1.05}, "holds"),
        (1.01, 1.06, {"at_most": 1.05}, "undecided"),
        (1.06, 1.07, {"at_most": 1.05}, "not here"),
    ],
)
def test_verdicts(low: float, high: float, bound: dict, verdict: str) -> None:
    assert Interval((low + high) / 2, low, high, 9).verdict(**bound) == verdict


def test_mcnemar_is_the_binomial_of_the_decisive_items() -> None:
    a = [1] * 30 + [0] * 14 + [1] * 500 + [0] * 56
    b = [0] * 30 + [1] * 14 + [1] * 500 + [0] * 56
    found = mcnemar(a, b)
    assert (found.only_first, found.only_second) == (30, 14)
    assert found.p == pytest.approx(2 * binom.cdf(14, 44, 0.5))
    assert mcnemar(a, a).p == 1.0
    assert mcnemar(b, a).p == found.p


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_interval(share), "items is empty"),
        (lambda: paired_interval(share, [1, 0], [1]), "one result for each of the same items"),
        (lambda: paired_interval(share, [], []), "one result for each"),
        (lambda: paired_interval(share, [1, math.nan], [1, 1]), "NaN or infinity"),
        (lambda: paired_interval(share, [1], [1]), "only one group"),
        (lambda: paired_interval(share, [1, 0], [1, 1], groups=[0]), "one each"),
        (lambda: paired_interval(share, [1, 0], [1, 1], groups="aa"), "only one group"),
        (lambda: paired_interval(share, [1, 0], [0, 0]), "not a number for any draw"),
        (lambda: paired_interval(share, [[1, 0]] * 2, [[1, 1]] * 3), "as many for each"),
        (lambda: paired_interval(share, [1, 0], [1, 1], confidence=95), "between 0 and 1"),
        (lambda: paired_interval(share, [1, 0], [1, 1], n_resamples=0), "n_resamples"),
        (lambda: mcnemar([1, 2], [0, 1]), r"right \(1\) or wrong \(0\)"),
        (lambda: mcnemar([1, 0], [0]), "one result for each"),
        (lambda: Interval(1, 1, 1, 1).verdict(), "Give at_least or at_most"),
        (lambda: Interval(1, 1, 1, 1).verdict(at_least=1, at_most=1), "Give at_least or at_most"),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


def test_windows_have_their_own_losses_and_divergences(tiny_llama, noisy_llama, tokens) -> None:
    models = {"a": tiny_llama, "b": noisy_llama}
    scores = token_scores(models, tokens, batch_size=2, reference="a")
    for name, model in models.items():
        alone = [math.log(perplexity(model, window[None])) for window in tokens]
        assert scores[name].losses.tolist() == pytest.approx(alone, rel=1e-6)
    each = [
        token_scores(models, window[None], reference="a")["b"].agreement.kl for window in tokens
    ]
    assert scores["b"].agreement.kls.tolist() == pytest.approx(each, rel=1e-5)
    found = paired_interval(times, scores["b"].losses, scores["a"].losses)
    assert found.value == pytest.approx(scores["b"].perplexity / scores["a"].perplexity)
