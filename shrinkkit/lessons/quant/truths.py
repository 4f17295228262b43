"""Work out the truths of lesson 03's exercises.

Everything here is numpy in float64, one scale at a time, as one would do it with a pencil: slow,
plain, and independent of the package, whose functions the learner is asked to write. The options
(`rounding=np.floor`, `clamp=False`) are there for `quantization_mistakes.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Rounding = Callable[[Array], Array]


# ---------------------------------------------------------------- symmetric rounding: the truths


def round_row(
    row: Array,
    bits: int,
    *,
    scale: float | None = None,
    rounding: Rounding = np.round,
    steps: int | None = None,
    clamp: bool = True,
) -> Array:
    """Round one row [n] on a symmetric grid: scale * clamp(round(row / scale)), in float64.

    scale: None for max|row| / steps; steps: None for qmax = 2**(bits-1) - 1.
    """
    row = row.astype(np.float64)
    qmax = 2 ** (bits - 1) - 1
    if scale is None:
        scale = np.abs(row).max() / (steps or qmax)
    if scale == 0:
        return np.zeros_like(row)
    q = rounding(row / scale)
    return scale * (np.clip(q, -qmax, qmax) if clamp else q)


def round_groups(weight: Array, bits: int, group_size: int, **how: object) -> Array:
    """Round a weight [out, in] with one scale for each group of columns of each row."""
    rounded = np.zeros(weight.shape)
    for i in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group_size):
            stop = start + group_size
            rounded[i, start:stop] = round_row(weight[i, start:stop], bits, **how)
    return rounded


def integers(weight: Array, bits: int, group_size: int) -> Array:
    """Return the integers of the symmetric grid instead of the real values."""
    qmax = 2 ** (bits - 1) - 1
    q = np.zeros(weight.shape)
    for i in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group_size):
            group = weight[i, start : start + group_size].astype(np.float64)
            top = np.abs(group).max()
            q[i, start : start + group_size] = np.round(group * qmax / top) if top else 0
    return q


def away_from_ties(weight: Array, bits: int, group_size: int) -> Array:
    """Move weights that lie halfway between two grid points a tenth of a step towards zero."""
    moved = weight.astype(np.float64)
    qmax = 2 ** (bits - 1) - 1
    for i in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group_size):
            group = moved[i, start : start + group_size]  # a view
            scale = np.abs(group).max() / qmax
            if scale:
                near = np.abs(np.abs(group / scale) % 1 - 0.5) < 0.05
                group[near] -= 0.1 * scale * np.sign(group[near])
    return moved.astype(weight.dtype)


# ---------------------------------------------------------------- asymmetric grids


def range_qparams(weight: Array, bits: int) -> tuple[Array, Array]:
    """Return the truth of choose_qparams: scale [out, 1] float64 and zero_point [out, 1] int64."""
    low = np.minimum(weight.astype(np.float64).min(axis=1, keepdims=True), 0.0)
    high = np.maximum(weight.astype(np.float64).max(axis=1, keepdims=True), 0.0)
    scale = (high - low) / (2**bits - 1)
    scale[scale == 0] = 1.0
    return scale, np.round(-low / scale).astype(np.int64)


# ---------------------------------------------------------------- four bits in half a byte


def pack_bytes(q: Array, *, offset: int = 8, swap: bool = False) -> Array:
    """Pack integers -8..7, [out, in], two a byte: the left one in the low four bits."""
    out_features, in_features = q.shape
    packed = np.zeros((out_features, (in_features + 1) // 2), dtype=np.uint8)
    for i in range(out_features):
        for j in range(in_features):
            code = (int(q[i, j]) + offset) & 15
            packed[i, j // 2] |= code << (4 * ((j + swap) % 2))
    return packed


# ---------------------------------------------------------------- the search for a scale


def best_scales(
    weight: Array,
    bits: int,
    ratios: Array,
    *,
    cost: Callable[[Array], float] = lambda error: float(np.sum(error**2)),
    clamp: bool = True,
    in_steps: bool = False,
) -> Array:
    """Try every ratio on every row and return the cheapest scale, [out, 1] float64.

    cost: of a row's errors; in_steps: errors are counted in steps of the scale.
    """
    scales = np.ones((len(weight), 1))
    for i, row in enumerate(weight.astype(np.float64)):
        widest = np.abs(row).max() / (2 ** (bits - 1) - 1)
        if widest:
            tried = [float(r) * widest for r in ratios]
            errors = [round_row(row, bits, scale=s, clamp=clamp) - row for s in tried]
            units = tried if in_steps else [1.0] * len(tried)
            costs = [cost(error / unit) for error, unit in zip(errors, units, strict=True)]
            scales[i] = tried[int(np.argmin(costs))]
    return scales
