"""The truths of lesson 08's checks against torch's own operators and against the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.lessons.kv import exercises as checks
from shrinkkit.lessons.kv import truths
from shrinkkit.measure import cache_bytes
from shrinkkit.quant import QuantizedKVCache


def fake_quantized(group: np.ndarray, bits: int) -> np.ndarray:
    """Round by torch's operator, on numbers moved so that the lowest stands at zero."""
    x = torch.from_numpy(group.astype(np.float64))
    scale = ((x.max() - x.min()) / (2**bits - 1)).item() or 1.0
    moved = torch.fake_quantize_per_tensor_affine((x - x.min()).float(), scale, 0, 0, 2**bits - 1)
    return (moved.double() + x.min()).numpy()


@pytest.mark.parametrize(("keys", "bits", "group_size"), checks.keys_cases())
def test_keys_are_torchs_fake_quantize_of_each_channel(keys, bits, group_size):
    expected = keys.astype(np.float64)
    for start in range(0, len(keys) - group_size + 1, group_size):
        for channel in range(keys.shape[1]):
            place = slice(start, start + group_size), channel
            expected[place] = fake_quantized(keys[place], bits)
    np.testing.assert_allclose(truths.round_keys(keys, bits, group_size), expected, atol=1e-5)


@pytest.mark.parametrize(("values", "bits", "group_size"), checks.values_cases())
def test_values_are_torchs_fake_quantize_of_each_group(values, bits, group_size):
    expected = np.concatenate(
        [
            np.stack([fake_quantized(row, bits) for row in values[:, i : i + group_size]])
            for i in range(0, values.shape[1], group_size)
        ],
        axis=1,
    )
    np.testing.assert_allclose(truths.round_values(values, bits, group_size), expected, atol=1e-5)


@pytest.mark.parametrize("case", checks.BYTES_CASES, ids=str)
def test_bytes_are_what_the_packages_cache_holds(case):
    n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size = case
    cache = QuantizedKVCache(bits, group_size=group_size)
    states = torch.zeros(1, n_kv_heads, n_tokens, head_dim, dtype=torch.bfloat16)
    cache.update(states, states, layer_idx=0)
    assert truths.cache_bytes(*case) == n_layers * cache_bytes(cache)


@pytest.mark.parametrize(("window", "new", "group_size", "residual"), checks.add_cases())
def test_nothing_is_lost_and_nothing_leaves_early(window, new, group_size, residual):
    ready, left = truths.add_keys(window, new, group_size, residual)
    np.testing.assert_array_equal(np.concatenate([ready, left]), np.concatenate([window, new]))
    assert len(ready) % group_size == 0
    assert len(left) < residual + group_size
    assert len(ready) == 0 or len(left) >= residual


def test_no_input_lies_on_a_tie():
    """Halfway between two levels, float32 and float64 may round differently, and both are right."""
    for keys, bits, group_size in checks.keys_cases():
        for start in range(0, len(keys) - group_size + 1, group_size):
            for column in keys[start : start + group_size].T:
                _clear_of_ties(column, bits)
    for values, bits, group_size in checks.values_cases():
        for row in values:
            for start in range(0, len(row), group_size):
                _clear_of_ties(row[start : start + group_size], bits)


def _clear_of_ties(group: np.ndarray, bits: int) -> None:
    group = group.astype(np.float64)
    if group.max() > group.min():
        steps = (group - group.min()) / (group.max() - group.min()) * (2**bits - 1)
        assert np.abs(steps % 1 - 0.5).min() > 0.01
