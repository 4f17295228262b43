"""Check the functions that a learner writes in the exercise notebooks.

    check("quant.rtn", rtn)

prints one green line when `rtn` is right, and otherwise raises `CheckFailed` with a message that
names the likely mistake. It is the same call in JupyterLab, in Colab and under nbgrader.

How a check works: it calls the learner's function on inputs that the notebook has not shown, over
several shapes and edge cases and some that are drawn afresh, and compares what comes back with the
truth from numpy, from torch's own operators or by brute force. The package's own version of the
function is closed while the learner's runs. "Positive", "not NaN" and "the loss fell" would not be
checks.

Here is the machinery alone:

| file | what it does |
| --- | --- |
| `judge` | runs a judge, and explains a failure by the known `mistakes` |
| `attempt` | calls the learner's function: on `copies`, behind the `curtain`, `originals` kept |
| `compare` | compares a result with the truth; `results` reads it, whatever it is |
| `casts` | shows where a result rests on a cast of NaN to an integer |
| `inputs`, `run` | cases that are drawn afresh, and the run that has their seed |

The exercises stand in the lessons' rooms: the part of the name before the dot is the folder in
shrinkkit/lessons/, and its `exercises.py` has a dict EXERCISES. A new room needs no line anywhere
else.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from shrinkkit.checks.judge import Exercise, judged
from shrinkkit.errors import CheckFailed, InputError, near_matches, require_choice, require_int


def rooms() -> list[str]:
    """List the lessons that have exercises, by the prefix of their checks; imports none of them."""
    lessons = Path(__file__).parents[1] / "lessons"
    return sorted(path.parent.name for path in lessons.glob("*/exercises.py"))


def exercises(room: str) -> dict[str, Exercise]:
    """Return the exercises of one lesson, {"lesson.exercise": Exercise}.

    Raises InputError for a room that is not there; nothing is imported then.
    """
    require_choice("room", room, rooms())
    return import_module(f"shrinkkit.lessons.{room}.exercises").EXERCISES


def check(name: str, *functions: Callable, seed: int | None = None) -> None:
    """Judge a learner's answer to one exercise.

    name: the exercise, "lesson.exercise".
    functions: the functions that the exercise asks for, themselves (`rtn`, not `rtn(...)`).
    seed: repeats the cases that another check drew at random; its message names the seed. None
        draws new ones.
    Prints one line when they are right; returns nothing.
    Raises CheckFailed with the likely mistake when they are not; InputError for an unknown name
    or a seed that is none.

    >>> def rtn(weight, bits):
    ...     return weight.round()
    >>> check("quant.rtn", rtn)
    Traceback (most recent call last):
    ...
    shrinkkit.errors.CheckFailed: quant.rtn is not right yet. ...
    """
    exercise = _find(name)
    seed = None if seed is None else require_int("seed", seed, 0)
    try:
        _require_functions(name, functions, exercise.takes)
        # Under nbgrader anything on stderr costs the points, so a library's warning must not get
        # there; a learner's own progress bar goes to stdout, where it can be read.
        with warnings.catch_warnings(), contextlib.redirect_stderr(sys.stdout):
            warnings.simplefilter("ignore")
            judged(exercise, functions, seed)
    except CheckFailed as failure:
        raise _readable(CheckFailed(f"{name} is not right yet. {failure}")) from failure.__cause__
    print(f"\033[32mPassed: {name}\033[0m")


def _find(name: str) -> Exercise:
    """Return the exercise of a name; only a lesson's own room is ever imported."""
    prefix = name.partition(".")[0] if isinstance(name, str) else ""
    near = near_matches(prefix, rooms())
    if not near:
        raise InputError(
            f"name must be an exercise such as 'quant.rtn', but {name!r} was given. The lessons "
            f"that have exercises are called {', '.join(rooms())}."
        )
    known = exercises(near[0])
    return known[require_choice("name", name, known)]


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


def _readable(failure: CheckFailed) -> CheckFailed:
    """Make IPython show the message alone: the frames above it are the checker's own."""
    failure._render_traceback_ = lambda: [  # the hook that IPython looks for
        f"\033[31m{type(failure).__name__}\033[0m: {failure}"
    ]
    return failure
