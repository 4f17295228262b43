"""The usual mistakes in lesson 03's exercises: rounding to a grid, and storing it in 4 bits.

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
    real: bool = True,
) -> Tensor:
    """Round a weight [out, in].

    top: magnitude at the end of the grid (None: each row's largest); steps: how many lead there
    (None: qmax); whole: what makes q an integer; dead: the scale of a row of zeros.
    """
    scale = (largest(weight) if top is None else top) / (steps or qmax_of(bits))
    scale = scale.masked_fill(scale == 0, dead)
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
    whole: Callable[[Tensor], Tensor] = torch.round,
) -> Pair:
    """Choose scale and zero point of each row.

    with_zero: whether the range holds zero; whole: what makes the zero point an integer.
    """
    low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    if with_zero:
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (steps or 2**bits - 1)
    scale = scale.masked_fill(scale == 0, dead)
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
    "a group runs on from the end of one row into the next row": flattened,
}.items():
    GROUP_RTN.add(says, wrong)


# ------------------------------------------------------------------------- quant.pack_int4


def pack(q: Tensor, *, offset: int = 8, keep: int = 15, swap: bool = False) -> Tensor:
    """Put pairs of neighbours into a byte; keep: the bits of a code that are stored."""
    codes = pad(q.int() + offset, (0, q.shape[1] % 2)) & keep
    first, second = (1, 0) if swap else (0, 1)
    return (codes[:, first::2] | codes[:, second::2] << 4).to(torch.uint8)


def pack_halves(q: Tensor) -> Tensor:
    left, right = pad(q.int() + 8, (0, q.shape[1] % 2)).chunk(2, dim=1)
    return (left | right << 4).to(torch.uint8)


def nibbles(packed: Tensor) -> Pair:
    """Return the low and the high four bits of each byte, int32."""
    return (packed & 15).int(), (packed >> 4).int()


def alternate(low: Tensor, high: Tensor, in_features: int) -> Tensor:
    return torch.stack([low, high], dim=2).flatten(1)[:, :in_features] - 8


def unpack(packed: Tensor, in_features: int) -> Tensor:
    return alternate(*nibbles(packed), in_features)


def unpack_blocks(packed: Tensor, in_features: int) -> Tensor:
    return torch.cat(nibbles(packed), dim=1)[:, :in_features] - 8


def unpack_unshifted(packed: Tensor, in_features: int) -> Tensor:
    return alternate((packed & 15).int(), (packed & 240).int(), in_features)


PACK_INT4 = Mistakes()
for says, wrong in {
    "the two nibbles are swapped: the left integer belongs into the low four bits": (
        lambda q: pack(q, swap=True)
    ),
    "8 was not added: -8..7 is stored as 0..15": lambda q: pack(q, offset=0),
    "8 was not added, so that the upper bits of a negative integer, all ones, ran over its "
    "neighbour": lambda q: pack(q, offset=0, keep=-1),
    "column j shares a byte with column j + in_features / 2: a byte holds neighbours": pack_halves,
    "the last column of an odd row was dropped": lambda q: pack(q)[:, : q.shape[1] // 2],
    "pairs were made down the rows: a byte holds two neighbours of one row": lambda q: pack(q.T).T,
    "nothing was packed: each integer still takes a byte of its own": (
        lambda q: (q + 8).to(torch.uint8)
    ),
    "nothing was packed, and 8 was not added": lambda q: q,
}.items():
    PACK_INT4.add(says, wrong, unpack)
for says, wrong in {
    "8 was not subtracted again": lambda packed, n: unpack(packed, n) + 8,
    "8 was subtracted in uint8, which has no negative numbers and goes on from 255: convert to a "
    "signed dtype first": lambda packed, n: alternate(packed & 15, packed >> 4, n),
    "the two nibbles are swapped": (lambda packed, n: alternate(*reversed(nibbles(packed)), n)),
    "all low nibbles came first and then all high ones: they alternate": unpack_blocks,
    "the free nibble of an odd row came back as a column: cut it off": (
        lambda packed, n: unpack(packed, 2 * packed.shape[1])
    ),
    "the high nibble kept its place value: shift it down by four bits": unpack_unshifted,
}.items():
    PACK_INT4.add(says, pack, wrong)


# ------------------------------------------------------------------------- quant.best_clip


def widest(weight: Tensor, bits: int) -> Tensor:
    """Return max|row| / qmax, [out, 1]; 1 for a row of zeros."""
    scale = largest(weight) / qmax_of(bits)
    return scale.masked_fill(scale == 0, 1.0)


def squares(error: Tensor) -> Tensor:
    return error.square().sum(dim=2)


def cheapest(
    weight: Tensor,
    bits: int,
    ratios: Tensor,
    cost: Callable[[Tensor], Tensor] = squares,
    *,
    clamp: bool = True,
    in_steps: bool = False,
    dead: float = 1.0,
) -> Tensor:
    """Return each row's scale of least cost; cost: [n_ratios, out] of errors [n_ratios, out, in].

    in_steps: errors are counted in steps of the scale; dead: the scale of a row of zeros.
    """
    scale = ratios.view(-1, 1, 1) * widest(weight, bits)
    q = (weight / scale).round()
    if clamp:
        q = q.clamp(-qmax_of(bits), qmax_of(bits))
    error = q - weight / scale if in_steps else scale * q - weight
    best = scale[:, :, 0].gather(0, cost(error).argmin(dim=0, keepdim=True)).T
    return best.where(largest(weight) > 0, dead)


BEST_CLIP = Mistakes()
for says, wrong in {
    "no ratio was tried: this is max|row| / qmax": lambda weight, bits, _: widest(weight, bits),
    "the last ratio won every time: keep the scale of the smallest error": (
        lambda *given: cheapest(*given[:2], given[2][-1:])
    ),
    "q was not clamped to [-qmax, qmax] after the scale shrank": (
        lambda *given: cheapest(*given, clamp=False)
    ),
    "the largest error won: look for the smallest": (
        lambda *given: cheapest(*given, lambda error: -squares(error))
    ),
    "errors were summed without squaring them, so that they cancel": (
        lambda *given: cheapest(*given, lambda error: error.sum(dim=2).abs())
    ),
    "errors were summed without squaring them, so that the most negative sum won": (
        lambda *given: cheapest(*given, lambda error: error.sum(dim=2))
    ),
    "absolute errors were summed, not squared ones": (
        lambda *given: cheapest(*given, lambda error: error.abs().sum(dim=2))
    ),
    "the worst single error decided, not the sum of squares": (
        lambda *given: cheapest(*given, lambda error: error.abs().amax(dim=2))
    ),
    "errors were measured in steps, which favours large steps: multiply q by the scale first": (
        lambda *given: cheapest(*given, in_steps=True)
    ),
    "one ratio was chosen for all rows together": (
        lambda *given: cheapest(*given, lambda e: squares(e).sum(1, True).expand(e.shape[:2]))
    ),
    "the ratio came back: multiply it by max|row| / qmax": (
        lambda weight, bits, ratios: cheapest(weight, bits, ratios) / widest(weight, bits)
    ),
    "the clipped range came back: divide it by qmax": (
        lambda weight, bits, ratios: cheapest(weight, bits, ratios) * qmax_of(bits)
    ),
    "it is not a column: its shape should be [out_features, 1]": (
        lambda *given: cheapest(*given)[:, 0]
    ),
    "a row of zeros has a scale of zero: give it scale 1": (
        lambda *given: cheapest(*given, dead=0.0)
    ),
}.items():
    BEST_CLIP.add(says, wrong)
