"""Work out the truths of lesson 02's exercises.

Everything is float64, one token or one number at a time, from the definitions and without the
package. Wilson's interval is not taken from its closed formula: its ends are found as those true
rates that lie exactly z standard deviations from what was observed, which is what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

Array = np.ndarray


def random_logits(
    seed: int | np.random.Generator, n_samples: int, seq_len: int, vocabulary: int, spread: float
) -> tuple[Array, Array]:
    """Draw logits [n, seq_len, vocabulary] float32 of uneven windows, and tokens [n, seq_len]."""
    rng = np.random.default_rng(seed)
    sure = spread * np.linspace(0.4, 1.6, n_samples)[:, None, None]  # windows differ in difficulty
    logits = sure * rng.standard_normal((n_samples, seq_len, vocabulary)) + 0.7
    tokens = rng.integers(0, vocabulary, (n_samples, seq_len))
    return logits.astype(np.float32), tokens


def log_softmax(logits: Array) -> Array:
    """Give log p over the last axis, in float64; the largest logit is taken out of the exp."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# ---------------------------------------------------------------- perplexity


def token_losses(logits: Array, tokens: Array) -> Array:
    """Give -log p of every token but the first of each window: [n, seq_len - 1], in nats."""
    log_p = log_softmax(logits)
    losses = np.zeros((tokens.shape[0], tokens.shape[1] - 1))
    for window, row in enumerate(tokens):
        for position, token in enumerate(row[1:]):  # the logits of `position` predict the next
            losses[window, position] = -log_p[window, position, token]
    return losses


def perplexity(logits: Array, tokens: Array) -> float:
    """Give the truth of perplexity: exp of the mean over all predicted tokens."""
    losses = token_losses(logits, tokens)
    return math.exp(math.fsum(losses.ravel()) / losses.size)


# ---------------------------------------------------------------- KL divergence


def kl_of(log_p: Array, log_q: Array) -> Array:
    """Give KL(p || q) in nats over the last axis; a p of zero adds nothing."""
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def kl_divergence(reference: Array, compressed: Array) -> float:
    """Give the truth of kl_divergence: KL(reference || compressed), mean over all positions."""
    return float(kl_of(log_softmax(reference), log_softmax(compressed)).mean())


# ---------------------------------------------------------------- Wilson's interval


def quantile_of(confidence: float) -> float:
    """Give z: the part `confidence` of a normal distribution lies between -z and z."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(successes: int, n: int, confidence: float) -> Array:
    """Give the truth of wilson_interval by bisection.

    The true rate r fits if |successes / n - r| <= z * sqrt(r * (1 - r) / n), the standard
    deviation being that of r itself. Going away from the observed rate, r stops fitting once.
    """
    z, observed = quantile_of(confidence), successes / n

    def fits(rate: float) -> bool:
        return (observed - rate) ** 2 * n <= z * z * rate * (1 - rate)

    def end(outside: float) -> float:
        inside = observed
        if fits(outside):  # nobody right: a true rate of 0 fits
            return outside
        for _ in range(200):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if fits(middle) else (inside, middle)
        return inside

    return np.array([end(0.0), end(1.0)])


# ---------------------------------------------------------------- turn by turn


def percentile(samples: Sequence[float], share: float) -> float:
    """Give the value below which `share` of the samples lie, between two by a straight line."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    left = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
    right = min(left + 1, len(ordered) - 1)
    return ordered[left] + (place - left) * (ordered[right] - ordered[left])


def speedup(slow: Array, fast: Array) -> list[float]:
    """Give the truth of speedup: median, lower and upper quartile of the ratios of the turns."""
    ratios = [float(a) / float(b) for a, b in zip(slow, fast, strict=True)]
    return [percentile(ratios, share) for share in (0.5, 0.25, 0.75)]
