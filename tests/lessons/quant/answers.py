"""Right and wrong answers to the exercises of lesson 03."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]


def qmax_of(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def safe(scale: Tensor) -> Tensor:
    """Give rows of zeros the scale 1."""
    return scale.masked_fill(scale == 0, 1.0)


# ------------------------------------------------------------------------------- quant.rtn

rtn = Answers("quant.rtn")


@rtn.second
def rtn_row_by_row(weight: Tensor, bits: int, whole: Callable = round) -> Tensor:
    rows = []
    for row in weight:
        step = row.abs().max().item() / qmax_of(bits)
        rows.append(torch.tensor([step * whole(x / step) if step else 0.0 for x in row.tolist()]))
    return torch.stack(rows).to(weight.dtype)


@rtn.mistake("floor for round", says="rounded down (floor)")
def rtn_floor(weight: Tensor, bits: int) -> Tensor:
    return rtn_row_by_row(weight, bits, whole=math.floor)


@rtn.mistake("one scale for the whole matrix", says="whole matrix shares one scale")
def rtn_per_tensor(weight: Tensor, bits: int) -> Tensor:
    qmax, top = qmax_of(bits), max(map(abs, weight.flatten().tolist()))
    rounded = torch.fake_quantize_per_tensor_affine(weight.float(), top / qmax, 0, -qmax, qmax)
    return rounded.to(weight.dtype)


@rtn.mistake("maximum over the wrong dimension", says="each column has a scale")
def rtn_columns(weight: Tensor, bits: int) -> Tensor:
    columns = [rtn_row_by_row(column[None], bits)[0] for column in weight.unbind(dim=1)]
    return torch.stack(columns, dim=1)


@rtn.mistake("float64 turned into float32", says="dtype torch.float32, and should have torch.float")
def rtn_loses_dtype(weight: Tensor, bits: int) -> Tensor:
    return rtn_row_by_row(weight, bits).float()


@rtn.mistake("a bound on the scale", says="the scale of small weights was raised")
def rtn_bounded(weight: Tensor, bits: int) -> Tensor:
    step = weight.abs().amax(dim=1, keepdim=True).div(qmax_of(bits)).clamp(min=1e-2)
    return weight.div(step).round().mul(step)


# -------------------------------------------------------------------- quant.choose_qparams

choose_qparams = Answers("quant.choose_qparams")


@choose_qparams.second
def qparams_by_sorting(weight: Tensor, bits: int) -> Pair:
    with_zero = torch.cat([weight, torch.zeros(len(weight), 1)], dim=1).sort(dim=1).values
    low, high = with_zero[:, :1], with_zero[:, -1:]
    steps = (1 << bits) - 1
    scale = (high - low).div(steps)
    scale[scale == 0] = 1
    return scale, torch.round(steps * (-low) / (scale * steps)).long()


@choose_qparams.mistake("range without zero", says="the range leaves zero out")
def qparams_without_zero(weight: Tensor, bits: int) -> Pair:
    low, high = torch.aminmax(weight, dim=1, keepdim=True)
    scale = safe((high - low) / (2**bits - 1))
    return scale, low.div(-scale).round().int()


@choose_qparams.mistake("symmetric scale", says="the scale of a symmetric grid")
def qparams_symmetric(weight: Tensor, bits: int) -> Pair:
    scale = safe(weight.norm(torch.inf, dim=1, keepdim=True) / qmax_of(bits))
    return scale, torch.zeros_like(scale, dtype=torch.int32)


@choose_qparams.mistake("zero point of the upper end", says="this grid starts at q = 0")
def qparams_signed(weight: Tensor, bits: int) -> Pair:
    scale, _ = qparams_by_sorting(weight, bits)
    high = weight.amax(dim=1, keepdim=True).clamp(min=0)  # falls on the last q
    return scale, qmax_of(bits) - (high / scale).round().int()


@choose_qparams.mistake("zero point not rounded", says="should be an integer dtype")
def qparams_fraction(weight: Tensor, bits: int) -> Pair:
    scale, _ = qparams_by_sorting(weight, bits)
    return scale, -weight.amin(dim=1, keepdim=True).clamp(max=0) / scale


@choose_qparams.mistake("zero point rounded and still a float", says="should be an integer dtype")
def qparams_float(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams_by_sorting(weight, bits)
    return scale, zero_point.float()


@choose_qparams.mistake("int8 overflows", says="zero points above 127 were kept in int8")
def qparams_in_int8(weight: Tensor, bits: int) -> Pair:
    scale, zero_point = qparams_by_sorting(weight, bits)
    return scale, ((zero_point + 128) % 256 - 128).to(torch.int8)


@choose_qparams.mistake("results swapped", says="swapped")
def qparams_swapped(weight: Tensor, bits: int) -> Pair:
    return qparams_by_sorting(weight, bits)[::-1]


@choose_qparams.mistake("only the scale returned", says="come back, in this order: `return scale")
def qparams_scale_only(weight: Tensor, bits: int) -> Tensor:
    return qparams_by_sorting(weight, bits)[0]


# ------------------------------------------------------------------------- quant.group_rtn

group_rtn = Answers("quant.group_rtn")


@group_rtn.second
def group_padded(weight: Tensor, bits: int, group_size: int) -> Tensor:
    out_features, in_features = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -in_features % group_size))
    groups = padded.view(out_features, -1, group_size)
    scale = safe(groups.abs().amax(dim=2, keepdim=True) / qmax_of(bits))
    return (scale * (groups / scale).round()).flatten(1)[:, :in_features]


@group_rtn.mistake("group_size ignored", says="group_size was not used")
def group_ignored(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return rtn_row_by_row(weight, bits)


@group_rtn.mistake("short group left as it is", says="was left as it is")
def group_short_untouched(weight: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = weight.clone()
    for start in range(0, weight.shape[1] - group_size + 1, group_size):
        part = slice(start, start + group_size)
        rounded[:, part] = rtn_row_by_row(weight[:, part], bits)
    return rounded


@group_rtn.mistake("padding returned", says="the padding of the last group came back")
def group_with_padding(weight: Tensor, bits: int, group_size: int) -> Tensor:
    padded = torch.zeros(len(weight), math.ceil(weight.shape[1] / group_size) * group_size)
    padded[:, : weight.shape[1]] = weight
    return rtn_row_by_row(padded.view(-1, group_size), bits).view_as(padded)


@group_rtn.mistake("view of a row that does not divide", says="raised RuntimeError")
def group_view(weight: Tensor, bits: int, group_size: int) -> Tensor:
    groups = weight.view(weight.shape[0], weight.shape[1] // group_size, group_size)
    scale = safe(groups.abs().amax(dim=2, keepdim=True) / qmax_of(bits))
    return (scale * (groups / scale).round()).view(weight.shape)


@group_rtn.mistake("rounds the caller's weight in place", says="changed its argument 1 in place")
def group_in_place(weight: Tensor, bits: int, group_size: int) -> Tensor:
    for part in weight.split(group_size, dim=1):
        part.copy_(rtn_row_by_row(part, bits))
    return weight


# ------------------------------------------------------------------------- quant.pack_int4

pack_int4 = Answers("quant.pack_int4")


def pack(q: Tensor) -> Tensor:
    """Pack correctly, by counting: byte = left + 16 * right."""
    packed = torch.full((len(q), (q.shape[1] + 1) // 2), 0x50, dtype=torch.int64)
    for j in range(q.shape[1]):
        code = q[:, j].long() + 8
        packed[:, j // 2] = code + 0xF0 if j % 2 == 0 else packed[:, j // 2] - 0xF0 + 16 * code
    return packed.to(torch.uint8)


def unpack(packed: Tensor, in_features: int) -> Tensor:
    """Unpack correctly, by division with remainder."""
    q = torch.empty(len(packed), in_features, dtype=torch.int32)
    for j in range(in_features):
        byte = packed[:, j // 2].int()
        q[:, j] = (byte // 16 if j % 2 else byte % 16) - 8
    return q


pack_int4.second(pack, unpack)


def pack_swapped(q: Tensor) -> Tensor:
    packed = pack(q)
    return (packed << 4) | (packed >> 4)


def pack_without_offset(q: Tensor) -> Tensor:
    return pack(q) ^ 0x88  # turns the bit that adding 8 has turned


def pack_signed(q: Tensor) -> Tensor:
    return pack(q).to(torch.int8)


def unpack_in_uint8(packed: Tensor, in_features: int) -> Tensor:
    return unpack(packed, in_features) % 256


def unpack_blocks(packed: Tensor, in_features: int) -> Tensor:
    q = unpack(packed, 2 * packed.shape[1])
    return torch.cat([q[:, 0::2], q[:, 1::2]], dim=1)[:, :in_features]


packed_last: list[Tensor] = []


def pack_and_keep(q: Tensor) -> Tensor:
    packed_last.append(q)
    return pack(q)


def unpack_kept(packed: Tensor, in_features: int) -> Tensor:
    return packed_last[-1].clone()


def pack_by_view(q: Tensor) -> Tensor:
    codes = (q + 8).view(torch.uint8)
    codes = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2))
    return codes[:, ::2] + 16 * codes[:, 1::2]


for name, says, functions in [
    ("unpack: what was packed", "unpacked tensor is wrong", (pack_and_keep, unpack_kept)),
    ("pack: the bytes of int64", "took the bytes of wider integers", (pack_by_view, unpack)),
    ("pack: nibbles swapped", "nibbles are swapped", (pack_swapped, unpack)),
    ("pack: 8 not added", "8 was not added: ", (pack_without_offset, unpack)),
    ("pack: int8 result", "dtype torch.int8, and should have torch.uint8", (pack_signed, unpack)),
    ("unpack: subtracted in uint8", "8 was subtracted in uint8", (pack, unpack_in_uint8)),
    ("unpack: low ones first", "they alternate", (pack, unpack_blocks)),
]:
    pack_int4.mistake(name, says)(*functions)


# ------------------------------------------------------------------------- quant.best_clip

best_clip = Answers("quant.best_clip")


@best_clip.second
def clip_all_at_once(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    qmax = qmax_of(bits)
    scales = safe(ratios.view(-1, 1, 1) * weight.abs().amax(dim=1, keepdim=True) / qmax)
    errors = scales * (weight / scales).round().clamp(-qmax, qmax) - weight  # [n_ratios, out, in]
    cost = errors.square().mean(dim=2)
    return scales[:, :, 0].gather(0, cost.argmin(dim=0, keepdim=True)).T


def clip_row_by_row(weight: Tensor, bits: int, ratios: Tensor, order: float) -> Tensor:
    """Search one row at a time; order 2, of the norm of its errors, is right."""
    qmax, scales = qmax_of(bits), []
    for row in weight:
        tried = [(ratio * row.abs().max() / qmax).item() or 1.0 for ratio in ratios]
        rounded = [torch.fake_quantize_per_tensor_affine(row, s, 0, -qmax, qmax) for s in tried]
        errors = [(to - row).norm(order).item() for to in rounded]
        scales.append([tried[errors.index(min(errors))]])
    return torch.tensor(scales)


@best_clip.mistake("absolute errors", says="absolute errors were summed")
def clip_absolute(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return clip_row_by_row(weight, bits, ratios, order=1)


@best_clip.mistake("worst error of the row", says="the worst single error decided")
def clip_largest_error(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return clip_row_by_row(weight, bits, ratios, order=math.inf)


@best_clip.mistake("the ratio returned", says="the ratio came back")
def clip_ratio(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = clip_row_by_row(weight, bits, ratios, order=2)
    return scales / safe(weight.abs().amax(dim=1, keepdim=True)) * qmax_of(bits)


@best_clip.mistake("the last ratio not tried", says="the last ratio was never tried")
def clip_without_the_last(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return clip_row_by_row(weight, bits, ratios[: max(1, len(ratios) - 1)], order=2)


@best_clip.mistake("the smallest ratio", says="the smallest ratio won every time")
def clip_smallest(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return clip_row_by_row(weight, bits, ratios.sort().values[:1], order=2)
