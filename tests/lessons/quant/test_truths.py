"""The truths of lesson 03's checks against torch's own operators and against counting by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.ao.quantization.observer import PerChannelMinMaxObserver

from shrinkkit.checks.inputs import column_groups, largest
from shrinkkit.checks.run import RUN, Run
from shrinkkit.lessons.quant import cases, truths


def with_fresh(fixed: Callable, fresh: Callable, seed: int = 0) -> list:
    """List a judge's cases, those of one run included."""
    token = RUN.set(Run(seed=seed))
    try:
        return [*fixed(), *fresh()]
    finally:
        RUN.reset(token)


RTN = with_fresh(cases.rtn_cases, cases.fresh_rtn_cases)
GROUPS = with_fresh(cases.group_cases, cases.fresh_group_cases)
QPARAMS = with_fresh(cases.qparams_cases, cases.fresh_qparams_cases)
CLIP = with_fresh(cases.clip_cases, cases.fresh_clip_cases)
PACK = with_fresh(cases.pack_cases, cases.fresh_pack_cases)


def fake_quantized(row: np.ndarray, bits: int, scale: float) -> torch.Tensor:
    """Round one row by torch's operator, float64."""
    qmax = 2 ** (bits - 1) - 1
    real = torch.from_numpy(row).float()
    return torch.fake_quantize_per_tensor_affine(real, float(scale) or 1.0, 0, -qmax, qmax).double()


@pytest.mark.parametrize("case", [*RTN, *GROUPS])
def test_rounding_is_torchs_fake_quantize_of_each_group(case: cases.Case) -> None:
    weight, bits, group_size, _ = case
    rounded = truths.round_groups(weight, bits, group_size)
    if group_size == weight.shape[1]:
        np.testing.assert_array_equal(truths.round_rows(weight, bits), rounded)
    for place in column_groups(weight, group_size):
        scale = np.abs(weight[place]).max() / (2 ** (bits - 1) - 1)
        expected = fake_quantized(weight[place], bits, scale).numpy()
        assert np.abs(rounded[place] - expected).max() <= 1e-5 * scale * 2**bits


@pytest.mark.parametrize(("weight", "bits", "dtype"), QPARAMS)
def test_qparams_are_those_of_torchs_observer(
    weight: np.ndarray, bits: int, dtype: torch.dtype
) -> None:
    observer = PerChannelMinMaxObserver(
        ch_axis=0,
        dtype=torch.quint8,
        qscheme=torch.per_channel_affine,
        quant_min=0,
        quant_max=2**bits - 1,
    )
    size = np.abs(weight).max(axis=1, keepdims=True)  # the observer raises small scales to eps
    size[size == 0] = 1
    observer(torch.from_numpy(weight / size).float())
    expected_scale, expected_zero_point = observer.calculate_qparams()
    scale, zero_point = truths.range_qparams(weight, bits)
    alive = np.abs(weight).max(axis=1) > 0  # the observer gives a row of zeros the scale eps
    expected = expected_scale.numpy() * size[:, 0]
    np.testing.assert_allclose(scale[alive, 0], expected[alive], rtol=1e-5)
    assert (scale[~alive] == 1).all()
    assert zero_point[:, 0].tolist() == expected_zero_point.tolist()


@pytest.mark.parametrize(("q", "packed"), PACK)
def test_packed_bytes_are_hexadecimal_digits(q: np.ndarray, packed: np.ndarray) -> None:
    for row, found in zip(q, truths.pack_bytes(q), strict=True):
        digits = "".join(f"{value + 8:x}" for value in row.tolist())
        digits += "0" * (len(digits) % 2)
        swapped = "".join(digits[i + 1] + digits[i] for i in range(0, len(digits), 2))
        assert found.tobytes() == bytes.fromhex(swapped)
    width = 2 * packed.shape[1]
    again = truths.unpack_bytes(packed, width)
    np.testing.assert_array_equal(truths.pack_bytes(again), packed)
    np.testing.assert_array_equal(truths.unpack_bytes(packed, width - 1), again[:, :-1])


