"""Measure a key-value cache: what it holds in bytes, and what it costs in perplexity.

A cache is easy to flatter. One forward pass over a window with an empty quantized cache gives the
full-precision keys of that window to attention and only then rounds them: nothing that was measured
has passed through the cache. So `cached_perplexity` feeds each window in chunks. A token attends to
its own chunk's keys as they are and to everything older as the cache gives it back, which is what
happens while a model writes: the latest tokens are still exact, the past is rounded.

With chunks of `group_size` tokens, and a window that starts with an empty cache, this is the same
number, to rounding, that feeding the tokens one by one would give, and many times quicker: a
`QuantizedKVCache` packs keys at the end of each whole group, which is where the chunks end, and
values as they arrive. (With `residual` above zero a chunk is stricter than one by one: its first
tokens find late values rounded that would still be in float.)

`cache_bytes` counts the tensors that a cache holds, scales and float windows included, and
`cache_bytes_at` counts them for a text of any length without running the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.kv_shapes import kv_shapes
from shrinkkit.measure.quality import POSITIONS, perplexity_of
from shrinkkit.surgery.running import (
    check_tokens,
    check_vocabulary,
    device_of,
    evaluating,
    progress,
)

if TYPE_CHECKING:
    from transformers.cache_utils import Cache


def kv_cache_bytes_per_token(
    n_layers: int, n_kv_heads: int, head_dim: int, bits: float = 16.0
) -> float:
    """Give the bytes of KV cache that one token of one conversation occupies.

    Pope et al. 2022, arXiv:2211.05102, Section 2: each layer keeps one key and one value vector
    for each KV head: 2 * n_layers * n_kv_heads * head_dim * bits / 8.

    n_layers: decoder blocks.
    n_kv_heads: heads that keep keys and values; fewer than query heads in grouped-query attention.
    head_dim: numbers in one key.
    bits: of each stored number.

    >>> kv_cache_bytes_per_token(n_layers=32, n_kv_heads=8, head_dim=128)  # Mistral-7B
    131072.0
    """
    numbers = (
        2
        * require_int("n_layers", n_layers, 1)
        * require_int("n_kv_heads", n_kv_heads, 1)
        * require_int("head_dim", head_dim, 1)
    )
    is_number = isinstance(bits, Real) and not isinstance(bits, bool)
    if not is_number or not 0 < bits < math.inf:
        raise InputError(f"bits must be a finite number above zero, but {bits!r} was given.")
    return numbers * bits / 8


def cache_bytes(cache: Cache) -> int:
    """Count the bytes of keys and values that a cache holds, scales and windows included.

    cache: a QuantizedKVCache, or one of transformers' caches that keep keys and values as tensors.

    >>> from transformers import DynamicCache
    >>> cache = DynamicCache()
    >>> _ = cache.update(torch.zeros(1, 3, 5, 64), torch.zeros(1, 3, 5, 64), layer_idx=0)
    >>> cache_bytes(cache)  # key and value, 3 heads, 5 tokens, 64 numbers of 4 bytes
    7680
    """
    return sum(layer_bytes(layer) for layer in cache.layers)


def layer_bytes(layer: Any) -> int:
    """Count the bytes of keys and values that one layer of a cache holds."""
    own = getattr(layer, "nbytes", None)
    if own is not None:
        return own
    kept = [getattr(layer, name, None) for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in kept if tensor is not None)


def cache_bytes_at(
    new_cache: Callable[[], Cache],
    config: Any,
    n_tokens: int,
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Count the bytes of a cache that holds `n_tokens` tokens, without running a model.

    The cache is filled with random numbers, token groups as they would come, and counted.

    new_cache: makes an empty cache, such as `DynamicCache` or `lambda: QuantizedKVCache(bits=4)`.
    config: the model's configuration.
    n_tokens: tokens of each sequence.
    batch: sequences side by side.
    dtype: of the keys and values that the model computes, so of all that the cache keeps in float.

    >>> from transformers import DynamicCache, LlamaConfig
    >>> config = LlamaConfig(num_hidden_layers=2, num_key_value_heads=2, head_dim=64)
    >>> cache_bytes_at(DynamicCache, config, n_tokens=10)  # 2 * 2 * 2 * 64 * 10 * 2 bytes
    10240
    """
    require_int("n_tokens", n_tokens, 1)
    require_int("batch", batch, 1)
    cache = new_cache()
    if hasattr(cache, "use_config"):
        cache.use_config(config)
    generator = torch.Generator().manual_seed(0)
    kept = [one for one in kv_shapes(config) if one is not None]
    alike: dict[tuple, int] = {}  # layers that keep the same hold the same: one of them is filled
    total = 0
    for number, one in enumerate(kept):
        if number == len(cache.layers):  # as `update` would do it
            cache.layers.append(cache.layer_class_to_replicate())
        layer = cache.layers[number]
        kind = (one, type(layer), getattr(layer, "sliding_window", None))
        if kind not in alike:
            keys, values = (
                torch.randn(batch, one.n_heads, n_tokens, width, generator=generator).to(dtype)
                for width in (one.key_dim, one.value_dim)
            )
            cache.update(keys, values, layer_idx=number)
            alike[kind] = layer_bytes(cache.layers[number])
        total += alike[kind]
    return total


