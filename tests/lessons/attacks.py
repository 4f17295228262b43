"""Hand many answers to a check: wrong ones, which it must refuse, and right ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from shrinkkit.checks import check
from shrinkkit.errors import CheckFailed

Functions = Callable | tuple[Callable, ...]


def each(answers: Mapping[str, Mapping[str, Functions]]) -> list:
    """List answers for `parametrize(("name", "functions"), ...)`, by exercise and by what is odd.

    An answer is a function, or a tuple of those that the exercise asks for.
    """
    return [
        pytest.param(name, found if isinstance(found, tuple) else (found,), id=f"{name}: {what}")
        for name, one in answers.items()
        for what, found in one.items()
    ]


def assert_refused(name: str, functions: tuple[Callable, ...]) -> None:
    """Assert that a check refuses an answer, and can say why."""
    with pytest.raises(CheckFailed) as failure:
        check(name, *functions)
    assert "can make nothing" not in str(failure.value)


def with_options(answer: Callable, attacks: dict[str, dict]) -> dict[str, Callable]:
    """Return the answer under each attack's options, by the attack's name."""
    return {name: lambda *case, how=how: answer(*case, **how) for name, how in attacks.items()}
