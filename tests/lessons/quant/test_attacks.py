"""Right answers with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, an axis, an edge, a dtype
or a bound, and some try to answer without the calculation. Here: rounding rows and groups.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.lessons.quant import cases
from tests.lessons.attacks import assert_refused, each

Tensor = torch.Tensor
BIT_WIDTHS = range(2, 9)


def qmax_of(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def largest(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1, keepdim=True)


def stood_in(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def line(
    weight: Tensor,
    bits: int,
    *,
    top=largest,
    n_of=qmax_of,
    least=0.0,
    more=0.0,
    kept=None,
    by=torch.round,
    ends=None,
    stand_in=stood_in,
    after=lambda x: x,
) -> Tensor:
    """Round rows on symmetric grids; the options are what an attack changes."""
    scale = (top(weight) / n_of(bits)).clamp(min=least) + more
    if kept is not None:
        scale = scale.to(kept).to(weight.dtype)
    scale = stand_in(scale)
    low, high = (-qmax_of(bits), qmax_of(bits)) if ends is None else ends(bits)
    return after(scale * by(weight / scale).clamp(low, high))


def wrong_at(bits_wrong: int) -> Callable:
    return lambda bits: qmax_of(bits) + (bits == bits_wrong)


def first_kept(function: Callable) -> Callable:
    """Answer every call of a shape like the first one of it."""
    kept: dict = {}
    return lambda weight, *rest: kept.setdefault(weight.shape, function(weight, *rest))


def table_of(function: Callable, known: list) -> Callable:
    """Answer fixed cases from a table, and whatever else with the weight itself."""
    table = {}
    for weight, bits, dtype in known:
        given = torch.from_numpy(weight).to(dtype)
        table[given.numpy().tobytes() if dtype != torch.bfloat16 else None] = function(given, bits)

    def answer(weight: Tensor, bits: int):
        key = weight.numpy().tobytes() if weight.dtype != torch.bfloat16 else None
        return table.get(key, function(torch.zeros_like(weight), bits))

    return answer


def in_place(weight: Tensor, bits: int) -> Tensor:
    return weight.copy_(line(weight, bits))


OPTIONS: dict[str, dict] = {
    **{f"{bits} bits wrong": {"n_of": wrong_at(bits)} for bits in BIT_WIDTHS},
    "always 4 bits": {"n_of": lambda bits: 7},
    "4 bits at most": {"n_of": lambda bits: min(qmax_of(bits), 7)},
    "3 bits at least": {"n_of": lambda bits: max(qmax_of(bits), 3)},
    "2**(bits-1)": {"n_of": lambda bits: 2 ** (bits - 1)},
    "2**bits - 1": {"n_of": lambda bits: 2**bits - 1},
    "half of 2**bits - 1": {"n_of": lambda bits: (2**bits - 1) / 2},
    "scale 0.01 at least": {"least": 1e-2},
    "scale 0.001 at least": {"least": 1e-3},
    "scale 1e-5 at least": {"least": 1e-5},
    "scale eps at least": {"least": torch.finfo(torch.float32).eps},
    "scale 1e-8 at least": {"least": 1e-8},
    "scale 1e-10 at least": {"least": 1e-10},
    "scale + 1e-3": {"more": 1e-3},
    "scale + 1e-8": {"more": 1e-8},
    "scale in float16": {"kept": torch.float16},
    "scale in bfloat16": {"kept": torch.bfloat16},
    "small means dead": {"stand_in": lambda scale: torch.where(scale > 1e-6, scale, 1.0)},
    "nothing for dead": {"stand_in": lambda scale: scale},
    "one dead, all dead": {
        "stand_in": lambda scale: scale if (scale > 0).all() else torch.ones_like(scale)
    },
    "rounded down": {"by": torch.floor},
    "rounded up": {"by": torch.ceil},
    "cut off": {"by": torch.trunc},
    "rounded at 0.4": {"by": lambda v: (v + 0.6).floor()},
    "rounded at 0.6": {"by": lambda v: (v + 0.4).floor()},
    "not rounded": {"by": lambda v: v},
    "one decimal": {"by": lambda v: (v * 10).round() / 10},
    "-qmax cut": {"ends": lambda bits: (-qmax_of(bits) + 1, qmax_of(bits))},
    "qmax cut": {"ends": lambda bits: (-qmax_of(bits), qmax_of(bits) - 1)},
    "below zero cut": {"ends": lambda bits: (0, qmax_of(bits))},
    "seven at most": {"ends": lambda bits: (-7, 7)},
    "64 at most": {"ends": lambda bits: (-64, 64)},
    "no abs": {"top": lambda w: w.amax(dim=1, keepdim=True)},
    "abs of the least": {"top": lambda w: w.amin(dim=1, keepdim=True).abs()},
    "half of the range": {
        "top": lambda w: (w.amax(dim=1, keepdim=True) - w.amin(dim=1, keepdim=True)) / 2
    },
    "mean for max": {"top": lambda w: w.abs().mean(dim=1, keepdim=True)},
    "norm for max": {"top": lambda w: w.norm(dim=1, keepdim=True)},
    "second largest": {"top": lambda w: w.abs().sort(dim=1).values[:, -min(2, w.shape[1]), None]},
    "first column left out": {"top": lambda w: largest(w[:, 1:] if w.shape[1] > 1 else w)},
    "last column left out": {"top": lambda w: largest(w[:, :-1] if w.shape[1] > 1 else w)},
    "largest of 16 columns": {"top": lambda w: largest(w[:, :16])},
    "per tensor": {"top": lambda w: w.abs().max()},
    "per column": {"top": lambda w: w.abs().amax(dim=0, keepdim=True)},
    "float64 comes back": {"after": Tensor.double},
    "float32 comes back": {"after": Tensor.float},
    "float16 comes back": {"after": Tensor.half},
    "last row left out": {"after": lambda x: torch.cat([x[:-1], 0 * x[-1:]])},
    "transposed": {"after": lambda x: x.T},
    "0.001 % off": {"after": lambda x: 1.00001 * x},
    "a little off": {"after": lambda x: x + 1e-5},
    "a list": {"after": Tensor.tolist},
    "an array": {"after": lambda x: x.float().numpy()},
}
LINES = {name: lambda *case, how=how: line(*case, **how) for name, how in OPTIONS.items()}
RTN = LINES | {
    "changed in place": in_place,
    "as it is": lambda weight, bits: weight,
    "first answer kept": first_kept(line),
    "a table": table_of(line, [(w, b, d) for w, b, _, d in cases.rtn_cases()]),
}


def groups(rows: Callable, weight: Tensor, bits: int, group_size: int) -> Tensor:
    return torch.cat([rows(part, bits) for part in weight.split(group_size, dim=1)], dim=1)


def blocks(weight: Tensor, bits: int, group_size: int, most: int) -> Tensor:
    """Round only so many groups."""
    end = most * group_size
    return torch.cat([groups(line, weight[:, :end], bits, group_size), weight[:, end:]], dim=1)


LEFT_OUT = ("a list", "an array", "transposed", "half of the range", "largest of 16 columns")
GROUP = {
    name: lambda *case, rows=rows: groups(rows, *case)
    for name, rows in LINES.items()
    if name not in LEFT_OUT
} | {
    "group_size + 1": lambda w, bits, n: groups(line, w, bits, n + 1),
    "group_size - 1": lambda w, bits, n: groups(line, w, bits, max(1, n - 1)),
    "groups of 4": lambda w, bits, n: groups(line, w, bits, 4),
    "groups of 2 at least": lambda w, bits, n: groups(line, w, bits, max(n, 2)),
    "groups of 64 at most": lambda w, bits, n: groups(line, w, bits, min(n, 64)),
    "no groups": lambda w, bits, n: line(w, bits),
    "groups from the end": lambda w, bits, n: groups(line, w.flip(1), bits, n).flip(1),
    "equal parts": lambda w, bits, n: groups(line, w, bits, -(-w.shape[1] // -(-w.shape[1] // n))),
    "every n-th column": lambda w, bits, n: torch.stack(
        [line(w[:, i % n :: n], bits)[:, i // n] for i in range(w.shape[1])], dim=1
    ),
    "down the columns": lambda w, bits, n: groups(line, w.T, bits, n).T,
    "the short group joins": lambda w, bits, n: torch.cat(
        [
            groups(line, w[:, : (k := max(0, w.shape[1] // n - 1) * n)], bits, n),
            line(w[:, k:], bits),
        ]
        if w.shape[1] > n
        else [line(w, bits)],
        dim=1,
    ),
    "one group": lambda *case: blocks(*case, most=1),
    "two groups": lambda *case: blocks(*case, most=2),
    "three groups": lambda *case: blocks(*case, most=3),
    "one row for all": lambda w, bits, n: groups(
        lambda part, bits: line(part, bits, top=lambda p: p.abs().max()), w, bits, n
    ),
    "first row for all": lambda w, bits, n: groups(
        lambda part, bits: line(part, bits, top=lambda p: largest(p[:1])), w, bits, n
    ),
}


ATTACKS = {"quant.rtn": RTN, "quant.group_rtn": GROUP}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def in_float64(weight: Tensor, bits: int) -> Tensor:
    return line(weight.double(), bits).to(weight.dtype)


def times_the_inverse(weight: Tensor, bits: int) -> Tensor:
    steps = weight * (qmax_of(bits) / stood_in(largest(weight)))
    return steps.round() / qmax_of(bits) * largest(weight)


def through_int8(weight: Tensor, bits: int) -> Tensor:
    return line(weight, bits, by=lambda v: v.round().to(torch.int8))


def own_copy_in_place(weight: Tensor, bits: int) -> Tensor:
    rounded = weight.clone()
    for row in rounded:
        if row.any():
            row /= row.abs().max() / qmax_of(bits)
    return rounded.round_().mul_(largest(weight) / qmax_of(bits))


ROWS = (line, in_float64, times_the_inverse, through_int8, own_copy_in_place)
RIGHT = {
    "quant.rtn": {rows.__name__: rows for rows in ROWS},
    "quant.group_rtn": {
        rows.__name__: lambda *case, rows=rows: groups(rows, *case) for rows in ROWS
    },
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_is_not(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
