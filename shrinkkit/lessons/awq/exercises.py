"""Check the exercises of lesson 06: which channels matter, and what AWQ does for them.

Here are the judges; `cases.py` draws the inputs of the searches, `truths.py` has the truths and
`mistakes.py` the usual wrong answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

import numpy as np
import torch

from shrinkkit.checks.compare import Part, close, compare, must
from shrinkkit.checks.inputs import as_given, fresh, random_weight
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.checks.results import describe, several
from shrinkkit.lessons.awq import mistakes, truths
from shrinkkit.lessons.awq.cases import Clip, Ratio, clip_case, ratio_case
from shrinkkit.lessons.awq.truths import Array, uneven_inputs

# Closed during every check.
OWN = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.ptq.awq", "shrinkkit.surgery.invariance")
RATIOS = [0.0, 0.25, 0.5, 0.75, 1.0]
SHRINKS = [1.0, 0.9, 0.8, 0.7, 0.6]
Fold = tuple[Array, list[Array], Array, float]  # norm weight, weights, importance, ratio


def batch_cases() -> Iterator[list[Array]]:
    """Yield batches: of all sizes, one alone, with a texts dimension, many, tiny, huge, dead."""
    yield [uneven_inputs(1, 7, 5), uneven_inputs(2, 2, 5), uneven_inputs(3, 12, 5)]
    yield [uneven_inputs(4, 9, 6)]
    yield [uneven_inputs(11, 1, 4)]
    yield [uneven_inputs(5, 12, 4).reshape(3, 4, 4), uneven_inputs(6, 5, 4).reshape(1, 5, 4)]
    yield [uneven_inputs(7, 6, 3) + 2.0, uneven_inputs(8, 1, 3)]
    tiny, huge = uneven_inputs(9, 130, 6) * np.float32(1e-7), uneven_inputs(10, 3, 6) * 1e4
    tiny[:, 2] = 0
    yield [tiny, tiny[:1] * 3]
    padded = huge[:2] * np.array([[0.0], [0.5]])  # a token of zeros, and zeros in another
    padded[1, ::2] = 0
    yield [huge.astype(np.float32), padded.astype(np.float32)]
    yield [uneven_inputs(20 + i, 1 + i % 3, 4) for i in range(13)]


def fresh_batch_cases() -> Iterator[list[Array]]:
    """Draw numbers of batches, their sizes, and magnitudes."""
    rng = fresh()
    for _ in range(3):
        n, size = int(rng.integers(1, 9)), np.float32(10.0 ** rng.uniform(-6, 4))
        counts = rng.integers(1, 20, int(rng.integers(1, 6)))
        yield [uneven_inputs(rng, int(count), n) * size for count in counts]


def judge_channel_importance(channel_importance: Attempt) -> None:
    """Check the size of each channel over a stream of batches."""
    for batches in chain(batch_cases(), fresh_batch_cases()):
        part = Part(
            f"the importance over {len(batches)} batches of {batches[0].shape[-1]} channels",
            "Mean of |x| of each channel, over all rows of all batches.",
            rtol=2e-5,
            atol=0,
        )
        compare(channel_importance, truths.mean_sizes, (batches,), part)


def fold_case(
    seed: int | np.random.Generator,
    n: int,
    outs: tuple[int, ...],
    ratio: float,
    unused: tuple[int, ...] = (),
    least: float = 0.1,
    most: float = 9.0,
) -> Fold:
    """Draw a scale to fold: importances between two numbers, a norm's weight of both signs."""
    rng = np.random.default_rng(seed)
    importance = rng.permutation(np.geomspace(least, most, n)).astype(np.float32)
    importance[list(unused)] = 0.0
    weights = [random_weight(rng, out, n) for out in outs]
    norm = rng.uniform(0.3, 2.0, n) * rng.choice([-1.0, 1.0], n)
    norm[0] *= 1e-4
    return norm.astype(np.float32), weights, importance, ratio


