"""Bits per byte: how well a language model predicts a text, whatever its tokenizer.

Perplexity is per token, and tokens differ: a model with longer tokens has fewer, harder guesses.
Bits per byte charges the whole text instead. Every token costs -log2 p(token | what came before);
their sum, over the bytes of the text, is what an arithmetic coder driven by the model would write.
So the same number can be asked of a compressor (xz) or of a table of counts (an n-gram model).

Every token is charged once, the first included: the document starts with the model's own start
token. A text longer than the model's window is read in overlapping windows, each charged only for
its later part, so that no token is guessed from less than `seq_len - stride` tokens before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import check_vocabulary, device_of, evaluating


def token_bits(
    model: nn.Module,
    ids: torch.Tensor,
    seq_len: int | None = None,
    stride: int | None = None,
    batch_size: int = 8,
) -> torch.Tensor:
    """Give what each token of a document costs under a model.

    bits[t] = -log2 p(ids[t + 1] | ids[..t]), with a context of seq_len - stride to seq_len - 1.

    model: a causal language model; its output has `logits`.
    ids: [n_tokens] integer; the document's tokens behind its start token.
    seq_len: tokens of a window; None: the model's longest input.
    stride: tokens by which windows move on; None: half a window.
    batch_size: windows a forward pass.
    Returns [n_tokens - 1] float64, in bits.
    Raises InputError for ids of another shape, or outside the vocabulary.
    """
    if ids.ndim != 1 or len(ids) < 2 or ids.dtype.is_floating_point:
        raise InputError(
            f"ids has shape {tuple(ids.shape)} and {ids.dtype}: give the token ids of one document "
            "[n_tokens], its start token first and at least one token behind it."
        )
    ids = ids.long()
    check_vocabulary("the model", model, ids)
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None) or 1024
    seq_len = require_int("seq_len", seq_len if seq_len is not None else longest, 2, longest)
    stride = require_int("stride", stride if stride is not None else max(1, seq_len // 2), 1)
    if stride >= seq_len:
        raise InputError(f"stride must be below seq_len={seq_len}, but {stride} was given.")
    starts = [0]
    while starts[-1] + seq_len < len(ids):
        starts.append(starts[-1] + stride)
    whole = [start for start in starts if start + seq_len <= len(ids)]
    batches = [whole[i : i + batch_size] for i in range(0, len(whole), batch_size)]
    batches += [[start] for start in starts[len(whole) :]]  # the last window may be shorter
    bits = torch.zeros(len(ids) - 1, dtype=torch.float64)
    done = 0  # tokens charged so far: ids[1 .. done]
    with evaluating(model):
        for batch in tqdm(batches, "bits per byte", unit="batch", leave=False, delay=2):
            windows = torch.stack([ids[start : start + seq_len] for start in batch])
            logits = model(windows.to(device_of(model))).logits[:, :-1].float()
            nats = cross_entropy(
                logits.transpose(1, 2), windows[:, 1:].to(logits.device), reduction="none"
            )  # [batch, window - 1]
            for start, row in zip(batch, nats.double().cpu(), strict=True):
                bits[done : start + len(row)] = row[done - start :] / math.log(2)
                done = start + len(row)
    return bits


def bits_per_byte(model: nn.Module, documents: Iterable[tuple[torch.Tensor, int]]) -> float:
    """Give the bits per byte of a language model on some documents, all bytes counted alike.

    documents: (ids, n_bytes) of each: the tokens behind the start token, and the text's UTF-8
        bytes.
    model: as for `token_bits`, which reads each document in windows of its usual length.
    Raises InputError for no documents, and as `token_bits` does.
    """
    bits, n_bytes = 0.0, 0
    for ids, size in documents:
        bits += token_bits(model, ids).sum().item()
        n_bytes += size
    if not n_bytes:
        raise InputError("documents is empty: give at least one (ids, n_bytes).")
    return bits / n_bytes
