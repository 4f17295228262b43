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
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

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


def describe(value: Any) -> str:
    """Say what an argument is, in a few characters.

    >>> describe(torch.zeros(3, 8)), describe(4)
    ('float32 [3, 8]', '4')
    """
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, (int, float, str, bool, type(None))):
        return repr(value)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(describe(item) for item in value[:4])
        return f"{type(value).__name__} of {len(value)} ({inside}{', …' if len(value) > 4 else ''})"
    return type(value).__name__


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


@dataclass(frozen=True)
class Comparison:
    """What `close` was asked to compare, and how closely."""

    title: str
    actual: Any
    expected: torch.Tensor
    hint: str
    rtol: float
    atol: float


class Wrong(CheckFailed):
    """A comparison that failed; `place` is its number among those of its run."""

    def __init__(self, message: str, comparison: Comparison, place: int) -> None:
        super().__init__(message)
        self.comparison, self.place = comparison, place


class _Reached(Exception):
    """Ends the judging of a known mistake: `actual` is what it gives where the learner failed."""

    def __init__(self, actual: Any) -> None:
        self.actual = actual


@dataclass
class _Run:
    """One run of a judge: how many comparisons it made, and the failed one that it looks for."""

    place: int = 0
    sought: Wrong | None = None


_RUN: ContextVar[_Run] = ContextVar("run")


def judged(exercise: Exercise, functions: Sequence[Callable]) -> None:
    """Let an exercise's judge look at functions; its comparisons are counted.

    Raises CheckFailed, or Wrong where a comparison failed.
    """
    _judge(exercise, functions, _Run())


def explained(exercise: Exercise, failed: Wrong) -> CheckFailed:
    """Name the known mistake that returns what was returned, where there is one.

    Each mistake is judged like the learner's function, as far as the comparison that failed.
    """
    at = failed.comparison
    found = {m.says: _answer_of(exercise, m, failed) for m in exercise.mistakes}
    actual = at.actual
    if not isinstance(actual, torch.Tensor):
        return failed
    says = _likely(actual, at.expected, found, at.rtol, at.atol)
    return failed if says is None else CheckFailed(_looks(at, says))


def _looks(at: Comparison, says: str) -> str:
    return f"{at.title} is wrong: it looks as if {says}.{at.hint}"


def _answer_of(exercise: Exercise, mistake: Mistake, failed: Wrong) -> Any:
    """Return what a mistake gives at the comparison that failed; None where it gets no so far."""
    try:
        _judge(exercise, mistake.functions, _Run(sought=failed))
    except _Reached as reached:
        return reached.actual
    except CheckFailed:
        pass
    return None


def _judge(exercise: Exercise, functions: Sequence[Callable], run: _Run) -> None:
    token = _RUN.set(run)
    try:
        exercise.judge(*map(Attempt, functions, exercise.takes))
    finally:
        _RUN.reset(token)


def must(condition: bool, message: str) -> None:
    """Raise CheckFailed with the message unless the condition holds."""
    if not condition:
        raise CheckFailed(message)


def close(
    actual: Any,
    expected: torch.Tensor | float,
    name: str,
    hint: str = "",
    *,
    lookalikes: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-6,
) -> None:
    """Compare a result with the truth: its type, shape, dtype, finiteness and values, in turn.

    actual: what the learner's function returned.
    expected: the truth. A float: a Python number, a numpy scalar or a 0-d tensor is expected.
    name: what the value is, for the message: "the scale".
    hint: what to look at, added to a message about values or shape.
    dtype: the exact dtype asked for; None asks for the same kind (floating point or integer).
    rtol, atol: |actual - expected| <= atol + rtol * |expected| passes.
    Raises CheckFailed at the first difference.

    >>> close(torch.tensor([1.0]), torch.tensor([2.0]), "the scale", "Divide by qmax.")
    Traceback (most recent call last):
    ...
    shrinkkit.checks.judge.Wrong: The scale is wrong in 1 of 1 values: at [0] it is 1, and should \
be 2. Divide by qmax.
    """
    title = name[:1].upper() + name[1:]
    hint = f" {hint}" if hint else ""
    run = _RUN.get(_Run())
    run.place += 1
    if run.sought is not None:  # a known mistake is judged
        if run.place == run.sought.place and title == run.sought.comparison.title:
            raise _Reached(actual)
        return
    if not isinstance(expected, torch.Tensor):
        actual = _number(actual, title)
        expected = torch.tensor(float(expected), dtype=torch.float64)
    must(
        isinstance(actual, torch.Tensor),
        f"{title} should be a torch tensor of shape {list(expected.shape)}, but a "
        f"{type(actual).__name__} was returned.{hint}",
    )
    must(not actual.is_complex(), f"{title} is complex, and should be real.")
    at = Comparison(title, actual, expected, hint, rtol, atol)
    right_shape = actual.shape == expected.shape
    off = None
    if right_shape:
        off = ~torch.isclose(actual.double(), expected.double(), rtol=rtol, atol=atol)
    if (off is None or bool(off.any())) and lookalikes:
        says = _likely(actual, expected, lookalikes, rtol, atol)
        must(says is None, _looks(at, says or ""))
    if not right_shape:
        message = f"{title} has shape {list(actual.shape)}, and should have {list(expected.shape)}."
        raise Wrong(message + hint, at, run.place)
    broken = ~torch.isfinite(actual)
    problem = _wrong_dtype(actual, expected, title, dtype)
    if problem is None and bool(broken.any()):
        problem = (
            f"{title} holds {int(broken.sum())} NaN or infinite value(s), the first at "
            f"{_first(broken)}. Where do you divide by zero?{hint}"
        )
    if problem is None and bool(off.any()):
        problem = _difference(actual, expected, off, title) + hint
    if problem is not None:
        must(bool(off.any()), problem)  # right values, but not as they should be stored
        raise Wrong(problem, at, run.place)


