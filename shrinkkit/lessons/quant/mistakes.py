"""The usual mistakes in lesson 03's exercises: rounding to a grid, and storing it in 4 bits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from shrinkkit.checks.mistakes import Mistakes

Pair = tuple[Tensor, Tensor]


def largest(weight: Tensor) -> Tensor:
    """Return each row's largest magnitude, [out, 1]."""
    return weight.abs().amax(dim=1, keepdim=True)


def in_place_of_zero(scale: Tensor, value: float) -> Tensor:
    """Give rows of zeros another scale."""
    return scale.masked_fill(scale == 0, value)


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
    """Round a weight [out, in]; each option is a place to go wrong.

    top: magnitude at the end of the grid (None: each row's largest); steps: how many lead there
    (None: qmax); whole: what makes q an integer; dead: the scale of a row of zeros.
    """
    qmax = 2 ** (bits - 1) - 1
    scale = in_place_of_zero((largest(weight) if top is None else top) / (steps or qmax), dead)
    q = whole(weight / scale).clamp(-qmax, qmax)
    return scale * q if real else q


RTN = Mistakes()


@RTN("the integers q came back: multiply them by scale")
def rtn_integers(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, real=False)


@RTN("values were rounded down (floor), not to the nearest")
def rtn_floor(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, whole=torch.floor)


@RTN("fractions were cut off (a cast to int does that), not rounded")
def rtn_cast(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, whole=torch.trunc)


@RTN("the whole matrix shares one scale: take the maximum over dim=1 only")
def rtn_one_scale(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, top=weight.abs().max())


@RTN(
    "each column has a scale: the maximum was taken over dim=0, and should run along the row, "
    "over dim=1"
)
def rtn_columns(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight.T, bits).T


@RTN("the scale is max|row| / 2**(bits-1), one step too many: qmax = 2**(bits-1) - 1")
def rtn_one_step_more(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, steps=2 ** (bits - 1))


@RTN(
    "the scale is max|row| / (2**bits - 1), the steps of the whole range: a symmetric grid has "
    "qmax = 2**(bits-1) - 1 of them on each side"
)
def rtn_whole_range(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, steps=2**bits - 1)


@RTN("the scale comes from the largest value, not the largest magnitude: take abs() first")
def rtn_no_abs(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, top=weight.amax(dim=1, keepdim=True))


@RTN("a row of zeros was divided by a scale of zero: give it any scale, such as 1")
def rtn_zero_row(weight: Tensor, bits: int) -> Tensor:
    return rounded(weight, bits, dead=0.0)


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
    """Choose scale and zero point of each row; with_zero: whether the range holds zero."""
    low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    if with_zero:
        low, high = low.clamp(max=0), high.clamp(min=0)
    scale = in_place_of_zero((high - low) / (steps or 2**bits - 1), dead)
    return scale, whole(-low / scale).int()


CHOOSE_QPARAMS = Mistakes()


# Of the zero point alone:


@CHOOSE_QPARAMS("its sign is turned: real = scale * (q - zero_point), and low has q = 0")
def qparams_sign(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight, bits)
    return scale, -zero_point


@CHOOSE_QPARAMS("it was rounded down (floor or a cast to int), not to the nearest")
def qparams_floor(weight: Tensor, bits: int) -> Pair:
    return qparams(weight, bits, whole=torch.floor)


@CHOOSE_QPARAMS("it is meant for integers from -2**(bits-1): this grid starts at q = 0")
def qparams_signed(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight, bits)
    return scale, zero_point - 2 ** (bits - 1)


@CHOOSE_QPARAMS("keepdim=True is missing where you take the minimum")
def qparams_flat_zero_point(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight, bits)
    return scale, zero_point[:, 0]


# Of the scale:


@CHOOSE_QPARAMS(
    "the range was divided by 2**bits: so many levels have 2**bits - 1 steps between them"
)
def qparams_levels(weight: Tensor, bits: int) -> Pair:
    return qparams(weight, bits, steps=2**bits)


@CHOOSE_QPARAMS(
    "the range leaves zero out: lower `low` to at most 0 and raise `high` to at least 0, so that "
    "a weight of zero stays exactly zero"
)
def qparams_without_zero(weight: Tensor, bits: int) -> Pair:
    return qparams(weight, bits, with_zero=False)


@CHOOSE_QPARAMS(
    "the range leaves zero out: lower `low` to at most 0 and raise `high` to at least 0, so that "
    "a weight of zero stays exactly zero (and give a row of zeros scale 1)"
)
def qparams_without_zero_or_scale(weight: Tensor, bits: int) -> Pair:
    return qparams(weight, bits, with_zero=False, dead=0.0)


@CHOOSE_QPARAMS("this is the scale of a symmetric grid, max|row| / qmax")
def qparams_symmetric(weight: Tensor, bits: int) -> Pair:
    return largest(weight) / (2 ** (bits - 1) - 1), qparams(weight, bits)[1]


@CHOOSE_QPARAMS("each column has a scale: take minimum and maximum over dim=1")
def qparams_columns(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight.T, bits)
    return scale.T, zero_point.T


@CHOOSE_QPARAMS("each column has a scale: take minimum and maximum over dim=1, with keepdim=True")
def qparams_flat_columns(weight: Tensor, bits: int) -> Pair:
    return qparams_flat(weight.T, bits)


@CHOOSE_QPARAMS("keepdim=True is missing where you take minimum and maximum")
def qparams_flat(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight, bits)
    return scale[:, 0], zero_point[:, 0]


