"""The truths of lesson 03's checks against torch's own operators and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.ao.quantization.observer import PerChannelMinMaxObserver

from shrinkkit.lessons.quant import exercises as checks
from shrinkkit.lessons.quant import truths


@pytest.mark.parametrize(("weight", "bits"), checks.rtn_cases())
def test_rtn_is_torchs_fake_quantize(weight: np.ndarray, bits: int) -> None:
    qmax = 2 ** (bits - 1) - 1
    real = torch.from_numpy(weight).float()
    scale = real.abs().amax(dim=1) / qmax
    scale[scale == 0] = 1
    zeros = torch.zeros(len(real), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(real, scale, zeros, 0, -qmax, qmax)
    rounded = torch.from_numpy(truths.round_groups(weight, bits, weight.shape[1]))
    torch.testing.assert_close(rounded.float(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("weight", "bits"), checks.qparams_cases())
def test_qparams_are_those_of_torchs_observer(weight: np.ndarray, bits: int) -> None:
    observer = PerChannelMinMaxObserver(
        ch_axis=0,
        dtype=torch.quint8,
        qscheme=torch.per_channel_affine,
        quant_min=0,
        quant_max=2**bits - 1,
    )
    observer(torch.from_numpy(weight))
    expected_scale, expected_zero_point = observer.calculate_qparams()
    scale, zero_point = truths.range_qparams(weight, bits)
    alive = np.abs(weight).max(axis=1) > 0  # the observer gives a row of zeros the scale eps
    np.testing.assert_allclose(scale[alive, 0], expected_scale.numpy()[alive], rtol=1e-5)
    assert zero_point[:, 0].tolist() == expected_zero_point.tolist()


@pytest.mark.parametrize(("weight", "bits", "group_size"), checks.group_cases())
def test_a_group_is_a_small_row(weight: np.ndarray, bits: int, group_size: int) -> None:
    parts = torch.from_numpy(weight).split(group_size, dim=1)
    expected = [truths.round_groups(p.numpy(), bits, p.shape[1]) for p in parts]
    rounded = truths.round_groups(weight, bits, group_size)
    np.testing.assert_array_equal(rounded, np.concatenate(expected, axis=1))


@pytest.mark.parametrize("q", checks.pack_cases())
def test_packed_bytes_are_hexadecimal_digits(q: np.ndarray) -> None:
    for row, packed in zip(q, truths.pack_bytes(q), strict=True):
        digits = "".join(f"{value + 8:x}" for value in row.tolist())
        digits += "0" * (len(digits) % 2)
        swapped = "".join(digits[i + 1] + digits[i] for i in range(0, len(digits), 2))
        assert packed.tobytes() == bytes.fromhex(swapped)


@pytest.mark.parametrize(("weight", "bits", "ratios"), checks.clip_cases())
def test_the_best_scale_is_best_by_a_margin(
    weight: np.ndarray, bits: int, ratios: np.ndarray
) -> None:
    """No other ratio comes within a thousandth, so float32 cannot change the choice."""
    qmax = 2 ** (bits - 1) - 1
    chosen = truths.best_scales(weight, bits, ratios)
    for row, scale in zip(weight.astype(np.float64), chosen[:, 0], strict=True):
        widest = np.abs(row).max() / qmax
        if not widest:
            assert scale == 1
            continue
        real = torch.from_numpy(row).unsqueeze(0)
        zero = torch.zeros(1, dtype=torch.int32)
        errors = {}
        for ratio in ratios:
            step = torch.tensor([ratio * widest])
            rounded = torch.fake_quantize_per_channel_affine(
                real.float(), step.float(), zero, 0, -qmax, qmax
            )
            errors[ratio * widest] = (rounded.double() - real).square().sum().item()
        best, runner_up = sorted(errors.values())[:2]
        assert min(errors, key=errors.get) == pytest.approx(scale)
        assert runner_up > best * 1.001


def distance_from_ties(values: np.ndarray) -> float:
    return float(np.abs(np.abs(values) % 1 - 0.5).min())


def test_no_input_lies_on_a_tie() -> None:
    """At w / scale = 2.5, float32 and float64 may round differently, and both are right."""
    for weight, bits in checks.rtn_cases():
        for row in weight[np.abs(weight).max(axis=1) > 0].astype(np.float64):
            steps = row / np.abs(row).max() * (2 ** (bits - 1) - 1)
            assert distance_from_ties(steps) > 0.01
    for weight, bits, group_size in checks.group_cases():
        for row in weight.astype(np.float64):
            for start in range(0, len(row), group_size):
                group = row[start : start + group_size]
                if np.abs(group).max():
                    steps = group / np.abs(group).max() * (2 ** (bits - 1) - 1)
                    assert distance_from_ties(steps) > 0.01
    for weight, bits in checks.qparams_cases():
        scale, _ = truths.range_qparams(weight, bits)
        low = np.minimum(weight.astype(np.float64).min(axis=1, keepdims=True), 0)
        assert distance_from_ties(low / scale) > 0.001
