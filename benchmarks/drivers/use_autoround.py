"""AutoRound: signed gradient descent on the rounding of each weight, block by block."""

from __future__ import annotations

import torch
from auto_round import AutoRound
from driver import Job, block_linears, run
from torch.utils.data import DataLoader
from transformers import AutoTokenizer


def quantize(job: Job) -> tuple[dict[str, torch.Tensor], int]:
    """Tune on the windows for the 50 steps a block that the library calls light."""
    model, tokenizer = job.model(), AutoTokenizer.from_pretrained(job.folder)
    n_samples, seq_len = job.windows.shape
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in job.windows]
    rounding = AutoRound(
        model,
        scheme="W4A16",
        tokenizer=tokenizer,
        bits=job.bits,
        group_size=job.group_size,
        sym=False,
        iters=50,
        lr=5e-3,
        nsamples=n_samples,
        seqlen=seq_len,
        batch_size=8,
        dataset=DataLoader(rows, batch_size=1),
        device_map="cpu",
        amp=False,
    )
    found = rounding.quantize()
    model = found[0] if isinstance(found, tuple) else found
    weights = {name: layer.weight for name, layer in block_linears(model).items()}
    return weights, 16 + job.bits


if __name__ == "__main__":
    run(
        "auto-round",
        quantize,
        "asymmetric, in float32; its light recipe, 50 steps a block (the default is 200)",
    )
