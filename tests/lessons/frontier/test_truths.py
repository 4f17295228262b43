"""The truths of lesson 01's checks against real tensors, a simulated memory and published runs."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.lessons.frontier import exercises as checks
from shrinkkit.lessons.frontier import truths
from tests import tiny

DTYPES = {32: torch.float32, 16: torch.bfloat16, 8: torch.int8}


@pytest.mark.parametrize("bits", DTYPES)
def test_loading_takes_what_a_tensor_takes(bits: int) -> None:
    weight = torch.zeros(768, 512, dtype=DTYPES[bits])
    assert truths.load_gib(weight.numel(), bits) * 2**30 == weight.nbytes


def test_four_bit_weights_share_bytes() -> None:
    assert truths.load_gib(2 * 2**30, 4) == 1.0


@pytest.mark.parametrize("n_kv_heads", [6, 2, 1])
def test_the_cache_of_a_real_model(n_kv_heads: int) -> None:
    model = tiny.llama(
        num_hidden_layers=3,
        hidden_size=48,
        intermediate_size=8,
        num_attention_heads=6,
        num_key_value_heads=n_kv_heads,
        vocab_size=10,
    )
    tokens = torch.zeros(2, 7, dtype=torch.long)  # two users with seven tokens each
    with torch.no_grad():
        cache = model(tokens, use_cache=True).past_key_values
    measured = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert truths.cache_bytes(3, 48, 6, n_kv_heads, 2, 7, 32) == measured


@pytest.mark.parametrize("case", checks.CACHE_CASES)
def test_heads_divide(case: tuple[int, ...]) -> None:
    _, hidden_size, n_heads, n_kv_heads, *_ = case
    assert hidden_size % n_heads == n_heads % n_kv_heads == 0


@pytest.mark.parametrize("case", checks.DECODE_CASES)
def test_decoding_as_a_schedule(case: tuple[int, float, int, int, float]) -> None:
    """Let the memory deliver for one second, step by step."""
    weights, kv, n_users, context_tokens, bandwidth = case
    left, tokens = bandwidth * 1e9, 0.0
    while left > 0:
        step = weights + sum(kv * context_tokens for _ in range(n_users))
        tokens += n_users * min(1.0, left / step)
        left -= step
    assert truths.tokens_per_s(*case) == pytest.approx(tokens)


def test_training_by_the_published_operations_of_gpt_3() -> None:
    """Brown et al. 2020, arXiv:2005.14165, Table D.1: 3.14e23 operations."""
    hours = truths.gpu_hours(174_600_000_000, 300_000_000_000, 1.0, 1.0)
    assert hours * 3600 * 1e12 == pytest.approx(3.14e23, rel=0.002)
