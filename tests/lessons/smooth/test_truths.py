"""The truths of lesson 04's checks against torch's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.lessons.smooth import cases, truths


@pytest.mark.parametrize("x", cases.tokens())
def test_tokens_are_torchs_fake_quantize(x: np.ndarray) -> None:
    q, step = truths.tokens_to_int8(x)
    steps = torch.from_numpy(step[:, 0]).float()
    zeros = torch.zeros(len(x), dtype=torch.int32)
    real = torch.from_numpy(x)
    expected = torch.fake_quantize_per_channel_affine(real, steps, zeros, 0, -127, 127)
    np.testing.assert_allclose(q * step, expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize(("xq", "step", "wq", "scale"), cases.products())
def test_products_are_torchs_in_float64(xq, step, wq, scale) -> None:
    real = [torch.from_numpy(part).double() for part in (xq, step, wq, scale)]
    expected = (real[0] @ real[2].T) * real[1] * real[3].T
    np.testing.assert_allclose(truths.product(xq, step, wq, scale), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize(("x", "weights", "alpha"), cases.scales())
def test_scales_are_the_formula_of_the_stacked_weights(x, weights, alpha) -> None:
    x_max, w_max = np.abs(x).max(0), np.abs(np.concatenate(weights)).max(0)
    alive = (x_max > 0) & (w_max > 0)
    s = truths.share_out(x, weights, alpha)
    logs = alpha * np.log(x_max[alive]) - (1 - alpha) * np.log(w_max[alive])
    np.testing.assert_allclose(s[alive], np.exp(logs), rtol=1e-5)
    assert (s[~alive] == 1).all()


@pytest.mark.parametrize(("x", "weight", "alphas"), cases.errors())
def test_errors_are_those_of_torchs_fake_quantize(x, weight, alphas) -> None:
    def rounded(rows: np.ndarray) -> torch.Tensor:
        real = torch.from_numpy(rows).float()
        step = real.abs().amax(1) / 127
        zeros = torch.zeros(len(real), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(real, step, zeros, 0, -127, 127)

    for alpha in alphas:
        s = truths.share_out(x, [weight], alpha)
        y = torch.from_numpy(x) @ torch.from_numpy(weight).T
        error = (rounded(x / s) @ rounded(weight * s).T - y).norm() / y.norm()
        assert truths.output_error(x, weight, s) == pytest.approx(error.item(), rel=1e-3, abs=1e-6)


def test_no_input_lies_on_a_tie() -> None:
    """At x / step = 2.5, float32 and float64 may round differently, and both are right."""

    def distance(rows: np.ndarray) -> float:
        _, step = truths.tokens_to_int8(rows)
        return float(np.abs(np.abs(rows / step) % 1 - 0.5).min())

    assert all(distance(x) > 1e-4 for x in cases.tokens())
    for x, weight, alphas in cases.errors():
        for alpha in alphas:
            s = truths.share_out(x, [weight], alpha)
            assert distance(x / s) > 1e-5
            assert distance(weight * s) > 1e-5
