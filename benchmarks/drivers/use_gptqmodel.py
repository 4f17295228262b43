"""GPTQModel: GPTQ."""

from __future__ import annotations

import torch
from driver import Job, block_linears, run
from gptqmodel import BACKEND, GPTQModel, QuantizeConfig


def quantize(job: Job) -> tuple[dict[str, torch.Tensor], int]:
    """Run GPTQ on the windows, save, and unpack what was saved."""
    config = QuantizeConfig(
        bits=job.bits, group_size=job.group_size, sym=False, desc_act=False, device="cpu"
    )
    ones = torch.ones_like(job.windows[0])
    rows = [{"input_ids": row, "attention_mask": ones} for row in job.windows]
    model = GPTQModel.load(job.folder, config, dtype=torch.float32)
    model.quantize(rows, batch_size=4)
    model.save("saved")
    packed = GPTQModel.load("saved", backend=BACKEND.TORCH, device="cpu", dtype=torch.float16)
    layers = block_linears(packed.model)
    weights = {name: layer.dequantize_weight().t() for name, layer in layers.items()}
    return weights, 16 + job.bits


if __name__ == "__main__":
    run(
        "gptqmodel",
        quantize,
        "asymmetric; every other setting the library's default; seconds with saving and opening; "
        "unpacked in float16, which its kernel asks for",
    )
