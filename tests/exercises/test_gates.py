"""The four gates of every exercise, and that no exercise goes without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shrinkkit.checks import EXERCISES as KNOWN
from shrinkkit.checks import check
from shrinkkit.errors import CheckFailed
from tests.exercises import gates

ANSWERS = gates.all_answers()
SOLVED = gates.all_handed_in(gates.SOLUTIONS)
UNTOUCHED = gates.all_handed_in(gates.EXERCISES, tolerate=NotImplementedError)
MISTAKES = [
    pytest.param(name, functions, says, id=f"{name}: {mistake}")
    for name, answers in ANSWERS.items()
    for mistake, (functions, says) in answers.mistakes.items()
]


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(set(ANSWERS), id="answers in tests/exercises"),
        pytest.param(set(SOLVED), id="solutions notebooks"),
        pytest.param(set(UNTOUCHED), id="exercise notebooks"),
    ],
)
def test_every_exercise_is_there(there: set[str]) -> None:
    assert there == set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_no_gate_is_missing(name: str) -> None:
    answers = ANSWERS[name]
    takes = len(KNOWN[name].takes)
    assert len(SOLVED[name]) == len(UNTOUCHED[name]) == len(answers.second_functions) == takes
    assert len(answers.mistakes) >= 5
    bodies = {tuple(f.__code__.co_code for f in fns) for fns, _ in answers.mistakes.values()}
    assert len(bodies) >= 5, "the mistakes repeat one another"
    for written, second in zip(SOLVED[name], answers.second_functions, strict=True):
        assert written.__code__.co_code != second.__code__.co_code, "the second solution is a copy"


@pytest.mark.parametrize("name", KNOWN)
def test_the_solution_in_the_notebook_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(name, *SOLVED[name]) is None
    assert f"Passed: {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", KNOWN)
def test_a_second_solution_passes(name: str) -> None:
    check(name, *ANSWERS[name].second_functions)


@pytest.mark.parametrize("name", KNOWN)
def test_the_untouched_stub_fails(name: str) -> None:
    with pytest.raises(CheckFailed, match=r"is not written yet: replace `raise NotImpl"):
        check(name, *UNTOUCHED[name])


@pytest.mark.parametrize(("name", "functions", "says"), MISTAKES)
def test_a_mistake_fails_and_is_named(
    name: str, functions: tuple[Callable, ...], says: str
) -> None:
    with pytest.raises(CheckFailed) as failure:
        check(name, *functions)
    message = str(failure.value)
    assert message.startswith(f"{name} is not right yet. ")
    assert says in message