def fold_cases() -> Iterator[Fold]:
    """Yield unused channels, square readers, one reader and six, ratios 0 to 1, wide ranges."""
    yield fold_case(21, 8, (3, 8, 2), 0.25, (1, 6))  # first: it tells most mistakes apart
    yield fold_case(22, 6, (6, 3), 0.5)
    yield fold_case(23, 5, (4,), 0.8)
    yield fold_case(24, 4, (4, 4), 0.0)
    yield fold_case(25, 7, (2, 3, 4, 5, 6, 7), 1.0, (0,), 1e-5, 1e5)
    yield fold_case(26, 6, (3, 2), 0.95, (5,), 1e-7, 1e-4)
    yield fold_case(27, 5, (3,), 0.05, (), 50.0, 4e4)


def fresh_fold_cases() -> Iterator[Fold]:
    """Draw shapes, ratios, ranges and unused channels."""
    rng = fresh()
    for _ in range(4):
        n = int(rng.integers(3, 10))
        outs = tuple(map(int, rng.integers(1, 8, int(rng.integers(1, 6)))))
        unused = tuple(map(int, rng.choice(n, int(rng.integers(0, n - 1)), replace=False)))
        least = 10.0 ** rng.uniform(-6, 1)
        yield fold_case(rng, n, outs, float(rng.uniform()), unused, least, least * 1e4)


def judge_scale_and_fold(scale_and_fold: Attempt) -> None:
    """Check AWQ's scale for one ratio, and that it is folded away."""
    for case in chain(fold_cases(), fresh_fold_cases()):
        got = scale_and_fold(*as_given(list(case)))
        s, norm, weights = several(got, 3, "return s, norm_weight, weights")
        given = case[1]
        must(
            type(weights) in (list, tuple),
            "The third result should be a list with the new weights, but "
            f"{describe(weights)} was returned.",
        )
        must(
            len(weights) == len(given),
            f"{len(weights)} weights came back, and {len(given)} were given: one each.",
        )
        hints = (
            ("the scale at ratio", "s = importance ** ratio, divided by sqrt(s.max() * s.min())."),
            ("the norm's weight at ratio", "norm_weight / s."),
        )
        for number, (found, (name, hint)) in enumerate(zip((s, norm), hints, strict=True)):
            right = partial(_folded_part, case, number)
            close(found, right, f"{name} {case[3]:g}", hint, rtol=3e-5, atol=0)
        for number, found in enumerate(weights):
            name = f"weight {number + 1} of {len(weights)}"
            right = partial(_folded_part, case, 2, number)
            close(found, right, name, "weight * s.", rtol=3e-5, atol=0)


def _folded_part(case: Fold, *path: int) -> Array:
    """Return one of the arrays that are right for a case."""
    found = truths.folded(*case)
    for number in path:
        found = found[number]
    return found


def ratio_cases() -> Iterator[Ratio]:
    """Yield searches that any candidate may win, in any order, with unused channels, all sizes."""
    yield ratio_case(58, (40, 6, 12), 3, RATIOS)
    yield ratio_case(46, (25, 12, 9), 4, [0.0, 0.35, 0.6, 0.95])
    yield ratio_case(43, (30, 1, 16), 3, RATIOS, dead=(3,))
    yield ratio_case(47, (20, 5, 8), 5, [0.5, 0.0, 1.0, 0.25], dead=(0, 7), spread=300.0)
    yield ratio_case(54, (12, 3, 6), 2, [0.3, 0.6, 0.9], sizes=(1e-5, 1e-6))
    yield ratio_case(49, (16, 4, 7), 8, [1.0, 0.65, 0.0], (), (1e3, 30.0), 2.0, holes=0.4)
    flat = np.random.default_rng(45).choice([-1.0, 1.0], (16, 6)).astype(np.float32)
    yield flat, random_weight(44, 3, 6), [0.0], 3  # all channels alike: nothing to gain
    for seed in WINNERS:  # the first, the last, one behind a worse one
        yield ratio_case(seed, (24, 3, 8), 3, RATIOS, spread=40.0)


WINNERS = (37, 41, 8)


