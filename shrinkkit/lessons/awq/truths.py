"""Work out the truths of lesson 06's exercises.

Everything here is numpy in float64, one channel, one row or one token at a time, from the
definitions and without the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def uneven_inputs(
    seed: int | np.random.Generator, n_tokens: int, in_features: int, largest: float = 12.0
) -> Array:
    """Draw inputs [n_tokens, in_features] float32 whose channels have very different sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.permutation(np.geomspace(0.2, largest, in_features))
    return (rng.standard_normal((n_tokens, in_features)) * sizes).astype(np.float32)


def mean_sizes(batches: Sequence[Array]) -> Array:
    """Return mean |x| of each channel over all rows of all batches, one row at a time."""
    in_features = batches[0].shape[-1]
    total, n = np.zeros(in_features), 0
    for batch in batches:
        for row in batch.reshape(-1, in_features).astype(np.float64):
            total += np.abs(row)
            n += 1
    return total / n


def scale_of(importance: Array, ratio: float) -> Array:
    """Return importance ** ratio over the root of (largest * smallest); unused channels filled."""
    sizes = importance.astype(np.float64)
    sizes = np.where(sizes > 0, sizes, sizes[sizes > 0].min())
    s = np.array([size**ratio for size in sizes])
    return s / np.sqrt(s.max() * s.min())


def round_row(row: Array, bits: int, limit: float | None = None) -> Array:
    """Round one row to a symmetric grid that reaches to `limit` (None: its largest magnitude)."""
    qmax = 2 ** (bits - 1) - 1
    limit = np.abs(row).max() if limit is None else limit
    if limit == 0:
        return np.zeros_like(row, dtype=np.float64)
    step = limit / qmax
    return step * np.clip(np.round(row / step), -qmax, qmax)


def round_rows(weight: Array, bits: int) -> Array:
    """Round every row of a weight [out, in]."""
    return np.stack([round_row(row, bits) for row in weight.astype(np.float64)])


def output_error(x: Array, weight: Array, rounded: Array) -> float:
    """Return the mean over tokens of the squared distance of a layer's outputs."""
    off = (rounded - weight.astype(np.float64)) @ x.astype(np.float64).T  # [out, n_tokens]
    return float((off**2).sum(axis=0).mean())


def ratio_errors(x: Array, weight: Array, ratios: Sequence[float], bits: int) -> Array:
    """Return the output error at each ratio: scale, round, scale back."""
    importance = mean_sizes([x])
    errors = []
    for ratio in ratios:
        s = scale_of(importance, ratio)
        errors.append(output_error(x, weight, round_rows(weight * s, bits) / s))
    return np.array(errors)


def best_ratio(x: Array, weight: Array, ratios: Sequence[float], bits: int) -> float:
    """Return the ratio with the least error."""
    return ratios[int(ratio_errors(x, weight, ratios, bits).argmin())]


def folded(
    norm: Array, weights: Sequence[Array], importance: Array, ratio: float
) -> tuple[Array, Array, list[Array]]:
    """Return s, the norm's weight over s, and each weight times s."""
    s = scale_of(importance, ratio)
    return s, norm / s, [weight * s for weight in weights]


def row_errors(x: Array, weight: Array, bits: int, shrinks: Sequence[float]) -> Array:
    """Return the squared output error of each row at each shrink, [out, n_shrinks]."""
    x = x.astype(np.float64)
    errors = np.zeros((len(weight), len(shrinks)))
    for o, row in enumerate(weight.astype(np.float64)):
        for k, shrink in enumerate(shrinks):
            off = x @ (round_row(row, bits, shrink * np.abs(row).max()) - row)
            errors[o, k] = (off**2).mean()
    return errors


def best_limits(x: Array, weight: Array, bits: int, shrinks: Sequence[float]) -> Array:
    """Return for each row the limit with the least output error, [out, 1]."""
    best = row_errors(x, weight, bits, shrinks).argmin(axis=1)
    largest = np.abs(weight.astype(np.float64)).max(axis=1)
    return (np.asarray(shrinks)[best] * largest)[:, None]
