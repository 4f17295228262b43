"""Check the exercises of lesson 05: the Hessian, one weight's surgery, GPTQ's loop and its order.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Rounding decides things, so inputs keep a distance from ties, where float32 and
float64 may round differently and both are right. Each judge goes through fixed cases and then some
drawn afresh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import torch

from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.inputs import fresh, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.gptq import mistakes, truths
from shrinkkit.lessons.gptq.truths import Array, hessian_like, related_inputs

# Closed during every check.
OWN = (
    "shrinkkit.calibration.column_solver",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.ptq.gptq",
)
N_FRESH = 4
QMAX = tuple(2 ** (bits - 1) - 1 for bits in range(2, 9))


def batch_cases() -> Iterator[list[Array]]:
    """Yield batches: several, one, with a texts dimension, an offset, dead inputs, all sizes."""
    yield [related_inputs(1, 7, 5), related_inputs(2, 2, 5), related_inputs(3, 12, 5)]
    yield [related_inputs(4, 9, 6)]
    yield [related_inputs(5, 12, 4).reshape(3, 4, 4), related_inputs(6, 5, 4).reshape(1, 5, 4)]
    yield [related_inputs(7, 6, 3) + 2.0, related_inputs(8, 1, 3)]
    yield [related_inputs(9, 1, 4)]  # one token
    padded = [related_inputs(10 + n, n % 4 + 1, 3) for n in range(20)]
    padded[3][0] = 0.0  # a token of zeros counts, too
    padded[5][:, 1] = 0.0
    yield padded
    dead = related_inputs(30, 150, 40).reshape(2, 75, 40)
    dead[..., [0, 39]] = 0.0
    yield [dead * (10.0 ** np.linspace(-6, 4, 40)).astype(np.float32)]


def fresh_batch_cases() -> Iterator[list[Array]]:
    """Draw batches of inputs from 1e-6 to 1e4, side by side."""
    rng = fresh()
    for _ in range(N_FRESH):
        n = int(rng.integers(1, 20))
        sizes = 10.0 ** rng.uniform(-6, 4, n)
        shapes = [tuple(rng.integers(1, 6, rng.integers(1, 3))) for _ in range(rng.integers(1, 5))]
        batches = [related_inputs(rng, int(np.prod(s)), n).reshape(*s, n) for s in shapes]
        yield [(batch * sizes).astype(np.float32) for batch in batches]


def judge_hessian(hessian: Attempt) -> None:
    """Check the Hessian of a stream of batches."""
    for batches in chain(batch_cases(), fresh_batch_cases()):
        rows = [np.abs(batch).reshape(-1, batch.shape[-1]) for batch in batches]
        largest = np.concatenate(rows).max(axis=0).astype(np.float64)
        part = Part(
            f"the Hessian of batches {[list(b.shape) for b in batches]}",
            "H = 2/n * sum of x xᵀ over all n rows: x.T @ x adds up a batch's.",
            rtol=1e-5,
            atol=1e-5 * np.outer(largest, largest),
        )
        compare(hessian, truths.hessian_of, (batches,), part)


Surgery = tuple[Array, Array, int, float]


def surgery(rng: np.random.Generator, n: int, p: int, q: float | None, spread: float) -> Surgery:
    """Draw w, inverse, p, q; inputs' sizes differ by 10**spread, weights have the other's."""
    sizes = 10.0 ** rng.uniform(-spread, spread, n)
    inverse = np.linalg.inv(hessian_like(rng, sizes**2).astype(np.float64)).astype(np.float32)
    w = (rng.choice([-1.0, 1.0], n) * rng.uniform(0.2, 3.0, n) / sizes).astype(np.float32)
    if q is None:
        q = float(np.float32(w[p] * rng.uniform(-1.0, 0.8)))
    return w, (inverse + inverse.T) / 2, p, q


def surgery_cases() -> Iterator[Surgery]:
    """Yield the first, a middle, the last weight; removed, an int, nothing to do; all sizes."""
    rng = np.random.default_rng(11)
    for n, p, q in [(4, 0, 1.0), (6, 3, -0.5), (5, 4, 0.0), (2, 1, 2), (1, 0, 0.5), (8, 2, 0.0)]:
        yield surgery(rng, n, p, q, 0.0)
    w, inverse, p, _ = surgery(rng, 5, 2, 0.0, 0.0)
    yield w, inverse, p, float(w[p])  # it stands there already
    w[p] = 0.0
    yield w, inverse, p, 1.0
    for size, spread in [(1e-6, 0.0), (1e3, 0.0), (1.0, 3.0)]:
        w, inverse, p, q = surgery(rng, 40, 20, None, spread)
        w = (size * w).astype(np.float32)
        yield w, inverse, p, float(np.float32(size * q))
    w, inverse, p, q = surgery(rng, 6, 1, None, 0.0)
    yield w, (1e-7 * inverse).astype(np.float32), p, q  # large inputs
    yield w, (1e7 * inverse).astype(np.float32), p, q


def fresh_surgery_cases() -> Iterator[Surgery]:
    """Draw a row and which weight is set."""
    rng = fresh()
    for _ in range(N_FRESH):
        n = int(rng.integers(2, 24))
        yield surgery(rng, n, int(rng.integers(n)), None, rng.uniform(0, 3))


def judge_compensate(compensate: Attempt) -> None:
    """Check the surgeon's step: one weight is set, the others answer, and what is left."""
    for w, inverse, p, q in chain(surgery_cases(), fresh_surgery_cases()):
        here = f"({len(w)} weights, p = {p}, q = {q:g})"
        reach = np.sqrt(inverse.diagonal() / inverse[p, p])  # no weight moves further, for an error
        compare(
            compensate,
            truths.compensate,
            (w, inverse, p, q),
            Part(
                f"the changed row {here}",
                "w - (w[p] - q) / inverse[p, p] * inverse[:, p].",
                rtol=0.0,
                atol=2e-5 * (np.abs(w) + (abs(w[p]) + abs(q)) * reach).astype(np.float64),
            ),
            Part(f"the cost {here}", "(w[p] - q)² / (2 * inverse[p, p]).", rtol=2e-4, atol=0.0),
            call="return changed, cost",
        )


