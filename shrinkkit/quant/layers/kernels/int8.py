"""Rows of int8 with one scale a row.

A few rows of x go to torch's weight-only matmul, with x in bfloat16 (in float32 it takes a slow
path). Many rows go to a bfloat16 matmul where the processor has units for it (integers up to 127
are exact in bfloat16), else to an integer matmul, which VNNI instructions run several times faster
than floats: each row of x is written as two int8 digits, x = step * (hi + lo / 254), 16 bits of
precision, so the answer is the weight-only one.
"""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.kernels import kernel
from shrinkkit.quant.layers.kernels.kernel import Kernel, QParams, Tensors

# Rows of x up to which the weight-only matmul wins; more rows amortise a dearer preparation.
FEW_ROWS = 8


def _store(q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format) -> Tensors:
    return {"int8": q.contiguous(), "scale": scale.expand(q.shape[0], 1)[:, 0].bfloat16()}


def _load(tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    scale = tensors["scale"].float()[:, None]
    if fmt.granularity == "per_tensor":
        scale = scale[:1]
    return tensors["int8"], scale, torch.zeros_like(scale, dtype=torch.int32)


def _rows(index: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> QParams:
    some = {name: tensor[index] for name, tensor in tensors.items()}
    return _load(some, fmt, (len(index), shape[1]))


def _matmul(x: torch.Tensor, tensors: Tensors, fmt: Format, shape: tuple[int, int]) -> torch.Tensor:
    weight, scale = tensors["int8"], tensors["scale"]
    if x.shape[0] <= FEW_ROWS:
        y = torch.ops.aten._weight_int8pack_mm(x.bfloat16(), weight, scale)
        return y.to(x.dtype)
    if kernel.has_bfloat16_units():
        # Sums of integers are scaled before they go back to x's dtype: float16 ends at 65,504.
        return linear(x.bfloat16(), weight.bfloat16()).float().mul_(scale).to(x.dtype)
    if not kernel.has_vnni():
        return linear(x.float(), weight.float()).mul_(scale).to(x.dtype)
    step = x.abs().amax(dim=1, keepdim=True).float().div_(127).clamp_(min=1e-30)  # [rows, 1]
    digits = x / step
    hi = digits.round()
    lo = digits.sub_(hi).mul_(254).round_()  # the remainder, 254 times finer
    y = torch._int_mm(torch.cat([hi, lo]).to(torch.int8), weight.t())  # [2 * rows, out] int32
    rows = x.shape[0]
    y = y[:rows].float().add_(y[rows:], alpha=1 / 254)
    return y.mul_(step).mul_(scale).to(x.dtype)


INT8 = Kernel("int8", _store, _load, _matmul, _rows)
