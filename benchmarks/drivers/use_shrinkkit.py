"""shrinkkit itself, in a process of its own like the others: SHRINKKIT_METHOD says which method."""

from __future__ import annotations

import os

import torch
from driver import Job, run

from benchmarks.common import TUNING
from shrinkkit import awq_model, gptq_model, quantize_model
from shrinkkit.quant import int_format, tune_scales
from shrinkkit.surgery.parts import find_linears

METHOD = os.environ["SHRINKKIT_METHOD"]
SETTINGS = {
    "small_scales": "asymmetric, groups of 32 with 6-bit scales",
    "tuned": f"asymmetric; {TUNING['steps']} steps of tuning scales and norms",
}


def quantize(job: Job) -> tuple[dict[str, torch.Tensor], float]:
    """Quantize by METHOD, with the defaults of a user who asks for it unless the row says more."""
    scale_bits = 6 if METHOD == "small_scales" else 16
    model, fmt = job.model(), int_format(job.bits, group_size=job.group_size, scale_bits=scale_bits)
    data = {"bits": fmt, "head_bits": None, "batch_size": 8}
    if METHOD == "rounding":
        small = quantize_model(model, fmt, head_bits=None)
    elif METHOD in ("gptq", "small_scales", "tuned"):
        small = gptq_model(model, job.windows, **data)
    else:
        small = awq_model(model, job.windows, rounding="gptq", **data)
    if METHOD == "tuned":
        small = tune_scales(small, model, job.windows, **TUNING)
    weights = {name: layer.dequantize() for name, layer in find_linears(small).items()}
    bits = sum(fmt.bits_per_weight(weight.shape) * weight.numel() for weight in weights.values())
    mean = bits / sum(weight.numel() for weight in weights.values())
    if METHOD in ("awq", "tuned"):  # scales were folded into the norms, or norms tuned
        norms = (name for name, _ in small.named_modules() if name.endswith("norm"))
        weights |= {name: small.get_submodule(name).weight for name in norms}
    return weights, (mean - job.bits) * job.group_size


if __name__ == "__main__":
    settings = SETTINGS.get(METHOD, "asymmetric; every other setting the default")
    run("shrinkkit", quantize, settings, group_size=32 if METHOD == "small_scales" else None)
