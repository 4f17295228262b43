"""Work out the truths of lesson 03's exercises.

Everything here is numpy in float64, one scale at a time, as one would do it with a pencil: slow,
plain, and independent of the package, whose functions the learner is asked to write.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


# ---------------------------------------------------------------- symmetric rounding: the truths


def round_row(row: Array, bits: int, scale: float | None = None) -> Array:
    """Round one row [n] on a symmetric grid: scale * clamp(round(row / scale)), in float64.

    scale: None for max|row| / qmax.
    """
    row = row.astype(np.float64)
    qmax = 2 ** (bits - 1) - 1
    if scale is None:
        scale = np.abs(row).max() / qmax
    if scale == 0:
        return np.zeros_like(row)
    return scale * np.clip(np.round(row / scale), -qmax, qmax)


def round_groups(weight: Array, bits: int, group_size: int) -> Array:
    """Round a weight [out, in] with one scale for each group of columns of each row."""
    rounded = np.zeros(weight.shape)
    for i in range(weight.shape[0]):
        for start in range(0, weight.shape[1], group_size):
            stop = start + group_size
            rounded[i, start:stop] = round_row(weight[i, start:stop], bits)
    return rounded


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


def pack_bytes(q: Array) -> Array:
    """Pack integers -8..7, [out, in], two a byte: the left one in the low four bits."""
    out_features, in_features = q.shape
    packed = np.zeros((out_features, (in_features + 1) // 2), dtype=np.uint8)
    for i in range(out_features):
        for j in range(in_features):
            packed[i, j // 2] |= (int(q[i, j]) + 8) << (4 * (j % 2))
    return packed


# ---------------------------------------------------------------- the search for a scale


def best_scales(weight: Array, bits: int, ratios: Array) -> Array:
    """Try every ratio on every row; return the scale of least squared error, [out, 1] float64."""
    scales = np.ones((len(weight), 1))
    for i, row in enumerate(weight.astype(np.float64)):
        widest = np.abs(row).max() / (2 ** (bits - 1) - 1)
        if widest:
            tried = [float(r) * widest for r in ratios]
            errors = [np.sum((round_row(row, bits, scale) - row) ** 2) for scale in tried]
            scales[i] = tried[int(np.argmin(errors))]
    return scales