def _likely(
    actual: torch.Tensor,
    expected: torch.Tensor,
    lookalikes: Mapping[str, Any],
    rtol: float,
    atol: float,
) -> str | None:
    """Return the mistake that explains the result best, if one explains most of it.

    Of the elements where the result or the lookalike is wrong, three quarters have to agree: a
    float32 quotient just below an integer is rounded down to another one than in float64.
    """

    def same(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.isclose(a.double(), b.double(), rtol=rtol, atol=atol, equal_nan=True)

    best, likely = 0.75, None
    for mistake, value in lookalikes.items():
        alike = _as_tensor(value)
        if alike is None or alike.shape != actual.shape:
            continue
        agrees = same(actual, alike)
        concerned = torch.ones_like(agrees)
        if expected.shape == actual.shape:
            concerned = ~(same(actual, expected) & same(alike, expected))
        # Two empty results are the same.
        explained = agrees[concerned].double().mean().item() if concerned.any() else 1.0
        if explained > best or (explained == best and likely is None):
            best, likely = explained, mistake
    return likely


def _as_tensor(value: Any) -> torch.Tensor | None:
    """Turn a tensor, an array or a number into a float64 tensor; None where it is none of them."""
    try:
        return torch.as_tensor(np.array(value, dtype=np.float64))
    except (TypeError, ValueError, RuntimeError):
        return None


def _number(value: Any, title: str) -> torch.Tensor:
    """Turn a learner's number into a 0-d float64 tensor."""
    number = None
    if not isinstance(value, (bool, str)) and getattr(value, "shape", ()) == ():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
    must(number is not None, f"{title} should be one number, but {describe(value)} was returned.")
    return torch.tensor(number, dtype=torch.float64)


def _wrong_dtype(
    actual: torch.Tensor, expected: torch.Tensor, title: str, dtype: torch.dtype | None
) -> str | None:
    """Say what is wrong with the dtype, asked for exactly or by its kind; None: nothing."""
    if dtype is not None:
        if actual.dtype != dtype:
            return f"{title} has dtype {actual.dtype}, and should have {dtype}."
    elif expected.is_floating_point():
        if not actual.is_floating_point():
            return f"{title} has dtype {actual.dtype}, and should be floating point."
    elif actual.is_floating_point() or actual.dtype == torch.bool:
        return (
            f"{title} has dtype {actual.dtype}, and should be an integer dtype such as "
            "torch.int32: the values may be whole, but the tensor still stores fractions."
        )
    return None


def _first(where: torch.Tensor) -> list[int]:
    """Return the index of the first True element."""
    return where.nonzero()[0].tolist()


def _difference(actual: torch.Tensor, expected: torch.Tensor, off: torch.Tensor, title: str) -> str:
    """Say how many values differ and show the first of them."""
    if off.ndim == 0:
        return f"{title} is {actual.item():.6g}, and should be {expected.item():.6g}."
    index = _first(off)
    # Adding 0 turns -0.0 into 0.0.
    got, want = actual[tuple(index)].item() + 0, expected[tuple(index)].item() + 0
    return (
        f"{title} is wrong in {int(off.sum())} of {off.numel()} values: at {index} it is "
        f"{got:.6g}, and should be {want:.6g}."
    )
