"""The truths of lesson 05's checks against torch's own operators and the package's loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.calibration.column_solver import settle_columns
from shrinkkit.lessons.gptq import exercises as checks
from shrinkkit.lessons.gptq import truths


@pytest.mark.parametrize("batches", checks.batch_cases())
def test_the_hessian_is_one_product(batches: list[np.ndarray]) -> None:
    x = torch.cat([torch.from_numpy(b).reshape(-1, b.shape[-1]) for b in batches]).double()
    expected = 2 * x.T @ x / len(x)
    np.testing.assert_allclose(truths.hessian_of(batches), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize(("w", "hessian", "p", "q"), checks.surgery_cases())
def test_the_best_answer_is_a_minimum(w, hessian, p, q) -> None:
    answer = torch.from_numpy(truths.best_answer(w, hessian, p, q)).requires_grad_()
    off = torch.from_numpy(w).double() - answer
    (off @ torch.from_numpy(hessian) @ off / 2).backward()
    others = torch.arange(len(w)) != p
    assert answer[p].item() == q
    assert answer.grad[others].abs().max() < 1e-9  # no free weight can still gain
    cost = truths.output_error(w, answer.detach().numpy(), hessian)
    surgeon = (w[p] - q) ** 2 / (2 * np.linalg.inv(hessian)[p, p])
    assert cost == pytest.approx(surgeon, rel=1e-6)


@pytest.mark.parametrize(("hessian", "damping"), checks.factor_cases())
def test_factors_are_torchs(hessian, damping) -> None:
    damped = torch.from_numpy(truths.damped(hessian, damping))
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    ours = truths.factor_of_inverse(damped.numpy())
    np.testing.assert_allclose(ours, upper.numpy(), atol=1e-9)
    live = hessian.diagonal() > 0
    added = damped.diagonal().numpy()[live] - hessian.diagonal()[live]
    assert added == pytest.approx(np.full(live.sum(), damping * hessian.diagonal()[live].mean()))


def test_columns_are_those_of_the_packages_loop() -> None:
    for weight, hessian, scale, qmax in checks.column_cases():
        q, _ = truths.column_by_column(weight, hessian, scale, qmax)
        step = torch.from_numpy(scale)

        def settle(column: torch.Tensor, i: int, step=step, qmax=qmax) -> torch.Tensor:
            return (column / step[:, i]).round().clamp(-qmax, qmax) * step[:, i]

        upper = torch.from_numpy(truths.factor_of_inverse(hessian)).float()
        settled, _ = settle_columns(torch.from_numpy(weight), upper, settle)
        np.testing.assert_allclose(settled.numpy(), q * scale, rtol=1e-5, atol=1e-6)


def test_no_input_lies_on_a_tie() -> None:
    """Where a value is rounded near a tie, float32 and float64 may differ, and both are right."""
    for weight, hessian, scale, qmax in checks.column_cases():
        assert truths.column_by_column(weight, hessian, scale, qmax)[1] > 5e-3
        assert np.linalg.cond(hessian) < 2000
    for weight, hessian, scale, qmax, group_size, damping in checks.order_cases():
        wide = truths.at_each_weight(scale, group_size, weight.shape[1])
        damped = truths.damped(hessian, damping)
        order = np.argsort(-hessian.diagonal())
        assert truths.column_by_column(weight, damped, wide, qmax, order)[1] > 2e-3
        assert np.diff(np.sort(hessian.diagonal())).min() > 0.01  # one order, not two
