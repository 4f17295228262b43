"""The truths of lesson 06's checks against torch's own operators and the package's search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.lessons.awq import cases, truths
from shrinkkit.lessons.awq import exercises as checks
from shrinkkit.quant import Format
from shrinkkit.quant.ptq.awq import search_scale
from shrinkkit.surgery.invariance import NormGroup


def fake(weight: np.ndarray, bits: int, limit: np.ndarray | None = None) -> torch.Tensor:
    """Round by torch's own fake quantization, one scale a row."""
    qmax, real = 2 ** (bits - 1) - 1, torch.from_numpy(weight).float()
    limit = np.abs(weight).max(axis=1) if limit is None else limit
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    step = torch.from_numpy(limit / qmax).float()
    return torch.fake_quantize_per_channel_affine(real, step, zeros, 0, -qmax, qmax)


@pytest.mark.parametrize("batches", checks.batch_cases())
def test_importance_is_one_mean(batches: list[np.ndarray]) -> None:
    rows = np.concatenate([b.reshape(-1, b.shape[-1]) for b in batches]).astype(np.float64)
    np.testing.assert_allclose(truths.mean_sizes(batches), np.abs(rows).mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("norm", "weights", "importance", "ratio"), checks.fold_cases())
def test_the_scale_is_centred_and_the_fold_changes_nothing(
    norm, weights, importance, ratio
) -> None:
    s = truths.scale_of(importance, ratio)
    assert s.max() * s.min() == pytest.approx(1)
    live = importance > 0
    logs = np.log(s[live]) - ratio * np.log(importance[live].astype(np.float64))
    assert np.ptp(logs) == pytest.approx(0, abs=1e-9)  # one factor for all
    assert (s[~live] == s[live].min()).all()


def test_errors_are_those_of_torchs_rounding() -> None:
    for x, weight, ratios, bits in checks.ratio_cases():
        importance = truths.mean_sizes([x])
        for ratio, error in zip(ratios, truths.ratio_errors(x, weight, ratios, bits), strict=True):
            s = truths.scale_of(importance, ratio)
            rounded = fake(weight * s, bits).numpy() / s
            off = x @ (rounded - weight).T
            assert error == pytest.approx((off**2).sum(axis=1).mean(), rel=1e-3)


def test_the_package_searches_alike_when_all_inputs_are_of_one_size_each() -> None:
    """The package takes rms for mean |x|: the same where a channel's magnitudes are all equal."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (64, 8)) * np.geomspace(0.2, 8, 8)
    weight = rng.standard_normal((5, 8))
    hessian = torch.from_numpy(2 / 64 * x.T @ x).float()
    fmt, group = Format(3, True, "per_channel", scale_bits=32), NormGroup("n", ("w",), 8, 1, 8)
    ratios = (0, 0.25, 0.5, 1)
    found = search_scale([torch.from_numpy(weight).float()], hessian, fmt, group, ratios=ratios)
    expected = truths.ratio_errors(x, weight, ratios, 3)
    assert found.errors == pytest.approx(expected.tolist(), rel=1e-3)


@pytest.mark.parametrize(("x", "weight", "bits", "shrinks"), checks.clip_cases())
def test_limits_are_the_best_of_torchs_rounding(x, weight, bits, shrinks) -> None:
    errors = []
    for shrink in shrinks:
        limit = shrink * np.abs(weight).max(axis=1)
        off = x @ (fake(weight, bits, limit).numpy() - weight).T
        errors.append((off**2).mean(axis=0))
    best = np.array(shrinks)[np.array(errors).argmin(axis=0)]
    expected = (best * np.abs(weight).max(axis=1))[:, None]
    np.testing.assert_allclose(truths.best_limits(x, weight, bits, shrinks), expected, rtol=1e-6)


def test_no_choice_is_close_and_no_input_lies_on_a_tie() -> None:
    for x, weight, ratios, bits in checks.ratio_cases():
        errors = np.sort(truths.ratio_errors(x, weight, ratios, bits))
        assert len(errors) == 1 or errors[1] > cases.AHEAD * errors[0]
        for ratio in ratios:
            scaled = weight * truths.scale_of(truths.mean_sizes([x]), ratio)
            steps = scaled / np.abs(scaled).max(axis=1, keepdims=True) * (2 ** (bits - 1) - 1)
            assert np.abs(np.abs(steps) % 1 - 0.5).min() > 0.9 * cases.FROM_TIES
    for x, weight, bits, shrinks in checks.clip_cases():
        live = weight[np.abs(weight).max(axis=1) > 0]
        errors = np.sort(truths.row_errors(x, live, bits, shrinks), axis=1)
        assert len(shrinks) == 1 or (errors[:, 1] > cases.AHEAD * errors[:, 0]).all()


def test_every_place_wins_somewhere_and_one_behind_a_worse_one() -> None:
    found = [(r, truths.ratio_errors(x, w, r, b)) for x, w, r, b in checks.ratio_cases()]
    places = {(int(errors.argmin()), len(ratios)) for ratios, errors in found if len(ratios) > 1}
    assert any(place == 0 for place, _ in places)
    assert any(place == n - 1 for place, n in places)
    assert any((np.diff(errors[: errors.argmin() + 1]) > 0).any() for _, errors in found)
    limits = [truths.row_errors(x, w, b, s).argmin(axis=1) for x, w, b, s in checks.clip_cases()]
    assert {0, 1, 2, 3} <= set(np.concatenate(limits).tolist())