def fresh_ratio_cases() -> Iterator[Ratio]:
    """Draw a search for every number of bits."""
    rng = fresh()
    for bits in range(2, 9):
        shape = tuple(map(int, rng.integers((11, 1, 4), (24, 10, 9))))
        ratios = sorted(float(r) for r in rng.choice(np.arange(21), 4, replace=False) / 20)
        dead = [int(rng.integers(shape[2]))] if rng.random() < 0.5 else []
        sizes = tuple(10.0 ** rng.uniform(-4, 3, 2))
        yield ratio_case(rng, shape, bits, ratios, dead, sizes, float(rng.uniform(1, 60)))


def judge_search_ratio(search_ratio: Attempt) -> None:
    """Check the search over ratios: all errors, and the best ratio."""
    for case in chain(ratio_cases(), fresh_ratio_cases()):
        ratios = f"the ratios {case[2]} at {case[3]} bits"
        best, errors = several(search_ratio(*as_given(list(case))), 2, "return best, errors")
        swapped = type(best) is torch.Tensor and best.shape == (len(case[2]),)
        must(not swapped, "The two results are swapped: `return best, errors`.")
        close(
            errors,
            partial(truths.ratio_errors, *case),
            f"the errors at {ratios}",
            "For each ratio: s, then round_rows(weight * s, bits) / s, then the squared distance "
            "of the outputs from x @ weight.T, summed over outputs, averaged over tokens.",
            rtol=2e-4,
            atol=0,
        )
        hint = "The ratio with the least error."
        right = partial(truths.best_ratio, *case)
        close(best, right, f"the best of {ratios}", hint, rtol=1e-6, atol=0)


def clip_cases() -> Iterator[Clip]:
    """Yield rows that want different limits, one of zeros, tiny and huge ones, all kinds of x."""
    yield clip_case(143, (40, 8, 20), 3, SHRINKS)
    yield clip_case(71, (30, 24, 16), 4, SHRINKS, offset=1.0)
    yield clip_case(53, (50, 12, 24), 2, SHRINKS)
    yield clip_case(54, (14, 20, 9), 5, [0.95, 0.5, 0.8, 1.0], zeros=(0, 3), sizes=(1e-4, 1e-6))
    yield clip_case(55, (25, 12, 12), 8, [0.9, 1.0], sizes=(1e3, 1e3))
    yield clip_case(56, (20, 16, 10), 3, [1.0, 0.85, 0.7, 0.55, 0.4, 0.25], offset=-3.0)
    yield clip_case(57, (9, 1, 6), 4, [0.7])


def fresh_clip_cases() -> Iterator[Clip]:
    """Draw a search for every number of bits."""
    rng = fresh()
    for bits in range(2, 9):
        shape = tuple(map(int, rng.integers((6, 2, 4), (20, 7, 12))))
        shrinks = [float(s) for s in rng.choice(np.arange(8, 21), 4, replace=False) / 20]
        zeros = [0] if rng.random() < 0.3 else []
        sizes = tuple(10.0 ** rng.uniform(-4, 3, 2))
        yield clip_case(rng, shape, bits, shrinks, zeros, sizes, float(rng.uniform(-2, 2)))


def judge_search_clip(search_clip: Attempt) -> None:
    """Check the limit of each row, chosen by the error of its output."""
    for case in chain(clip_cases(), fresh_clip_cases()):
        part = Part(
            f"the limits of a weight {list(case[1].shape)} at {case[2]} bits",
            "For each row and each shrink: limit = shrink * max|row|, step = limit / qmax, round, "
            "clamp to qmax; keep the limit with the least squared error of x @ row.",
            rtol=1e-5,
            atol=0,
        )
        compare(search_clip, truths.best_limits, case, part)


EXERCISES = {
    "awq.channel_importance": Exercise(judge_channel_importance, OWN, mistakes.CHANNEL_IMPORTANCE),
    "awq.scale_and_fold": Exercise(judge_scale_and_fold, OWN, mistakes.SCALE_AND_FOLD),
    "awq.search_ratio": Exercise(judge_search_ratio, OWN, mistakes.SEARCH_RATIO),
    "awq.search_clip": Exercise(judge_search_clip, OWN, mistakes.SEARCH_CLIP),
}
