"""Work out the truths of lesson 03's exercises.

Everything here is numpy in float64, one scale at a time, as one would do it with a pencil: slow,
plain, and independent of the package, whose functions the learner is asked to write.
"""

from __future__ import annotations

import numpy as np

from shrinkkit.checks.inputs import column_groups

Array = np.ndarray


# ---------------------------------------------------------------- symmetric rounding: the truths


def round_row(row: Array, bits: int) -> Array:
    """Round one row [n] on a symmetric grid: scale * round(row / scale), in float64."""
    row = row.astype(np.float64)
    scale = np.abs(row).max() / (2 ** (bits - 1) - 1)
    return scale * np.round(row / scale) if scale else np.zeros_like(row)


def round_groups(weight: Array, bits: int, group_size: int) -> Array:
    """Round a weight [out, in] with one scale for each group of columns of each row."""
    rounded = np.zeros(weight.shape)
    for place in column_groups(weight, group_size):
        rounded[place] = round_row(weight[place], bits)
    return rounded


def round_rows(weight: Array, bits: int) -> Array:
    """Round a weight [out, in] with one scale for each row."""
    return round_groups(weight, bits, weight.shape[1])


def away_from_ties(weight: Array, bits: int, group_size: int) -> Array:
    """Move weights that lie halfway between two grid points a tenth of a step towards zero."""
    moved = weight.astype(np.float64)
    qmax = 2 ** (bits - 1) - 1
    for place in column_groups(weight, group_size):
        group = moved[place]  # a view
        scale = np.abs(group).max() / qmax
        if scale:
            near = np.abs(np.abs(group / scale) % 1 - 0.5) < 0.05
            group[near] -= 0.1 * scale * np.sign(group[near])
    return moved.astype(weight.dtype)


def on_quarters(rng: np.random.Generator, weight: Array, bits: int, group_size: int) -> Array:
    """Put a weight of this shape on quarters of steps that are powers of two.

    Every quotient and product on the way is exact then, also in 16 bits, so that all right ways to
    round agree to the last digit: bfloat16 up to 7 bits, float16 up to 8. A group in five is zero.
    """
    exact = np.zeros(weight.shape)
    qmax = 2 ** (bits - 1) - 1
    for place in column_groups(weight, group_size):
        n = exact[place].size
        level = rng.integers(-qmax, qmax + 1, n)
        shift = rng.choice([-0.25, 0.0, 0.25], n)
        at_end = np.abs(level) == qmax
        shift[at_end] = -0.25 * np.sign(level[at_end])
        level[0], shift[0] = rng.choice([-qmax, qmax]), 0.0
        step = 2.0 ** rng.integers(-6, 4) * (rng.random() > 0.2)
        exact[place] = step * rng.permutation(level + shift)
    return exact


# ---------------------------------------------------------------- asymmetric grids


def range_qparams(weight: Array, bits: int) -> tuple[Array, Array]:
    """Return the truth of choose_qparams: scale [out, 1] float64 and zero_point [out, 1] int64."""
    low = np.minimum(weight.astype(np.float64).min(axis=1, keepdims=True), 0.0)
    high = np.maximum(weight.astype(np.float64).max(axis=1, keepdims=True), 0.0)
    scale = (high - low) / (2**bits - 1)
    scale[scale == 0] = 1.0
    return scale, np.round(-low / scale).astype(np.int64)


def ranges_on_steps(rng: np.random.Generator, shape: tuple[int, int], bits: int) -> Array:
    """Draw a weight whose ranges are whole numbers of steps, which are powers of two.

    Range, scale and zero point are exact then, also in 16 bits.
    """
    weight = np.zeros(shape)
    steps = 2**bits - 1
    for row in weight:
        below = rng.integers(0, steps + 1)  # how many steps of the range lie below zero
        row[:] = rng.integers(-below, steps - below + 1, len(row))
        row[:2] = -below, steps - below
        row[:] = 2.0 ** rng.integers(-6, 4) * rng.permutation(row)
    return weight


def has_clear_zero_points(weight: Array, bits: int) -> bool:
    """Say whether no zero point lies halfway between two integers."""
    scale, _ = range_qparams(weight, bits)
    low = np.minimum(weight.astype(np.float64).min(axis=1, keepdims=True), 0.0)
    return bool(np.abs(-low / scale % 1 - 0.5).min() > 0.02)


# ---------------------------------------------------------------- four bits in half a byte


def pack_bytes(q: Array) -> Array:
    """Pack integers -8..7, [out, in], two a byte: the left one in the low four bits."""
    out_features, in_features = q.shape
    packed = np.zeros((out_features, (in_features + 1) // 2), dtype=np.uint8)
    for i in range(out_features):
        for j in range(in_features):
            packed[i, j // 2] |= (int(q[i, j]) + 8) << (4 * (j % 2))
    return packed


def unpack_bytes(packed: Array, in_features: int) -> Array:
    """Take integers -8..7 out of bytes, [out, in_features] int64."""
    q = np.zeros((len(packed), in_features), dtype=np.int64)
    for i in range(len(q)):
        for j in range(in_features):
            q[i, j] = int(packed[i, j // 2]) // 16 ** (j % 2) % 16 - 8
    return q


# ---------------------------------------------------------------- the search for a scale


def errors_of(row: Array, bits: int, ratios: Array) -> Array:
    """Return the sum of squared errors of a row for each ratio of max|row| / qmax, [n_ratios]."""
    row = row.astype(np.float64)
    qmax = 2 ** (bits - 1) - 1
    scales = ratios.astype(np.float64)[:, None] * np.abs(row).max() / qmax
    rounded = scales * np.clip(np.round(row / scales), -qmax, qmax)  # [n_ratios, in]
    return np.sum((rounded - row) ** 2, axis=1)


def best_scales(weight: Array, bits: int, ratios: Array) -> Array:
    """Try every ratio on every row; return the scale of least squared error, [out, 1] float64."""
    scales = np.ones((len(weight), 1))
    for i, row in enumerate(weight.astype(np.float64)):
        widest = np.abs(row).max() / (2 ** (bits - 1) - 1)
        if widest:
            scales[i] = widest * float(ratios[np.argmin(errors_of(row, bits, ratios))])
    return scales


def has_clear_winner(row: Array, bits: int, ratios: Array) -> bool:
    """Say whether the least error is smaller than the next one by a margin; so is a row of zeros.

    In float32 the choice is the same then.
    """
    largest = float(np.abs(row).max()) ** 2
    if not largest or len(ratios) == 1:
        return True
    least, second = np.sort(errors_of(row, bits, ratios))[:2]
    return bool(second > 1.003 * least + 1e-6 * largest)
