"""Right ways to choose a scale and a zero point with one thing changed: all must be refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.lessons.quant import cases
from tests.lessons.attacks import assert_refused, each
from tests.lessons.quant.test_attacks import (
    BIT_WIDTHS,
    first_kept,
    largest,
    qmax_of,
    stood_in,
    table_of,
)

Tensor = torch.Tensor


def low(weight: Tensor) -> Tensor:
    return weight.amin(dim=1, keepdim=True)


def high(weight: Tensor) -> Tensor:
    return weight.amax(dim=1, keepdim=True)


def qparams(
    weight: Tensor,
    bits: int,
    *,
    low=lambda w: low(w).clamp(max=0),
    high=lambda w: high(w).clamp(min=0),
    n_of=lambda bits: 2**bits - 1,
    least=0.0,
    more=0.0,
    stand_in=stood_in,
    zero=lambda low, high, scale, bits: -low / scale,
    by=torch.round,
    kept=torch.int32,
    after=lambda *pair: pair,
):
    """Choose scale and zero point; the options are what an attack changes."""
    bottom, top = low(weight), high(weight)
    scale = stand_in(((top - bottom) / n_of(bits)).clamp(min=least) + more)
    return after(scale, by(zero(bottom, top, scale, bits)).to(kept))


QPARAMS_OPTIONS: dict[str, dict] = {
    **{
        f"{bits} bits wrong": {"n_of": lambda bits, n=bits: 2**bits - 1 - (bits == n)}
        for bits in BIT_WIDTHS
    },
    "always 4 bits": {"n_of": lambda bits: 15},
    "2**bits": {"n_of": lambda bits: 2**bits},
    "2**bits - 2": {"n_of": lambda bits: 2**bits - 2},
    "half the steps": {"n_of": qmax_of},
    "scale 0.01 at least": {"least": 1e-2},
    "scale 1e-5 at least": {"least": 1e-5},
    "scale eps at least": {"least": torch.finfo(torch.float32).eps},
    "scale 1e-8 at least": {"least": 1e-8},
    "scale + 1e-8": {"more": 1e-8},
    "scale + 1e-5": {"more": 1e-5},
    "small means dead": {"stand_in": lambda scale: torch.where(scale > 1e-6, scale, 1.0)},
    "nothing for dead": {"stand_in": lambda scale: scale},
    "one dead, all dead": {
        "stand_in": lambda scale: scale if (scale > 0).all() else torch.ones_like(scale)
    },
    "dead: eps": {"stand_in": lambda scale: torch.where(scale > 0, scale, 1e-8)},
    "zero not below": {"low": low},
    "zero not above": {"high": high},
    "zero in neither": {"low": low, "high": high},
    "low of zero": {"low": lambda w: torch.zeros(len(w), 1)},
    "low is -high": {"low": lambda w: -largest(w), "high": largest},
    "low of 16 columns": {"low": lambda w: low(w[:, :8]).clamp(max=0)},
    "last column left out": {"high": lambda w: high(w[:, :-1] if w.shape[1] > 1 else w).clamp(0)},
    "per tensor": {"low": lambda w: w.min().clamp(max=0).expand(len(w), 1)},
    "rounded down": {"by": torch.floor},
    "rounded up": {"by": torch.ceil},
    "cut off": {"by": lambda zero: zero},
    "rounded at 0.4": {"by": lambda zero: (zero + 0.6).floor()},
    "sign turned": {"zero": lambda low, high, scale, bits: low / scale},
    "signed": {"zero": lambda low, high, scale, bits: -low / scale - 2 ** (bits - 1)},
    "low itself": {"zero": lambda low, high, scale, bits: -low},
    "from high": {"zero": lambda low, high, scale, bits: 2**bits - high / scale},
    "one more": {"zero": lambda low, high, scale, bits: 1 - low / scale},
    "qmax at most": {"zero": lambda low, high, scale, bits: (-low / scale).clamp(0, 2**bits - 2)},
    "15 at most": {"zero": lambda low, high, scale, bits: (-low / scale).clamp(0, 15)},
    "1 at least": {"zero": lambda low, high, scale, bits: (-low / scale).clamp(min=1)},
    "always 0": {"zero": lambda low, high, scale, bits: 0 * low},
    "int8": {"kept": torch.int8},
    "float": {"kept": torch.float32},
    "bool": {"kept": torch.bool},
    "swapped": {"after": lambda scale, zero: (zero, scale)},
    "scale alone": {"after": lambda scale, zero: scale},
    "three": {"after": lambda scale, zero: (scale, zero, zero)},
    "a generator": {"after": lambda *pair: (part for part in pair)},
    "a dict": {"after": lambda scale, zero: {"scale": scale, "zero_point": zero}},
    "rows": {"after": lambda *pair: tuple(part.T for part in pair)},
    "no keepdim": {"after": lambda *pair: tuple(part[:, 0] for part in pair)},
    "scale off": {"after": lambda scale, zero: (scale * 1.00001, zero)},
    "zero point off in the last row": {
        "after": lambda scale, zero: (scale, zero + torch.eye(len(zero), dtype=torch.int32)[:, -1:])
    },
}
QPARAMS = {
    name: lambda *case, how=how: qparams(*case, **how) for name, how in QPARAMS_OPTIONS.items()
} | {
    "first answer kept": first_kept(qparams),
    "a table": table_of(qparams, list(cases.qparams_cases())),
}


def by_the_upper_end(low: Tensor, high: Tensor, scale: Tensor, bits: int) -> Tensor:
    return torch.where(high > low, 2**bits - 1 - high / scale, 0.0)


ATTACKS = {"quant.choose_qparams": QPARAMS}
RIGHT = {
    "quant.choose_qparams": {
        "as it is": qparams,
        "a list": lambda *case: list(qparams(*case)),
        "uint8": lambda *case: qparams(*case, kept=torch.uint8),
        "int64": lambda *case: qparams(*case, kept=torch.int64),
        "float64": lambda weight, bits: qparams(weight.double(), bits),
        "the upper end": lambda *case: qparams(*case, zero=by_the_upper_end),
    }
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_is_not(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
