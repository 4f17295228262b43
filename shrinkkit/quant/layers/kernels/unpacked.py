"""Unpack, de-quantise, multiply: any grid, any device. The same numbers and the small memory.

It is no faster than floats: a product reads the packed bytes, writes floats, and reads those.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from shrinkkit.quant.grids.affine import dequantize
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.packing import pack, unpack
from shrinkkit.quant.grids.scales import scale_exponent
from shrinkkit.quant.layers.kernels.kernel import Kernel, QParams, Tensors


def _store(q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format) -> Tensors:
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


def _load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
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


def _matmul(x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> torch.Tensor:
    return linear(x, dequantize(*_load(tensors, fmt, shape), fmt).to(x.dtype))


def _rows(index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    some = {
        name: tensor[index] if len(tensor) == shape[0] else tensor  # one scale for all rows
        for name, tensor in tensors.items()
    }
    return _load(some, fmt, (len(index), shape[1]))


UNPACK = Kernel("unpack", _store, _load, _matmul, _rows)