@pytest.mark.parametrize(("weight", "bits", "ratios"), CLIP)
def test_the_best_scale_is_best_by_a_margin(
    weight: np.ndarray, bits: int, ratios: np.ndarray
) -> None:
    """No other ratio comes within a thousandth, so float32 cannot change the choice."""
    chosen = truths.best_scales(weight, bits, ratios)
    for row, scale in zip(weight.astype(np.float64), chosen[:, 0], strict=True):
        widest = np.abs(row).max() / (2 ** (bits - 1) - 1)
        if not widest:
            assert scale == 1
            continue
        errors = {}
        for tried in ratios.astype(np.float64) * widest:
            rounded = fake_quantized(row, bits, tried).numpy()
            errors[tried] = float(((rounded - row) ** 2).sum())
        assert min(errors, key=errors.get) == pytest.approx(scale)
        best, *others = sorted(errors.values())
        assert all(other > best * 1.001 for other in others)


def test_every_ratio_of_a_search_can_win() -> None:
    """The last and the first one, one below 0.35, and one above 1."""
    found = set()
    for weight, bits, ratios in CLIP:
        largest_of_row = np.abs(weight.astype(np.float64)).max(axis=1, keepdims=True)
        scales = truths.best_scales(weight, bits, ratios)
        won = (scales / np.maximum(largest_of_row, 1e-30) * (2 ** (bits - 1) - 1))[:, 0]
        won = [int(np.abs(ratios - ratio).argmin()) for ratio in won if ratio < 2]
        found |= {(bits, "last") for n in won if n == len(ratios) - 1}
        found |= {(bits, "first") for n in won if n == 0}
        found |= {(bits, "small") for n in won if ratios[n] <= 0.35}
        found |= {(bits, "above 1") for n in won if ratios[n] > 1.01}
    for bits in range(2, 9):
        assert {(bits, "last"), (bits, "first")} <= found
        assert bits == 2 or (bits, "above 1") in found
    assert {(2, "small"), (3, "small")} <= found


def distance_from_ties(values: np.ndarray) -> float:
    return float(np.abs(np.abs(values) % 1 - 0.5).min())


@pytest.mark.parametrize("seed", range(20))
def test_no_input_lies_on_a_tie(seed: int) -> None:
    """At w / scale = 2.5, float32 and float64 may round differently, and both are right."""
    rtn = with_fresh(cases.rtn_cases, cases.fresh_rtn_cases, seed)
    for weight, bits, group_size, _ in [
        *rtn,
        *with_fresh(cases.group_cases, cases.fresh_group_cases, seed),
    ]:
        top = largest(weight, column_groups(weight, group_size))
        steps = weight[top > 0].astype(np.float64) / top[top > 0] * (2 ** (bits - 1) - 1)
        assert not len(steps) or distance_from_ties(steps) > 0.01
    for weight, bits, _ in with_fresh(cases.qparams_cases, cases.fresh_qparams_cases, seed):
        assert truths.has_clear_zero_points(weight, bits)


@pytest.mark.parametrize(("bits", "dtype"), [(7, torch.bfloat16), (8, torch.float16)])
def test_quarters_and_ranges_are_exact_in_16_bits(bits: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(3)
    exact = truths.on_quarters(rng, np.zeros((12, 20)), bits, 6)
    ranges = truths.ranges_on_steps(rng, (12, 20), bits)
    scale, _ = truths.range_qparams(ranges, bits)
    for array in (exact, truths.round_groups(exact, bits, 6), ranges, scale):
        given = torch.from_numpy(array)
        assert torch.equal(given.to(dtype).double(), given)
    low = np.minimum(ranges.min(axis=1, keepdims=True), 0)
    np.testing.assert_array_equal(low / scale, np.round(low / scale))
