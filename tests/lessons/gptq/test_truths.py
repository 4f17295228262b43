"""The truths of lesson 05's checks against torch's own operators and the package's loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.calibration.column_solver import settle_columns
from shrinkkit.checks.run import RUN, Run
from shrinkkit.lessons.gptq import exercises as checks
from shrinkkit.lessons.gptq import truths


@pytest.mark.parametrize("batches", checks.batch_cases())
def test_the_hessian_is_one_product(batches: list[np.ndarray]) -> None:
    x = torch.cat([torch.from_numpy(b).reshape(-1, b.shape[-1]) for b in batches]).double()
    expected = 2 * x.T @ x / len(x)
    np.testing.assert_allclose(truths.hessian_of(batches), expected.numpy(), rtol=1e-9)


@pytest.mark.parametrize(("w", "inverse", "p", "q"), checks.surgery_cases())
def test_the_best_answer_is_a_minimum(w, inverse, p, q) -> None:
    hessian = np.linalg.inv(inverse.astype(np.float64))
    best, cost = truths.compensate(w, inverse, p, q)
    answer = torch.from_numpy(best).requires_grad_()
    off = torch.from_numpy(w).double() - answer
    (off @ torch.from_numpy(hessian) @ off / 2).backward()
    others = torch.arange(len(w)) != p
    assert answer[p].item() == q
    # No free weight can still gain: nothing is left of what weight p pulls at it.
    pull = np.abs(hessian[p] * (w[p] - q))[others]
    assert (answer.grad[others].abs().numpy() <= 1e-6 * pull.max(initial=0) + 1e-12).all()
    surgeon = (w[p] - q) ** 2 / (2 * inverse[p, p].astype(np.float64))
    assert cost == pytest.approx(surgeon, rel=1e-6)


@pytest.mark.parametrize(("hessian", "damping"), checks.factor_cases())
def test_factors_are_torchs(hessian, damping) -> None:
    damped = torch.from_numpy(truths.damped(hessian, damping))
    upper = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    ours = truths.factor_of_inverse(damped.numpy())
    size = upper.diagonal().numpy()
    for factor in (ours, truths.quick_factor(damped.numpy())):
        assert (np.abs(factor - upper.numpy()) <= 1e-6 * size).all()
    live = hessian.diagonal() > 0
    added = damped.diagonal().numpy()[live] - hessian.diagonal()[live]
    mean = damping * hessian.diagonal()[live].astype(np.float64).mean()
    assert added == pytest.approx(np.full(live.sum(), mean), abs=1e-9 * float(hessian.max()))


def columns_and_orders(seed: int) -> list[tuple]:
    """Give all cases of both exercises: weight, damped Hessian, steps, qmax, order."""
    token = RUN.set(Run(seed=seed))
    try:
        columns = [*checks.column_cases(), *checks.fresh_column_cases()]
        orders = [*checks.order_cases(), *checks.fresh_order_cases()]
    finally:
        RUN.reset(token)
    cases = [(w, h, s, qmax, np.arange(len(h))) for w, h, s, qmax in columns]
    for weight, hessian, scale, qmax, group_size, damping in orders:
        wide = truths.at_each_weight(scale, group_size, weight.shape[1])
        order = truths.largest_first(hessian)
        cases.append((weight, truths.damped(hessian, damping), wide, qmax, order))
    return cases


def test_columns_are_those_of_the_packages_loop() -> None:
    for weight, hessian, scale, qmax, order in columns_and_orders(0):
        q, _ = truths.column_by_column(weight, hessian, scale, qmax, order)
        step = torch.from_numpy(scale[:, order])

        def settle(column: torch.Tensor, i: int, step=step, qmax=qmax) -> torch.Tensor:
            return (column / step[:, i]).round().clamp(-qmax, qmax) * step[:, i]

        upper = torch.from_numpy(truths.factor_of_inverse(hessian[np.ix_(order, order)])).float()
        settled, _ = settle_columns(torch.from_numpy(weight[:, order]), upper, settle)
        np.testing.assert_allclose(settled / step, q[:, order], atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
def test_no_input_lies_on_a_tie(seed: int) -> None:
    """Where a value is rounded near a tie, float32 and float64 may differ, and both are right."""
    for weight, hessian, scale, qmax, order in columns_and_orders(seed):
        assert truths.column_by_column(weight, hessian, scale, qmax, order)[1] > 5e-3
        sizes = np.sqrt(hessian.diagonal())
        assert np.linalg.cond(hessian / np.outer(sizes, sizes)) < 500


@pytest.mark.parametrize("seed", range(6))
def test_the_order_is_one(seed: int) -> None:
    """Inputs that are alive differ in size; dead ones meet no other, so theirs does not matter."""
    token = RUN.set(Run(seed=seed))
    try:
        cases = [*checks.order_cases(), *checks.fresh_order_cases()]
    finally:
        RUN.reset(token)
    for _, hessian, *_ in cases:
        diagonal = np.sort(hessian.diagonal().astype(np.float64))
        live = diagonal[diagonal > 0]
        assert (live[1:] > 1.01 * live[:-1]).all()
        assert not hessian[hessian.diagonal() == 0].any()


def test_every_number_of_levels_is_asked_for() -> None:
    for cases, place in ((checks.fresh_column_cases(), 3), (checks.fresh_order_cases(), 3)):
        assert {case[place] for case in cases} == {1, 3, 7, 15, 31, 63, 127}
