"""Compare what a learner's function returned with the truth, and say what is wrong first.

    compare(
        round_keys,                                  # the learner's function, as an `Attempt`
        truths.round_keys, (keys, bits, group_size), # the truth, and what it is told
        Part("the rounded keys", "Mind the unfinished group."),
    )

calls the learner's function, and only then works out the truth, which so can be neither read nor
spoilt from inside the learner's code. `close` compares one result: type, shape, dtype, finiteness
and values, in this order, because the first of these that is wrong explains the rest.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy import isclose, isfinite

from shrinkkit.checks.inputs import as_given
from shrinkkit.checks.results import (
    TENSORS,
    describe,
    must,
    number,
    said_of,
    several,
    tensor_values,
    type_name,
)
from shrinkkit.checks.run import RUN, Array, Comparison, Reached, Run, Wrong, this_run
from shrinkkit.errors import CheckFailed

__all__ = ["Part", "close", "compare", "describe", "must", "several"]


@dataclass(frozen=True)
class Part:
    """One result of a learner's function, and how closely it has to meet the truth.

    The fields are those of `close`.
    """

    name: str
    hint: str = ""
    dtype: torch.dtype | None = None
    whole: bool = False
    rtol: float = 1e-4
    atol: float | Array = 1e-6


def compare(
    attempt: Callable,
    truth: Callable,
    case: Sequence[Any],
    *parts: Part,
    given: Sequence[Any] | None = None,
    call: str = "",
) -> None:
    """Ask a learner's function, then work out the truth, and compare them part by part.

    attempt: the learner's function.
    truth: called with `case` after the learner's function has returned. For several parts it
        returns as many results.
    case: the inputs; the learner's function gets their arrays as tensors.
    parts: what should come back: one result, or several in a tuple.
    given: what the learner's function gets, where that is not the case itself.
    call: how several results are returned, for the message: "return ready, window".
    Raises CheckFailed at the first difference.
    """
    is_first = this_run().place == 0
    kept = pickle.dumps((case, parts))  # bytes: nothing that the call may reach can change them
    got = attempt(*(map(as_given, case) if given is None else given))
    case, parts = pickle.loads(kept)
    results = several(got, len(parts), call) if len(parts) > 1 else (got,)
    right = (None,) * len(parts)
    if not this_run().replays:  # a known mistake is not compared with the truth
        right = truth(*case)
        right = tuple(right) if len(parts) > 1 else (right,)
    try:
        _close_all(results, right, parts)
    except CheckFailed:
        # Results that are swapped fail at once; later two wrong ones may look like it by chance.
        if is_first and len(parts) == 2 and _are_right(results[::-1], right, parts):
            raise CheckFailed(f"The two results are swapped: `{call}`.") from None
        raise


def _close_all(results: Sequence[Any], right: Sequence[Any], parts: Sequence[Part]) -> None:
    """Compare results with what is right, in turn."""
    for actual, expected, part in zip(results, right, parts, strict=True):
        close(actual, expected, **vars(part))


def _are_right(results: Sequence[Any], right: Sequence[Any], parts: Sequence[Part]) -> bool:
    """Say whether results would pass, in a run of their own."""
    token = RUN.set(Run())
    try:
        _close_all(results, right, parts)
    except CheckFailed:
        return False
    finally:
        RUN.reset(token)
    return True


def close(
    actual: Any,
    expected: torch.Tensor | Array | float | Callable[[], Any],
    name: str,
    hint: str = "",
    *,
    dtype: torch.dtype | None = None,
    whole: bool = False,
    rtol: float = 1e-4,
    atol: float | Array = 1e-6,
) -> None:
    """Compare a result with the truth: its type, shape, dtype, finiteness and values, in turn.

    actual: what the learner's function returned.
    expected: the truth, or a function without arguments that works it out. An array or a tensor: a
        tensor is expected. A float or an int: a number is.
    name: what the value is, for the message: "the scale".
    hint: what to look at, added to a message about values or shape.
    dtype: the exact dtype asked for; None asks for the same kind (floating point or integer).
    whole: where a number is expected: only an int will do.
    rtol, atol: |actual - expected| <= atol + rtol * |expected| passes; atol may be an array of the
        expected shape. Integers, where integers are expected, have to be equal.
    Raises CheckFailed at the first difference.

    >>> close(torch.tensor([1.0]), torch.tensor([2.0]), "the scale", "Divide by qmax.")
    Traceback (most recent call last):
    ...
    shrinkkit.checks.run.Wrong: The scale is wrong in 1 of 1 values: at [0] it is 1, and \
