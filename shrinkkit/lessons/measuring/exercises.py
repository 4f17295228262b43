"""Check the exercises of lesson 02: perplexity, KL divergence, an interval, a fair comparison.

Here are the inputs and the comparisons; `truths.py` has what is right, `mistakes.py` the usual
wrong answers. Each judge goes through fixed cases and then some drawn afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import Part, compare, several
from shrinkkit.checks.inputs import fresh
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.checks.results import TENSORS, number
from shrinkkit.lessons.measuring import mistakes, truths
from shrinkkit.lessons.measuring.truths import Array, random_logits

# Closed during every check.
OWN = ("shrinkkit.measure.quality", "shrinkkit.measure.tasks.analogies", "shrinkkit.measure.timing")
N_FRESH = 5


# ---------------------------------------------------------------------------- perplexity


def perplexity_cases() -> Iterator[tuple[Array, Array]]:
    """Yield logits and tokens: uneven windows, one prediction, one window, a hopeless token."""
    yield random_logits(1, 3, 7, 11, spread=1.5)
    yield random_logits(2, 1, 2, 5, spread=1.0)
    yield random_logits(3, 5, 2, 3, spread=0.7)
    yield random_logits(4, 1, 40, 17, spread=2.0)
    yield np.zeros((2, 6, 50), dtype=np.float32), random_logits(5, 2, 6, 50, spread=1.0)[1]
    logits, tokens = random_logits(6, 4, 10, 8, spread=0.5)
    logits[2, 3, tokens[2, 4]] -= 150.0  # p is 1e-65, which float32 rounds to 0
    yield logits, tokens
    logits, tokens = random_logits(7, 2, 9, 6, spread=1.0)
    yield logits + np.float32(200.0), tokens  # exp(200) is more than float32 holds
    yield logits - np.float32(200.0), tokens
    yield random_logits(8, 9, 3, 300, spread=3.0)  # a large vocabulary, a perplexity of thousands
    logits, tokens = random_logits(9, 3, 8, 5, spread=0.1)
    for window, row in enumerate(tokens):
        logits[window, np.arange(7), row[1:]] += 9.0  # a model that is nearly sure: nearly 1
    yield logits, tokens
    logits, tokens = random_logits(10, 20, 35, 9, spread=2.0)
    yield logits.astype(np.float64), tokens


def fresh_perplexity_cases() -> Iterator[tuple[Array, Array]]:
    """Draw shapes, logits and tokens."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_samples, seq_len, vocabulary = map(int, rng.integers((1, 2, 2), (6, 20, 40)))
        yield random_logits(rng, n_samples, seq_len, vocabulary, spread=rng.uniform(0.3, 2.5))


def judge_perplexity(perplexity: Attempt) -> None:
    """Check the perplexity of windows of text, from a model's logits."""
    for logits, tokens in chain(perplexity_cases(), fresh_perplexity_cases()):
        n_samples, seq_len = tokens.shape
        part = Part(
            f"the perplexity of {n_samples} window(s) of {seq_len} tokens",
            "It is exp of the mean of -log p(token), over the tokens 2 to seq_len of all windows.",
            rtol=5e-5,
            atol=0.0,
        )
        compare(perplexity, truths.perplexity, (logits, tokens), part)


# ------------------------------------------------------------------------- KL divergence


def kl_cases() -> Iterator[tuple[Array, Array]]:
    """Yield two models' logits: near, far, alike, shifted by constants, one word ruled out."""
    reference, _ = random_logits(11, 3, 5, 7, spread=1.5)
    noise, _ = random_logits(12, 3, 5, 7, spread=0.8)
    yield reference, reference + noise
    yield random_logits(13, 1, 1, 2, spread=1.0)[0], random_logits(14, 1, 1, 2, spread=1.0)[0]
    yield random_logits(15, 2, 9, 40, spread=3.0)[0], random_logits(16, 2, 9, 40, spread=0.3)[0]
    yield reference, reference.copy()
    yield reference, reference + np.float32(5.0)  # the same probabilities
    sure, _ = random_logits(17, 2, 4, 6, spread=0.5)
    surer = sure.copy()
    surer[:, :, 1] -= 130.0  # the reference's p of this word is 1e-57, which float32 rounds to 0
    yield surer, sure
    yield sure, surer  # and here the compressed model's q
    moved = np.random.default_rng(18).choice([-100, 0, 100], (3, 5, 1)).astype(np.float32)
    yield reference + moved, reference + noise - moved  # exp(100) is more than float32 holds
    yield reference, reference + np.float32(0.05) * noise  # KL is 4e-4
    yield random_logits(19, 7, 11, 200, spread=1)[0], random_logits(20, 7, 11, 200, spread=1)[0]
    yield reference.astype(np.float64), (reference + noise).astype(np.float64)


def fresh_kl_cases() -> Iterator[tuple[Array, Array]]:
    """Draw shapes and two models, near and far."""
    rng = fresh()
    for _ in range(N_FRESH):
        shape = list(map(int, rng.integers((1, 1, 2), (6, 12, 40))))
        reference, _ = random_logits(rng, *shape, spread=rng.uniform(0.3, 2.5))
        noise, _ = random_logits(rng, *shape, spread=rng.uniform(0.1, 2.0))
        yield reference, reference + noise


def judge_kl(kl_divergence: Attempt) -> None:
    """Check KL(reference || compressed) in nats, averaged over all positions."""
    for case in chain(kl_cases(), fresh_kl_cases()):
        part = Part(
            f"the KL divergence of logits {list(case[0].shape)}",
            "It is the sum of p * (log p - log q) over the vocabulary, p being the reference's "
            "probabilities; then the mean over all positions.",
            rtol=5e-5,
            atol=1e-6,
        )
        compare(kl_divergence, truths.kl_divergence, case, part)


