"""Check the exercises of lesson 03: rounding a weight to a grid, and storing it in 4 bits.

Here are the inputs and the comparisons; `truths.py` works out what is right, and `mistakes.py` has
the usual wrong answers. Inputs keep a distance from rounding ties (weight / scale = 2.5), where
float32 and float64 may round differently and both are right.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import random_weight, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.quant import mistakes, truths
from shrinkkit.lessons.quant.truths import Array

OWN = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.grids.packing")  # closed during every check


def rtn_cases() -> Iterator[tuple[Array, int]]:
    """Yield weights and bits: small, wide, one column, one row, negative, zero row, float64."""
    spiky = random_weight(3, 3, 48)
    spiky[1, 7] = -40.0
    dead = random_weight(4, 4, 6)
    dead[2] = 0.0
    for weight, bits in [
        (random_weight(1, 3, 8), 4),
        (random_weight(2, 6, 5), 3),
        (spiky, 8),
        (-np.abs(random_weight(5, 2, 9)), 4),
        (random_weight(6, 5, 1), 2),
        (random_weight(7, 1, 20), 5),
        (random_weight(8, 3, 7).astype(np.float64), 4),
        (dead, 4),
    ]:
        yield truths.away_from_ties(weight, bits, weight.shape[1]), bits


def judge_rtn(rtn: Attempt) -> None:
    """Check rounding to nearest on a symmetric grid, one scale for each row."""
    for weight, bits in rtn_cases():
        close(
            rtn(tensor(weight), bits),
            tensor(truths.round_groups(weight, bits, weight.shape[1])),
            "the rounded weight",
            "Each row: scale = max|row| / qmax, q = round(row / scale), and back: scale * q.",
            dtype=tensor(weight).dtype,
        )


def qparams_cases() -> Iterator[tuple[Array, int]]:
    """Yield weights and bits: shifted, all positive, all negative, constant and zero rows."""
    constant = random_weight(16, 4, 9) + np.float32(0.4)
    constant[2] = 0.75  # here the mistakes that leave zero out choose other scales
    yield constant, 4
    yield random_weight(11, 4, 9) + np.float32(0.4), 4
    yield random_weight(12, 7, 3) - np.float32(0.3), 8
    yield np.abs(random_weight(13, 3, 6)) + np.float32(0.5), 4
    yield -np.abs(random_weight(14, 2, 6)) - np.float32(0.5), 3
    yield random_weight(15, 1, 33), 2
    yield np.array([[0.75] * 4, [0.0] * 4, [-0.75] * 4], dtype=np.float32), 4


def judge_choose_qparams(choose_qparams: Attempt) -> None:
    """Check scale and zero point of an asymmetric grid, one for each row."""
    for weight, bits in qparams_cases():
        scale, zero_point = truths.range_qparams(weight, bits)
        got = choose_qparams(tensor(weight), bits)
        must(
            isinstance(got, tuple) and len(got) == 2,
            "Two tensors should come back: `return scale, zero_point`.",
        )
        whole = [isinstance(x, torch.Tensor) and not x.is_floating_point() for x in got]
        must(
            whole != [True, False],
            "The two results are swapped: `return scale, zero_point`.",
        )
        close(
            got[0],
            tensor(scale),
            "the scale",
            "scale = (high - low) / (2**bits - 1), with zero inside [low, high].",
        )
        close(
            got[1],
            tensor(zero_point),
            "the zero point",
            "It is the integer that real 0 falls on, where low falls on q = 0.",
        )


def group_cases() -> Iterator[tuple[Array, int, int]]:
    """Yield weight, bits, group_size: short last groups, one group, a zero group."""
    dead = random_weight(24, 2, 12)
    dead[1, 4:8] = 0.0
    for weight, bits, group_size in [
        (random_weight(21, 3, 12), 4, 4),
        (random_weight(22, 3, 10), 4, 4),
        (random_weight(23, 4, 6), 3, 8),  # 8 divides the 24 weights, and not the row
        (random_weight(25, 2, 576), 4, 128),
        (random_weight(26, 2, 7), 2, 5),
        (random_weight(27, 3, 9), 8, 3),
        (dead, 4, 4),
    ]:
        yield truths.away_from_ties(weight, bits, group_size), bits, group_size


def judge_group_rtn(group_rtn: Attempt) -> None:
    """Check rounding with one scale for each group of columns, a short last group included."""
    for weight, bits, group_size in group_cases():
        short = weight.shape[1] % group_size
        close(
            group_rtn(tensor(weight), bits, group_size),
            tensor(truths.round_groups(weight, bits, group_size)),
            f"the weight {list(weight.shape)} rounded in groups of {group_size}",
            f"Its last group has {short} column(s)."
            if short
            else "Every group of a row has its own max|group| / qmax.",
            dtype=torch.float32,
        )


def pack_cases() -> Iterator[Array]:
    """Yield integers [out, in] int8: even and odd widths, one column, all sixteen values."""
    rng = np.random.default_rng(31)
    for shape in [(2, 6), (3, 5), (4, 1), (1, 17), (2, 64)]:
        yield rng.integers(-8, 8, size=shape, dtype=np.int8)
    yield np.arange(-8, 8, dtype=np.int8).reshape(1, 16)


def judge_pack_int4(pack_int4: Attempt, unpack_int4: Attempt) -> None:
    """Check packing two 4-bit integers into a byte, and taking them out again."""
    for q in pack_cases():
        width = q.shape[1]
        right = truths.pack_bytes(q)
        got = pack_int4(tensor(q))
        comparable = isinstance(got, torch.Tensor) and got.shape == right.shape
        if width % 2 and comparable and got.dtype == torch.uint8:
            got[:, -1] &= 15  # the last high nibble of an odd row is free: anything may be in it
        close(
            got,
            tensor(right),
            "the packed tensor",
            "A byte is (left + 8) + 16 * (right + 8).",
            dtype=torch.uint8,
        )
        close(
            unpack_int4(tensor(right), width),
            tensor(q),
            "the unpacked tensor",
            f"Here in_features is {width}.",
        )


def clip_cases() -> Iterator[tuple[Array, int, Array]]:
    """Yield weight, bits, ratios: outliers, unsorted ratios, ratios without 1, a zero row."""
    first = random_weight(49, 6, 24)  # here every mistake chooses other scales than the rest
    first[:, 3] *= 3
    shuffled = np.random.default_rng(0).permutation(np.arange(6, 21) / 20)
    spiky = random_weight(41, 4, 40)
    spiky[:, 3] = [9.0, -12.0, 2.0, 7.5]
    dead = random_weight(42, 3, 25)
    dead[1] = 0.0
    falling = np.linspace(1.0, 0.4, 13)
    yield first, 3, shuffled
    yield spiky, 3, falling
    yield random_weight(43, 6, 64), 4, np.linspace(1.0, 0.3, 29)
    yield random_weight(45, 2, 50), 4, np.array([0.6, 0.9, 0.75])
    yield dead, 4, falling


def judge_best_clip(best_clip: Attempt) -> None:
    """Check the search for the row's scale with the least squared rounding error."""
    for weight, bits, ratios in clip_cases():
        close(
            best_clip(tensor(weight), bits, tensor(ratios.astype(np.float32))),
            tensor(truths.best_scales(weight, bits, ratios)),
            "the scale",
            "For each row on its own: max|row| / qmax times the ratio whose rounded row has the "
            "least sum of squared errors.",
        )


EXERCISES = {
    "quant.rtn": Exercise(judge_rtn, OWN, mistakes.RTN),
    "quant.choose_qparams": Exercise(judge_choose_qparams, OWN, mistakes.CHOOSE_QPARAMS),
    "quant.group_rtn": Exercise(judge_group_rtn, OWN, mistakes.GROUP_RTN),
    "quant.pack_int4": Exercise(judge_pack_int4, OWN, mistakes.PACK_INT4),
    "quant.best_clip": Exercise(judge_best_clip, OWN, mistakes.BEST_CLIP),
}
