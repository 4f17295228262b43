"""Compute x @ weight.T from packed integers: which code runs, and how it lays the bits out.

A quantized layer is faster than a float one for one reason: at batch size 1 the processor waits
for weights, and packed weights are fewer bytes. That only holds if the multiplication reads the
packed bytes itself. Unpacking to float first reads *more* bytes than a float layer would.

Three kernels, each a layout with its own matmul, each in a module: `int8` (rows of int8 with one
scale a row), `int4` (torch's 4-bit matmul) and `unpacked`, for every other grid, device or build.

The choice depends on format, shape and device alone, never on a stopwatch, so that the same
machine gives the same numbers twice. What the kernels compute is tested against
`dequantize() @ x`; they differ from it by bfloat16's rounding of x. Production kernels (llama.cpp,
Marlin) go further: they interleave scales with weights and keep x in int8.
"""

from __future__ import annotations

import torch

from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.kernels.int4 import INT4, kernel_group
from shrinkkit.quant.layers.kernels.int8 import INT8
from shrinkkit.quant.layers.kernels.kernel import Kernel
from shrinkkit.quant.layers.kernels.unpacked import UNPACK


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
    if fmt.bits == 4 and out_features % 16 == 0 and kernel_group(fmt, in_features):
        known = hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu")
        return INT4 if known else UNPACK
    return UNPACK
