"""Compute x @ weight.T from packed integers: which code runs, and how it lays the bits out.

A quantized layer is faster than a float one for one reason: at batch size 1 the processor waits
for weights, and packed weights are fewer bytes. That only holds if the multiplication reads the
packed bytes itself. Unpacking to float first reads *more* bytes than a float layer would.

Three kernels, each a layout with its own matmul:

- `int8`: rows of int8 with one scale a row. A few rows of x go to torch's weight-only matmul, with
  x in bfloat16 (in float32 it takes a slow path). Many rows go to a bfloat16 matmul where the
  processor has units for it (integers up to 127 are exact in bfloat16), else to an integer matmul,
  which VNNI instructions run several times faster than floats: each row of x is written as two
  int8 digits, x = step * (hi + lo / 254), 16 bits of precision, so the answer is the weight-only
  one.
- `int4`: torch's 4-bit matmul. It reads q as 0..15 and computes (q - 8) * scale + zero, so our
  zero_point becomes zero = scale * (8 - zero_point). Groups of 32 to 256 that divide the row.
- `unpack`: for every other grid, device or build: unpack, de-quantise, multiply. Same numbers,
  the small memory, no speed.

The choice depends on format, shape and device alone, never on a stopwatch, so that the same
machine gives the same numbers twice. What the kernels compute is tested against
`dequantize() @ x`; they differ from it by bfloat16's rounding of x. Production kernels (llama.cpp,
Marlin) go further: they interleave scales with weights and keep x in int8.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn.functional import linear

from shrinkkit.hardware import cpu_features
from shrinkkit.quant.affine import dequantize, expand
from shrinkkit.quant.formats import Format
from shrinkkit.quant.packing import pack, unpack
from shrinkkit.quant.scales import scale_exponent

Tensors = dict[str, torch.Tensor]
QParams = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # q, scale, zero_point

# Rows of x up to which the weight-only matmuls win; more rows amortise a dearer preparation.
INT8_FEW_ROWS = 8
INT4_FEW_ROWS = 256


@dataclass(frozen=True)
class Kernel:
    """One way to hold a quantized weight and to multiply by it.

    store: (q, scale, zero_point, fmt) -> named tensors, the only copy of the weight.
    load: (tensors, fmt, shape) -> (q, scale, zero_point) again, exactly, in canonical form.
    matmul: (x [rows, in], tensors, fmt, shape) -> [rows, out], in x's dtype.
    rows: (index [n], tensors, fmt, shape) -> (q, scale, zero_point) of some rows, the others left
        packed: what an embedding looks up.
    """

    name: str
    store: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Format], Tensors]
    load: Callable[[Tensors, Format, tuple[int, int]], QParams]
    matmul: Callable[[torch.Tensor, Tensors, Format, tuple[int, int]], torch.Tensor]
    rows: Callable[[torch.Tensor, Tensors, Format, tuple[int, int]], QParams]


@lru_cache(maxsize=1)
def has_bfloat16_units() -> bool:
    """Tell whether this CPU multiplies bfloat16 matrices in hardware (AVX512-BF16 or AMX)."""
    return "bf16" in cpu_features()[0]


@lru_cache(maxsize=1)
def has_vnni() -> bool:
    """Tell whether this CPU multiplies int8 matrices in hardware (VNNI)."""
    return "VNNI" in cpu_features()[0] and hasattr(torch, "_int_mm")


# --- unpack: any grid, any device ------------------------------------------------------------


def _unpack_store(
    q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> Tensors:
    tensors = {"packed": pack(q.short() - fmt.qmin, fmt.bits)}
    if fmt.power_of_two:  # E8M0: the exponent, 127 above what it means
        tensors["scale"] = (torch.frexp(scale).exponent + 126).to(torch.uint8)
    elif fmt.row_exponent:
        exponent = scale_exponent(scale, fmt)  # of the largest scale: the others are exact with it
        tensors["scale"] = scale.ldexp(-exponent).round().to(torch.uint8)
        tensors["scale_exponent"] = exponent[:, 0].to(torch.int8)
    else:
        tensors["scale"] = scale.bfloat16() if fmt.scale_bits == 16 else scale.float()
    if not fmt.symmetric:
        tensors["zero_point"] = zero_point.to(torch.uint8)
    return tensors


def _unpack_load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    q = unpack(tensors["packed"], fmt.bits, shape[1])
    if fmt.qmin:
        q = (q.short() + fmt.qmin).to(torch.int8)
    elif fmt.symmetric and fmt.code is None:
        q = q.to(torch.int8)
    scale = tensors["scale"].float()
    if fmt.power_of_two:
        scale = torch.ones_like(scale).ldexp(scale - 127)
    elif fmt.row_exponent:
        scale = scale.ldexp(tensors["scale_exponent"].int()[:, None])
    zero_point = tensors.get("zero_point", torch.zeros_like(scale)).to(torch.int32)
    return q, scale, zero_point


def _unpack_matmul(
    x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> torch.Tensor:
    return linear(x, dequantize(*_unpack_load(tensors, fmt, shape), fmt).to(x.dtype))


def _unpack_rows(
    index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> QParams:
    some = {
        name: tensor[index] if len(tensor) == shape[0] else tensor  # one scale for all rows
        for name, tensor in tensors.items()
    }
    return _unpack_load(some, fmt, (len(index), shape[1]))


# --- int8: one scale a row -------------------------------------------------------------------


def _int8_store(
    q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> Tensors:
    return {"weight": q.contiguous(), "scale": scale.expand(q.shape[0], 1)[:, 0].bfloat16()}


def _int8_load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    scale = tensors["scale"].float()[:, None]
    if fmt.granularity == "per_tensor":
        scale = scale[:1]
    return tensors["weight"], scale, torch.zeros_like(scale, dtype=torch.int32)


def _int8_rows(
    index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> QParams:
    some = {name: tensor[index] for name, tensor in tensors.items()}
    return _int8_load(some, fmt, (len(index), shape[1]))


def _int8_matmul(
    x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> torch.Tensor:
    weight, scale = tensors["weight"], tensors["scale"]
    if x.shape[0] <= INT8_FEW_ROWS:
        y = torch.ops.aten._weight_int8pack_mm(x.bfloat16(), weight, scale)
        return y.to(x.dtype)
    if has_bfloat16_units():
        return linear(x.bfloat16(), weight.bfloat16()).to(x.dtype).mul_(scale)
    if not has_vnni():
        return linear(x, weight.to(x.dtype)) * scale.to(x.dtype)
    step = x.abs().amax(dim=1, keepdim=True).float().div_(127).clamp_(min=1e-30)  # [rows, 1]
    digits = x / step
    hi = digits.round()
    lo = digits.sub_(hi).mul_(254).round_()  # the remainder, 254 times finer
    y = torch._int_mm(torch.cat([hi, lo]).to(torch.int8), weight.t())  # [2 * rows, out] int32
    rows = x.shape[0]
    y = y[:rows].float().add_(y[rows:], alpha=1 / 254)
    return y.mul_(step).mul_(scale).to(x.dtype)


# --- int4: torch's groupwise 4-bit matmul ----------------------------------------------------


def _kernel_group(fmt: Format, in_features: int) -> int | None:
    """Return the largest group that the 4-bit kernel knows and that our groups consist of."""
    columns = fmt.columns_per_scale(in_features)
    for size in (256, 128, 64, 32):
        if in_features % size == 0 and (columns % size == 0 or columns == in_features):
            return size
    return None


def _int4_store(
    q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> Tensors:
    size = _kernel_group(fmt, q.shape[1])
    scale = expand(scale, q.shape, fmt).expand(q.shape)[:, ::size]  # [out, kernel groups]
    zero_point = expand(zero_point, q.shape, fmt).expand(q.shape)[:, ::size]
    offset = 8 if fmt.symmetric else 0  # symmetric q are -7..7
    zero = scale * (8 - offset - zero_point)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.int() + offset, 1)
    pair = torch.stack([scale.t(), zero.t()], dim=-1)  # [kernel groups, out, 2]
    return {"packed": packed, "scale_and_zero": pair.bfloat16().contiguous()}


@lru_cache(maxsize=1)
def _int4_layout() -> tuple[int, torch.Tensor] | None:
    """Find where torch puts each row's nibble, by packing numbered probes.

    Returns (block, order): packed bytes are [out / block, in, block / 2], and `order` [block] lists
    where the rows stand among the low nibbles followed by the high ones; None for another layout.
    """
    rows = torch.arange(64, dtype=torch.int32)[:, None].expand(64, 32).contiguous()
    columns = torch.arange(32, dtype=torch.int32)[None].expand(64, 32).contiguous()
    found = {}
    for name, index in (("row", rows), ("column", columns)):
        digits = []
        for digit in (index % 16, index // 16):
            packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(digit.contiguous(), 1)
            packed = packed.view(torch.uint8).flatten()
            digits.append(torch.stack([packed & 15, packed >> 4], dim=-1).int())  # [bytes, 2]
        found[name] = digits[0] + 16 * digits[1]
    for block in (64, 32, 16):
        shape = (64 // block, 32, block // 2, 2)
        row, column = found["row"].view(shape), found["column"].view(shape)
        first = row[:1, :1]  # [1, 1, block / 2, 2]
        blocks = block * torch.arange(64 // block, dtype=torch.int32)[:, None, None, None]
        in_order = torch.arange(32, dtype=torch.int32)[None, :, None, None]
        if bool((row == first + blocks).all()) and bool((column == in_order).all()):
            return block, first[0, 0].t().flatten().argsort()  # low nibbles, then high ones
    return None


def _int4_integers(packed: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return q [out, in] uint8, 0 to 15, from torch's layout."""
    out_features, in_features = shape
    layout = _int4_layout()
    if layout is None or out_features % 64:
        # Another layout (or its ragged tail): multiply the identity, which integers survive.
        plain = torch.tensor([1.0, 8.0]).bfloat16().expand(in_features // 32, out_features, 2)
        eye = torch.eye(in_features, dtype=torch.bfloat16)
        return _int4_mm(eye, packed, 32, plain.contiguous()).t().to(torch.uint8).contiguous()
    block, order = layout
    packed = packed.view(torch.uint8).view(out_features // block, in_features, block // 2)
    packed = packed.transpose(1, 2)  # [blocks, block / 2, in]
    nibbles = torch.cat([packed & 15, packed >> 4], dim=1)  # [blocks, block, in]
    return nibbles[:, order].view(out_features, in_features)


def _int4_mm(
    x: torch.Tensor, packed: torch.Tensor, size: int, scale_and_zero: torch.Tensor
) -> torch.Tensor:
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, size, scale_and_zero)


def _int4_load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    q = _int4_integers(tensors["packed"], shape)
    return _int4_qparams(q, tensors["scale_and_zero"], fmt, shape)


def _int4_rows(
    index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> QParams:
    layout = _int4_layout()
    if layout is None or shape[0] % 64:
        q, scale, zero_point = _int4_load(tensors, fmt, shape)
        one = len(scale) == 1  # for all rows
        return q[index], scale if one else scale[index], zero_point if one else zero_point[index]
    block, order = layout
    packed = tensors["packed"].view(torch.uint8).view(shape[0] // block, shape[1], block // 2)
    place = order.to(index.device)[index % block]  # among the low nibbles, then the high ones
    byte = (place % (block // 2))[:, None, None].expand(-1, shape[1], 1)
    q = packed[index // block].gather(2, byte)[..., 0]  # [n, in]
    q = torch.where(place[:, None] < block // 2, q & 15, q >> 4)
    return _int4_qparams(q, tensors["scale_and_zero"][:, index], fmt, shape)


def _int4_qparams(
    q: torch.Tensor, scale_and_zero: torch.Tensor, fmt: Format, shape: tuple[int, int]
) -> QParams:
    """Return the textbook form: q [rows, in] 0 to 15, scale_and_zero [kernel groups, rows, 2]."""
    scale_and_zero = scale_and_zero.float().transpose(0, 1)  # [rows, kernel groups, 2]
    step = fmt.columns_per_scale(shape[1]) // (shape[1] // scale_and_zero.shape[1])
    rows = slice(0, 1) if fmt.granularity == "per_tensor" else slice(None)
    scale, zero = scale_and_zero[rows, ::step].unbind(dim=-1)
    scale = scale.contiguous()
    if fmt.symmetric:
        return (q.short() - 8).to(torch.int8), scale, torch.zeros_like(scale, dtype=torch.int32)
    return q, scale, (8 - zero / scale).round().to(torch.int32)


def _int4_matmul(
    x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]
) -> torch.Tensor:
    scale_and_zero = tensors["scale_and_zero"]
    if x.shape[0] <= INT4_FEW_ROWS:
        size = shape[1] // scale_and_zero.shape[0]
        y = _int4_mm(x.bfloat16(), tensors["packed"], size, scale_and_zero)
        return y.to(x.dtype)
    dtype = torch.bfloat16 if has_bfloat16_units() else x.dtype
    weight = _int4_integers(tensors["packed"], shape).to(dtype).sub_(8)
    weight = weight.view(shape[0], -1, shape[1] // scale_and_zero.shape[0])
    scale, zero = scale_and_zero.transpose(0, 1).to(dtype)[..., None].unbind(dim=2)
    weight = weight.mul_(scale).add_(zero).view(shape)
    return linear(x.to(dtype), weight).to(x.dtype)


UNPACK = Kernel("unpack", _unpack_store, _unpack_load, _unpack_matmul, _unpack_rows)
INT8 = Kernel("int8", _int8_store, _int8_load, _int8_matmul, _int8_rows)
INT4 = Kernel("int4", _int4_store, _int4_load, _int4_matmul, _int4_rows)


def choose_kernel(fmt: Format, shape: tuple[int, int], device: torch.device | str) -> Kernel:
    """Choose the kernel for a weight: torch's packed matmuls where they apply, else `UNPACK`.

    fmt: the grid; shape: [out_features, in_features]; device: where the layer lives.
    Returns UNPACK, INT8 or INT4.

    >>> choose_kernel(Format(3), (64, 64), "cpu").name
    'unpack'
    """
    out_features, in_features = shape
    if torch.device(device).type != "cpu" or fmt.code is not None or fmt.scale_bits == 32:
        return UNPACK
    whole_row = fmt.columns_per_scale(in_features) == in_features
    if fmt.bits == 8 and fmt.symmetric and whole_row:
        return INT8 if hasattr(torch.ops.aten, "_weight_int8pack_mm") else UNPACK
    if fmt.bits == 4 and out_features % 16 == 0 and _kernel_group(fmt, in_features):
        known = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
        return INT4 if known else UNPACK
    return UNPACK