def factor_cases() -> Iterator[tuple[Array, float]]:
    """Yield hessian, damping: dead inputs at all places, damping from 0 to 1, all sizes."""
    rng = np.random.default_rng(21)
    for n, dead, damping, size in [
        (4, [], 0.0, 1.0),
        (6, [], 0.05, 1.0),
        (5, [], 0.3, 30.0),
        (6, [1, 4], 0.1, 1.0),
        (5, [0, 4], 0.0, 100.0),
        (7, [0, 1, 2, 4, 5, 6], 1.0, 3.0),  # one is alive
        (1, [], 0.5, 2.0),
        (40, [3, 39], 0.01, 1.0),
        (8, [2], 0.7, 1e-8),
        (8, [0], 0.02, 1e8),
    ]:
        diagonal = size * rng.permutation(np.geomspace(0.2, 5.0, n))
        diagonal[dead] = 0.0
        yield hessian_like(rng, diagonal), damping
    few = related_inputs(24, 3, 5)  # three rows for five inputs: singular without damping
    yield truths.hessian_of([few]).astype(np.float32), 0.2
    diagonal = 10.0 ** np.linspace(-11, 5, 12)
    diagonal[7] = 0.0
    yield hessian_like(rng, diagonal), 0.0  # a small input is not a dead one
    yield hessian_like(rng, diagonal[::-1]), 1e-8


def fresh_factor_cases() -> Iterator[tuple[Array, float]]:
    """Draw a Hessian of any size, and how much of it is dead."""
    rng = fresh()
    for _ in range(N_FRESH):
        diagonal = 10.0 ** (rng.uniform(-8, 6) + rng.uniform(-1, 1, rng.integers(2, 24)))
        diagonal[1:][rng.random(len(diagonal) - 1) < rng.uniform(0, 0.7)] = 0.0
        yield hessian_like(rng, rng.permutation(diagonal)), float(rng.uniform(0.01, 1.0))


