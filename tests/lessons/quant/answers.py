"""Right and wrong answers to the exercises of lesson 03."""

from __future__ import annotations

import itertools

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor


def qmax_of(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def safe(scale: Tensor) -> Tensor:
    """Give rows of zeros the scale 1."""
    return scale.masked_fill(scale == 0, 1.0)


# ------------------------------------------------------------------------------- quant.rtn

rtn = Answers("quant.rtn")


@rtn.second
def rtn_row_by_row(weight: Tensor, bits: int) -> Tensor:
    rows = []
    for row in weight:
        step = row.abs().max().item() / qmax_of(bits)
        rows.append(torch.tensor([step * round(x / step) if step else 0.0 for x in row.tolist()]))
    return torch.stack(rows).to(weight.dtype)


@rtn.mistake("floor for round", says="rounded down (floor)")
def rtn_floor(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits))
    return scale * (weight / scale).floor()


@rtn.mistake("a cast to int for round", says="fractions were cut off")
def rtn_cast(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits))
    return scale * (weight / scale).to(torch.int32)


@rtn.mistake("one scale for the whole matrix", says="whole matrix shares one scale")
def rtn_per_tensor(weight: Tensor, bits: int) -> Tensor:
    scale = weight.abs().max() / qmax_of(bits)
    return scale * (weight / scale).round()


@rtn.mistake("maximum over the wrong dimension", says="each column has a scale")
def rtn_columns(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=0, keepdim=True) / qmax_of(bits))
    return scale * (weight / scale).round()


@rtn.mistake("2**(bits-1) steps for qmax", says="one step too many")
def rtn_one_step_more(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / 2 ** (bits - 1))
    return scale * (weight / scale).round().clamp(-qmax_of(bits), qmax_of(bits))


@rtn.mistake("2**bits - 1 steps, clamped to qmax", says="steps of the whole range")
def rtn_whole_range(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / (2**bits - 1))
    return scale * (weight / scale).round().clamp(-qmax_of(bits), qmax_of(bits))


@rtn.mistake("largest value for largest magnitude", says="take abs() first")
def rtn_no_abs(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.amax(dim=1, keepdim=True) / qmax_of(bits))
    return scale * (weight / scale).round().clamp(-qmax_of(bits), qmax_of(bits))


@rtn.mistake("integers returned", says="multiply them by scale")
def rtn_integers(weight: Tensor, bits: int) -> Tensor:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits))
    return (weight / scale).round()


@rtn.mistake("0 / 0 in a row of zeros", says="a row of zeros was divided by a scale of zero")
def rtn_zero_row(weight: Tensor, bits: int) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits)
    return scale * (weight / scale).round()


@rtn.mistake("float64 turned into float32", says="dtype torch.float32, and should have torch.float")
def rtn_loses_dtype(weight: Tensor, bits: int) -> Tensor:
    return rtn_row_by_row(weight, bits).float()


# -------------------------------------------------------------------- quant.choose_qparams

choose_qparams = Answers("quant.choose_qparams")


