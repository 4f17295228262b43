"""Compare what a learner's function returned with the truth, and say what is wrong first.

`close` looks at type, shape, dtype, finiteness and values, in this order, because the first of
these that is wrong explains the rest. It counts the comparisons of a run, so that a known mistake
can be judged as far as the one that failed (`judge.explained`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from shrinkkit.errors import CheckFailed


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


@dataclass(frozen=True)
class Comparison:
    """What `close` was asked to compare, and how closely."""

    title: str
    actual: torch.Tensor
    expected: torch.Tensor
    hint: str
    rtol: float
    atol: float


class Wrong(CheckFailed):
    """A comparison that failed; `place` is its number among those of its run."""

    def __init__(self, message: str, comparison: Comparison, place: int) -> None:
        super().__init__(message)
        self.comparison, self.place = comparison, place


class Reached(Exception):
    """Ends the judging of a known mistake: `actual` is what it gives where the learner failed."""

    def __init__(self, actual: Any) -> None:
        self.actual = actual


@dataclass
class Run:
    """One run of a judge: how many comparisons it made, and the failed one that it looks for."""

    place: int = 0
    sought: Wrong | None = None


RUN: ContextVar[Run] = ContextVar("run")


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
    shrinkkit.checks.compare.Wrong: The scale is wrong in 1 of 1 values: at [0] it is 1, and \
should be 2. Divide by qmax.
    """
    title = name[:1].upper() + name[1:]
    hint = f" {hint}" if hint else ""
    run = RUN.get(Run())
    run.place += 1
    if run.sought is not None:  # a known mistake is judged
        if run.place == run.sought.place and title == run.sought.comparison.title:
            raise Reached(actual)
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


def likely(
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
