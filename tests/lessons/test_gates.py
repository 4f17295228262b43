"""The four gates of every exercise, and that no exercise goes without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shrinkkit.checks import check
from shrinkkit.errors import CheckFailed
from tests.lessons import gates

KNOWN = gates.all_exercises()
ANSWERS = gates.all_answers()
SOLVED = gates.all_handed_in(gates.SOLUTIONS)
UNTOUCHED = gates.all_handed_in(gates.EXERCISES, tolerate=NotImplementedError)
# Those that a check knows, and those that stand in the tests alone: spelled independently, or
# answers that are refused for what they are (of another type, shape or dtype) and not for a value.
MISTAKES = [
    pytest.param(name, mistake.functions, mistake.says, id=f"{name}: {mistake.says[:60]}")
    for name, exercise in KNOWN.items()
    for mistake in exercise.mistakes
] + [
    pytest.param(name, functions, says, id=f"{name}, in the tests: {mistake}")
    for name, answers in ANSWERS.items()
    for mistake, (functions, says) in answers.mistakes.items()
]


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(set(ANSWERS), id="answers in tests/lessons"),
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
    assert len(answers.mistakes) >= 2, "two mistakes are spelled independently of the check's own"
    wrong = [mistake.functions for mistake in KNOWN[name].mistakes]
    wrong += [functions for functions, _ in answers.mistakes.values()]
    bodies = {tuple(f.__code__.co_code for f in functions) for functions in wrong}
    assert len(bodies) >= 5, "the mistakes repeat one another"
    for written, second in zip(SOLVED[name], answers.second_functions, strict=True):
        assert written.__code__.co_code != second.__code__.co_code, "the second solution is a copy"


@pytest.mark.parametrize("name", KNOWN)
def test_the_solution_in_the_notebook_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(name, *SOLVED[name]) is None
    assert f"Passed: {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", KNOWN)
def test_a_second_solution_passes(name: str) -> None:
    gates.check_openly(name, ANSWERS[name].second_functions)


@pytest.mark.parametrize("name", KNOWN)
def test_the_untouched_stub_fails(name: str) -> None:
    with pytest.raises(CheckFailed, match=r"is not written yet: replace `raise NotImpl"):
        check(name, *UNTOUCHED[name])


@pytest.mark.parametrize(("name", "functions", "says"), MISTAKES)
def test_a_mistake_fails_and_is_named(
    name: str, functions: tuple[Callable, ...], says: str
) -> None:
    with pytest.raises(CheckFailed) as failure:
        gates.check_openly(name, functions)
    message = str(failure.value)
    assert message.startswith(f"{name} is not right yet. ")
    assert says in message
