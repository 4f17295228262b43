"""Rounding keys and values: by hand, against plain loops, and by its invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkkit.errors import InputError
from shrinkkit.quant.kv.rows import choose_range, from_rows, round_rows, to_rows


def states(batch=2, heads=3, tokens=8, head_dim=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, heads, tokens, head_dim, generator=generator)


def rounded_by_loops(rows: torch.Tensor, bits: int, group_size: int) -> np.ndarray:
    """Round group by group with numpy; scales are taken as torch stores them."""
    given = rows.double().numpy()
    real = np.empty_like(given)
    qmin, qmax = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for place in np.ndindex(given.shape[:3]):
        for start in range(0, given.shape[3], group_size):
            some = given[place][start : start + group_size]
            low, high = some.min(), some.max()
            scale = max((high - low) / (qmax - qmin), high / (qmax + 128), -low / (127 - qmin))
            scale = torch.tensor(scale or 1.0).bfloat16().double().item()
            zero_point = np.clip(np.round(qmin - low / scale), -128, 127)
            q = np.clip(np.round(some / scale) + zero_point, qmin, qmax)
            real[place][start : start + group_size] = scale * (q - zero_point)
    return real


def test_per_token_by_hand():
    # Row 1: 0 to 3 in 3 steps of 1, q = -2 stands for 0, so the zero point is -2.
    # Row 2: 4 to 10 in 3 steps of 2, q = -2 stands for 4 = 2 * (-2 + 4), so it is -4.
    rows = torch.tensor([[[[0.0, 0.9, 2.2, 3.0], [4.0, 6.4, 7.2, 10.0]]]])
    packed = round_rows(rows, bits=2, group_size=4)
    assert packed.scale.tolist() == [[[[1.0], [2.0]]]]
    assert packed.zero_point.tolist() == [[[[-2], [-4]]]]
    assert packed.dequantize().tolist() == [[[[0.0, 1.0, 2.0, 3.0], [4.0, 6.0, 8.0, 10.0]]]]
    # codes 0, 1, 2, 3 and 0, 1, 2, 3, the first in the lowest bits: 0 + 1 * 4 + 2 * 16 + 3 * 64
    assert packed.codes.tolist() == [[[[228], [228]]]]
    assert packed.nbytes == 2 * (1 + 2 + 1)


def test_per_channel_rows_by_hand():
    keys = torch.arange(8).view(1, 1, 4, 2)  # 4 tokens of 2 channels, in 2 groups of 2 tokens
    rows = to_rows(keys, "per_channel", 2)
    assert rows.tolist() == [[[[0, 2], [1, 3], [4, 6], [5, 7]]]]
    assert torch.equal(from_rows(rows, "per_channel", 2), keys)
    assert to_rows(keys, "per_token", 2) is keys


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("group_size", [16, 5, 1, 100], ids=lambda g: f"g{g}")
def test_equals_rounding_by_loops(bits, group_size):
    rows = states() + torch.arange(3).view(3, 1, 1) * 4.0  # one head far from zero
    real = round_rows(rows, bits, group_size).dequantize()
    np.testing.assert_allclose(real.numpy(), rounded_by_loops(rows, bits, group_size), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(2, 8),
    group_size=st.integers(1, 20),
    shift=st.sampled_from([0.0, 3.0, -40.0, 1e4]),
    magnitude=st.sampled_from([1e-4, 1.0, 1e3]),
    seed=st.integers(0, 10**6),
)
def test_error_is_at_most_half_a_step_inside_and_one_at_the_ends(
    bits, group_size, shift, magnitude, seed
):
    rows = (states(1, 2, 3, 16, seed) + shift) * magnitude
    packed = round_rows(rows, bits, group_size)
    n_groups = packed.scale.shape[-1]
    scale = packed.scale.float().repeat_interleave(packed.group_size, -1)[..., :16]
    error = (packed.dequantize() - rows).abs()
    # The zero point is rounded, so the grid's ends may lie half a step inside the range, and the
    # 16-bit scale is up to 1/256 too small over at most 128 + 255 steps.
    largest = rows.abs().amax(-1, keepdim=True)
    assert (error <= scale * 1.01 + largest / 128).all()
    grid_low = (packed.scale.float() * (-(2 ** (bits - 1)) - packed.zero_point.float()))[..., None]
    grid_high = grid_low + packed.scale.float()[..., None] * (2**bits - 1)
    groups = torch.nn.functional.pad(rows, (0, -16 % packed.group_size), value=float("nan"))
    groups = groups.view(1, 2, 3, n_groups, -1)
    inside = (groups >= grid_low) & (groups <= grid_high)
    inside = inside.flatten(3)[..., :16]
    assert (error <= scale / 2 + largest * 1e-6)[inside].all()


def test_a_group_far_from_zero_keeps_its_levels():
    """A grid with zero inside it has one level between 100 and 101; this one has eight or more."""
    rows = torch.linspace(100, 101, 64).view(1, 1, 1, 64)
    near = torch.linspace(5, 6, 64).view(1, 1, 1, 64)
    assert round_rows(near, 4, 64).dequantize().unique().numel() == 16
    packed = round_rows(rows, 4, 64)
    assert packed.zero_point.item() == -128
    assert packed.dequantize().amax() >= 100.9


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_constant_groups_survive(value):
    rows = torch.full((1, 1, 2, 8), value)
    torch.testing.assert_close(round_rows(rows, 4, 8).dequantize(), rows, rtol=0.01, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_as_its_float_values(dtype):
    rows = states().to(dtype)
    ours, floats = round_rows(rows, 4, 8), round_rows(rows.float(), 4, 8)
    assert torch.equal(ours.codes, floats.codes)
    assert ours.dequantize(dtype).dtype == dtype


def test_rows_can_be_appended():
    rows = states()
    parts = round_rows(rows[:, :, :3], 4, 8).append(round_rows(rows[:, :, 3:], 4, 8))
    whole = round_rows(rows, 4, 8)
    for name in ("codes", "scale", "zero_point"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: round_rows(torch.full((1, 1, 1, 2), float("nan")), 4, 2), "2 NaN"),
        (lambda: round_rows(torch.full((1, 1, 1, 2), float("inf")), 4, 2), "2 infinite"),
        (lambda: round_rows(states(), 9, 2), "bits must be a whole number from 2 to 8, but 9"),
        (lambda: round_rows(states(), 4, 0), "group_size must be a whole number of at least 1"),
        (lambda: choose_range(torch.zeros(1), torch.ones(1), 1), "bits must be"),
        (lambda: to_rows(states(), "per_channel", 3), "8 tokens, which is no multiple of group"),
        (lambda: to_rows(states(), "per_head", 2), "granularity must be one of 'per_channel'"),
        (lambda: from_rows(states(), "per_head", 2), "granularity must be one of 'per_channel'"),
    ],
    ids=["nan", "inf", "bits", "group", "range bits", "tokens", "to rows", "from rows"],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
