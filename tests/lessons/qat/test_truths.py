"""The truths of lesson 07's checks against torch's autograd and its own operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.lessons.qat import exercises as checks
from shrinkkit.lessons.qat import truths


def staircase(weight: torch.Tensor, scale: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    clipped = (weight / scale).clamp(qmin, qmax)
    return (clipped + (clipped.round() - clipped).detach()) * scale


@pytest.mark.parametrize("case", checks.grid_cases())
def test_gradients_are_autograds_of_a_clip(case) -> None:
    weight, scale, qmin, qmax, gradient = case
    w, s = (torch.from_numpy(part).double().requires_grad_() for part in (weight, scale))
    y = staircase(w, s, qmin, qmax)
    y.backward(torch.from_numpy(gradient).double())
    np.testing.assert_allclose(truths.rounded(*case[:4]), y.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(truths.passed(*case), w.grad.numpy(), rtol=1e-9)
    expected = s.grad / (weight.shape[1] * qmax) ** 0.5
    np.testing.assert_allclose(truths.step_gradient(*case), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("case", checks.grid_cases())
def test_forward_is_torchs_fake_quantize(case) -> None:
    weight, scale, qmin, qmax, _ = case
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(weight), torch.from_numpy(scale[:, 0]), zeros, 0, qmin, qmax
    )
    np.testing.assert_allclose(truths.rounded(*case[:4]), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("weight", checks.ternary_cases())
def test_ternary_levels_are_the_nearest(weight: np.ndarray) -> None:
    q, scale = truths.ternary(weight)
    assert scale == pytest.approx(np.abs(weight).mean(dtype=np.float64))
    levels = scale * np.array([-1.0, 0.0, 1.0])
    nearest = np.abs(weight[..., None] - levels).min(axis=-1)
    np.testing.assert_allclose(np.abs(weight - q * scale), nearest, atol=1e-6)


@pytest.mark.parametrize(("weight", "a", "b", "alpha"), checks.lora_cases())
def test_merged_is_the_matrix_product(weight, a, b, alpha) -> None:
    expected = weight.astype(float) + alpha / len(a) * (b.astype(float) @ a.astype(float))
    np.testing.assert_allclose(truths.merged(weight, a, b, alpha), expected, rtol=1e-9)


@pytest.mark.parametrize("case", checks.lost_cases())
def test_lost_part_is_torchs(case) -> None:
    weight, update, scale, qmin, qmax = case
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    total = torch.from_numpy(weight + update)
    rounded = torch.fake_quantize_per_channel_affine(
        total, torch.from_numpy(scale[:, 0]), zeros, 0, qmin, qmax
    )
    expected = (rounded - total).norm() / torch.from_numpy(update).norm()
    assert truths.lost_part(*case) == pytest.approx(expected.item(), rel=1e-4)


def test_every_case_has_weights_inside_and_outside() -> None:
    outside = [
        np.mean(truths.passed(*case[:4], np.ones_like(case[0])) == 0)
        for case in checks.grid_cases()
    ]
    assert sum(0.1 < part < 0.9 for part in outside) >= 4


def test_no_input_lies_on_a_tie_or_an_end() -> None:
    """At v = 1.5, float32 and float64 may round differently, and both are right."""

    def distance(v: np.ndarray) -> float:
        return float(np.abs(np.abs(v) % 1 - 0.5).min())

    for weight, scale, qmin, qmax, _ in checks.grid_cases():
        v = weight.astype(float) / scale
        assert distance(v) > 1e-4
        assert min(np.abs(v - qmin).min(), np.abs(v - qmax).min()) > 1e-4
    for weight in checks.ternary_cases():
        if weight.any():
            assert distance(weight / truths.ternary(weight)[1]) > 1e-4
    for weight, update, scale, _, _ in checks.lost_cases():
        assert distance((weight.astype(float) + update) / scale) > 1e-4
