"""Check the exercises of lesson 05: the Hessian, one weight's surgery, GPTQ's loop and its order.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Rounding decides things, so inputs keep a distance from ties, where float32 and
float64 may round differently and both are right (the tests measure it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import random_weight, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.gptq import mistakes, truths
from shrinkkit.lessons.gptq.truths import Array, related_inputs

# Closed during every check.
OWN = (
    "shrinkkit.calibration.column_solver",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.ptq.gptq",
)


def single(array: Array) -> torch.Tensor:
    """Turn a float64 truth into what a learner is given: float32."""
    return tensor(array.astype(np.float32))


def batch_cases() -> Iterator[list[Array]]:
    """Yield batches: of different sizes, one alone, with a texts dimension, with an offset."""
    yield [related_inputs(1, 7, 5), related_inputs(2, 2, 5), related_inputs(3, 12, 5)]
    yield [related_inputs(4, 9, 6)]
    yield [related_inputs(5, 12, 4).reshape(3, 4, 4), related_inputs(6, 5, 4).reshape(1, 5, 4)]
    yield [related_inputs(7, 6, 3) + 2.0, related_inputs(8, 1, 3)]


def judge_hessian(hessian: Attempt) -> None:
    """Check the Hessian of a stream of batches."""
    for batches in batch_cases():
        close(
            hessian([tensor(batch) for batch in batches]),
            tensor(truths.hessian_of(batches)),
            f"the Hessian of batches {[list(b.shape) for b in batches]}",
            "H = 2/n * sum of x xᵀ over all n rows: x.T @ x adds up a batch's.",
        )


def surgery_cases() -> Iterator[tuple[Array, Array, int, float]]:
    """Yield w, hessian, p, q: first, middle and last weight; removed (q = 0); two weights."""
    for seed, n, p, q in [(11, 4, 0, 1.0), (12, 6, 3, -0.5), (13, 5, 4, 0.0), (14, 2, 1, 2.0)]:
        yield (
            random_weight(seed, 1, n)[0],
            truths.hessian_of([related_inputs(seed, 40, n)]),
            p,
            q,
        )


def judge_compensate(compensate: Attempt) -> None:
    """Check the surgeon's step: one weight is set, the others answer, and what is left."""
    for w, hessian, p, q in surgery_cases():
        inverse = np.linalg.inv(hessian)
        got = _several(compensate(tensor(w), single(inverse), p, q), "return changed, cost")
        here = f"({len(w)} weights, p = {p}, q = {q:g})"
        answer = truths.best_answer(w, hessian, p, q)
        close(
            got[0],
            tensor(answer),
            f"the weights {here}",
            "w - (w[p] - q) / inverse[p, p] * inverse[:, p].",
            rtol=1e-3,
            atol=1e-4,
        )
        close(
            got[1],
            truths.output_error(w, answer, hessian),
            f"the cost {here}",
            "(w[p] - q)² / (2 * inverse[p, p]).",
            rtol=1e-3,
        )


def factor_cases() -> Iterator[tuple[Array, float]]:
    """Yield hessian, damping: undamped, damped, with dead inputs, with large and small entries."""
    yield truths.hessian_of([related_inputs(21, 60, 4)]), 0.0
    yield truths.hessian_of([related_inputs(22, 60, 6)]), 0.05
    yield 30 * truths.hessian_of([related_inputs(23, 60, 5)]), 0.3
    few = related_inputs(24, 3, 5)  # three rows for five inputs: singular without damping
    yield truths.hessian_of([few]), 0.2
    dead = related_inputs(25, 50, 6)
    dead[:, [1, 4]] = 0.0
    yield truths.hessian_of([dead]), 0.1


def judge_upper_factor(upper_factor: Attempt) -> None:
    """Check damping, dead inputs, and the factor of the inverse."""
    for hessian, damping in factor_cases():
        n_dead = int((hessian.diagonal() == 0).sum())
        close(
            upper_factor(single(hessian), damping),
            tensor(truths.factor_of_inverse(truths.damped(hessian, damping))),
            f"the factor (damping {damping:g}, {n_dead} dead inputs)",
            "Dead inputs first, then the damping, then torch.cholesky_inverse of the lower factor, "
            "then torch.linalg.cholesky(..., upper=True).",
            rtol=2e-3,
            atol=1e-4,
        )


