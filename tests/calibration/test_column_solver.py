"""The surgeon's loop against hand-made cases, brute force and the textbook's one-weight formula."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.calibration.accumulators import Hessian
from shrinkkit.calibration.column_solver import inverse_factor, settle_columns
from shrinkkit.errors import InputError
from tests.tiny import normal


def correlated(n: int, seed: int) -> torch.Tensor:
    """A Hessian of inputs that go together."""
    drawn = normal(n + 400, n, seed=seed)
    x = drawn[n:] @ (drawn[:n] + 2 * torch.eye(n))
    return 2 / 400 * x.t() @ x


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    return normal(rows, columns, seed=seed)


def to_integers(column: torch.Tensor, _: int) -> torch.Tensor:
    return column.round()


def sequential_surgery(
    weight: torch.Tensor, hessian: torch.Tensor, settle=to_integers, n_columns: int | None = None
) -> torch.Tensor:
    """Settle column after column, each time with a fresh inverse of the Hessian that is left."""
    w, h = weight.double().clone(), hessian.double()
    for p in range(w.shape[1] if n_columns is None else n_columns):
        inverse = torch.linalg.inv(h[p:, p:])
        q = settle(w[:, p], p)
        w[:, p:] -= torch.outer((w[:, p] - q) / inverse[0, 0], inverse[0])
        w[:, p] = q
    return w


def test_two_columns_by_hand() -> None:
    # H = [[2, 1], [1, 2]]. Column 0: 0.4 -> 0, off by 0.4. With column 1 free, the best answer
    # to an error e in column 0 is to add e * H01 / H11 = 0.4 * 1 / 2 = 0.2 to it: 0.6 -> 1.
    hessian = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    upper = inverse_factor(hessian, damping=0.0).upper
    settled, error = settle_columns(torch.tensor([[0.4, 0.4]]), upper, to_integers)
    assert settled.tolist() == [[0.0, 1.0]]
    # (w - q) = (0.4, -0.6): 2*0.16 + 2*0.36 + 2*1*(0.4*-0.6) = 0.56
    assert error.square().sum().item() == pytest.approx(0.56, rel=1e-5)


def test_the_factor_is_that_of_the_inverse() -> None:
    hessian = correlated(12, seed=0)
    factor = inverse_factor(hessian, damping=0.1)
    damped = hessian + 0.1 * hessian.diagonal().mean() * torch.eye(12)
    assert torch.allclose(factor.upper.t() @ factor.upper, torch.linalg.inv(damped), rtol=1e-3)
    assert torch.equal(factor.upper, factor.upper.triu())
    assert (factor.damping, factor.note) == (0.1, "")


@pytest.mark.parametrize("block_size", [1, 3, 8, 12, 100])
def test_it_is_sequential_surgery_whatever_the_block(block_size: int) -> None:
    weight, hessian = 2 * weights(5, 12, seed=1), correlated(12, seed=2)
    upper = inverse_factor(hessian, damping=0.0).upper
    settled, _ = settle_columns(weight, upper, to_integers, block_size=block_size)
    assert torch.equal(settled.double(), sequential_surgery(weight, hessian))


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger_of_errors_is_the_output_error(seed: int) -> None:
    weight, hessian = 3 * weights(4, 20, seed), correlated(20, seed + 50)
    upper = inverse_factor(hessian, damping=0.0).upper
    settled, error = settle_columns(weight, upper, to_integers, block_size=7)
    off = weight - settled
    expected = ((off @ hessian) * off).sum().item()
    assert error.square().sum().item() == pytest.approx(expected, rel=1e-3)


def test_a_diagonal_hessian_leaves_nothing_to_make_up_for() -> None:
    weight = 2 * weights(3, 10, seed=3)
    upper = inverse_factor(torch.diag(torch.arange(1.0, 11.0)), damping=0.0).upper
    assert torch.equal(settle_columns(weight, upper, to_integers)[0], weight.round())


def test_removing_one_weight_costs_what_the_surgeon_says() -> None:
    # Hassibi and Stork: w_p^2 / [H^-1]_pp, twice the increase of the (halved) error.
    weight, hessian = weights(6, 8, seed=4), correlated(8, seed=5)
    for p in range(8):
        # the weight to remove goes first, so that all others are free to answer
        order = torch.tensor([p, *(i for i in range(8) if i != p)])
        upper = inverse_factor(hessian, damping=0.0, order=order).upper
        _, error = settle_columns(
            weight[:, order], upper, lambda column, i: column * 0 if i == 0 else column
        )
        cost = weight[:, p] ** 2 / torch.linalg.inv(hessian.double())[p, p].float()
        assert torch.allclose(error.square().sum(1), cost, rtol=1e-3)


def test_removed_columns_first_is_least_squares_on_the_others() -> None:
    weight, hessian = weights(4, 9, seed=6), correlated(9, seed=7)
    upper = inverse_factor(hessian, damping=0.0).upper
    settled, _ = settle_columns(
        weight, upper, lambda column, i: column * 0 if i < 4 else column, block_size=2
    )
    free = hessian[4:, 4:].double()
    answer = torch.linalg.solve(free, hessian[4:, :4].double() @ weight[:, :4].double().t()).t()
    assert torch.allclose(settled[:, 4:].double(), weight[:, 4:] + answer, atol=1e-3)


def test_never_better_than_every_answer_and_better_than_rounding_on_average() -> None:
    grid = torch.cartesian_prod(*[torch.arange(-2.0, 3.0)] * 4)  # every answer of 4 weights
    lost, won = 0.0, 0.0
    for seed in range(40):
        weight, hessian = weights(1, 4, seed).clamp(-2, 2), correlated(4, seed + 100)
        upper = inverse_factor(hessian, damping=0.0).upper
        settled, _ = settle_columns(weight, upper, lambda c, _: c.round().clamp(-2, 2))

        def cost(q: torch.Tensor, w=weight, h=hessian) -> torch.Tensor:
            return (((w - q) @ h) * (w - q)).sum(1)

        ours, best = cost(settled).item(), cost(grid).min().item()
        assert ours >= best - 1e-5
        lost, won = lost + cost(weight.round()).item(), won + ours
    assert won < 0.8 * lost


def test_blocks_begin_with_weights_that_are_up_to_date() -> None:
    weight, hessian = 2 * weights(3, 9, seed=8), correlated(9, seed=9)
    upper = inverse_factor(hessian, damping=0.0).upper
    seen = {}
    settle_columns(
        weight,
        upper,
        to_integers,
        block_size=4,
        before_block=lambda w, i: seen.update({i: w.clone()}),
    )
    assert list(seen) == [0, 4, 8]
    assert torch.equal(seen[0], weight)
    expected = sequential_surgery(weight, hessian, n_columns=4)
    assert torch.allclose(seen[4][:, 4:].double(), expected[:, 4:], atol=1e-4)


def test_the_hessian_does_not_depend_on_batches() -> None:
    x = weights(30, 6, seed=10)
    one, many = Hessian(6), Hessian(6)
    one.add(x)
    for part in x.reshape(5, 2, 3, 6):
        many.add(part)
    assert torch.allclose(one.value(), 2 / 30 * x.t() @ x, atol=1e-6)
    assert torch.allclose(one.value(), many.value(), atol=1e-6)


@pytest.mark.parametrize("n", [7, 300], ids=str)  # one run of rows, and more than one
def test_another_order_is_that_of_the_hessian_put_in_order(n: int) -> None:
    hessian = correlated(n, seed=13)
    hessian[3], hessian[:, 3] = 0.0, 0.0
    before = hessian.clone()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(14))
    found, expected = inverse_factor(hessian, order=order), inverse_factor(hessian[order][:, order])
    assert torch.equal(found.upper, expected.upper)
    assert torch.equal(found.dead, expected.dead)
    assert found.dead.tolist() == [i == 3 for i in order.tolist()]
    assert torch.equal(hessian, before)


def test_a_dead_input_disturbs_nobody() -> None:
    hessian = correlated(6, seed=11)
    hessian[2], hessian[:, 2] = 0.0, 0.0
    factor = inverse_factor(hessian)
    assert factor.dead.tolist() == [False, False, True, False, False, False]
    assert factor.upper[2].tolist() == [0, 0, pytest.approx(factor.upper[2, 2].item()), 0, 0, 0]


def test_too_little_text_raises_the_damping_and_says_so() -> None:
    x = weights(2, 8, seed=12)  # two samples, eight inputs: singular
    factor = inverse_factor(2 / 2 * x.t() @ x, damping=0.0)
    assert factor.damping > 0
    assert "was not positive definite with damping 0" in factor.note
    assert torch.isfinite(factor.upper).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda: inverse_factor(torch.ones(2, 3)), "a square one", id="shape"),
        pytest.param(lambda: inverse_factor(torch.eye(2) * float("nan")), "finite", id="nan"),
        pytest.param(lambda: inverse_factor(torch.eye(2), damping=2), "from 0 to 1", id="damping"),
        pytest.param(
            lambda: inverse_factor(torch.tensor([[1.0, 9.0], [9.0, 1.0]])),
            "could not be factored",
            id="indefinite",
        ),
        pytest.param(lambda: Hessian(3).value(), "calibration is empty", id="no inputs"),
        pytest.param(lambda: Hessian(3).add(torch.ones(2, 4)), "4 columns", id="columns"),
        pytest.param(
            lambda: settle_columns(torch.ones(1, 3), torch.eye(2), to_integers),
            "needs",
            id="factor of another size",
        ),
    ],
)
def test_bad_input(call, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()
