"""The usual mistakes in three of lesson 03's exercises: rounding to a grid, and choosing it.

For each exercise there is what is right, with options to go wrong in, and then a table: what to
tell a learner, and the function that does it, in the order in which answers are compared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from shrinkkit.checks.mistakes import Mistakes

Pair = tuple[Tensor, Tensor]
RAISED = (
    "the scale of small weights was raised (`clamp(min=...)`, `+ 1e-8`): only a scale of exactly 0 "
    "needs a stand-in"
)
RAISED_A_LITTLE = (
    "a tiny bound such as 1e-8 raised the scale of even smaller weights: only a scale of exactly 0 "
    "needs a stand-in"
)


def qmax_of(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def largest(weight: Tensor) -> Tensor:
    """Return each row's largest magnitude, [out, 1]."""
    return weight.abs().amax(dim=1, keepdim=True)


# ------------------------------------------------------------------------------- quant.rtn


def rounded(
    weight: Tensor,
    bits: int,
    *,
    top: Tensor | None = None,
    steps: int | None = None,
    whole: Callable[[Tensor], Tensor] = torch.round,
    dead: float = 1.0,
    least: float = 0.0,
    real: bool = True,
) -> Tensor:
    """Round a weight [out, in].

    top: magnitude at the end of the grid (None: each row's largest); steps: how many lead there
    (None: qmax); whole: what makes q an integer; dead: the scale of a row of zeros; least: no scale
    is smaller.
    """
    scale = (largest(weight) if top is None else top) / (steps or qmax_of(bits))
    scale = scale.clamp(min=least).masked_fill(scale == 0, dead)
    q = whole(weight / scale).clamp(-qmax_of(bits), qmax_of(bits))
    return scale * q if real else q


RTN = Mistakes()
for says, wrong in {
    "the integers q came back: multiply them by scale": (
        lambda weight, bits: rounded(weight, bits, real=False)
    ),
    "values were rounded down (floor), not to the nearest": (
        lambda weight, bits: rounded(weight, bits, whole=torch.floor)
    ),
    "fractions were cut off (a cast to int does that), not rounded": (
        lambda weight, bits: rounded(weight, bits, whole=torch.trunc)
    ),
    "the whole matrix shares one scale: take the maximum over dim=1 only": (
        lambda weight, bits: rounded(weight, bits, top=weight.abs().max())
    ),
    "each column has a scale: the maximum was taken over dim=0, and should run along the row, "
    "over dim=1": lambda weight, bits: rounded(weight.T, bits).T,
    "the scale is max|row| / 2**(bits-1), one step too many: qmax = 2**(bits-1) - 1": (
        lambda weight, bits: rounded(weight, bits, steps=2 ** (bits - 1))
    ),
    "the scale is max|row| / (2**bits - 1), the steps of the whole range: a symmetric grid has "
    "qmax = 2**(bits-1) - 1 of them on each side": (
        lambda weight, bits: rounded(weight, bits, steps=2**bits - 1)
    ),
    "the scale comes from the largest value, not the largest magnitude: take abs() first": (
        lambda weight, bits: rounded(weight, bits, top=weight.amax(dim=1, keepdim=True))
    ),
    "a row of zeros was divided by a scale of zero: give it any scale, such as 1": (
        lambda weight, bits: rounded(weight, bits, dead=0.0)
    ),
    RAISED: lambda weight, bits: rounded(weight, bits, least=1e-2),
    RAISED_A_LITTLE: lambda weight, bits: rounded(weight, bits, least=1e-8),
    "the grid has as many levels at every bit width: qmax = 2**(bits-1) - 1 depends on bits": (
        lambda weight, bits: rounded(weight, 4)
    ),
}.items():
    RTN.add(says, wrong)


# -------------------------------------------------------------------- quant.choose_qparams


def qparams(
    weight: Tensor,
    bits: int,
    *,
    steps: int | None = None,
    with_zero: bool = True,
    dead: float = 1.0,
    least: float = 0.0,
    whole: Callable[[Tensor], Tensor] = torch.round,
) -> Pair:
    """Choose scale and zero point of each row.

    with_zero: whether the range holds zero; least: no scale is smaller; whole: what makes the zero
    point an integer.
    """
    low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    if with_zero:
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (steps or 2**bits - 1)
    scale = scale.clamp(min=least).masked_fill(scale == 0, dead)
    return scale, whole(-low / scale).int()


