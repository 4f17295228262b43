"""Check the exercises of lesson 07: straight-through gradients, LSQ, ternary weights and LoRA.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Inputs keep a distance from rounding ties, where float32 and float64 may differ and
both are right, and lie at the ends of a grid only where the quotient is exact (the tests measure
it). Each judge goes through fixed cases and then some drawn afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import chain

import numpy as np
import torch

from shrinkkit.checks.casts import UndefinedCasts
from shrinkkit.checks.compare import Part, close, compare, must
from shrinkkit.checks.inputs import fresh, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.qat import mistakes, truths
from shrinkkit.lessons.qat.truths import (
    Array,
    GridCase,
    LoraCase,
    LostCase,
    grid_case,
    lora_case,
    lost_case,
)

# Closed during every check.
OWN = (
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.qat.straight_through",
    "shrinkkit.quant.qat.prepare",
    "shrinkkit.quant.qat.qlora",
)
N_FRESH = 4

# out_features, in_features, qmin, qmax: grids of 2 to 8 bits, with and without negative levels.
GRIDS = (
    (4, 6, -1, 1),
    (3, 12, -2, 1),
    (1, 30, -4, 3),
    (6, 1, -2, 1),
    (9, 9, -7, 7),
    (2, 40, -8, 7),
    (5, 20, 0, 3),
    (3, 37, -16, 15),
    (2, 33, -32, 31),
    (4, 6, -64, 63),
    (3, 20, -128, 127),
    (2, 24, 0, 255),
    (1, 1, -127, 127),
)


def fresh_grids(rng: np.random.Generator) -> Iterator[tuple[int, int, int, int]]:
    """Draw shapes and grids."""
    for _ in range(N_FRESH):
        rows, columns = map(int, rng.integers(1, (7, 40)))
        top = 2 ** (int(rng.integers(2, 9)) - 1)
        yield rows, columns, *[(-top, top - 1), (1 - top, top - 1), (0, 2 * top - 1)][rows % 3]


def grid_cases() -> Iterator[GridCase]:
    """Yield every grid with scales about 1, and then some with rows from 1e-6 to 1e4."""
    for number, grid in enumerate(GRIDS):
        yield grid_case(100 + number, *grid, low=-0.7, high=0.3)
    for number, grid in enumerate(GRIDS[::2]):
        yield grid_case(200 + number, *grid, low=-6, high=4)


def fresh_grid_cases() -> Iterator[GridCase]:
    """Draw grids, and what lies on them."""
    rng = fresh()
    for grid in fresh_grids(rng):
        yield grid_case(rng, *grid, low=rng.uniform(-6, 0), high=rng.uniform(0, 4))


def judge_fake_quantize(fake_quantize: Attempt) -> None:
    """Check rounding with a straight-through gradient."""
    for weight, scale, qmin, qmax, gradient in chain(grid_cases(), fresh_grid_cases()):
        leaf = tensor(weight).requires_grad_()
        got = fake_quantize(leaf, tensor(scale), qmin, qmax)
        close(
            got,
            partial(truths.rounded, weight, scale, qmin, qmax),
            f"the rounded weight ({qmin} to {qmax})",
            "scale * (weight / scale, clipped to qmin and qmax and rounded).",
            rtol=1e-5,
            atol=1e-6 * (np.abs(weight) + scale),
        )
        must(
            got.requires_grad,
            "The rounded weight is right, but no gradient can flow back from it: autograd was "
            "switched off or the whole result detached. Detach only what rounding adds.",
        )
        leaf.grad = None  # whatever ran backward inside of the function is not asked for
        fake_quantize.backward(got, tensor(gradient))
        close(
            torch.zeros_like(leaf) if leaf.grad is None else leaf.grad,
            partial(truths.passed, weight, scale, qmin, qmax, gradient),
            f"the gradient of the weight ({qmin} to {qmax})",
            "It passes where qmin <= weight / scale <= qmax, and is 0 elsewhere.",
            rtol=1e-5,
            atol=0.0,
        )


def judge_step_gradient(step_gradient: Attempt) -> None:
    """Check LSQ's gradient of the scale."""
    for case in chain(grid_cases(), fresh_grid_cases()):
        _, _, qmin, qmax, _ = case
        part = Part(
            f"the gradient of the scale ({qmin} to {qmax})",
            "For each row: the sum of gradient * (round(v) - v inside, qmin or qmax outside), over "
            "sqrt(n * qmax). The ends themselves lie inside.",
            rtol=1e-5,
            atol=1e-6 * truths.step_size(*case),
        )
        compare(step_gradient, truths.step_gradient, case, part)


# A weight, its dtype, and how closely its scale has to be met: 16 bits are coarse.
TernaryCase = tuple[Array, torch.dtype, float]
FLOAT32 = torch.float32, 1e-5


def ternary_cases() -> Iterator[TernaryCase]:
    """Yield weights of all signs and shapes, zeros among them, tiny and huge, in all dtypes."""
    rng = np.random.default_rng(11)
    steps = partial(truths.ternary_steps, rng)
    for weight in [
        0.7 * steps(8, 25, negative=0.25),
        0.02 * steps(3, 17),
        steps(1, 40),
        steps(4, 6, negative=1.0),
        30.0 * steps(12, 20),
        1e-6 * steps(6, 9),
        1e-4 * steps(2, 8),
        1e4 * steps(7, 5),
        steps(4, 7, zero=(1,)),  # one row is dead, one column, the first weight
        steps(4, 7, zero=(slice(None), 2)),
        steps(3, 3, zero=(0, 0)),
        np.concatenate([half := 0.5 * steps(3, 4), -half], axis=1),  # its sum is 0
        steps(9, 1),
        2.0 * steps(1, 1),
    ]:
        yield weight.astype(np.float32), *FLOAT32
    yield 1e-6 * steps(5, 6), torch.float64, 1e-5
    yield 0.1 * steps(5, 6), torch.float16, 3e-3
    yield 1e3 * steps(6, 5), torch.bfloat16, 2e-2
    yield np.zeros((3, 4), dtype=np.float32), *FLOAT32
    yield np.zeros((1, 1), dtype=np.float32), *FLOAT32
    yield np.zeros((2, 5)), torch.bfloat16, 0.0


