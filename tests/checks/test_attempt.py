"""An `Attempt` copies what it hands over, and sees what a function does with it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from shrinkkit.checks.attempt import CHEAP_S, Attempt
from shrinkkit.checks.copies import copied, difference
from shrinkkit.errors import CheckFailed

NAN = float("nan")


def weights() -> list[torch.Tensor]:
    return [torch.ones(2), torch.tensor([1.0, NAN])]


def failure_of(function: Callable, *arguments: object) -> str:
    with pytest.raises(CheckFailed) as failure:
        Attempt(function, "answer")(*arguments)
    return str(failure.value)


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        (lambda x: x.zero_(), (torch.ones(2),), "its argument 1 in place, and"),
        (lambda n, x: x.t_(), (3, torch.ones(2, 3)), "its argument 2 in place, and"),
        (
            lambda x, many: [w.zero_() for w in many],
            (1, weights()),
            "its argument 2 in place (a list: its element 0 is another one now), and",
        ),
        (
            lambda many: many.pop(),
            (weights(),),
            "its argument 1 in place (a list: it had 2 elements, and has 1), and",
        ),
        (
            lambda many: many.__setitem__(1, 7) or 1,
            (weights(),),
            "(a list: its element 1 is another one now)",
        ),
        (
            lambda many: many["a"][0].add_(1),
            ({"a": (torch.ones(1),)},),
            "(a dict: its element 'a' is another one now)",
        ),
        (lambda many: many.pop("a"), ({"a": 1},), "(a dict: it had 1 elements, and has 0)"),
        (lambda x: x.sort(), (np.array([2, 1]),), "returned None"),
        (lambda x: x.sort() or x, (np.array([2, 1]),), "its argument 1 in place, and"),
    ],
)
def test_a_changed_argument_is_told_and_the_callers_is_whole(
    function: Callable, arguments: tuple, says: str
) -> None:
    kept = copied(arguments)
    assert says in failure_of(function, *arguments)
    assert difference(kept, arguments) is None


def test_nan_that_stays_is_no_change() -> None:
    given = weights()
    for value in (torch.tensor([NAN, 1.0]), given, (given, {"a": NAN}), np.array([NAN]), NAN):
        assert Attempt(lambda x: 1, "answer")(value) == 1
    assert "in place" in failure_of(lambda x: x.nan_to_num_(), torch.tensor([NAN]))


def test_a_gradient_reaches_the_callers_leaf() -> None:
    leaf = torch.ones(2, requires_grad=True)
    attempt = Attempt(lambda x: 3 * x, "answer")
    attempt.backward(attempt(leaf), torch.ones(2))
    assert torch.equal(leaf.grad, torch.full((2,), 3.0))


def test_a_backward_pass_that_raises_is_told() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
            raise ValueError("no way back")

    attempt = Attempt(Broken.apply, "answer")
    result = attempt(torch.ones(2, requires_grad=True))
    with pytest.raises(CheckFailed, match=r"the backward pass of answer` raised .*no way back"):
        attempt.backward(result, torch.ones(2))


# ------------------------------------------------------------------------- called again


def test_what_keeps_something_between_calls_is_told() -> None:
    def adds_up(x: torch.Tensor, total: list = [0]) -> torch.Tensor:  # noqa: B006
        total[0] = total[0] + x
        return total[0]

    says = failure_of(adds_up, torch.ones(2))
    assert "returned something else when it was called again with the same arguments" in says


def test_what_draws_random_numbers_is_told() -> None:
    assert "draws random numbers" in failure_of(lambda x: x + torch.rand(2), torch.ones(2))


def test_results_that_cannot_be_compared_are_not() -> None:
    assert Attempt(lambda x: object(), "answer")(1) is not None
    assert list(Attempt(lambda x: iter([x]), "answer")(1)) == [1]


def test_what_it_prints_is_seen_once(capsys: pytest.CaptureFixture[str]) -> None:
    Attempt(lambda x: print("seen") or 1, "answer")(1)
    assert capsys.readouterr().out == "seen\n"


def test_calls_are_repeated_now_and_then_and_never_those_that_take_long() -> None:
    calls = []
    attempt = Attempt(lambda x: calls.append(x) or 1, "answer")
    for x in range(8):
        attempt(x)
    assert calls == [0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    calls.clear()
    Attempt(lambda x: calls.append(x) or time.sleep(1.1 * CHEAP_S) or 1, "answer")(1)
    assert calls == [1]


# -------------------------------------------------------------------------- whatever it does


def test_torchs_settings_come_back() -> None:
    def answer(x: int) -> int:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return x

    Attempt(answer, "answer")(1)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32


def raising(error: BaseException):
    def answer(x: int) -> None:
        raise error

    return answer


def test_leaving_python_is_a_failure() -> None:
    assert "raised SystemExit" in failure_of(lambda x: exit(), 1)


def test_an_error_that_no_except_exception_catches_is_a_failure() -> None:
    class Base(BaseException):
        pass

    for error in (GeneratorExit(), Base()):
        assert f"raised {type(error).__name__}" in failure_of(raising(error), 1)


def test_the_stop_button_is_none() -> None:
    with pytest.raises(KeyboardInterrupt):
        Attempt(raising(KeyboardInterrupt()), "answer")(1)


def test_an_error_without_words_is_told() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    def answer(x: int) -> None:
        raise Mute

    assert "raised Mute" in failure_of(answer, 1)
