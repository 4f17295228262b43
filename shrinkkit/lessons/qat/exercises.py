"""Check the exercises of lesson 07: straight-through gradients, LSQ, ternary weights and LoRA.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Inputs keep a distance from rounding ties and from the ends of the grid, where
float32 and float64 may differ and both are right (the tests measure it).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.qat import mistakes, truths
from shrinkkit.lessons.qat.truths import Array, scale_of, weight_of

# Closed during every check.
OWN = (
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.qat.straight_through",
    "shrinkkit.quant.qat.prepare",
    "shrinkkit.quant.qat.qlora",
)


def grid_cases() -> Iterator[tuple[Array, Array, int, int, Array]]:
    """Yield weight, scale, qmin, qmax, incoming gradient: flat, one row, one column, square."""
    shapes = [(4, 5, -1, 1), (3, 12, -2, 1), (1, 30, -4, 3), (6, 1, -2, 1), (9, 9, -7, 7)]
    for number, (rows, columns, qmin, qmax) in enumerate(shapes):
        gradient = weight_of(200 + number, rows, columns)
        weight = weight_of(100 + number, rows, columns) * (qmax / 2)
        yield weight, scale_of(300 + number, rows), qmin, qmax, gradient


def judge_fake_quantize(fake_quantize: Attempt) -> None:
    """Check rounding with a straight-through gradient."""
    for weight, scale, qmin, qmax, gradient in grid_cases():
        leaf = tensor(weight).requires_grad_()
        got = fake_quantize(leaf, tensor(scale), qmin, qmax)
        close(
            got.detach() if isinstance(got, torch.Tensor) else got,
            tensor(truths.rounded(weight, scale, qmin, qmax)),
            "the rounded weight",
            "scale * (weight / scale, clipped to qmin and qmax and rounded).",
            rtol=1e-4,
            atol=1e-5,
        )
        must(
            got.requires_grad,
            "The rounded weight is right, but no gradient can flow back from it: autograd was "
            "switched off or the whole result detached. Detach only what rounding adds.",
        )
        fake_quantize.backward(got, tensor(gradient))
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        close(
            found,
            tensor(truths.passed(weight, scale, qmin, qmax, gradient)),
            "the gradient of the weight",
            "It passes where qmin <= weight / scale <= qmax, and is 0 elsewhere.",
            rtol=1e-4,
            atol=1e-5,
        )


def judge_step_gradient(step_gradient: Attempt) -> None:
    """Check LSQ's gradient of the scale."""
    for weight, scale, qmin, qmax, gradient in grid_cases():
        close(
            step_gradient(tensor(weight), tensor(scale), qmin, qmax, tensor(gradient)),
            tensor(truths.step_gradient(weight, scale, qmin, qmax, gradient)),
            "the gradient of the scale",
            "For each row: the sum of gradient * (round(v) - v inside, qmin or qmax outside), over "
            "sqrt(n * qmax).",
            rtol=1e-3,
            atol=1e-4,
        )


def ternary_cases() -> Iterator[Array]:
    """Yield weights: square, flat, a row, negative ones, one with a huge weight, all zero."""
    yield weight_of(11, 5, 5)
    yield weight_of(12, 3, 17)
    yield weight_of(13, 1, 40)
    yield -np.abs(weight_of(14, 4, 6))
    spiky = weight_of(15, 6, 8)
    spiky[2, 3] = 25.0
    yield spiky
    yield np.zeros((3, 4), dtype=np.float32)


def judge_ternarize(ternarize: Attempt) -> None:
    """Check ternary weights with one mean magnitude."""
    for weight in ternary_cases():
        q, scale = truths.ternary(weight)
        got = ternarize(tensor(weight))
        must(
            isinstance(got, tuple) and len(got) == 2,
            "Two results should come back, in this order: `return q, scale`.",
        )
        must(
            getattr(got[0], "shape", None) == weight.shape,
            f"`q` should come first and have the weight's shape, {list(weight.shape)}: "
            "`return q, scale`.",
        )
        close(got[1], scale, "the scale", "It is the mean of |weight|.")
        close(
            got[0],
            tensor(q),
            "q",
            "q = weight / scale, rounded and clipped to -1 and 1.",
            dtype=torch.int8,
        )


def lora_cases() -> Iterator[tuple[Array, Array, Array, float]]:
    """Yield weight, a, b, alpha: square, flat, rank 1, alpha below and above the rank."""
    shapes = [(7, 7, 3, 7.0), (6, 6, 2, 8.0), (5, 9, 3, 6.0), (4, 7, 1, 0.5), (8, 3, 4, 2.0)]
    for number, (rows, columns, rank, alpha) in enumerate(shapes, start=-1):
        a, b = weight_of(40 + number, rank, columns), weight_of(50 + number, rows, rank)
        yield weight_of(60 + number, rows, columns), a, b, alpha


def judge_merge(merge: Attempt) -> None:
    """Check adding an adapter into the weight."""
    for weight, a, b, alpha in lora_cases():
        close(
            merge(tensor(weight), tensor(a), tensor(b), alpha),
            tensor(truths.merged(weight, a, b, alpha)),
            f"the merged weight at rank {a.shape[0]} and alpha {alpha:g}",
            "weight + alpha / rank * (b @ a).",
            rtol=1e-3,
            atol=1e-4,
        )


def lost_cases() -> Iterator[tuple[Array, Array, Array, int, int]]:
    """Yield a weight on its grid, update, scale, qmin, qmax: small, middling and large updates."""
    for number, (rows, columns, qmin, qmax, size) in enumerate(
        [(3, 20, -2, 1, 0.8), (5, 8, -7, 7, 0.1), (6, 6, -4, 3, 1.5), (1, 12, -1, 1, 0.3)]
    ):
        scale = scale_of(70 + number, rows)
        raw = weight_of(80 + number, rows, columns) * (qmax / 2)
        weight = truths.rounded(raw, scale, qmin, qmax).astype(np.float32)
        update = weight_of(90 + number, rows, columns) * scale * size
        yield weight, update.astype(np.float32), scale, qmin, qmax


def judge_lost_part(lost_part: Attempt) -> None:
    """Check how much of an update is lost where the sum is rounded to the old grid."""
    for case in lost_cases():
        weight, update, scale, qmin, qmax = case
        close(
            lost_part(tensor(weight), tensor(update), tensor(scale), qmin, qmax),
            truths.lost_part(*case),
            "the lost part",
            "Round weight + update to the grid, and compare with weight + update.",
            rtol=1e-3,
        )


EXERCISES = {
    "qat.fake_quantize": Exercise(judge_fake_quantize, OWN, mistakes.FAKE_QUANTIZE),
    "qat.step_gradient": Exercise(judge_step_gradient, OWN, mistakes.STEP_GRADIENT),
    "qat.ternarize": Exercise(judge_ternarize, OWN, mistakes.TERNARIZE),
    "qat.merge": Exercise(judge_merge, OWN, mistakes.MERGE),
    "qat.lost_part": Exercise(judge_lost_part, OWN, mistakes.LOST_PART),
}