@CHOOSE_QPARAMS("the whole matrix shares one scale: take minimum and maximum over dim=1")
def qparams_one_scale(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams(weight.reshape(1, -1), bits)
    return scale.expand(len(weight), 1), zero_point.expand(len(weight), 1)


@CHOOSE_QPARAMS("a row of zeros has a scale of zero: give it scale 1")
def qparams_zero_row(weight: Tensor, bits: int) -> Pair:
    return qparams(weight, bits, dead=0.0)


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


GROUP_RTN = Mistakes()


@GROUP_RTN("each row has one scale: group_size was not used")
def group_ignored(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return rounded(weight, bits)


@GROUP_RTN("groups run down the columns: a group is group_size neighbours in one row")
def group_columns(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return grouped(weight.T, bits, group_size).T


@GROUP_RTN("the short last group was left as it is")
def group_short_untouched(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return short_end(weight, bits, group_size, lambda rest: rest)


@GROUP_RTN("the short last group became zeros")
def group_short_zero(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return short_end(weight, bits, group_size, torch.zeros_like)


@GROUP_RTN("the short last group shares the scale of the group before it")
def group_merged(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return short_end(weight, bits, group_size, lambda rest: rounded(rest, bits), before=1)


@GROUP_RTN("the short last group was cut off")
def group_cut(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return short_end(weight, bits, group_size, lambda rest: rest[:, :0])


@GROUP_RTN("the padding of the last group came back too: cut it off again")
def group_with_padding(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return grouped(pad(weight, (0, -weight.shape[1] % group_size)), bits, group_size)


@GROUP_RTN("the integers q came back: multiply them by scale")
def group_integers(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return grouped(weight, bits, group_size, real=False)


@GROUP_RTN("values were rounded down (floor), not to the nearest")
def group_floor(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return grouped(weight, bits, group_size, whole=torch.floor)


@GROUP_RTN("a group runs on from the end of one row into the next row")
def group_flattened(weight: Tensor, bits: int, group_size: int) -> Tensor:
    if weight.numel() % group_size:
        return grouped(weight, bits, group_size)
    return grouped(weight.reshape(1, -1), bits, group_size).reshape(weight.shape)


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


def unpack_swapped(packed: Tensor, in_features: int) -> Tensor:
    return alternate(*reversed(nibbles(packed)), in_features)


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
    "the two nibbles are swapped": unpack_swapped,
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
    return in_place_of_zero(largest(weight) / (2 ** (bits - 1) - 1), 1.0)


def squares(error: Tensor, scale: Tensor) -> Tensor:
    return error.square().sum(dim=2)


def cheapest(
    weight: Tensor,
    bits: int,
    ratios: Tensor,
    cost: Callable[[Tensor, Tensor], Tensor] = squares,
    clamp: bool = True,
) -> Tensor:
    """Return each row's scale of least cost.

    cost: [n_ratios, out] of the errors [n_ratios, out, in] and the scales [n_ratios, out, 1].
    """
    qmax = 2 ** (bits - 1) - 1
    scale = ratios.view(-1, 1, 1) * widest(weight, bits)
    scale[:, largest(weight)[:, 0] == 0] = 1.0
    q = (weight / scale).round()
    error = scale * (q.clamp(-qmax, qmax) if clamp else q) - weight
    return scale[:, :, 0].gather(0, cost(error, scale).argmin(dim=0, keepdim=True)).T


BEST_CLIP = Mistakes()


@BEST_CLIP("no ratio was tried: this is max|row| / qmax")
def clip_none(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return widest(weight, bits)


@BEST_CLIP("the last ratio won every time: keep the scale of the smallest error")
def clip_last(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios[-1:])


@BEST_CLIP("q was not clamped to [-qmax, qmax] after the scale shrank")
def clip_no_clamp(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, clamp=False)


@BEST_CLIP("the largest error won: look for the smallest")
def clip_worst(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: -squares(error, scale))


@BEST_CLIP("errors were summed without squaring them, so that they cancel")
def clip_cancelling(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: error.sum(dim=2).abs())


@BEST_CLIP("errors were summed without squaring them, so that the most negative sum won")
def clip_signed(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: error.sum(dim=2))


@BEST_CLIP("absolute errors were summed, not squared ones")
def clip_absolute(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: error.abs().sum(dim=2))


@BEST_CLIP("the worst single error decided, not the sum of squares")
def clip_worst_single(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: error.abs().amax(dim=2))


@BEST_CLIP(
    "errors were measured in steps, which favours large steps: multiply q by the scale first"
)
def clip_in_steps(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios, lambda error, scale: squares(error / scale, scale))


@BEST_CLIP("one ratio was chosen for all rows together")
def clip_one_ratio(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    def of_all_rows(error: Tensor, scale: Tensor) -> Tensor:
        return squares(error, scale).sum(dim=1, keepdim=True).expand(-1, len(weight))

    return cheapest(weight, bits, ratios, of_all_rows)


@BEST_CLIP("the ratio came back: multiply it by max|row| / qmax")
def clip_ratio(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios) / widest(weight, bits)


@BEST_CLIP("the clipped range came back: divide it by qmax")
def clip_range(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios) * (2 ** (bits - 1) - 1)


@BEST_CLIP("it is not a column: its shape should be [out_features, 1]")
def clip_flat(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios)[:, 0]


@BEST_CLIP("a row of zeros has a scale of zero: give it scale 1")
def clip_zero_row(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return cheapest(weight, bits, ratios) * (largest(weight) > 0)
