"""Every error that shrinkkit raises on purpose, and the small checks that raise them.

The idea: a person who mistypes a name or passes `bits=1.5` should read one message and know
what to change. So each message names the argument, shows what was given, says what is allowed,
and says what to do next. All of them are `ShrinkkitError`s, so a notebook or the command line
can catch one class; `InputError` is a `ValueError` too and `CheckFailed` an `AssertionError`,
so the usual Python habits (`except ValueError`, pytest's reports) keep working.

The helpers cost nothing next to the work they guard, except `require_finite`, which reads the
whole tensor once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class ShrinkkitError(Exception):
    """Any failure that shrinkkit foresaw: its message says what to do next."""


class InputError(ShrinkkitError, ValueError):
    """An argument is wrong: the message names it, what was given and what is allowed."""


class AssetError(ShrinkkitError):
    """An embedded model or text, or a file on disk, is missing, damaged or not the pinned one."""


class StorageError(ShrinkkitError):
    """A file could not be written: the disk is full, or the folder may not be written to."""


class CheckFailed(ShrinkkitError, AssertionError):
    """An exercise's check said no: the message names the likely mistake."""


def require_int(name: str, value: Any, low: int, high: int | None = None) -> int:
    """Return `value` as an int when it is a whole number from `low` to `high`.

    name: the argument's name, for the message.
    value: what was given. Integers and integer-like numbers (numpy's) pass; bool and float do not,
        even 4.0: a float here is nearly always a slip.
    low, high: the smallest and the largest allowed value; None for no upper limit.
    Raises InputError where it is not an integer or lies outside the range.

    >>> require_int("bits", 4, 2, 8)
    4
    >>> require_int("bits", 1.5, 2, 8)
    Traceback (most recent call last):
    ...
    shrinkkit.errors.InputError: bits must be a whole number from 2 to 8, but 1.5 was given.
    """
    allowed = f"from {low} to {high}" if high is not None else f"of at least {low}"
    problem = f"{name} must be a whole number {allowed}, but {value!r} was given."
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise InputError(problem)
    try:
        number = value.__index__()
    except TypeError:  # a torch or numpy array that is not an integer scalar
        raise InputError(problem) from None
    if number < low or (high is not None and number > high):
        raise InputError(problem)
    return number


def near_matches(value: Any, allowed: Iterable[Any], n: int = 3) -> list[str]:
    """Return up to `n` of the `allowed` names that look like `value`, likeliest first.

    >>> near_matches("Wikipeda", ["wikipedia", "lee-news"])
    ['wikipedia']
    """
    names = {str(choice).casefold(): str(choice) for choice in allowed}
    found = difflib.get_close_matches(str(value).casefold(), list(names), n=n, cutoff=0.6)
    return [names[key] for key in found]


def did_you_mean(value: Any, allowed: Iterable[Any]) -> str:
    """Return " Did you mean 'x' or 'y'?" for the end of a message, or "" where nothing is near.

    >>> did_you_mean("Wikipeda", ["wikipedia", "lee-news"])
    " Did you mean 'wikipedia'?"
    """
    near = near_matches(value, allowed)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def require_choice(name: str, value: T, allowed: Iterable[T]) -> T:
    """Return `value` when it is one of the `allowed` ones.

    name: the argument's name, for the message.
    allowed: what may be given, in the order in which the message lists it.
    Raises InputError that proposes the nearest names.

    >>> require_choice("pace", "quick", ["quick", "full"])
    'quick'
    >>> require_choice("text", "wikipeda", ["wikipedia", "lee-news"])
    Traceback (most recent call last):
    ...
    shrinkkit.errors.InputError: text must be one of 'wikipedia', 'lee-news', but 'wikipeda' was \
given. Did you mean 'wikipedia'?
    """
    choices = list(allowed)
    for choice in choices:
        # 1 == True and 1 == 1.0 in Python, so the type has to agree too.
        same_type = isinstance(value, type(choice)) and isinstance(value, bool) == isinstance(
            choice, bool
        )
        if same_type and choice == value:
            return value
    message = f"{name} must be one of {', '.join(map(repr, choices))}, but {value!r} was given."
    raise InputError(message + (did_you_mean(value, choices) if isinstance(value, str) else ""))


def require_finite(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return `tensor` when none of its elements is NaN or infinite.

    name: the tensor's name, for the message.
    tensor: any shape, any dtype.
    Raises InputError with the count of NaN and of infinite elements and the tensor's shape.

    >>> import torch
    >>> require_finite("weight", torch.tensor([1.0, float("nan"), float("inf")]))
    Traceback (most recent call last):
    ...
    shrinkkit.errors.InputError: weight must hold finite numbers, but 1 NaN and 1 infinite \
value(s) were found among its 3 elements (shape [3]). Look for the step that made them; \
compressing would spread them to their whole group.
    """
    import torch

    # One NaN or infinity makes the sum so, too, and a sum takes a twentieth of the time. It says
    # nothing where it overflows, and float8 has none.
    if tensor.element_size() > 1 and bool(torch.isfinite(tensor.sum())):
        return tensor
    finite = torch.isfinite(tensor)
    if bool(finite.all()):
        return tensor
    n_nan = int(torch.isnan(tensor).sum())
    n_inf = int((~finite).sum()) - n_nan
    raise InputError(
        f"{name} must hold finite numbers, but {n_nan} NaN and {n_inf} infinite value(s) were "
        f"found among its {tensor.numel()} elements (shape {list(tensor.shape)}). Look for the "
        "step that made them; compressing would spread them to their whole group."
    )
