"""Measuring a cache: bytes by hand, perplexity against `perplexity` and against one by one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import DynamicCache, LlamaConfig

from shrinkkit.errors import InputError
from shrinkkit.measure import (
    cache_bytes,
    cache_bytes_at,
    cached_losses,
    cached_perplexity,
    kv_shape,
    perplexity,
    token_scores,
)
from shrinkkit.quant import QuantizedKVCache
from tests import tiny


@pytest.fixture(scope="module")
def windows():
    return tiny.tokens(3, 41, seed=0)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_through_a_float_cache_it_is_perplexity(tiny_llama, windows, chunk):
    got = cached_perplexity(tiny_llama, windows, DynamicCache, chunk=chunk, batch_size=2)
    assert got == pytest.approx(perplexity(tiny_llama, windows), rel=1e-4)


@pytest.mark.parametrize("bits", [2, 4])
def test_chunks_of_a_group_measure_what_one_by_one_would(tiny_llama, windows, bits):
    new_cache = partial(QuantizedKVCache, bits, group_size=8)
    one_by_one = cached_perplexity(tiny_llama, windows, new_cache, chunk=1)
    in_chunks = cached_perplexity(tiny_llama, windows, new_cache, chunk=8)
    assert in_chunks == pytest.approx(one_by_one, rel=1e-4)
    assert in_chunks != pytest.approx(perplexity(tiny_llama, windows), rel=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_each_windows_loss_is_that_of_the_window_alone(tiny_llama, windows, batch_size):
    new_cache = partial(QuantizedKVCache, 4, group_size=8)
    got = cached_losses(tiny_llama, windows, new_cache, chunk=8, batch_size=batch_size)
    assert (got.shape, got.dtype) == ((3,), torch.float64)
    for loss, window in zip(got, windows.split(1), strict=True):
        alone = cached_perplexity(tiny_llama, window, new_cache, chunk=8)
        assert loss.exp().item() == pytest.approx(alone, rel=1e-5)
    together = cached_perplexity(tiny_llama, windows, new_cache, chunk=8, batch_size=batch_size)
    assert got.mean().exp().item() == pytest.approx(together, rel=1e-12)
    scores = token_scores({"model": tiny_llama}, windows)["model"].losses
    float_cache = cached_losses(tiny_llama, windows, DynamicCache, chunk=8)
    torch.testing.assert_close(float_cache, scores, rtol=1e-5, atol=1e-6)


def test_bytes_by_hand(tiny_llama):
    # 2 layers, 2 key-value heads of 16 numbers, keys and values: 128 numbers a token
    assert kv_shape(tiny_llama.config) == (2, 2, 16)
    assert cache_bytes_at(DynamicCache, tiny_llama.config, 10) == 10 * 128 * 2
    assert cache_bytes_at(DynamicCache, tiny_llama.config, 10, batch=3, dtype=torch.float32) == (
        3 * 10 * 128 * 4
    )
    assert cache_bytes(DynamicCache()) == 0


def test_counting_without_the_model_counts_what_the_model_fills(tiny_llama, windows):
    for new_cache in (DynamicCache, partial(QuantizedKVCache, 4, group_size=8)):
        cache = new_cache()
        with torch.no_grad():
            tiny_llama(windows, past_key_values=cache)
        expected = cache_bytes_at(new_cache, tiny_llama.config, 41, batch=3, dtype=torch.float32)
        assert cache_bytes(cache) == expected


def test_heads_without_grouping_are_all_kept():
    config = LlamaConfig(hidden_size=64, num_hidden_layers=3, num_attention_heads=4)
    config.num_key_value_heads = None
    assert kv_shape(config) == (3, 4, 16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, w: cached_perplexity(model, w[0], DynamicCache), "tokens has shape"),
        (lambda model, w: cached_perplexity(model, w + 256, DynamicCache), "knows 0 to 255"),
        (lambda model, w: cached_perplexity(model, w, DynamicCache, chunk=0), "chunk must be"),
        (lambda model, w: cache_bytes_at(DynamicCache, model.config, 0), "n_tokens must be"),
        (lambda model, w: kv_shape(object()), "config is a object, which does not say"),
    ],
    ids=["window", "vocabulary", "chunk", "no tokens", "no config"],
)
def test_bad_input_is_refused(tiny_llama, windows, call, words):
    with pytest.raises(InputError, match=words):
        call(tiny_llama, windows)