def cached_perplexity(
    model: nn.Module,
    tokens: torch.Tensor,
    new_cache: Callable[[], Cache],
    *,
    chunk: int = 64,
    batch_size: int = 4,
) -> float:
    """Give the perplexity of a model that reads its past through a cache.

    perplexity = exp(mean over windows and positions 2..seq_len of -log p(token | earlier tokens)),
    where the keys and values of earlier tokens come from the cache, those of a token's own chunk
    excepted (see the module's first lines).

    Arguments and errors as in `cached_losses`.
    Returns a number from 1; inf when a needed token got probability 0.
    """
    losses = cached_losses(model, tokens, new_cache, chunk=chunk, batch_size=batch_size)
    return perplexity_of(losses.mean().item())


def cached_losses(
    model: nn.Module,
    tokens: torch.Tensor,
    new_cache: Callable[[], Cache],
    *,
    chunk: int = 64,
    batch_size: int = 4,
) -> torch.Tensor:
    """Give each window's mean loss of a model that reads its past through a cache.

    Two caches on the same windows are compared with these, as pairs:
    `paired_interval(times, cached_losses(..., four_bits), cached_losses(..., DynamicCache))`.

    model: a causal language model that takes `past_key_values`.
    tokens: [n_samples, seq_len] integer; token ids, without padding.
    new_cache: makes an empty cache; `DynamicCache` gives the reference in full precision.
    chunk: tokens a forward pass; the cache's group_size, to measure what writing would meet.
    batch_size: windows side by side.
    Returns [n_samples] float64; mean of -log p(token | earlier tokens) over positions 2..seq_len,
    nats.
    Raises InputError for tokens of another shape or dtype, or outside the vocabulary.
    """
    tokens = check_tokens(tokens)
    require_int("chunk", chunk, 1)
    require_int("batch_size", batch_size, 1)
    check_vocabulary("model", model, tokens)
    found = []
    with evaluating(model):
        for batch in progress(tokens.split(batch_size), "reading through the cache"):
            batch = batch.to(device_of(model))
            cache, total = new_cache(), torch.zeros(len(batch), dtype=torch.float64)
            for start in range(0, batch.shape[1] - 1, chunk):
                here = batch[:, start : start + chunk]
                logits = model(here, past_key_values=cache, use_cache=True).logits
                answers = batch[:, start + 1 : start + 1 + here.shape[1]]  # [batch, <= chunk]
                total += _losses(logits[:, : answers.shape[1]], answers)
            found.append(total / (batch.shape[1] - 1))
    return torch.cat(found)


def _losses(logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Add up -log p(answer) over the positions of each window, [batch] float64."""
    total = torch.zeros(len(answers), dtype=torch.float64)
    for window in range(len(answers)):
        rows = zip(logits[window].split(POSITIONS), answers[window].split(POSITIONS), strict=True)
        for some, right in rows:
            each = cross_entropy(some.float(), right, reduction="none")  # [positions]
            total[window] += each.double().sum().item()
    return total