def judge_upper_factor(upper_factor: Attempt) -> None:
    """Check damping, dead inputs, and the factor of the inverse."""
    for hessian, damping in chain(factor_cases(), fresh_factor_cases()):
        diagonal = hessian.diagonal().astype(np.float64)
        dead = diagonal == 0
        part = Part(
            f"the factor ({len(hessian)} inputs, {dead.sum()} dead, damping {damping:g})",
            "Dead inputs first, then the damping, then torch.cholesky_inverse of the lower factor, "
            "then torch.linalg.cholesky(..., upper=True).",
            rtol=1e-4,
            atol=2e-4 / np.sqrt(diagonal + dead + damping * diagonal.max()) + 0 * hessian,
        )
        compare(upper_factor, truths.upper_factor, (hessian, damping), part)


Columns = tuple[Array, Array, Array, int]


def column_case(
    rng: np.random.Generator, out: int, n: int, qmax: int, group_size: int, shrink: float,
    spread: float = 0.0, *, rows: bool = True,
) -> Columns:  # fmt: skip
    """Draw weight, hessian, scale [out, in], qmax.

    shrink: of the steps, so that the ends are clipped. spread: inputs' sizes differ by 10**spread,
    and weights and steps have the other's. rows: their sizes go from 1e-6 to 1e4.
    """
    sizes = 10.0 ** rng.uniform(-spread, spread, n)
    weight = rng.standard_normal((out, n)) * 10.0 ** rng.uniform(-6, 4, (out, 1)) ** rows
    scale = shrink * truths.group_scales(weight, qmax, group_size)
    scale = (truths.at_each_weight(scale, group_size, n) / sizes).astype(np.float32)
    hessian = hessian_like(rng, sizes**2)
    weight = truths.away_from_ties(weight / sizes, hessian, scale, qmax)
    return weight.astype(np.float32), hessian, scale, qmax


def column_cases() -> Iterator[Columns]:
    """Yield one row, one column, few levels, clipped ends, steps of a group, blocks, all sizes."""
    rng = np.random.default_rng(35)
    for out, n, qmax, group_size, shrink in [
        (5, 8, 7, 3, 1.0),
        (1, 6, 3, 6, 1.0),
        (6, 10, 3, 4, 0.6),
        (3, 5, 127, 1, 1.0),
        (4, 10, 1, 4, 1.0),
    ]:
        yield column_case(rng, out, n, qmax, group_size, shrink, rows=False)
    for out, n, qmax, group_size, shrink, spread in [
        (3, 1, 7, 1, 0.7, 0.0),
        (5, 20, 127, 7, 0.4, 0.0),  # far beyond what int8 holds
        (5, 35, 15, 16, 0.8, 0.0),
        (6, 12, 63, 5, 0.9, 3.0),
        (2, 140, 7, 64, 0.8, 0.0),  # more than one block of 128
    ]:
        yield column_case(rng, out, n, qmax, group_size, shrink, spread)
    weight, hessian, scale, qmax = column_case(rng, 3, 7, 15, 7, 0.8, rows=False)
    weight[1] = 0.0
    weight[2, 3:] = 0.0
    yield truths.away_from_ties(weight, hessian, scale, qmax), hessian, scale, qmax


def fresh_column_cases() -> Iterator[Columns]:
    """Draw shapes, one case for every qmax."""
    rng = fresh()
    for qmax in QMAX:
        out, n, group_size = rng.integers((1, 2, 1), (7, 20, 12))
        shrink, spread = rng.uniform(0.5, 1.0), rng.choice([0.0, 2.0])
        yield column_case(rng, int(out), int(n), qmax, int(group_size), shrink, spread)


def judge_quantize_columns(quantize_columns: Attempt) -> None:
    """Check GPTQ's loop against least squares after every column."""
    for weight, hessian, scale, qmax in chain(column_cases(), fresh_column_cases()):
        part = Part(
            f"q of a weight {list(weight.shape)} with qmax {qmax}",
            "For each column i: round it as it stands now, error = (w - scale * q) / upper[i, i], "
            "and every column j > i loses error * upper[i, j].",
            dtype=torch.int8,
        )
        upper = tensor(truths.quick_factor(hessian).astype(np.float32))
        given = (tensor(weight), upper, tensor(scale), qmax)
        case = (weight, hessian, scale, qmax)
        compare(quantize_columns, truths.quantize_columns, case, part, given=given)


