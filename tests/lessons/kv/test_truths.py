"""The truths of lesson 08's checks against torch's own operators and against the package."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.checks.inputs import column_groups, largest
from shrinkkit.checks.run import RUN, Run
from shrinkkit.lessons.kv import exercises as checks
from shrinkkit.lessons.kv import truths
from shrinkkit.measure import cache_bytes
from shrinkkit.quant import QuantizedKVCache


def assert_same(actual: np.ndarray, expected: np.ndarray, largest: np.ndarray) -> None:
    """Compare to a hundred-thousandth of what shares a scale: numbers reach from 1e-8 to 1e4."""
    assert (np.abs(actual - expected) <= 1e-5 * largest).all()


def fake_quantized(group: np.ndarray, bits: int) -> np.ndarray:
    """Round by torch's operator, on numbers moved so that the lowest stands at zero."""
    x = torch.from_numpy(group.astype(np.float64))
    scale = ((x.max() - x.min()) / (2**bits - 1)).item() or 1.0
    moved = torch.fake_quantize_per_tensor_affine((x - x.min()).float(), scale, 0, 0, 2**bits - 1)
    return (moved.double() + x.min()).numpy()


def whole_cases(cases, fresh_cases):
    """Give the fixed cases and some fresh ones, without their dtype."""
    return [case[:3] for case in [*cases, *fresh_cases]]


KEYS = whole_cases(checks.keys_cases(), checks.more_cases(1, (13, 5), 4, truths.key_places))
VALUES = whole_cases(checks.values_cases(), checks.more_cases(2, (5, 13), 4, column_groups))


@pytest.mark.parametrize(("keys", "bits", "group_size"), KEYS)
def test_keys_are_torchs_fake_quantize_of_each_channel(keys, bits, group_size):
    expected = keys.astype(np.float64)
    for start in range(0, len(keys) - group_size + 1, group_size):
        for channel in range(keys.shape[1]):
            place = slice(start, start + group_size), channel
            expected[place] = fake_quantized(keys[place], bits)
    top = largest(keys, truths.key_places(keys, group_size))
    assert_same(truths.round_keys(keys, bits, group_size), expected, top)


@pytest.mark.parametrize(("values", "bits", "group_size"), VALUES)
def test_values_are_torchs_fake_quantize_of_each_group(values, bits, group_size):
    expected = np.concatenate(
        [
            np.stack([fake_quantized(row, bits) for row in values[:, i : i + group_size]])
            for i in range(0, values.shape[1], group_size)
        ],
        axis=1,
    )
    top = largest(values, column_groups(values, group_size))
    assert_same(truths.round_values(values, bits, group_size), expected, top)


# The package's cache fills up the last byte of each row; these rows fill theirs.
WHOLE_BYTES = [c for c in checks.BYTES_CASES if c[2] * c[4] % 8 == c[5] * c[4] % 8 == 0]


@pytest.mark.parametrize("case", WHOLE_BYTES, ids=str)
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


@pytest.mark.parametrize("seed", range(20))
def test_no_input_lies_on_a_tie(seed):
    """Halfway between two levels, float32 and float64 may round differently, and both are right."""
    for places, fixed in [
        (truths.key_places, checks.keys_cases()),
        (column_groups, checks.values_cases()),
    ]:
        token = RUN.set(Run(seed=seed))
        try:
            cases = [*fixed, *checks.fresh_cases(places)]
        finally:
            RUN.reset(token)
        for states, bits, group_size, _ in cases:
            for place in places(states, group_size):
                _clear_of_ties(states[place], bits)


@pytest.mark.parametrize(("bits", "dtype"), [(4, torch.bfloat16), (8, torch.float16)])
def test_quarters_are_exact_in_16_bits(bits, dtype):
    rng = np.random.default_rng(3)
    states = rng.standard_normal((12, 6))
    places = truths.key_places(states, 6)
    exact = truths.on_quarters(rng, states, places, bits)
    for array in (exact, truths.round_keys(exact, bits, 6)):
        given = torch.from_numpy(array)
        assert torch.equal(given.to(dtype).double(), given)
    for group in (exact[place] for place in places):
        steps = (group - group.min()) / (group.max() - group.min()) * (2**bits - 1)
        np.testing.assert_allclose(4 * steps, np.round(4 * steps), atol=1e-9)
        assert np.abs(steps % 1 - 0.5).min() > 0.2


def _clear_of_ties(group: np.ndarray, bits: int) -> None:
    group = group.astype(np.float64)
    if group.max() > group.min():
        steps = (group - group.min()) / (group.max() - group.min()) * (2**bits - 1)
        assert np.abs(steps % 1 - 0.5).min() > 0.005