def fresh_ternary_cases() -> Iterator[TernaryCase]:
    """Draw shapes and sizes."""
    rng = fresh()
    for _ in range(N_FRESH):
        rows, columns = map(int, rng.integers(1, (9, 30)))
        weight = truths.ternary_steps(rng, rows, columns) * 10.0 ** rng.uniform(-6, 4)
        yield weight.astype(np.float32), *FLOAT32


def judge_ternarize(ternarize: Attempt) -> None:
    """Check ternary weights with one mean magnitude."""
    for weight, dtype, rtol in chain(ternary_cases(), fresh_ternary_cases()):
        given = tensor(weight).to(dtype)
        # 0 / 0 cast to int8 is 0 on this machine, by chance.
        with nullcontext() if weight.any() else UndefinedCasts():
            compare(
                ternarize,
                truths.ternary,
                (given.double().numpy(),),
                Part("q", "q = weight / scale, rounded and clipped to -1 and 1.", torch.int8),
                Part("the scale", "It is the mean of |weight|.", rtol=rtol, atol=0.0),
                given=(given,),
                call="return q, scale",
            )


# out_features, in_features, rank, alpha
ADAPTERS = (
    (7, 7, 3, 10.0),  # square: a turned product fits
    (6, 6, 2, 7.0),
    (5, 9, 3, 6.0),
    (4, 7, 1, 0.5),
    (8, 3, 4, 2.0),
    (4, 4, 4, 1.5),  # rank, too
    (3, 40, 8, 0.0),
    (5, 6, 3, 3.0),
    (4, 5, 6, 1.0),
    (20, 2, 16, 1000.0),
    (9, 5, 12, 7),  # an int
    (1, 1, 1, 3.0),
)


def lora_cases() -> Iterator[LoraCase]:
    """Yield all shapes with numbers about 1, and then with rows from 1e-6 to 1e4."""
    for low, high in [(-0.5, 0.3), (-6, 4)]:
        for number, shape in enumerate(ADAPTERS):
            yield lora_case(40 + number, *shape, low=low, high=high)
    yield lora_case(60, 5, 4, 2, 8.0, low=0, high=0, dead=True)


def fresh_lora_cases() -> Iterator[LoraCase]:
    """Draw shapes, ranks and alphas."""
    rng = fresh()
    for _ in range(N_FRESH):
        shape = map(int, rng.integers(1, (9, 30, 9)))
        alpha = float(rng.choice([rng.uniform(0, 2), rng.integers(1, 33)]))
        yield lora_case(rng, *shape, alpha, low=-3, high=2)


def judge_merge(merge: Attempt) -> None:
    """Check adding an adapter into the weight."""
    for case in chain(lora_cases(), fresh_lora_cases()):
        part = Part(
            f"the merged weight at rank {len(case[1])} and alpha {case[3]:g}",
            "weight + alpha / rank * (b @ a).",
            rtol=1e-6,
            atol=2e-6 * truths.merge_size(*case),
        )
        compare(merge, truths.merged, case, part)


def lost_cases() -> Iterator[LostCase]:
    """Yield all grids: updates of a step or two; small, whole and large ones; all sizes."""
    for number, grid in enumerate(GRIDS):
        yield lost_case(300 + number, *grid, reach=2, low=-0.7, high=0.3)
    for number, grid in enumerate(GRIDS):
        reach = (0, 3, 300, -1)[number % 4]
        yield lost_case(400 + number, *grid, reach=reach, low=-0.7, high=0.3)
    for number, (low, high) in enumerate([(-6, -6), (4, 4), (-6, 4), (-5, -4)]):
        yield lost_case(500 + number, 4, 9, -4, 3, reach=1, low=low, high=high)


def fresh_lost_cases() -> Iterator[LostCase]:
    """Draw grids, and updates of all kinds."""
    rng = fresh()
    for grid in fresh_grids(rng):
        low, reach = rng.uniform(-6, 4), int(rng.choice([-1, 0, 1, 4]))
        yield lost_case(rng, *grid, reach=reach, low=low, high=low + 0.5)


def judge_lost_part(lost_part: Attempt) -> None:
    """Check how much of an update is lost where the sum is rounded to the old grid."""
    for case in chain(lost_cases(), fresh_lost_cases()):
        part = Part(
            f"the lost part ({case[3]} to {case[4]})",
            "Round weight + update to the grid, and compare with weight + update.",
            rtol=1e-5,
            atol=3e-7 * truths.lost_size(*case[:2]),
        )
        compare(lost_part, truths.lost_part, case, part)


EXERCISES = {
    "qat.fake_quantize": Exercise(judge_fake_quantize, OWN, mistakes.FAKE_QUANTIZE),
    "qat.step_gradient": Exercise(judge_step_gradient, OWN, mistakes.STEP_GRADIENT),
    "qat.ternarize": Exercise(judge_ternarize, OWN, mistakes.TERNARIZE),
    "qat.merge": Exercise(judge_merge, OWN, mistakes.MERGE),
    "qat.lost_part": Exercise(judge_lost_part, OWN, mistakes.LOST_PART),
}