Order = tuple[Array, Array, Array, int, int, float]


def order_case(
    rng: np.random.Generator, out: int, n: int, qmax: int, group_size: int, damping: float,
    dead: Sequence[int] = (), size: float = 1.0, shrink: float = 0.9,
) -> Order:  # fmt: skip
    """Draw weight, hessian, scale [out, n_groups], qmax, group_size, damping.

    dead: which inputs are. size: of the Hessian, whose diagonal holds no two alike but zeros.
    """
    diagonal = size * rng.permutation(np.geomspace(0.2, 10.0, n))
    diagonal[list(dead)] = 0.0
    hessian = hessian_like(rng, diagonal)
    weight = rng.standard_normal((out, n)) * rng.uniform(0.2, 2.0, (1, n))
    weight *= 10.0 ** (rng.uniform(-6, 4, (out, 1)) * (size != 1.0))
    scale = (shrink * truths.group_scales(weight, qmax, group_size)).astype(np.float32)
    wide = truths.at_each_weight(scale, group_size, n)
    order, h = truths.largest_first(hessian), truths.damped(hessian, damping)
    weight = truths.away_from_ties(weight, h, wide, qmax, order).astype(np.float32)
    return weight, hessian, scale, qmax, group_size, damping


def order_cases() -> Iterator[Order]:
    """Yield groups that do not divide, of one, of all; dead inputs; damping 0 to 1; all sizes."""
    rng = np.random.default_rng(41)
    for out, n, qmax, group_size, damping, dead, size in [
        (5, 12, 7, 4, 0.0, (), 1.0),
        (4, 10, 3, 4, 0.3, (), 2.0),  # the last group is short
        (6, 8, 7, 8, 0.1, (), 1.0),  # one group
        (6, 9, 15, 4, 0.5, (0, 5), 1.0),
        (8, 16, 31, 5, 1.0, (1, 2, 6, 7, 8, 9, 12, 15), 1.0),
        (3, 7, 3, 1, 0.01, (), 100.0),
        (4, 5, 1, 8, 0.0, (4,), 100.0),  # the only group is short, and an input is dead
        (6, 20, 63, 16, 0.05, (11,), 1e-8),
        (5, 40, 15, 32, 0.01, (), 1e6),
    ]:
        yield order_case(rng, out, n, qmax, group_size, damping, dead, size)
    yield order_case(rng, 5, 20, 127, 6, 0.02, (), 10.0, shrink=0.4)  # beyond what int8 holds


def fresh_order_cases() -> Iterator[Order]:
    """Draw shapes, one case for every qmax."""
    rng = fresh()
    for qmax in QMAX:
        out, n, group_size = map(int, rng.integers((2, 3, 1), (7, 20, 12)))
        dead = rng.choice(n, rng.integers(0, n // 2 + 1), replace=False).tolist()
        size = 10.0 ** rng.uniform(-8, 6)
        yield order_case(rng, out, n, qmax, group_size, float(rng.uniform(0, 1)), dead, size)


def judge_act_order(act_order: Attempt) -> None:
    """Check GPTQ with the largest inputs first, and groups that stay where they are."""
    for case in chain(order_cases(), fresh_order_cases()):
        part = Part(
            f"q of a weight {list(case[0].shape)} in groups of {case[4]}",
            "Take weight, hessian (rows and columns) and the scale of each weight into the order, "
            "settle the columns, and put q back where it belongs.",
            dtype=torch.int8,
        )
        compare(act_order, truths.act_order, case, part)


EXERCISES = {
    "gptq.hessian": Exercise(judge_hessian, OWN, mistakes.HESSIAN),
    "gptq.compensate": Exercise(judge_compensate, OWN, mistakes.COMPENSATE),
    "gptq.upper_factor": Exercise(judge_upper_factor, OWN, mistakes.UPPER_FACTOR),
    "gptq.quantize_columns": Exercise(judge_quantize_columns, OWN, mistakes.QUANTIZE_COLUMNS),
    "gptq.act_order": Exercise(judge_act_order, OWN, mistakes.ACT_ORDER),
}
