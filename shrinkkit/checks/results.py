"""Read what a learner's function returned, without calling anything of the learner's.

A result may be anything: an empty tensor, a generator, an object whose `__eq__` or `__float__`
answers what one likes. So types are asked for exactly, a tensor is read through torch's own methods
and not through its attributes, and what cannot be read is refused with a message.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shrinkkit.errors import CheckFailed

Array = np.ndarray
TENSORS = (Tensor, torch.nn.Parameter)
WHOLE = (int, *(np.dtype(kind).type for kind in np.typecodes["AllInteger"]))
NUMBERS = (float, Fraction, *WHOLE, *(np.dtype(kind).type for kind in np.typecodes["Float"]))
COUNTED = {2: "Two", 3: "Three", 4: "Four"}
OF_SEVERAL = {"is": "are", "has": "have", "holds": "hold"}
BEHIND = re.compile(r" (?:at|for|from|in|of|over|that|with|\() ?")  # what describes a name


def must(condition: bool, message: str) -> None:
    """Raise CheckFailed with the message unless the condition holds."""
    if not condition:
        raise CheckFailed(message)


def describe(value: Any, depth: int = 2) -> str:
    """Say what a value is, in a few characters.

    >>> describe(torch.zeros(3, 8)), describe(4)
    ('float32 [3, 8]', '4')
    """
    kind = type(value)
    if kind in TENSORS and not value.is_nested:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if kind in (float, bool, type(None)) or (kind is int and abs(value) < 10**15):
        return repr(value)
    if kind is str:
        return repr(value if len(value) < 40 else value[:40] + "…")
    if kind in (list, tuple) and depth:
        inside = ", ".join(describe(item, depth - 1) for item in value[:4])
        return f"{kind.__name__} of {len(value)} ({inside}{', …' if len(value) > 4 else ''})"
    return type_name(value)


def type_name(value: Any) -> str:
    """Return the name of a value's type, whatever the type makes of it."""
    return str(type.__dict__["__name__"].__get__(type(value)))


def said_of(title: str, verb: str) -> str:
    """Put a verb behind a title, in its number: its noun has a plural's s, or has none.

    >>> said_of("The errors at alpha 0.5", "is"), said_of("The bias of 3 norms", "has")
    ('The errors at alpha 0.5 are', 'The bias of 3 norms has')
    """
    noun = BEHIND.split(title)[0].split()[-1]
    is_plural = re.search(r"\w[^\Waisu]s$", noun) is not None  # no bias, axis, radius or loss
    return f"{title} {OF_SEVERAL[verb] if is_plural else verb}"


def several(got: Any, n: int, call: str) -> tuple:
    """Return the n results that should have come back, in a tuple or a list.

    call: how they are returned, for the message: "return ready, window".
    Raises CheckFailed that says what came back instead.
    """
    kind = type(got)
    wanted = f"{COUNTED.get(n, n)} results should come back, in this order: `{call}`"
    if issubclass(kind, tuple):  # torch.aminmax returns a kind of its own
        got = tuple(tuple.__iter__(got))
    elif issubclass(kind, list):
        got = tuple(list.__iter__(got))
    elif kind in TENSORS:
        must(False, f"{wanted}, but one tensor was returned ({describe(got)}).")
    elif issubclass(kind, dict):
        must(False, f"{wanted}, without names, but a dict was returned.")
    elif issubclass(kind, (Iterator, set, frozenset)):
        must(False, f"{wanted}, but a {type_name(got)} was returned, which is no list or tuple.")
    else:
        must(False, f"{wanted}, but {describe(got)} was returned.")
    must(len(got) == n, f"{wanted}, but {len(got)} came back: {describe(got)}.")
    return got


def number(value: Any, title: str, *, whole: bool = False) -> Array:
    """Turn a learner's number into a 0-d array.

    A Python number, a numpy scalar, or a tensor or array without dimensions is one.
    whole: only an integer will do, and 4.0 is none.
    """
    kind = type(value)
    if kind in TENSORS and not value.is_nested and value.shape == ():
        value = tensor_values(value, title)[()]
    elif kind is np.ndarray and value.shape == ():
        value = value[()]
    should = "a whole number (an int)" if whole else "one number"
    must(
        type(value) in (WHOLE if whole else NUMBERS),
        f"{title} should be {should}, but {describe(value)} was returned.",
    )
    if whole and abs(int(value)) < 2**63:
        return np.array(int(value))
    try:
        return np.array(float(value))
    except OverflowError:  # an int or a fraction beyond 1e308
        return np.array(math.inf)


def tensor_values(value: Tensor, title: str) -> Array:
    """Return the values of a learner's tensor as a new int64, float64 or bool array.

    Raises CheckFailed for a tensor that has none which could be compared: sparse, complex, packed.
    """
    plain = Tensor.detach(value)
    must(not plain.is_complex(), f"{said_of(title, 'is')} complex, and should be real.")
    ordinary = plain.layout is torch.strided and not plain.is_quantized
    must(
        ordinary and plain.device.type != "meta",
        f"{said_of(title, 'is')} no ordinary tensor ({plain.layout}, {plain.dtype}, on "
        f"{plain.device}): return a dense one that holds its values.",
    )
    if plain.dtype == torch.bool:
        return plain.cpu().numpy().copy()
    kind = torch.float64 if plain.is_floating_point() else torch.int64
    try:
        return plain.to("cpu", kind).numpy().copy()
    except (RuntimeError, TypeError, NotImplementedError):
        raise CheckFailed(
            f"{said_of(title, 'has')} dtype {plain.dtype}, which cannot be read: return float32 "
            "or int32, for example."
        ) from None


def as_array(value: Any) -> Array | None:
    """Turn what a known mistake returned into a float64 array; None where it is none."""
    try:
        if type(value) in TENSORS:
            return tensor_values(value, "it").astype(np.float64)
        return np.array(value, dtype=np.float64)
    except (CheckFailed, TypeError, ValueError, RuntimeError, OverflowError):
        return None


def likely(
    actual: Array,
    expected: Array,
    lookalikes: Mapping[str, Any],
    rtol: float,
    atol: float | Array,
) -> str | None:
    """Return the mistake that explains the result best, if one explains most of it.

    Of the elements where the result or the lookalike is wrong, three quarters have to agree: a
    float32 quotient just below an integer is rounded down to another one than in float64.
    """
    if np.shape(atol) != actual.shape:
        atol = float(np.max(atol, initial=0.0))

    def same(a: Array, b: Array) -> Array:
        return np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)

    best, likely = 0.75, None
    for mistake, value in lookalikes.items():
        alike = as_array(value)
        if alike is None or alike.shape != actual.shape:
            continue
        agrees = same(actual, alike)
        concerned = np.ones_like(agrees)
        if expected.shape == actual.shape:
            concerned = ~(same(actual, expected) & same(alike, expected))
        # Two empty results are the same.
        explained = float(agrees[concerned].mean()) if concerned.any() else 1.0
        if explained > best or (explained == best and likely is None):
            best, likely = explained, mistake
    return likely