CHOOSE_QPARAMS = Mistakes()
for says, wrong in {
    # Of the zero point alone; then of the scale.
    "its sign is turned: real = scale * (q - zero_point), and low has q = 0": (
        lambda weight, bits: qparams(weight, bits, whole=lambda zero: -zero.round())
    ),
    "it was rounded down (floor or a cast to int), not to the nearest": (
        lambda weight, bits: qparams(weight, bits, whole=torch.floor)
    ),
    "it is meant for integers from -2**(bits-1): this grid starts at q = 0": (
        lambda weight, bits: qparams(weight, bits, whole=lambda z: z.round() - 2 ** (bits - 1))
    ),
    "zero points above 127 were kept in int8, where they turn negative: take int32": (
        lambda weight, bits: qparams(weight, bits, whole=lambda z: z.round().int().to(torch.int8))
    ),
    "keepdim=True is missing where you take the minimum": (
        lambda weight, bits: qparams(weight, bits, whole=lambda zero: zero[:, 0].round())
    ),
    "the range was divided by 2**bits: so many levels have 2**bits - 1 steps between them": (
        lambda weight, bits: qparams(weight, bits, steps=2**bits)
    ),
    "the range leaves zero out: lower `low` to at most 0 and raise `high` to at least 0, so that "
    "a weight of zero stays exactly zero": (
        lambda weight, bits: qparams(weight, bits, with_zero=False)
    ),
    "the range leaves zero out: lower `low` to at most 0 and raise `high` to at least 0, so that "
    "a weight of zero stays exactly zero (and give a row of zeros scale 1)": (
        lambda weight, bits: qparams(weight, bits, with_zero=False, dead=0.0)
    ),
    "this is the scale of a symmetric grid, max|row| / qmax": (
        lambda weight, bits: (largest(weight) / qmax_of(bits), qparams(weight, bits)[1])
    ),
    "each column has a scale: take minimum and maximum over dim=1": (
        lambda weight, bits: tuple(part.T for part in qparams(weight.T, bits))
    ),
    "each column has a scale: take minimum and maximum over dim=1, with keepdim=True": (
        lambda weight, bits: tuple(part[:, 0] for part in qparams(weight.T, bits))
    ),
    "keepdim=True is missing where you take minimum and maximum": (
        lambda weight, bits: tuple(part[:, 0] for part in qparams(weight, bits))
    ),
    "the whole matrix shares one scale: take minimum and maximum over dim=1": (
        lambda weight, bits: tuple(
            part.expand(len(weight), 1) for part in qparams(weight.reshape(1, -1), bits)
        )
    ),
    "a row of zeros has a scale of zero: give it scale 1": (
        lambda weight, bits: qparams(weight, bits, dead=0.0)
    ),
    RAISED: lambda weight, bits: qparams(weight, bits, least=1e-2),
    RAISED_A_LITTLE: lambda weight, bits: qparams(weight, bits, least=1e-8),
    "the grid has as many levels at every bit width: it has 2**bits - 1 steps": (
        lambda weight, bits: qparams(weight, 4)
    ),
}.items():
    CHOOSE_QPARAMS.add(says, wrong)


# ------------------------------------------------------------------------- quant.group_rtn


def grouped(weight: Tensor, bits: int, group_size: int, **how: object) -> Tensor:
    """Round each group of columns like a row; how: options of `rounded`."""
    return torch.cat([rounded(part, bits, **how) for part in weight.split(group_size, 1)], dim=1)


def short_end(weight: Tensor, bits: int, group_size: int, end: Callable, before: int = 0) -> Tensor:
    """Round in groups, save the short last one and `before` groups in front of it."""
    start = max(weight.shape[1] // group_size - before, 0) * group_size
    rest = weight[:, start:]
    if rest.shape[1]:
        rest = end(rest)
    return torch.cat([grouped(weight, bits, group_size)[:, :start], rest], dim=1)


def flattened(weight: Tensor, bits: int, group_size: int) -> Tensor:
    """Round in groups that run on into the next row, where their size divides all weights."""
    rows = weight if weight.numel() % group_size else weight.reshape(1, -1)
    return grouped(rows, bits, group_size).reshape(weight.shape)


GROUP_RTN = Mistakes()
for says, wrong in {
    "each row has one scale: group_size was not used": (
        lambda weight, bits, size: rounded(weight, bits)
    ),
    "groups run down the columns: a group is group_size neighbours in one row": (
        lambda weight, bits, size: grouped(weight.T, bits, size).T
    ),
    "the short last group was left as it is": (
        lambda weight, bits, size: short_end(weight, bits, size, lambda rest: rest)
    ),
    "the short last group became zeros": (
        lambda weight, bits, size: short_end(weight, bits, size, torch.zeros_like)
    ),
    "the short last group shares the scale of the group before it": (
        lambda weight, bits, size: short_end(
            weight, bits, size, lambda rest: rounded(rest, bits), before=1
        )
    ),
    "the short last group was cut off": (
        lambda weight, bits, size: short_end(weight, bits, size, lambda rest: rest[:, :0])
    ),
    "the padding of the last group came back too: cut it off again": (
        lambda weight, bits, size: grouped(pad(weight, (0, -weight.shape[1] % size)), bits, size)
    ),
    "the integers q came back: multiply them by scale": (
        lambda weight, bits, size: grouped(weight, bits, size, real=False)
    ),
    "values were rounded down (floor), not to the nearest": (
        lambda weight, bits, size: grouped(weight, bits, size, whole=torch.floor)
    ),
    "the scale is max|group| / 2**(bits-1), one step too many: qmax = 2**(bits-1) - 1": (
        lambda weight, bits, size: grouped(weight, bits, size, steps=2 ** (bits - 1))
    ),
    "a group of zeros was divided by a scale of zero: give it any scale, such as 1": (
        lambda weight, bits, size: grouped(weight, bits, size, dead=0.0)
    ),
    RAISED: lambda weight, bits, size: grouped(weight, bits, size, least=1e-2),
    RAISED_A_LITTLE: (lambda weight, bits, size: grouped(weight, bits, size, least=1e-8)),
    "a group runs on from the end of one row into the next row": flattened,
}.items():
    GROUP_RTN.add(says, wrong)
