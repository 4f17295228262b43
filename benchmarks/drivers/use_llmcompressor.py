"""llm-compressor: GPTQ, in the order of the columns' importance (its default)."""

from __future__ import annotations

import torch
from datasets import Dataset
from driver import Job, block_linears, run
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier


def quantize(job: Job) -> tuple[dict[str, torch.Tensor], int]:
    """Run GPTQ on the windows, asymmetric, and read the rounded weights."""
    model = job.model()
    ones = torch.ones_like(job.windows)
    data = {"input_ids": job.windows.tolist(), "attention_mask": ones.tolist()}
    grid = {"num_bits": job.bits, "type": "int", "symmetric": False, "strategy": "group"}
    group = {"targets": ["Linear"], "weights": grid | {"group_size": job.group_size}}
    n_samples, seq_len = job.windows.shape
    oneshot(
        model=model,
        tokenizer=job.folder,
        dataset=Dataset.from_dict(data),
        recipe=GPTQModifier(config_groups={"group_0": group}, ignore=["lm_head"]),
        num_calibration_samples=n_samples,
        max_seq_length=seq_len,
        shuffle_calibration_samples=False,
    )
    weights = {name: layer.weight for name, layer in block_linears(model).items()}
    return weights, 16 + job.bits


if __name__ == "__main__":
    run("llmcompressor", quantize, "asymmetric; every other setting the library's default")
