"""Check the exercises of lesson 02: perplexity, KL divergence, an interval, a fair comparison.

Here are the inputs and the comparisons; `truths.py` has what is right, `mistakes.py` the usual
wrong answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import close, describe, must
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.measuring import mistakes, truths
from shrinkkit.lessons.measuring.truths import Array, random_logits

# Closed during every check.
OWN = ("shrinkkit.measure.quality", "shrinkkit.measure.analogies", "shrinkkit.measure.timing")


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


def judge_perplexity(perplexity: Attempt) -> None:
    """Check the perplexity of windows of text, from a model's logits."""
    for logits, tokens in perplexity_cases():
        n_samples, seq_len = tokens.shape
        close(
            perplexity(torch.from_numpy(logits), torch.from_numpy(tokens)),
            truths.perplexity(logits, tokens),
            f"the perplexity of {n_samples} window(s) of {seq_len} tokens",
            "It is exp of the mean of -log p(token), over the tokens 2 to seq_len of all windows.",
        )


def kl_cases() -> Iterator[tuple[Array, Array]]:
    """Yield two models' logits: near, far, alike, shifted by a constant, one word ruled out."""
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


def judge_kl(kl_divergence: Attempt) -> None:
    """Check KL(reference || compressed) in nats, averaged over all positions."""
    for reference, compressed in kl_cases():
        close(
            kl_divergence(torch.from_numpy(reference), torch.from_numpy(compressed)),
            truths.kl_divergence(reference, compressed),
            f"the KL divergence of logits {list(reference.shape)}",
            "It is the sum of p * (log p - log q) over the vocabulary, p being the reference's "
            "probabilities; then the mean over all positions.",
            atol=1e-5,
        )


# successes, n, confidence
WILSON_CASES = [
    (2, 15, 0.9),  # the simple interval begins below 0
    (34, 60, 0.95),
    (7, 40, 0.9),
    (0, 20, 0.95),
    (25, 25, 0.99),
    (1, 1, 0.6),
    (730, 1000, 0.8),
]


def judge_wilson_interval(wilson_interval: Attempt) -> None:
    """Check the Wilson interval of a rate, its two ends together."""
    for successes, n, confidence in WILSON_CASES:
        got = wilson_interval(successes, n, confidence)
        close(
            numbers(got, 2, "return low, high"),
            torch.tensor(truths.wilson(successes, n, confidence), dtype=torch.float64),
            f"the interval for {successes} of {n} at confidence {confidence}",
            "It has the ends (middle ± spread) / (1 + z**2 / n).",
        )


def timing_cases() -> Iterator[tuple[Array, Array]]:
    """Yield milliseconds of two functions, turn by turn: odd, even, with hiccups, one turn."""
    for seed, sizes in [
        (36, [(5, 0)]),
        (31, [(6, 0), (9, 0), (10, 2), (1, 0), (2, 0), (25, 3)]),
    ]:
        rng = np.random.default_rng(seed)
        for n, hiccups in sizes:
            mood = rng.uniform(0.6, 1.8, n)  # what slows the machine slows both
            slow = 30.0 * mood * rng.uniform(0.8, 1.25, n)
            fast = 12.0 * mood * rng.uniform(0.8, 1.25, n)
            slow[:hiccups] *= 20.0
            yield slow.astype(np.float32), fast.astype(np.float32)


def judge_speedup(speedup: Attempt) -> None:
    """Check the median and the quartiles of a speed-up, turn by turn."""
    for slow, fast in timing_cases():
        got = numbers(
            speedup(torch.from_numpy(slow), torch.from_numpy(fast)), 3, "return median, low, high"
        )
        right = truths.speedup(slow, fast)
        for i, part in enumerate(("median", "lower quartile", "upper quartile")):
            close(
                got[i],
                right[i],
                f"the {part} of the speed-up over {len(slow)} turn(s)",
                "Divide slow_ms by fast_ms turn by turn; then take median and quartiles.",
            )


def numbers(got: Any, n: int, call: str) -> torch.Tensor:
    """Turn a learner's n numbers, in a tuple, a list or a 1-D tensor, into a float64 tensor."""
    several = isinstance(got, (tuple, list)) or np.ndim(got) == 1
    try:
        values = [float(value) for value in got] if several else []
    except (TypeError, ValueError):
        values = []
    must(len(values) == n, f"{n} numbers should come back (`{call}`), but got: {describe(got)}.")
    return torch.tensor(values, dtype=torch.float64)


EXERCISES = {
    "measuring.perplexity": Exercise(judge_perplexity, OWN, mistakes.PERPLEXITY),
    "measuring.kl": Exercise(judge_kl, OWN, mistakes.KL),
    "measuring.wilson_interval": Exercise(judge_wilson_interval, OWN, mistakes.WILSON_INTERVAL),
    "measuring.speedup": Exercise(judge_speedup, OWN, mistakes.SPEEDUP),
}
