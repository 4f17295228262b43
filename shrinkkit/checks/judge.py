"""Judge a learner's function, and say in one message what to look at.

A check is a plain function that receives the learner's functions and compares what they return with
the truth, on inputs that the notebook has not shown, fixed ones first and then some drawn afresh:

    def judge_rtn(rtn: Attempt) -> None:
        for case in chain(cases(), fresh_cases()):
            compare(rtn, truths.rtn, case, Part("the rounded weight", "Round, ..."))

Two things here make its failures readable. `Attempt` wraps the learner's function: an exception
inside it, a `None`, an input changed in place become a message with the inputs' shapes. `compare`
looks at type, shape, dtype, finite, values, in this order, because the first of these that is
wrong explains the rest.

A wrong value says little, so the exercise's known mistakes (`mistakes.py`) are judged too, on the
same cases and up to the comparison that failed: when the learner's result equals what one of them
returns there, the message names that mistake. The truth must not come from the package: numpy,
torch's own operators or brute force.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shrinkkit.checks.attempt import Attempt
from shrinkkit.checks.curtain import Curtain
from shrinkkit.checks.mistakes import Mistake, Mistakes
from shrinkkit.checks.originals import require_originals
from shrinkkit.checks.results import likely, said_of
from shrinkkit.checks.run import RUN, Reached, Run, Wrong
from shrinkkit.errors import CheckFailed

__all__ = ["Attempt", "Exercise", "explained", "judged"]


@dataclass(frozen=True)
class Exercise:
    """Hold what `check` needs of one exercise.

    judge: called with one `Attempt` for each of its parameters; raises CheckFailed.
    hides: modules of the package whose functions are closed while the learner's run.
    mistakes: the usual wrong answers, to name the one that a wrong result comes from.
    """

    judge: Callable[..., None]
    hides: tuple[str, ...] = ()
    mistakes: Mistakes = field(default_factory=Mistakes)

    @property
    def takes(self) -> list[str]:
        """Names of the functions that the learner hands in."""
        return list(inspect.signature(self.judge).parameters)


def judged(exercise: Exercise, functions: Sequence[Callable], seed: int | None = None) -> None:
    """Let an exercise's judge look at a learner's functions.

    seed: of the cases that are drawn afresh; None draws one.
    Raises CheckFailed that names the known mistake where there is one, and the seed where the case
    came from it; also where the judge cannot make sense of what was returned.
    """
    run = Run() if seed is None else Run(seed=seed)
    try:
        require_originals()
        curtain = Curtain(exercise.hides)
        curtain.refuse(functions)
        try:
            _judge(exercise, functions, run, curtain)
        except Wrong as failed:
            raise explained(exercise, failed, run.seed) from None
    except CheckFailed as failure:
        if not run.drawn:
            raise
        again = f" (A case drawn at random: `seed={run.seed}` in the call of check repeats it.)"
        raise CheckFailed(f"{failure}{again}") from failure.__cause__
    except Exception as error:
        raise CheckFailed(
            "The check can make nothing of what your function returned "
            f"({type(error).__name__}: {error}). Return exactly what the task asks for."
        ) from error


def explained(exercise: Exercise, failed: Wrong, seed: int) -> CheckFailed:
    """Name the known mistake that returns what was returned, where there is one.

    Each mistake is judged like the learner's function, as far as the comparison that failed.
    """
    at = failed.comparison
    found = {m.says: _answer_of(exercise, m, failed, seed) for m in exercise.mistakes}
    says = likely(at.actual, at.expected, found, at.rtol, at.atol)
    if says is None:
        return failed
    return CheckFailed(f"{said_of(at.title, 'is')} wrong: it looks as if {says}.{at.hint}")


def _answer_of(exercise: Exercise, mistake: Mistake, failed: Wrong, seed: int) -> Any:
    """Return what a mistake gives at the comparison that failed; None where it gets no so far."""
    try:
        _judge(exercise, mistake.functions, Run(seed=seed, sought=failed))
    except Reached as reached:
        return reached.actual
    except Exception:  # where the judge can make nothing of a mistake's result, it explains nothing
        return None
    return None


def _judge(
    exercise: Exercise, functions: Sequence[Callable], run: Run, curtain: Curtain | None = None
) -> None:
    """Run the judge; without a curtain, for a known mistake."""
    drawn = None if curtain is None else curtain.drawn
    token = RUN.set(run)
    try:
        exercise.judge(
            *(Attempt(f, n, drawn) for f, n in zip(functions, exercise.takes, strict=True))
        )
    finally:
        RUN.reset(token)
