"""Judge a learner's function, and say in one message what to look at.

A check is a plain function that receives the learner's functions and compares what they return with
the truth, on inputs that the notebook has not shown:

    def rtn(rtn):                                     # the learner's function
        for weight, bits in cases():
            close(rtn(weight, bits), truth(weight, bits), "the rounded weight", "Round, ...")

Two things here make its failures readable. `Attempt` wraps the learner's function: an exception
inside it, a `None`, an input changed in place become a message with the inputs' shapes. `close`
compares: type, shape, dtype, finite, values, in this order, because the first of these that is
wrong explains the rest.

A wrong value says little, so the exercise's known mistakes (`mistakes.py`) are judged too, up to
the comparison that failed: when the learner's result equals what one of them returns there, the
message names that mistake. The truth must not come from the package: numpy, torch's own operators
or brute force.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from shrinkkit.checks.compare import RUN, Reached, Run, Wrong, describe, likely
from shrinkkit.checks.mistakes import Mistake, Mistakes
from shrinkkit.errors import CheckFailed


@dataclass(frozen=True)
class Exercise:
    """Hold what `check` needs of one exercise.

    judge: called with one `Attempt` for each of its parameters; raises CheckFailed.
    hides: modules of the package whose functions are closed meanwhile.
    mistakes: the usual wrong answers, to name the one that a wrong result comes from.
    """

    judge: Callable[..., None]
    hides: tuple[str, ...] = ()
    mistakes: Mistakes = field(default_factory=Mistakes)

    @property
    def takes(self) -> list[str]:
        """Names of the functions that the learner hands in."""
        return list(inspect.signature(self.judge).parameters)


class Attempt:
    """Call a learner's function so that whatever goes wrong is told in plain words."""

    def __init__(self, function: Callable, name: str) -> None:
        self.function = function
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        """Call the function on copies of the arguments and return its result.

        Raises CheckFailed when it raises, returns None or changes an argument in place.
        """
        copies = [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]
        call = f"{self.name}({', '.join(describe(a) for a in arguments)})"
        try:
            result = self.function(*copies)
        except CheckFailed:  # the curtain's stand-in
            raise
        except NotImplementedError as error:
            if error.args:  # one of torch's own: "not implemented for 'Half'"
                raise CheckFailed(self._report(error, call)) from error
            stub = traceback.extract_tb(error.__traceback__)[-1].name
            raise CheckFailed(
                f"`{stub}` is not written yet: replace `raise NotImplementedError()` with your "
                "code and run its cell, then this one."
            ) from None
        except Exception as error:
            raise CheckFailed(self._report(error, call)) from error
        if result is None:
            raise CheckFailed(
                f"`{call}` returned None: it is not written yet, or its `return` is missing."
            )
        for number, (given, copy) in enumerate(zip(arguments, copies, strict=True), start=1):
            if isinstance(given, torch.Tensor) and not torch.equal(given, copy):
                raise CheckFailed(
                    f"`{call}` changed its argument {number} in place, and the caller still needs "
                    "it. Work on a new tensor: `x[...] = ` and methods that end in _ change theirs."
                )
        return result

    def _report(self, error: Exception, call: str) -> str:
        """Tell which line of the learner's code raised, and for what input."""
        code = getattr(self.function, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if code is not None and f.filename == code.co_filename]
        where = ""
        if own:
            where = f" at line {own[-1].lineno} of its cell"
            if own[-1].line:
                where += f" (`{own[-1].line}`)"
        return f"`{call}` raised {type(error).__name__}{where}: {error}"


def judged(exercise: Exercise, functions: Sequence[Callable]) -> None:
    """Let an exercise's judge look at functions; its comparisons are counted.

    Raises CheckFailed, or Wrong where a comparison failed.
    """
    _judge(exercise, functions, Run())


def explained(exercise: Exercise, failed: Wrong) -> CheckFailed:
    """Name the known mistake that returns what was returned, where there is one.

    Each mistake is judged like the learner's function, as far as the comparison that failed.
    """
    at = failed.comparison
    found = {m.says: _answer_of(exercise, m, failed) for m in exercise.mistakes}
    says = likely(at.actual, at.expected, found, at.rtol, at.atol)
    if says is None:
        return failed
    return CheckFailed(f"{at.title} is wrong: it looks as if {says}.{at.hint}")


def _answer_of(exercise: Exercise, mistake: Mistake, failed: Wrong) -> Any:
    """Return what a mistake gives at the comparison that failed; None where it gets no so far."""
    try:
        _judge(exercise, mistake.functions, Run(sought=failed))
    except Reached as reached:
        return reached.actual
    except CheckFailed:
        pass
    return None


def _judge(exercise: Exercise, functions: Sequence[Callable], run: Run) -> None:
    token = RUN.set(run)
    try:
        exercise.judge(*map(Attempt, functions, exercise.takes))
    finally:
        RUN.reset(token)
