"""Check the exercises of lesson 04: activations as integers, and SmoothQuant.

Here are the inputs and the comparisons; `truths.py` works out what is right, and `mistakes.py` has
the usual wrong answers. Inputs keep a distance from rounding ties, where float32 and float64 may
round differently and both are right (the tests measure it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.smooth import mistakes, truths
from shrinkkit.lessons.smooth.truths import Array, spiky_tokens, weights_of

# Closed during every check.
OWN = (
    "shrinkkit.quant.ptq.activations",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.ptq.smoothquant",
)


def token_cases() -> Iterator[Array]:
    """Yield activations: spiky, one token, one channel, negative, a token of zeros."""
    yield spiky_tokens(1, 4, 12)
    yield spiky_tokens(2, 7, 5, factor=100.0)
    yield spiky_tokens(3, 1, 33)
    yield spiky_tokens(4, 6, 1)
    yield -np.abs(spiky_tokens(5, 3, 9))
    dead = spiky_tokens(6, 4, 8)
    dead[2] = 0.0
    yield dead


def judge_quantize_tokens(quantize_tokens: Attempt) -> None:
    """Check rounding activations to int8, one step a token."""
    for x in token_cases():
        q, step = truths.tokens_to_int8(x)
        got = _several(quantize_tokens(tensor(x)), 2, "return q, step")
        whole = [not part.is_floating_point() for part in got]
        must(whole != [False, True], "The two results are swapped: `return q, step`.")
        close(
            got[1],
            tensor(step),
            "the step",
            "A token's step = max|token| / 127.",
        )
        close(
            got[0],
            tensor(q),
            "q",
            "q = round(x / step), from -127 to 127.",
            dtype=torch.int8,
        )


def product_cases() -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yield xq, step, wq, scale: square, flat, one token, long rows whose sums are large."""
    rng = np.random.default_rng(11)
    for rows, columns, out in [(3, 8, 5), (4, 6, 4), (1, 9, 3), (5, 1, 2), (2, 700, 3)]:
        xq = rng.integers(-127, 128, (rows, columns), dtype=np.int8)
        wq = rng.integers(-127, 128, (out, columns), dtype=np.int8)
        step = rng.uniform(0.001, 0.2, (rows, 1)).astype(np.float32)
        yield xq, step, wq, rng.uniform(0.001, 0.2, (out, 1)).astype(np.float32)


def judge_int8_matmul(int8_matmul: Attempt) -> None:
    """Check the integer product with both scales."""
    for case in product_cases():
        xq, _, wq, _ = case
        close(
            int8_matmul(*map(tensor, case)),
            tensor(truths.product(*case)),
            f"the product of xq {list(xq.shape)} and wq {list(wq.shape)}",
            "y = step * scale * (sum of xq * wq over the columns).",
        )


def scale_cases() -> Iterator[tuple[Array, list[Array], float]]:
    """Yield x, weights, alpha: three readers, two, one; dead channels; the two ends of alpha."""
    yield spiky_tokens(21, 6, 7), weights_of(31, (4, 3, 5), 7), 0.7
    yield spiky_tokens(22, 5, 10), weights_of(32, (6, 6), 10), 0.25
    yield -np.abs(spiky_tokens(23, 4, 6)), weights_of(33, (5,), 6), 0.5
    yield spiky_tokens(24, 3, 5), weights_of(34, (2, 9), 5), 0.0
    yield spiky_tokens(25, 3, 5), weights_of(35, (2, 9), 5), 1.0
    dead_x, dead_w = spiky_tokens(26, 4, 8), weights_of(36, (3, 4), 8)
    dead_x[:, 2] = 0.0
    for weight in dead_w:
        weight[:, 5] = 0.0
    yield dead_x, dead_w, 0.5


def judge_smoothing_scale(smoothing_scale: Attempt) -> None:
    """Check s over all layers that read x."""
    for x, weights, alpha in scale_cases():
        close(
            smoothing_scale(tensor(x), [tensor(w) for w in weights], alpha),
            tensor(truths.share_out(x, weights, alpha)),
            f"the scale for {len(weights)} weight(s) at alpha {alpha}",
            "s_j = max|x_j| ** alpha / max|W_j| ** (1 - alpha), the second over every weight.",
        )


