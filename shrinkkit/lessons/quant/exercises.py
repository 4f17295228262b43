"""Check the exercises of lesson 03: rounding a weight to a grid, and storing it in 4 bits.

Here are the comparisons; `cases.py` has the inputs, `truths.py` works out what is right, and the
files called `mistakes` have the usual wrong answers. Each judge goes through fixed cases and then
some drawn afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.inputs import column_groups, largest, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.checks.results import TENSORS
from shrinkkit.lessons.quant import cases, mistakes, mistakes_clip, mistakes_pack, truths
from shrinkkit.lessons.quant.truths import Array

OWN = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.grids.packing")  # closed during every check
SMALL = 1e-2  # where a scale reaches less than that, a hint says what to do with scales


def with_stand_in(hint: str, top: Array) -> str:
    """Add what becomes of small scales to a hint, where there are some.

    top: the largest magnitudes that the scales have to reach.
    """
    stand_in = " Only a scale of exactly 0 needs a stand-in, and no other is raised, however small."
    return hint + stand_in if top.min() < SMALL else hint


def rounded(
    attempt: Attempt, truth: Callable, case: cases.Case, name: str, hint: str, *more: int
) -> None:
    """Compare a rounded weight with the truth, to a part of what each of its scales reaches."""
    weight, bits, group_size, dtype = case
    top = largest(weight, column_groups(weight, group_size))
    part = Part(name, with_stand_in(hint, top), dtype=dtype, rtol=0.0, atol=2e-6 * top)
    given = (tensor(weight).to(dtype), bits, *more)
    compare(attempt, truth, (weight, bits, *more), part, given=given)


def judge_rtn(rtn: Attempt) -> None:
    """Check rounding to nearest on a symmetric grid, one scale for each row."""
    for case in chain(cases.rtn_cases(), cases.fresh_rtn_cases()):
        name = f"the rounded weight {list(case[0].shape)} at {case[1]} bits"
        hint = "Each row: scale = max|row| / qmax, q = round(row / scale), and back: scale * q."
        rounded(rtn, truths.round_rows, case, name, hint)


def judge_choose_qparams(choose_qparams: Attempt) -> None:
    """Check scale and zero point of an asymmetric grid, one for each row."""
    for weight, bits, dtype in chain(cases.qparams_cases(), cases.fresh_qparams_cases()):
        here = f"for weights {list(weight.shape)} at {bits} bits"
        hint = "scale = (high - low) / (2**bits - 1), with zero inside [low, high]."
        compare(
            choose_qparams,
            truths.range_qparams,
            (weight, bits),
            Part(
                f"the scale {here}",
                with_stand_in(hint, np.abs(weight).max(axis=1)),
                rtol=2e-6,
                atol=0.0,
            ),
            Part(
                f"the zero point {here}",
                "It is the integer that real 0 falls on, where low falls on q = 0.",
            ),
            given=(tensor(weight).to(dtype), bits),
            call="return scale, zero_point",
        )


def judge_group_rtn(group_rtn: Attempt) -> None:
    """Check rounding with one scale for each group of columns, a short last group included."""
    for case in chain(cases.group_cases(), cases.fresh_group_cases()):
        weight, bits, group_size, _ = case
        short = weight.shape[1] % group_size
        name = f"the weight {list(weight.shape)} rounded at {bits} bits in groups of {group_size}"
        hint = (
            f"Its last group has {short} column(s)."
            if short
            else "Every group of a row has its own max|group| / qmax."
        )
        rounded(group_rtn, truths.round_groups, case, name, hint, group_size)


def without_free_nibble(packed: Any, width: int) -> Any:
    """Clear the last high nibble of an odd row: anything may be in it."""
    readable = type(packed) in TENSORS and packed.layout is torch.strided and not packed.is_nested
    if width % 2 == 0 or not readable or packed.dtype != torch.uint8 or packed.ndim != 2:
        return packed
    mask = torch.full_like(packed, 255)
    mask[:, (width - 1) // 2 :] = 15
    return packed & mask


def judge_pack_int4(pack_int4: Attempt, unpack_int4: Attempt) -> None:
    """Check packing two 4-bit integers into a byte, and taking others out again."""
    for q, packed in chain(cases.pack_cases(), cases.fresh_pack_cases()):
        width = q.shape[1]
        compare(
            lambda q, width=width: without_free_nibble(pack_int4(q), width),
            truths.pack_bytes,
            (q,),
            Part("the packed tensor", "A byte is (left + 8) + 16 * (right + 8).", torch.uint8),
        )
        width = 2 * packed.shape[1] - width % 2
        part = Part("the unpacked tensor", f"Here in_features is {width}.")
        compare(unpack_int4, truths.unpack_bytes, (packed, width), part)


def judge_best_clip(best_clip: Attempt) -> None:
    """Check the search for the row's scale with the least squared rounding error."""
    for weight, bits, ratios in chain(cases.clip_cases(), cases.fresh_clip_cases()):
        name = f"the scale for weights {list(weight.shape)} at {bits} bits and {len(ratios)} ratios"
        hint = (
            "For each row on its own: max|row| / qmax times the ratio whose rounded row has the "
            "least sum of squared errors."
        )
        part = Part(name, with_stand_in(hint, np.abs(weight).max(axis=1)), rtol=2e-6, atol=0.0)
        compare(best_clip, truths.best_scales, (weight, bits, ratios), part)


EXERCISES = {
    "quant.rtn": Exercise(judge_rtn, OWN, mistakes.RTN),
    "quant.choose_qparams": Exercise(judge_choose_qparams, OWN, mistakes.CHOOSE_QPARAMS),
    "quant.group_rtn": Exercise(judge_group_rtn, OWN, mistakes.GROUP_RTN),
    "quant.pack_int4": Exercise(judge_pack_int4, OWN, mistakes_pack.PACK_INT4),
    "quant.best_clip": Exercise(judge_best_clip, OWN, mistakes_clip.BEST_CLIP),
}