@choose_qparams.second
def qparams_by_sorting(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    with_zero = torch.cat([weight, torch.zeros(len(weight), 1)], dim=1).sort(dim=1).values
    low, high = with_zero[:, :1], with_zero[:, -1:]
    steps = (1 << bits) - 1
    scale = (high - low).div(steps)
    scale[scale == 0] = 1
    return scale, torch.round(steps * (-low) / (scale * steps)).long()


def qparams(weight: Tensor, bits: int, steps: int | None = None) -> tuple[Tensor, Tensor]:
    low = weight.amin(dim=1, keepdim=True).clamp(max=0)
    high = weight.amax(dim=1, keepdim=True).clamp(min=0)
    scale = safe((high - low) / (steps or 2**bits - 1))
    return scale, (-low / scale).round().int()


@choose_qparams.mistake("2**bits steps", says="divided by 2**bits:")
def qparams_levels(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    return qparams(weight, bits, steps=2**bits)


@choose_qparams.mistake("range without zero", says="the range leaves zero out")
def qparams_without_zero(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    scale = safe((high - low) / (2**bits - 1))
    return scale, (-low / scale).round().int()


@choose_qparams.mistake("zero point with the wrong sign", says="its sign is turned")
def qparams_sign(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight, bits)
    return scale, -zero_point


@choose_qparams.mistake("zero point rounded down", says="rounded down (floor or a cast to int)")
def qparams_floor(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, _ = qparams(weight, bits)
    return scale, (-weight.amin(dim=1, keepdim=True).clamp(max=0) / scale).int()


@choose_qparams.mistake("zero point not rounded", says="should be an integer dtype")
def qparams_fraction(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, _ = qparams(weight, bits)
    return scale, -weight.amin(dim=1, keepdim=True).clamp(max=0) / scale


@choose_qparams.mistake("zero point rounded and still a float", says="should be an integer dtype")
def qparams_float(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight, bits)
    return scale, zero_point.float()


@choose_qparams.mistake("zero point for signed integers", says="this grid starts at q = 0")
def qparams_signed(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight, bits)
    return scale, zero_point - 2 ** (bits - 1)


@choose_qparams.mistake("wrong dimension", says="each column has a scale")
def qparams_columns(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight.T, bits)
    return scale.T, zero_point.T


@choose_qparams.mistake("no keepdim", says="keepdim=True is missing")
def qparams_flat(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight, bits)
    return scale[:, 0], zero_point[:, 0]


@choose_qparams.mistake("symmetric scale", says="the scale of a symmetric grid")
def qparams_symmetric(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale = safe(weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits))
    return scale, torch.zeros_like(scale, dtype=torch.int32)


@choose_qparams.mistake("one scale for the whole matrix", says="whole matrix shares one scale")
def qparams_per_tensor(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight.reshape(1, -1), bits)
    return scale.expand(len(weight), 1), zero_point.expand(len(weight), 1)


@choose_qparams.mistake("scale 0 for a row of zeros", says="a row of zeros has a scale of zero")
def qparams_zero_row(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    scale, zero_point = qparams(weight, bits)
    return scale.masked_fill((weight == 0).all(dim=1, keepdim=True), 0.0), zero_point


@choose_qparams.mistake("results swapped", says="swapped")
def qparams_swapped(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    return qparams(weight, bits)[::-1]


@choose_qparams.mistake("only the scale returned", says="Two tensors should come back")
def qparams_scale_only(weight: Tensor, bits: int) -> Tensor:
    return qparams(weight, bits)[0]


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


@group_rtn.mistake("groups down the columns", says="groups run down the columns")
def group_columns(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return group_padded(weight.T, bits, group_size).T


@group_rtn.mistake("groups run on into the next row", says="from the end of one row into the next")
def group_flattened(weight: Tensor, bits: int, group_size: int) -> Tensor:
    if weight.numel() % group_size:
        return group_padded(weight, bits, group_size)
    return rtn_row_by_row(weight.reshape(-1, group_size), bits).reshape(weight.shape)


@group_rtn.mistake("view of a row that does not divide", says="raised RuntimeError")
def group_view(weight: Tensor, bits: int, group_size: int) -> Tensor:
    groups = weight.view(weight.shape[0], weight.shape[1] // group_size, group_size)
    scale = safe(groups.abs().amax(dim=2, keepdim=True) / qmax_of(bits))
    return (scale * (groups / scale).round()).view(weight.shape)


@group_rtn.mistake("short group left as it is", says="was left as it is")
def group_short_untouched(weight: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = weight.clone()
    for start in range(0, weight.shape[1] - group_size + 1, group_size):
        part = slice(start, start + group_size)
        rounded[:, part] = rtn_row_by_row(weight[:, part], bits)
    return rounded


@group_rtn.mistake("short group left as zeros", says="became zeros")
def group_short_zero(weight: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = torch.zeros_like(weight)
    for g in range(weight.shape[1] // group_size):
        part = slice(g * group_size, (g + 1) * group_size)
        rounded[:, part] = rtn_row_by_row(weight[:, part], bits)
    return rounded


@group_rtn.mistake("short group joined to the one before", says="shares the scale of the group")
def group_merged(weight: Tensor, bits: int, group_size: int) -> Tensor:
    n_groups = max(weight.shape[1] // group_size, 1)
    starts = [g * group_size for g in range(n_groups)] + [weight.shape[1]]
    parts = [weight[:, a:b] for a, b in itertools.pairwise(starts)]
    return torch.cat([rtn_row_by_row(part, bits) for part in parts], dim=1)


@group_rtn.mistake("short group cut off", says="was cut off")
def group_cut(weight: Tensor, bits: int, group_size: int) -> Tensor:
    whole = weight.shape[1] // group_size * group_size
    return group_padded(weight, bits, group_size)[:, :whole]


@group_rtn.mistake("padding returned", says="the padding of the last group came back")
def group_with_padding(weight: Tensor, bits: int, group_size: int) -> Tensor:
    padded = torch.nn.functional.pad(weight, (0, -weight.shape[1] % group_size))
    return group_padded(padded, bits, group_size)


@group_rtn.mistake("floor for round", says="rounded down (floor)")
def group_floor(weight: Tensor, bits: int, group_size: int) -> Tensor:
    return torch.cat([rtn_floor(part, bits) for part in weight.split(group_size, dim=1)], dim=1)


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


def pad_even(q: Tensor) -> Tensor:
    return torch.nn.functional.pad(q, (0, q.shape[1] % 2))


def pack_swapped(q: Tensor) -> Tensor:
    codes = pad_even((q + 8).to(torch.uint8))
    return (codes[:, 0::2] << 4) | codes[:, 1::2]


def pack_without_offset(q: Tensor) -> Tensor:
    codes = pad_even(q.to(torch.uint8) & 15)
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def pack_spilling(q: Tensor) -> Tensor:
    codes = pad_even(q.to(torch.uint8))
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def pack_halves(q: Tensor) -> Tensor:
    left, right = pad_even((q + 8).to(torch.uint8)).chunk(2, dim=1)
    return left | (right << 4)


def pack_dropping(q: Tensor) -> Tensor:
    return pack(q)[:, : q.shape[1] // 2]


def pack_rows(q: Tensor) -> Tensor:
    return pack(q.T).T


def pack_signed(q: Tensor) -> Tensor:
    return pack(q).to(torch.int8)


def pack_nothing(q: Tensor) -> Tensor:
    return (q + 8).to(torch.uint8)


def unpack_without_offset(packed: Tensor, in_features: int) -> Tensor:
    return unpack(packed, in_features) + 8


def unpack_in_uint8(packed: Tensor, in_features: int) -> Tensor:
    nibbles = torch.stack([packed & 15, packed >> 4], dim=2)
    return nibbles.flatten(1)[:, :in_features] - 8  # uint8 has no -1: it turns into 255


def unpack_swapped(packed: Tensor, in_features: int) -> Tensor:
    return unpack((packed << 4) | (packed >> 4), in_features)


def unpack_blocks(packed: Tensor, in_features: int) -> Tensor:
    return torch.cat([packed & 15, packed >> 4], dim=1)[:, :in_features].int() - 8


def unpack_padded(packed: Tensor, in_features: int) -> Tensor:
    return unpack(packed, 2 * packed.shape[1])


def unpack_unshifted(packed: Tensor, in_features: int) -> Tensor:
    nibbles = torch.stack([packed & 15, packed & 240], dim=2).int()
    return nibbles.flatten(1)[:, :in_features] - 8


for name, says, functions in [
    ("pack: nibbles swapped", "nibbles are swapped", (pack_swapped, unpack)),
    ("pack: 8 not added", "8 was not added: ", (pack_without_offset, unpack)),
    ("pack: negative integers spill", "ran over its neighbour", (pack_spilling, unpack)),
    ("pack: halves of a row together", "a byte holds neighbours", (pack_halves, unpack)),
    ("pack: odd column dropped", "last column of an odd row was dropped", (pack_dropping, unpack)),
    ("pack: down the rows", "pairs were made down the rows", (pack_rows, unpack)),
    ("pack: int8 result", "dtype torch.int8, and should have torch.uint8", (pack_signed, unpack)),
    ("pack: one integer a byte", "nothing was packed", (pack_nothing, unpack)),
    ("unpack: 8 not subtracted", "8 was not subtracted again", (pack, unpack_without_offset)),
    ("unpack: subtracted in uint8", "8 was subtracted in uint8", (pack, unpack_in_uint8)),
    ("unpack: nibbles swapped", "nibbles are swapped", (pack, unpack_swapped)),
    ("unpack: low ones first", "they alternate", (pack, unpack_blocks)),
    ("unpack: free nibble kept", "came back as a column", (pack, unpack_padded)),
    ("unpack: high nibble not shifted", "kept its place value", (pack, unpack_unshifted)),
]:
    pack_int4.mistake(name, says)(*functions)


# ------------------------------------------------------------------------- quant.best_clip

best_clip = Answers("quant.best_clip")


def rounded_at(weight: Tensor, bits: int, scale: Tensor, clamp: bool = True) -> Tensor:
    q = (weight / scale).round()
    return scale * (q.clamp(-qmax_of(bits), qmax_of(bits)) if clamp else q)


def all_scales(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    """Return [n_ratios, out_features, 1]; rows of zeros have scale 1."""
    widest = weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits)
    return safe(ratios.view(-1, 1, 1) * widest)


def pick(scales: Tensor, cost: Tensor) -> Tensor:
    """Return each row's scale of least cost; cost is [n_ratios, out_features]."""
    return scales[:, :, 0].gather(0, cost.argmin(dim=0, keepdim=True)).T


@best_clip.second
def clip_all_at_once(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    errors = rounded_at(weight, bits, scales) - weight  # [n_ratios, out, in]
    return pick(scales, errors.square().mean(dim=2))


@best_clip.mistake("the widest scale kept", says="no ratio was tried")
def clip_none(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return safe(weight.abs().amax(dim=1, keepdim=True) / qmax_of(bits))


@best_clip.mistake("best scale overwritten each time", says="the last ratio won every time")
def clip_last(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return all_scales(weight, bits, ratios)[-1]


@best_clip.mistake("no clamp", says="q was not clamped")
def clip_no_clamp(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    errors = rounded_at(weight, bits, scales, clamp=False) - weight
    return pick(scales, errors.square().sum(dim=2))


@best_clip.mistake("argmax for argmin", says="the largest error won")
def clip_worst(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    return pick(scales, -(rounded_at(weight, bits, scales) - weight).square().sum(dim=2))


@best_clip.mistake("errors that cancel", says="the most negative sum won")
def clip_signed(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    return pick(scales, (rounded_at(weight, bits, scales) - weight).sum(dim=2))


@best_clip.mistake("absolute errors", says="absolute errors were summed")
def clip_absolute(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    return pick(scales, (rounded_at(weight, bits, scales) - weight).abs().sum(dim=2))


@best_clip.mistake("worst error of the row", says="the worst single error decided")
def clip_largest_error(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    return pick(scales, (rounded_at(weight, bits, scales) - weight).abs().amax(dim=2))


@best_clip.mistake("errors in steps", says="errors were measured in steps")
def clip_in_steps(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    errors = (rounded_at(weight, bits, scales) - weight) / scales
    return pick(scales, errors.square().sum(dim=2))


@best_clip.mistake("one ratio for all rows", says="one ratio was chosen for all rows together")
def clip_one_ratio(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    errors = (rounded_at(weight, bits, scales) - weight).square()
    return scales[errors.sum(dim=(1, 2)).argmin()]


@best_clip.mistake("the ratio returned", says="the ratio came back")
def clip_ratio(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scales = all_scales(weight, bits, ratios)
    errors = (rounded_at(weight, bits, scales) - weight).square().sum(dim=2)
    return ratios[errors.argmin(dim=0)].unsqueeze(1)


@best_clip.mistake("a flat result", says="it is not a column")
def clip_flat(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    return clip_all_at_once(weight, bits, ratios)[:, 0]


@best_clip.mistake("scale 0 for a row of zeros", says="a row of zeros has a scale of zero")
def clip_zero_row(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    scale = clip_all_at_once(weight, bits, ratios)
    return scale.masked_fill((weight == 0).all(dim=1, keepdim=True), 0.0)