# --------------------------------------------------------------------- Wilson's interval

# successes, n, confidence
WILSON_CASES = [
    (2, 15, 0.9),  # the simple interval begins below 0
    (34, 60, 0.95),
    (7, 40, 0.9),
    (0, 20, 0.95),
    (25, 25, 0.99),
    (1, 1, 0.6),
    (0, 1, 0.5),
    (730, 1000, 0.8),
    (499_000, 1_000_000, 0.9999),
    (3, 2000, 0.68),
    (11, 12, 0.02),
]


def fresh_wilson_cases() -> Iterator[tuple[int, int, float]]:
    """Draw counts and confidences, also those that are seldom asked for."""
    rng = fresh()
    for _ in range(N_FRESH):
        n = int(rng.choice([rng.integers(1, 10), rng.integers(1, 3000)]))
        yield int(rng.integers(0, n + 1)), n, float(rng.uniform(0.05, 0.999))


def judge_wilson_interval(wilson_interval: Attempt) -> None:
    """Check the Wilson interval of a rate, its two ends together."""
    for case in chain(WILSON_CASES, fresh_wilson_cases()):
        successes, n, confidence = case
        part = Part(
            f"the interval for {successes} of {n} at confidence {confidence:g}",
            "It has the ends (middle ± spread) / (1 + z**2 / n).",
            rtol=1e-5,
            atol=1e-7,
        )
        together = in_one_tensor(wilson_interval, 2, "return low, high")
        compare(together, truths.wilson, case, part)


# ------------------------------------------------------------------------------- speedup


def timing_cases() -> Iterator[tuple[Array, Array]]:
    """Yield milliseconds of two functions, turn by turn.

    Odd and even numbers of turns, hiccups, two turns, a "fast" one that is slower, tiny and huge
    times, ratios that rise, fall, and are all alike.
    """
    for seed, n, hiccups in [(36, 5, 0), (31, 6, 0), (32, 9, 0), (33, 10, 2), (34, 2, 0)]:
        yield times(np.random.default_rng(seed), n, hiccups=hiccups)
    yield times(np.random.default_rng(35), 25, hiccups=3)
    yield times(np.random.default_rng(37), 7, ratio=0.02)
    yield times(np.random.default_rng(38), 8, size=1e-4)
    yield times(np.random.default_rng(39), 3, size=1e4, ratio=4000.0)
    ratios = np.linspace(1.25, 3.5, 12, dtype=np.float32)
    fast = np.linspace(9, 2, 12, dtype=np.float32)
    yield ratios * fast, fast
    yield ratios[::-1] * fast, fast
    yield fast * 2, fast
    yield times(np.random.default_rng(40), 4)


def times(
    rng: np.random.Generator, n: int, *, hiccups: int = 0, size: float = 12.0, ratio: float = 2.5
) -> tuple[Array, Array]:
    """Draw n turns: a mood of the machine slows both alike, and hiccups hit the slow one alone."""
    mood = rng.uniform(0.6, 1.8, n)
    slow = ratio * size * mood * rng.uniform(0.8, 1.25, n)
    fast = size * mood * rng.uniform(0.8, 1.25, n)
    slow[:hiccups] *= 20.0
    return slow.astype(np.float32), fast.astype(np.float32)


def fresh_timing_cases() -> Iterator[tuple[Array, Array]]:
    """Draw turns."""
    rng = fresh()
    for _ in range(N_FRESH):
        size, ratio = rng.uniform(0.01, 100), rng.uniform(0.2, 9)
        yield times(rng, int(rng.integers(2, 40)), size=size, ratio=ratio)


def judge_speedup(speedup: Attempt) -> None:
    """Check the median and the quartiles of a speed-up, turn by turn."""
    for case in chain(timing_cases(), fresh_timing_cases()):
        here = f"of the speed-up over {len(case[0])} turn(s)"
        hint = "Divide slow_ms by fast_ms turn by turn; then take median and quartiles."
        parts = [
            Part(f"the {what} {here}", hint, rtol=1e-5, atol=0.0)
            for what in ("median", "lower quartile", "upper quartile")
        ]
        call = "return median, low, high"
        apart = in_one_tensor(speedup, 3, call)
        compare(lambda *given, f=apart: tuple(f(*given)), truths.speedup, case, *parts, call=call)


def in_one_tensor(attempt: Attempt, n: int, call: str) -> Callable:
    """Return the attempt with its n numbers in one float64 tensor; one of theirs may hold them."""

    def together(*given: Any) -> torch.Tensor:
        got = attempt(*given)
        if type(got) in TENSORS and not got.is_nested and got.shape == (n,):
            got = tuple(got.detach())
        elif type(got) is np.ndarray and got.shape == (n,):
            got = tuple(got)
        names = call.removeprefix("return ").split(", ")
        values = [
            number(value, f"`{name}`")
            for value, name in zip(several(got, n, call), names, strict=True)
        ]
        return torch.tensor([float(value) for value in values], dtype=torch.float64)

    return together


EXERCISES = {
    "measuring.perplexity": Exercise(judge_perplexity, OWN, mistakes.PERPLEXITY),
    "measuring.kl": Exercise(judge_kl, OWN, mistakes.KL),
    "measuring.wilson_interval": Exercise(judge_wilson_interval, OWN, mistakes.WILSON_INTERVAL),
    "measuring.speedup": Exercise(judge_speedup, OWN, mistakes.SPEEDUP),
}
