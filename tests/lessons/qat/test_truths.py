"""The truths of lesson 07's checks against torch's autograd and its own operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from shrinkkit.checks.run import RUN, Run
from shrinkkit.lessons.qat import exercises as checks
from shrinkkit.lessons.qat import truths


def drawn(seed: int, cases: Callable) -> list:
    """Draw the fresh cases of a seed."""
    token = RUN.set(Run(seed=seed))
    try:
        return list(cases())
    finally:
        RUN.reset(token)


GRIDS = [*checks.grid_cases(), *drawn(1, checks.fresh_grid_cases)]
TERNARY = [*checks.ternary_cases(), *drawn(1, checks.fresh_ternary_cases)]
LORA = [*checks.lora_cases(), *drawn(1, checks.fresh_lora_cases)]
LOST = [*checks.lost_cases(), *drawn(1, checks.fresh_lost_cases)]


def staircase(weight: torch.Tensor, scale: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    clipped = (weight / scale).clamp(qmin, qmax)
    return (clipped + (clipped.round() - clipped).detach()) * scale


@pytest.mark.parametrize("case", GRIDS)
def test_gradients_are_autograds_of_a_clip(case) -> None:
    weight, scale, qmin, qmax, gradient = case
    w, s = (torch.from_numpy(part).double().requires_grad_() for part in (weight, scale))
    y = staircase(w, s, qmin, qmax)
    y.backward(torch.from_numpy(gradient).double())
    np.testing.assert_allclose(truths.rounded(*case[:4]), y.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(truths.passed(*case), w.grad.numpy(), rtol=1e-9)
    expected = s.grad / (weight.shape[1] * qmax) ** 0.5
    np.testing.assert_allclose(truths.step_gradient(*case), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize("case", GRIDS)
def test_forward_is_torchs_fake_quantize(case) -> None:
    weight, scale, qmin, qmax, _ = case
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(
        torch.from_numpy(weight), torch.from_numpy(scale[:, 0]), zeros, 0, qmin, qmax
    )
    np.testing.assert_allclose(truths.rounded(*case[:4]), expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("case", TERNARY)
def test_ternary_levels_are_the_nearest(case) -> None:
    weight = case[0].astype(float)
    q, scale = truths.ternary(weight)
    assert scale == pytest.approx(np.abs(weight).mean())
    levels = scale * np.array([-1.0, 0.0, 1.0])
    nearest = np.abs(weight[..., None] - levels).min(axis=-1)
    np.testing.assert_allclose(np.abs(weight - q * scale), nearest, atol=1e-6 * scale)


@pytest.mark.parametrize(("weight", "a", "b", "alpha"), LORA)
def test_merged_is_the_matrix_product(weight, a, b, alpha) -> None:
    expected = weight.astype(float) + alpha / len(a) * (b.astype(float) @ a.astype(float))
    np.testing.assert_allclose(truths.merged(weight, a, b, alpha), expected, rtol=1e-9)


@pytest.mark.parametrize("case", LOST)
def test_lost_part_is_torchs(case) -> None:
    weight, update, scale, qmin, qmax = case
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    total = torch.from_numpy(weight.astype(float) + update).float()
    rounded = torch.fake_quantize_per_channel_affine(
        total, torch.from_numpy(scale[:, 0]), zeros, 0, qmin, qmax
    )
    expected = (rounded - total).double().norm() / torch.from_numpy(update).double().norm()
    near = 1e-6 * truths.lost_size(weight, update)
    assert truths.lost_part(*case) == pytest.approx(expected.item(), rel=1e-4, abs=near)
    assert truths.lost_part(*case) <= 1 + near, "the weight itself lies on the grid"


def test_updates_are_lost_wholly_partly_and_not_at_all() -> None:
    parts = np.array([truths.lost_part(*case) for case in checks.lost_cases()])
    assert (parts == 0).any()
    assert (np.abs(parts - 1) < 1e-6).any()
    assert ((parts > 0.1) & (parts < 0.9)).sum() > 5


def test_every_bit_width_and_end_is_reached() -> None:
    """Weights lie inside, outside, beside and exactly at both ends, of grids of 2 to 8 bits."""
    assert {int(np.ceil(np.log2(qmax - qmin + 1))) for *_, qmin, qmax in checks.GRIDS} == {
        *range(2, 9)
    }
    for end in (2, 3):
        found = [np.abs(case[0].astype(float) / case[1] - case[end]) for case in GRIDS]
        assert sum(bool((distance == 0).any()) for distance in found) > len(GRIDS) / 2
        assert sum(bool(((d > 0) & (d < 0.35)).any()) for d in found) > len(GRIDS) / 2
    outside = [np.mean(truths.passed(*c[:4], np.ones_like(c[0])) == 0) for c in GRIDS]
    assert sum(0.1 < part < 0.9 for part in outside) > len(GRIDS) / 2


@pytest.mark.parametrize("seed", range(20))
def test_no_input_lies_on_a_tie_or_nearly_at_an_end(seed: int) -> None:
    """At v = 1.5, float32 and float64 may round differently, and both are right."""

    def clear_of_ties(v: np.ndarray) -> bool:
        return bool((np.abs(np.abs(v) % 1 - 0.5) > 0.02).all())

    for weight, scale, qmin, qmax, _ in [*GRIDS, *drawn(seed, checks.fresh_grid_cases)]:
        v = weight.astype(float) / scale
        assert clear_of_ties(v)
        for end in (qmin, qmax):  # what lies exactly there is divided exactly in float32, too
            near = np.abs(v - end) < 1e-3
            assert (v[near] == end).all()
            assert ((weight / scale)[near] == end).all()
    for weight, _, _ in [*TERNARY, *drawn(seed, checks.fresh_ternary_cases)]:
        if weight.any():
            v = np.abs(weight) / truths.ternary(weight)[1]
            assert (np.abs(v - 0.5) > 0.025).all()
    for weight, update, scale, _, _ in [*LOST, *drawn(seed, checks.fresh_lost_cases)]:
        assert clear_of_ties((weight.astype(float) + update) / scale)