def column_cases() -> Iterator[tuple[Array, Array, Array, int]]:
    """Yield weight, hessian, scale [out, in], qmax: several rows, one, few levels, small scales."""
    for seed, out, n, qmax, shrink in [
        (109, 5, 8, 7, 1.0),
        (35, 1, 6, 3, 1.0),
        (585, 6, 10, 3, 0.6),  # the ends of the range are clipped
        (43, 3, 5, 127, 1.0),
        (42, 4, 10, 1, 1.0),
    ]:
        weight = random_weight(seed, out, n)
        hessian = truths.hessian_of([related_inputs(seed, 80, n)])
        scale = np.repeat(truths.row_scales(weight, qmax), n, axis=1) * np.float32(shrink)
        yield weight, hessian, scale, qmax


def judge_quantize_columns(quantize_columns: Attempt) -> None:
    """Check GPTQ's loop against least squares after every column."""
    for weight, hessian, scale, qmax in column_cases():
        upper = truths.factor_of_inverse(hessian)
        q, _ = truths.column_by_column(weight, hessian, scale, qmax)
        close(
            quantize_columns(tensor(weight), single(upper), tensor(scale), qmax),
            tensor(q).to(torch.int8),
            f"q of a weight {list(weight.shape)} with qmax {qmax}",
            "For each column i: round it as it stands now, error = (w - scale * q) / upper[i, i], "
            "and every column j > i loses error * upper[i, j].",
            dtype=torch.int8,
        )


def order_cases() -> Iterator[tuple[Array, Array, Array, int, int, float]]:
    """Yield weight, hessian, scale [out, n_groups], qmax, group_size, damping; a short group."""
    for seed, out, n, qmax, group_size, damping in [
        (41, 5, 12, 7, 4, 0.0),
        (42, 4, 10, 3, 4, 0.01),  # the last group is short
        (43, 6, 8, 7, 8, 0.1),  # one group
        (44, 3, 15, 3, 5, 0.01),
    ]:
        weight = random_weight(seed, out, n)
        weight *= np.random.default_rng(seed).uniform(0.2, 2.0, (1, n)).astype(np.float32)
        hessian = truths.hessian_of([related_inputs(seed, 90, n)])
        yield (
            weight,
            hessian,
            truths.group_scales(weight, qmax, group_size),
            qmax,
            group_size,
            damping,
        )


def judge_act_order(act_order: Attempt) -> None:
    """Check GPTQ with the largest inputs first, and groups that stay where they are."""
    for weight, hessian, scale, qmax, group_size, damping in order_cases():
        h = truths.damped(hessian, damping)
        order = np.argsort(-hessian.diagonal(), kind="stable")
        wide = truths.at_each_weight(scale, group_size, weight.shape[1])
        q, _ = truths.column_by_column(weight, h, wide, qmax, order)
        close(
            act_order(tensor(weight), single(hessian), tensor(scale), qmax, group_size, damping),
            tensor(q).to(torch.int8),
            f"q of a weight {list(weight.shape)} in groups of {group_size}",
            "Take weight, hessian (rows and columns) and the scale of each weight into the order, "
            "settle the columns, and put q back where it belongs.",
            dtype=torch.int8,
        )


def _several(got: Any, call: str) -> tuple:
    """Return the two results, a tensor and a number."""
    must(
        isinstance(got, tuple) and len(got) == 2,
        f"2 results should come back, in this order: `{call}`.",
    )
    swapped = isinstance(got[1], torch.Tensor) and got[1].ndim == 1
    must(not swapped, f"The two results are swapped: `{call}`.")
    return got


EXERCISES = {
    "gptq.hessian": Exercise(judge_hessian, OWN, mistakes.HESSIAN),
    "gptq.compensate": Exercise(judge_compensate, OWN, mistakes.COMPENSATE),
    "gptq.upper_factor": Exercise(judge_upper_factor, OWN, mistakes.UPPER_FACTOR),
    "gptq.quantize_columns": Exercise(judge_quantize_columns, OWN, mistakes.QUANTIZE_COLUMNS),
    "gptq.act_order": Exercise(judge_act_order, OWN, mistakes.ACT_ORDER),
}
