"""optimum-quanto: rounding to nearest, from the range of each group."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from driver import Job, block_linears, run
from optimum.quanto import freeze, qint4, quantize
from optimum.quanto.library.extensions.cpp import ext


def unpack(packed: torch.Tensor, bits: int) -> torch.Tensor:
    """Unpack as the library does: first all low bits, then all higher ones, uint8."""
    mask = 2**bits - 1
    return torch.cat([(packed >> shift) & mask for shift in range(0, 8, bits)])


ext._lib = SimpleNamespace(unpack=unpack)  # its C++ would be compiled for minutes


def quantize_model(job: Job) -> tuple[dict[str, torch.Tensor], int]:
    """Quantize at 4 bits, in groups of the size asked for instead of the library's own choice."""
    if job.bits != 4:
        raise SystemExit(f"optimum-quanto has no {job.bits}-bit integers with groups")
    model = job.model()
    quantize(model, weights=qint4, exclude="lm_head")
    layers = block_linears(model)
    for layer in layers.values():
        layer.weight_group_size = job.group_size
    freeze(model)
    weights = {name: layer.weight.dequantize() for name, layer in layers.items()}
    return weights, 32  # a 16-bit scale and a 16-bit shift


if __name__ == "__main__":
    run(
        "optimum-quanto",
        quantize_model,
        "group_size 64 instead of 96 or 128; scales and shifts counted at 16 bits",
    )
