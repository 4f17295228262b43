"""Check the functions that a learner writes in the exercise notebooks.

    check("quant.rtn", rtn)

prints one green line when `rtn` is right, and otherwise raises `CheckFailed` with a message that
names the likely mistake. It is the same call in JupyterLab, in Colab and under nbgrader.

How a check works: it calls the learner's function on inputs from a seeded generator that the
notebook has not shown, over several shapes and edge cases, and compares what comes back with the
truth from numpy, from torch's own operators or by brute force. The package's own version of the
function is closed meanwhile (`curtain.py`). "Positive", "not NaN" and "the loss fell" would not be
checks.

The checks of one lesson live in one file, as plain functions with a dict of names at the bottom;
`judge.py` has what they share. A new lesson's file is added to `_LESSONS` below, and
tests/exercises/README.md says what else it needs.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable

from shrinkkit.checks import (
    awq,
    frontier,
    gptq,
    kv_cache,
    measuring,
    qat,
    quantization,
    smoothquant,
)
from shrinkkit.checks.curtain import unavailable
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.errors import CheckFailed, require_choice

__all__ = ["check", "EXERCISES"]

_LESSONS = (frontier, measuring, quantization, smoothquant, gptq, awq, qat, kv_cache)

EXERCISES: dict[str, Exercise] = {
    name: exercise for lesson in _LESSONS for name, exercise in lesson.EXERCISES.items()
}


def check(name: str, *functions: Callable) -> None:
    """Judge a learner's answer to one exercise.

    name: the exercise, "lesson.exercise".
    functions: the functions that the exercise asks for, themselves (`rtn`, not `rtn(...)`).
    Prints one line when they are right; returns nothing.
    Raises CheckFailed with the likely mistake when they are not; InputError for an unknown name.

    >>> def rtn(weight, bits):
    ...     return weight.round()
    >>> check("quant.rtn", rtn)
    Traceback (most recent call last):
    ...
    shrinkkit.errors.CheckFailed: quant.rtn is not right yet. ...
    """
    exercise = EXERCISES[require_choice("name", name, EXERCISES)]
    try:
        _require_functions(name, functions, exercise.takes)
        attempts = [
            Attempt(fn, wanted) for fn, wanted in zip(functions, exercise.takes, strict=True)
        ]
        # Under nbgrader anything on stderr costs the points, so a library's warning must not get
        # there; a learner's own progress bar goes to stdout, where it can be read.
        with warnings.catch_warnings(), contextlib.redirect_stderr(sys.stdout):
            warnings.simplefilter("ignore")
            with unavailable(exercise.hides, map(_innermost, functions)):
                exercise.judge(*attempts)
    except CheckFailed as failure:
        raise _readable(CheckFailed(f"{name} is not right yet. {failure}")) from failure.__cause__
    print(f"\033[32mPassed: {name}\033[0m")


def _require_functions(name: str, functions: tuple, takes: list[str]) -> None:
    """Raise CheckFailed unless the exercise's functions were handed in."""
    call = f'check("{name}", {", ".join(takes)})'
    for value in functions:
        if not callable(value):
            raise CheckFailed(
                f"A {type(value).__name__} was handed in where a function belongs. Call {call}: "
                "the function's name, without parentheses behind it."
            )
    if len(functions) != len(takes):
        raise CheckFailed(
            f"This exercise has {len(takes)} function(s) and {len(functions)} were handed in. "
            f"Call {call}."
        )


def _innermost(function: Callable) -> Callable:
    """Look inside functools.partial, so that a wrapped function of the package is recognised."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _readable(failure: CheckFailed) -> CheckFailed:
    """Make IPython show the message alone: the frames above it are the checker's own."""
    failure._render_traceback_ = lambda: [  # the hook that IPython looks for
        f"\033[31m{type(failure).__name__}\033[0m: {failure}"
    ]
    return failure
