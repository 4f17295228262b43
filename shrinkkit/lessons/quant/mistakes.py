"""Work out what the usual mistakes of lesson 03's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shrinkkit.lessons.quant.truths import (
    Array,
    best_scales,
    integers,
    pack_bytes,
    range_qparams,
    round_groups,
    round_row,
)


def rtn_mistakes(weight: Array, bits: int) -> dict[str, Array]:
    """Name mistakes in rounding a weight [out, in] with one scale a row."""
    out_features, columns = weight.shape
    qmax = 2 ** (bits - 1) - 1
    nan_rows = round_groups(weight, bits, columns)
    nan_rows[np.abs(weight).max(axis=1) == 0] = np.nan
    with np.errstate(all="ignore"):
        largest = weight.astype(np.float64).max(axis=1, keepdims=True) / qmax
        by_largest = np.clip(np.round(weight / largest), -qmax, qmax) * largest
    return {
        "the integers q came back: multiply them by scale": integers(weight, bits, columns),
        "values were rounded down (floor), not to the nearest": round_groups(
            weight, bits, columns, rounding=np.floor
        ),
        "fractions were cut off (a cast to int does that), not rounded": round_groups(
            weight, bits, columns, rounding=np.trunc
        ),
        "the whole matrix shares one scale: take the maximum over dim=1 only": round_groups(
            weight, bits, columns, scale=np.abs(weight).max() / qmax
        ),
        "each column has a scale: the maximum was taken over dim=0, and should run along the row, "
        "over dim=1": round_groups(weight.T, bits, out_features).T,
        "the scale is max|row| / 2**(bits-1), one step too many: qmax = 2**(bits-1) - 1": (
            round_groups(weight, bits, columns, steps=qmax + 1)
        ),
        "the scale is max|row| / (2**bits - 1), the steps of the whole range: a symmetric grid "
        "has qmax = 2**(bits-1) - 1 of them on each side": round_groups(
            weight, bits, columns, steps=2**bits - 1
        ),
        "the scale comes from the largest value, not the largest magnitude: take abs() first": (
            by_largest
        ),
        "a row of zeros was divided by a scale of zero: give it any scale, such as 1": nan_rows,
    }


def scale_mistakes(weight: Array, bits: int) -> dict[str, Array]:
    """Name mistakes in the scale of an asymmetric grid, one for each row."""
    steps = 2**bits - 1
    scale, _ = range_qparams(weight, bits)
    low = weight.astype(np.float64).min(axis=1, keepdims=True)
    high = weight.astype(np.float64).max(axis=1, keepdims=True)
    columns, _ = range_qparams(weight.T, bits)
    whole, _ = range_qparams(weight.reshape(1, -1), bits)
    leaves_zero_out = (
        "the range leaves zero out: lower `low` to at most 0 and raise `high` to at least 0, so "
        "that a weight of zero stays exactly zero"
    )
    wrong_dim = "each column has a scale: take minimum and maximum over dim=1"
    return {
        "the range was divided by 2**bits: so many levels have 2**bits - 1 steps between them": (
            scale * steps / 2**bits
        ),
        leaves_zero_out: np.where(high > low, (high - low) / steps, 1.0),
        f"{leaves_zero_out} (and give a row of zeros scale 1)": (high - low) / steps,
        "this is the scale of a symmetric grid, max|row| / qmax": (
            np.maximum(np.abs(low), np.abs(high)) / (2 ** (bits - 1) - 1)
        ),
        wrong_dim: columns.T,
        f"{wrong_dim}, with keepdim=True": columns[:, 0],
        "keepdim=True is missing where you take minimum and maximum": scale[:, 0],
        "the whole matrix shares one scale: take minimum and maximum over dim=1": np.full(
            scale.shape, whole.item()
        ),
        "a row of zeros has a scale of zero: give it scale 1": np.where(
            (high == 0) & (low == 0), 0.0, scale
        ),
    }


def zero_point_mistakes(weight: Array, bits: int) -> dict[str, Array]:
    """Name mistakes in the zero point of an asymmetric grid, one for each row."""
    scale, zero_point = range_qparams(weight, bits)
    low = np.minimum(weight.astype(np.float64).min(axis=1, keepdims=True), 0)
    return {
        "its sign is turned: real = scale * (q - zero_point), and low has q = 0": -zero_point,
        "it was rounded down (floor or a cast to int), not to the nearest": np.floor(-low / scale),
        "it is meant for integers from -2**(bits-1): this grid starts at q = 0": (
            zero_point - 2 ** (bits - 1)
        ),
        "keepdim=True is missing where you take the minimum": zero_point[:, 0],
    }


def group_mistakes(weight: Array, bits: int, group_size: int) -> dict[str, Array]:
    """Name mistakes in rounding a weight [out, in] with one scale a group of columns."""
    in_features = weight.shape[1]
    whole = in_features // group_size * group_size
    right = round_groups(weight, bits, group_size)
    untouched, zeroed, merged = right.copy(), right.copy(), right.copy()
    untouched[:, whole:] = weight[:, whole:]
    zeroed[:, whole:] = 0
    joined = max(whole - group_size, 0)  # the last whole group swallows the rest
    merged[:, joined:] = round_groups(weight[:, joined:], bits, in_features)
    mistakes = {
        "each row has one scale: group_size was not used": round_groups(weight, bits, in_features),
        "groups run down the columns: a group is group_size neighbours in one row": round_groups(
            weight.T, bits, group_size
        ).T,
        "the short last group was left as it is": untouched,
        "the short last group became zeros": zeroed,
        "the short last group shares the scale of the group before it": merged,
        "the short last group was cut off": right[:, :whole],
        "the padding of the last group came back too: cut it off again": np.pad(
            right, ((0, 0), (0, -in_features % group_size))
        ),
        "the integers q came back: multiply them by scale": integers(weight, bits, group_size),
        "values were rounded down (floor), not to the nearest": round_groups(
            weight, bits, group_size, rounding=np.floor
        ),
    }
    if weight.size % group_size == 0:
        mistakes["a group runs on from the end of one row into the next row"] = round_groups(
            weight.reshape(1, -1), bits, group_size
        ).reshape(weight.shape)
    return mistakes


def pack_mistakes(q: Array) -> dict[str, Array]:
    """Name mistakes in packing integers -8..7, [out, in], two a byte."""
    width = q.shape[1]
    half = (width + 1) // 2
    padded = np.pad(q, ((0, 0), (0, width % 2))).astype(np.int64)  # an even number of columns
    left, right = padded[:, 0::2], padded[:, 1::2]
    first, second = padded[:, :half] + 8, padded[:, half:] + 8
    return {
        "the two nibbles are swapped: the left integer belongs into the low four bits": pack_bytes(
            q, swap=True
        ),
        "8 was not added: -8..7 is stored as 0..15": pack_bytes(q, offset=0),
        "8 was not added, so that the upper bits of a negative integer, all ones, ran over its "
        "neighbour": (left | right << 4) & 255,
        "column j shares a byte with column j + in_features / 2: a byte holds neighbours": (
            first | second << 4
        ),
        "the last column of an odd row was dropped": pack_bytes(q)[:, : width // 2],
        "pairs were made down the rows: a byte holds two neighbours of one row": pack_bytes(q.T).T,
        "nothing was packed: each integer still takes a byte of its own": q + 8,
        "nothing was packed, and 8 was not added": q,
    }


def unpack_mistakes(q: Array) -> dict[str, Array]:
    """Name mistakes in taking integers -8..7, [out, in], out of their bytes."""
    width = q.shape[1]
    codes = np.pad(q, ((0, 0), (0, width % 2)), constant_values=-8).astype(np.int64)
    low, high = codes[:, 0::2], codes[:, 1::2]

    def interleave(first: Array, second: Array) -> Array:
        return np.stack([first, second], axis=2).reshape(len(q), -1)

    return {
        "8 was not subtracted again": q + 8,
        "8 was subtracted in uint8, which has no negative numbers and goes on from 255: convert to "
        "a signed dtype first": np.where(q < 0, q.astype(np.int64) + 256, q),
        "the two nibbles are swapped": interleave(high, low)[:, :width],
        "all low nibbles came first and then all high ones: they alternate": np.concatenate(
            [low, high], axis=1
        )[:, :width],
        "the free nibble of an odd row came back as a column: cut it off": codes,
        "the high nibble kept its place value: shift it down by four bits": interleave(
            low, (high + 8) * 16 - 8
        )[:, :width],
    }


def clip_mistakes(weight: Array, bits: int, ratios: Array) -> dict[str, Array]:
    """Name mistakes in the search for the scale with the least squared error of each row."""
    qmax = 2 ** (bits - 1) - 1
    right = best_scales(weight, bits, ratios)
    live = np.abs(weight).max(axis=1, keepdims=True) > 0  # rows that are not all zero
    widest = np.where(live, np.abs(weight).max(axis=1, keepdims=True) / qmax, 1.0)

    def total(ratio: float) -> float:
        scales = np.where(live, widest * ratio, 1.0)[:, 0]
        rows = zip(weight, scales, strict=True)
        return sum(float(np.sum((round_row(r, bits, scale=s) - r) ** 2)) for r, s in rows)

    def searched(cost: Callable[[Array], float], clamp: bool = True) -> Array:
        return best_scales(weight, bits, ratios, cost=cost, clamp=clamp)

    return {
        "no ratio was tried: this is max|row| / qmax": widest,
        "the last ratio won every time: keep the scale of the smallest error": np.where(
            live, widest * ratios[-1], 1.0
        ),
        "q was not clamped to [-qmax, qmax] after the scale shrank": searched(
            lambda error: np.sum(error**2), clamp=False
        ),
        "the largest error won: look for the smallest": searched(lambda error: -np.sum(error**2)),
        "errors were summed without squaring them, so that they cancel": searched(
            lambda error: abs(np.sum(error))
        ),
        "errors were summed without squaring them, so that the most negative sum won": searched(
            lambda error: np.sum(error)
        ),
        "absolute errors were summed, not squared ones": searched(
            lambda error: np.sum(np.abs(error))
        ),
        "the worst single error decided, not the sum of squares": searched(
            lambda error: np.max(np.abs(error))
        ),
        "errors were measured in steps, which favours large steps: multiply q by the scale first": (
            best_scales(weight, bits, ratios, in_steps=True)
        ),
        "one ratio was chosen for all rows together": np.where(
            live, widest * min(ratios, key=total), 1.0
        ),
        "the ratio came back: multiply it by max|row| / qmax": np.where(live, right / widest, 1.0),
        "the clipped range came back: divide it by qmax": np.where(live, right * qmax, 1.0),
        "it is not a column: its shape should be [out_features, 1]": right[:, 0],
        "a row of zeros has a scale of zero: give it scale 1": np.where(live, right, 0.0),
    }
