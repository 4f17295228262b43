"""Check the exercises of lesson 04: activations as integers, and SmoothQuant.

Here are the comparisons, and `EXERCISES`; `cases.py` has the inputs, `truths.py` works out what is
right, and `mistakes.py` has the usual wrong answers.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from shrinkkit.checks.casts import UndefinedCasts
from shrinkkit.checks.compare import Part, compare, must, several
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.checks.results import type_name
from shrinkkit.lessons.smooth import cases, mistakes, truths

# Closed during every check.
OWN = (
    "shrinkkit.quant.ptq.activations",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.ptq.smoothquant",
)


def judge_quantize_tokens(quantize_tokens: Attempt) -> None:
    """Check rounding activations to int8, one step a token."""
    for x in chain(cases.tokens(), cases.fresh_tokens()):
        here = f"for x {list(x.shape)}"
        with UndefinedCasts():
            compare(
                quantize_tokens,
                truths.tokens_to_int8,
                (x,),
                Part(f"q {here}", "q = round(x / step), from -127 to 127.", dtype=cases.INT8),
                Part(
                    f"the step {here}",
                    "A token's step = max|token| / 127, however small it is; only a token of zeros "
                    "gets 1.",
                    rtol=1e-5,
                    atol=0.0,
                ),
                call="return q, step",
            )


def judge_int8_matmul(int8_matmul: Attempt) -> None:
    """Check the integer product with both scales; a hundredth of one integer is the most to miss.

    In the long rows float32 loses several integers of a sum.
    """
    for case in chain(cases.products(), cases.fresh_products()):
        xq, step, wq, scale = case
        part = Part(
            f"the product of xq {list(xq.shape)} and wq {list(wq.shape)}",
            "y = step * scale * (sum of xq * wq over the columns, in int32).",
            rtol=1e-5,
            atol=0.01 * step.astype(np.float64) * scale.T,
        )
        compare(int8_matmul, truths.product, case, part)


def judge_smoothing_scale(smoothing_scale: Attempt) -> None:
    """Check s over all layers that read x."""
    for case in chain(cases.scales(), cases.fresh_scales()):
        _, weights, alpha = case
        part = Part(
            f"the scale for {len(weights)} weight(s) at alpha {alpha:g}",
            "s_j = max|x_j| ** alpha / max|W_j| ** (1 - alpha), the second over every weight; 1 "
            "where one of the two maxima is 0, whatever alpha is.",
            rtol=2e-5,
            atol=0.0,
        )
        compare(smoothing_scale, truths.share_out, case, part)


FOLD_CALL = "return norm_weight, norm_bias, weights"


def judge_fold(fold: Attempt) -> None:
    """Check folding s into a norm and all its readers."""
    for case in chain(cases.folds(), cases.fresh_folds()):
        n = len(case[2])
        names = ["the norm's weight", "the norm's bias"]
        names += [f"weight {number} of {n}" for number in range(1, n + 1)]
        hint = "norm(x) becomes norm(x) / s, and x @ W.T stays what it was."
        parts = [Part(name, hint, rtol=1e-5, atol=0.0) for name in names]

        def flat(*given: Any, n: int = n) -> tuple:
            *norm, weights = several(fold(*given), 3, FOLD_CALL)
            wanted = "The third result, the new weights, should be a list of tensors"
            must(
                issubclass(type(weights), (list, tuple)),
                f"{wanted}, but a {type_name(weights)} was returned.",
            )
            must(
                len(weights) == n,
                f"{wanted}: {n} weight(s) went in and {len(weights)} came back: return one for "
                "each.",
            )
            return (*norm, *weights)

        compare(flat, truths.fold, case, *parts, call=FOLD_CALL)


def judge_output_errors(output_errors: Attempt) -> None:
    """Check the output error of a smoothed and rounded layer at several alphas."""
    for case in chain(cases.errors(), cases.fresh_errors()):
        part = Part(
            "the errors",
            "For each alpha: smooth, round x by token and the weight by row, and compare "
            "with x @ weight.T.",
            rtol=2e-4,
            atol=2e-6,
        )
        compare(output_errors, truths.output_errors, case, part)


EXERCISES = {
    "smooth.quantize_tokens": Exercise(judge_quantize_tokens, OWN, mistakes.QUANTIZE_TOKENS),
    "smooth.int8_matmul": Exercise(judge_int8_matmul, OWN, mistakes.INT8_MATMUL),
    "smooth.smoothing_scale": Exercise(judge_smoothing_scale, OWN, mistakes.SMOOTHING_SCALE),
    "smooth.fold": Exercise(judge_fold, OWN, mistakes.FOLD),
    "smooth.output_errors": Exercise(judge_output_errors, OWN, mistakes.OUTPUT_ERRORS),
}