should be 2. Divide by qmax.
    """
    title = name[:1].upper() + name[1:]
    hint = f" {hint}" if hint else ""
    run = this_run()
    run.place += 1
    if run.sought is not None:  # a known mistake is judged
        if run.place == run.sought.place and title == run.sought.comparison.title:
            raise Reached(actual)
        return
    expected = expected() if callable(expected) else expected
    if isinstance(expected, (np.ndarray, torch.Tensor)):
        truth = _truth(expected)
        _require_tensor(actual, truth, title, hint)
        problem = _wrong_dtype(actual.dtype, truth.dtype, title, dtype)
        values = tensor_values(actual, title)
    else:
        values, problem = number(actual, title, whole=whole), None
        truth = np.array(expected if whole else float(expected))
    at = Comparison(title, values, truth, hint, rtol, atol)
    if values.shape != truth.shape:
        raise Wrong(_wrong_shape(values, truth, title) + hint, at, run.place)
    off = ~_same(values, truth, rtol, atol)
    broken = ~isfinite(values)
    if problem is None and broken.any():
        problem = (
            f"{said_of(title, 'holds')} {int(broken.sum())} NaN or infinite value(s), the first "
            f"at {_first(broken)}. Where do you divide by zero?{hint}"
        )
    if problem is None and off.any():
        problem = _difference(values, truth, off, title) + hint
    if problem is not None:
        must(bool(off.any()), problem)  # right values, but not as they should be stored
        raise Wrong(problem, at, run.place)


def _truth(expected: Array | torch.Tensor) -> Array:
    """Return the truth as a float64, int64 or bool array."""
    if isinstance(expected, torch.Tensor):
        return tensor_values(expected, "the truth")
    kinds = {"f": np.float64, "b": np.bool_}
    return expected.astype(kinds.get(expected.dtype.kind, np.int64))


def _require_tensor(actual: Any, truth: Array, title: str, hint: str) -> None:
    """Raise CheckFailed unless it is a tensor; Wrong shapes are told before values are read."""
    must(
        type(actual) in TENSORS and not actual.is_nested,
        f"{title} should be a torch tensor of shape {list(truth.shape)}, but a "
        f"{type_name(actual)} was returned.{hint}",
    )
    must(
        actual.shape == truth.shape or actual.numel() < 10**7,
        _wrong_shape(actual, truth, title) + hint,
    )


def _wrong_shape(actual: Array | torch.Tensor, truth: Array, title: str) -> str:
    """Say which shape a result has, and which it should have."""
    shape = f"{list(actual.shape)}, and should have {list(truth.shape)}"
    return f"{said_of(title, 'has')} shape {shape}."


def _same(values: Array, truth: Array, rtol: float, atol: float | Array) -> Array:
    """Say where values agree: integers exactly, where both are."""
    if values.dtype.kind in "ib" and truth.dtype.kind in "ib":
        return values == truth
    return isclose(values.astype(np.float64), truth.astype(np.float64), rtol=rtol, atol=atol)


def _wrong_dtype(
    actual: torch.dtype, truth: np.dtype, title: str, dtype: torch.dtype | None
) -> str | None:
    """Say what is wrong with the dtype, asked for exactly or by its kind; None: nothing."""
    has = f"{said_of(title, 'has')} dtype {actual}"
    if dtype is not None:
        return None if actual == dtype else f"{has}, and should have {dtype}."
    if truth.kind == "f":
        if not actual.is_floating_point:
            return f"{has}, and should be floating point."
    elif truth.kind == "b":
        if actual != torch.bool:
            return f"{has}, and should have torch.bool."
    elif actual.is_floating_point or actual == torch.bool:
        return (
            f"{has}, and should be an integer dtype such as "
            "torch.int32: the values may be whole, but the tensor still stores fractions."
        )
    return None


def _first(where: Array) -> list[int]:
    """Return the index of the first True element."""
    return np.argwhere(where)[0].tolist()


def _difference(values: Array, truth: Array, off: Array, title: str) -> str:
    """Say how many values differ and show the first of them."""
    if off.ndim == 0:
        got, want = _two(values.item(), truth.item())
        return f"{said_of(title, 'is')} {got}, and should be {want}."
    index = _first(off)
    got, want = _two(values[tuple(index)].item(), truth[tuple(index)].item())
    return (
        f"{said_of(title, 'is')} wrong in {int(off.sum())} of {off.size} values: at {index} it "
        f"is {got}, and should be {want}."
    )


def _two(got: float, want: float) -> tuple[str, str]:
    """Write two numbers with as many digits as tell them apart, six at least."""
    for digits in (6, 10, 17):
        # Adding 0 turns -0.0 into 0.0.
        texts = f"{got + 0:.{digits}g}", f"{want + 0:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
