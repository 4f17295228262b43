"""What a kernel is, and which instructions the processor has for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from shrinkkit.quant.grids.formats import Format
from shrinkkit.system.hardware import cpu_features

Tensors = dict[str, torch.Tensor]
QParams = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # q, scale, zero_point


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
