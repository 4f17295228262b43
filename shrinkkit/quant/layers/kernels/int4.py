"""Torch's 4-bit matmul, for groups of 32 to 256 that divide the row.

It reads q as 0..15 and computes (q - 8) * scale + zero, so our zero_point becomes
zero = scale * (8 - zero_point). Where the nibbles lie is torch's own affair and differs between
processors; it is found out by packing numbered probes.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.functional import linear

from shrinkkit.quant.grids.affine import expand
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.kernels import kernel
from shrinkkit.quant.layers.kernels.kernel import Kernel, QParams, Tensors

# Rows of x up to which the 4-bit matmul wins; more rows amortise unpacking.
FEW_ROWS = 256


def kernel_group(fmt: Format, in_features: int) -> int | None:
    """Return the largest group that the 4-bit kernel knows and that our groups consist of."""
    columns = fmt.columns_per_scale(in_features)
    for size in (256, 128, 64, 32):
        if in_features % size == 0 and (columns % size == 0 or columns == in_features):
            return size
    return None


def _store(q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format) -> Tensors:
    size = kernel_group(fmt, q.shape[1])
    scale = expand(scale, q.shape, fmt).expand(q.shape)[:, ::size]  # [out, kernel groups]
    zero_point = expand(zero_point, q.shape, fmt).expand(q.shape)[:, ::size]
    offset = 8 if fmt.symmetric else 0  # symmetric q are -7..7
    zero = scale * (8 - offset - zero_point)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.int() + offset, 1)
    pair = torch.stack([scale.t(), zero.t()], dim=-1)  # [kernel groups, out, 2]
    return {"packed": packed, "scale_and_zero": pair.bfloat16().contiguous()}


@lru_cache(maxsize=1)
def _layout() -> tuple[int, torch.Tensor] | None:
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


def _integers(packed: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return q [out, in] uint8, 0 to 15, from torch's layout."""
    out_features, in_features = shape
    layout = _layout()
    if layout is None or out_features % 64:
        # Another layout (or its ragged tail): multiply the identity, which integers survive.
        plain = torch.tensor([1.0, 8.0]).bfloat16().expand(in_features // 32, out_features, 2)
        eye = torch.eye(in_features, dtype=torch.bfloat16)
        return _mm(eye, packed, 32, plain.contiguous()).t().to(torch.uint8).contiguous()
    block, order = layout
    packed = packed.view(torch.uint8).view(out_features // block, in_features, block // 2)
    packed = packed.transpose(1, 2)  # [blocks, block / 2, in]
    nibbles = torch.cat([packed & 15, packed >> 4], dim=1)  # [blocks, block, in]
    return nibbles[:, order].view(out_features, in_features)


def _mm(
    x: torch.Tensor, packed: torch.Tensor, size: int, scale_and_zero: torch.Tensor
) -> torch.Tensor:
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, size, scale_and_zero)


def _load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    q = _integers(tensors["packed"], shape)
    return _qparams(q, tensors["scale_and_zero"], fmt, shape)


def _rows(index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    layout = _layout()
    if layout is None or shape[0] % 64:
        q, scale, zero_point = _load(tensors, fmt, shape)
        one = len(scale) == 1  # for all rows
        return q[index], scale if one else scale[index], zero_point if one else zero_point[index]
    block, order = layout
    packed = tensors["packed"].view(torch.uint8).view(shape[0] // block, shape[1], block // 2)
    place = order.to(index.device)[index % block]  # among the low nibbles, then the high ones
    byte = (place % (block // 2))[:, None, None].expand(-1, shape[1], 1)
    q = packed[index // block].gather(2, byte)[..., 0]  # [n, in]
    q = torch.where(place[:, None] < block // 2, q & 15, q >> 4)
    return _qparams(q, tensors["scale_and_zero"][:, index], fmt, shape)


def _qparams(
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


def _matmul(x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> torch.Tensor:
    scale_and_zero = tensors["scale_and_zero"]
    if x.shape[0] <= FEW_ROWS:
        size = shape[1] // scale_and_zero.shape[0]
        y = _mm(x.bfloat16(), tensors["packed"], size, scale_and_zero)
        return y.to(x.dtype)
    dtype = torch.bfloat16 if kernel.has_bfloat16_units() else x.dtype
    weight = _integers(tensors["packed"], shape).to(dtype).sub_(8)
    weight = weight.view(shape[0], -1, shape[1] // scale_and_zero.shape[0])
    scale, zero = scale_and_zero.transpose(0, 1).to(dtype)[..., None].unbind(dim=2)
    weight = weight.mul_(scale).add_(zero).view(shape)
    return linear(x.to(dtype), weight).to(x.dtype)


INT4 = Kernel("int4", _store, _load, _matmul, _rows)
