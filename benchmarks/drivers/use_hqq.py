"""HQQ: half-quadratic quantization, which looks at the weights alone."""

from __future__ import annotations

import torch
from driver import Job, block_linears, run
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear


def quantize(job: Job) -> tuple[dict[str, torch.Tensor], int]:
    """Quantize layer by layer, groups along the rows."""
    config = BaseQuantizeConfig(nbits=job.bits, group_size=job.group_size, axis=1)
    weights = {}
    for name, layer in block_linears(job.model()).items():
        packed = HQQLinear(layer, config, compute_dtype=torch.float32, device="cpu")
        weights[name] = packed.dequantize()
    return weights, 32  # a 16-bit scale and a 16-bit zero


if __name__ == "__main__":
    run("hqq", quantize, "axis=1; scales and zeros counted at 16 bits, computed in float32")