def fold_cases() -> Iterator[tuple[Array, Array, list[Array], Array]]:
    """Yield norm weight, norm bias, weights, s: square and flat readers, one and three of them."""
    rng = np.random.default_rng(41)
    for in_features, outs in [(6, (6, 3)), (5, (5, 2, 7)), (9, (4,))]:
        norm = rng.uniform(0.3, 2.0, in_features).astype(np.float32)
        bias = rng.standard_normal(in_features).astype(np.float32)
        s = rng.uniform(0.2, 5.0, in_features).astype(np.float32)
        yield norm, bias, weights_of(in_features, outs, in_features), s


def judge_fold(fold: Attempt) -> None:
    """Check folding s into a norm and all its readers."""
    for norm, bias, weights, s in fold_cases():
        got = _several(
            fold(tensor(norm), tensor(bias), [tensor(w) for w in weights], tensor(s)),
            3,
            "return norm_weight, norm_bias, weights",
            types=(torch.Tensor, torch.Tensor, (list, tuple)),
        )
        must(
            len(got[2]) == len(weights),
            f"{len(weights)} weight(s) went in and {len(got[2])} came back: return one for each.",
        )
        expected = [norm / s, bias / s, *(w * s for w in weights)]
        names = ["the norm's weight", "the norm's bias"]
        names += [f"weight {number} of {len(weights)}" for number in range(1, len(weights) + 1)]
        hint = "norm(x) becomes norm(x) / s, and x @ W.T stays what it was."
        for value, truth, name in zip([got[0], got[1], *got[2]], expected, names, strict=True):
            close(value, tensor(truth), name, hint)


def error_cases() -> Iterator[tuple[Array, Array, list[float]]]:
    """Yield x, weight, alphas: spiky activations, and a layer whose weight is the spiky one."""
    yield spiky_tokens(52, 12, 16, factor=100.0), weights_of(61, (9,), 16)[0], [0.0, 0.5, 0.8, 1.0]
    yield spiky_tokens(53, 8, 24), weights_of(62, (5,), 24)[0], [0.9, 0.3, 0.6]
    weight = np.ascontiguousarray(spiky_tokens(55, 6, 10, factor=60.0))
    yield spiky_tokens(54, 10, 10, factor=2.0), weight, [0.2, 0.4, 0.7]


def judge_output_errors(output_errors: Attempt) -> None:
    """Check the output error of a smoothed and rounded layer at several alphas."""
    for x, weight, alphas in error_cases():
        truth = [truths.output_error(x, weight, truths.share_out(x, [weight], a)) for a in alphas]
        close(
            output_errors(tensor(x), tensor(weight), alphas),
            tensor(np.array(truth)),
            "the errors",
            "For each alpha: smooth, round x by token and the weight by row, and compare "
            "with x @ weight.T.",
            rtol=1e-3,
        )


def _several(got: Any, n: int, call: str, types: Sequence[Any] | None = None) -> tuple:
    """Return a tuple of n results, each of its type (a tensor unless said otherwise)."""
    types = types or (torch.Tensor,) * n
    fits = isinstance(got, tuple) and len(got) == n
    must(
        fits and all(isinstance(part, kind) for part, kind in zip(got, types, strict=True)),
        f"{n} results should come back, in this order: `{call}`.",
    )
    return got


EXERCISES = {
    "smooth.quantize_tokens": Exercise(judge_quantize_tokens, OWN, mistakes.QUANTIZE_TOKENS),
    "smooth.int8_matmul": Exercise(judge_int8_matmul, OWN, mistakes.INT8_MATMUL),
    "smooth.smoothing_scale": Exercise(judge_smoothing_scale, OWN, mistakes.SMOOTHING_SCALE),
    "smooth.fold": Exercise(judge_fold, OWN, mistakes.FOLD),
    "smooth.output_errors": Exercise(judge_output_errors, OWN, mistakes.OUTPUT_ERRORS),
}
