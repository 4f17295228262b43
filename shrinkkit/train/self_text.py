"""Text that a language model writes itself, to calibrate on or to train on.

Where there is no data set, the float model can be one: sampled at temperature 1, what it says is,
by construction, text that the model knows (LLM-QAT, Liu et al. 2023, arXiv 2305.17888, section
2.1).
"""

from __future__ import annotations

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import device_of, progress


def write_windows(
    model: nn.Module,
    n_samples: int,
    seq_len: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> torch.Tensor:
    """Let a language model write windows of text, at temperature 1, from its start token on.

    Liu et al. 2023 (arXiv 2305.17888), section 2.1, with every token sampled.

    model: a transformers decoder whose config names a `bos_token_id`.
    n_samples, seq_len: windows, and tokens in each without the start token.
    seed: of the sampling; batch_size: windows written at once.
    Returns [n_samples, seq_len] int64. A window in which the model ended its text goes on with a
    new one.
    Raises InputError for a model without a start token, or numbers below 1.
    """
    require_int("n_samples", n_samples, 1)
    require_int("seq_len", seq_len, 2)
    start = getattr(getattr(model, "config", None), "bos_token_id", None)
    if start is None:
        raise InputError("The model's config has no bos_token_id: nothing to start writing from.")
    device, written = device_of(model), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for first in progress(range(0, n_samples, batch_size), "writing"):
            rows = min(batch_size, n_samples - first)
            ids = torch.full((rows, 1), start, device=device)
            written.append(_continued(model, ids, seq_len)[:, 1:].cpu())
    return torch.cat(written)


@torch.no_grad()
def _continued(model: nn.Module, ids: torch.Tensor, n_new: int) -> torch.Tensor:
    """Sample n_new tokens behind ids [rows, n], keeping the keys and values of those read."""
    cache, new = None, ids
    for _ in range(n_new):
        output = model(new, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        new = torch.multinomial(output.logits[:, -1].float().softmax(-1), 1)
        ids = torch.cat([ids, new], dim=1)
    return ids
