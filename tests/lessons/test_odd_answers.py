"""Whatever an answer returns, raises or does to its arguments, a check says CheckFailed.

Every exercise of every lesson is handed odd answers: no result at all, results of other kinds than
were asked for, the arguments themselves in other clothes, right results in wrong ones, and right
results beside spoilt arguments. Each has to be refused, with a message, and nothing else may come
out of `check`.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import itertools
import random
import types
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.errors import CheckFailed
from tests.lessons import gates

Tensor = torch.Tensor
KNOWN = gates.all_exercises()
SOLVED = gates.all_handed_in(gates.SOLUTIONS)
Pair = namedtuple("Pair", "first second")


class Agreeable:
    """Equals everything, and is whatever number one likes."""

    shape, dtype, requires_grad = (), torch.float32, True

    def __eq__(self, other: object) -> bool:
        return True

    def __float__(self) -> float:
        return 1.0

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self

    __hash__ = None


class Agreed(Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.tensor(True)


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


class Base(BaseException):
    pass


def itself() -> list:
    value: list = []
    value.append(value)
    return value


def quiet(make: Callable[[], Any]) -> Callable[[], Any]:
    """Make something, without the warnings of kinds of tensors that are new or old."""

    def made() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return made


# What is returned whatever the arguments are, made anew for each call.
PLAIN: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "0": lambda: 0,
    "-1": lambda: -1,
    "0.0": lambda: 0.0,
    "NaN": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "False": lambda: False,
    "complex": lambda: 1j,
    "10**400": lambda: 10**400,
    "a fraction": lambda: fractions.Fraction(1, 3),
    "a decimal": lambda: decimal.Decimal("0.5"),
    "no text": lambda: "",
    "text": lambda: "1.0",
    "bytes": lambda: b"\x00",
    "a date": lambda: datetime.date(2000, 1, 1),
    "...": lambda: ...,
    "NotImplemented": lambda: NotImplemented,
    "an object": object,
    "a class": lambda: Tensor,
    "a module": lambda: torch,
    "a function": lambda: len,
    "a namespace": types.SimpleNamespace,
    "agreeable": Agreeable,
    "[]": list,
    "()": tuple,
    "{}": dict,
    "a set": lambda: {1, 2},
    "a range": lambda: range(2),
    "a list of itself": itself,
    "a dict of tensors": lambda: {"q": torch.zeros(2), "scale": torch.ones(1)},
    "a named pair": lambda: Pair(torch.zeros(2), torch.ones(1)),
    "a generator": lambda: (x for x in (torch.zeros(2), torch.ones(1))),
    "an endless generator": itertools.count,
    "an endless map": lambda: map(float, itertools.count()),
    "a numpy array": lambda: np.zeros((2, 2)),
    "a numpy scalar": lambda: np.float16(0.5),
    "numpy objects": lambda: np.array([None, "a"]),
    "a numpy date": lambda: np.datetime64("NaT"),
    "a numpy record": lambda: np.zeros(2, dtype=[("a", "f4")]),
    "no elements": lambda: torch.zeros(0),
    "0-d": lambda: torch.tensor(0.0),
    "0-d bool": lambda: torch.tensor(True),
    "0-d int": lambda: torch.tensor(1),
    "0-d complex": lambda: torch.tensor(1j),
    "0-d meta": lambda: torch.tensor(1.0, device="meta"),
    "5-d": lambda: torch.zeros(1, 1, 1, 1, 1),
    "a dtype": lambda: torch.float32,
    "a size": lambda: torch.Size([2, 2]),
    "a parameter": lambda: torch.nn.Parameter(torch.ones(2, 2)),
    "a parameter to come": torch.nn.UninitializedParameter,
    "a layer": lambda: torch.nn.Linear(2, 2),
    "10**12 elements": lambda: torch.ones(1).expand(10**6, 10**6),
    "nested": quiet(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])),
    "rows": quiet(lambda: torch.eye(2).to_sparse_csr()),
    "agreed": lambda: torch.zeros(2, 2).as_subclass(Agreed),
    "bits": lambda: torch.empty(2, 2, dtype=torch.bits8),
}


# The first tensor among the arguments, in other clothes.
DRESSED: dict[str, Callable[[Tensor], Any]] = {
    "itself": lambda x: x,
    "zeroed in place": lambda x: x.zero_() if not x.requires_grad else x,
    "complex": lambda x: x + 0j,
    "conjugated": lambda x: (x + 1j).conj(),
    "imaginary": lambda x: (x + 1j).conj().imag,
    "bool": Tensor.bool,
    "int64": Tensor.long,
    "uint8": lambda x: x.abs().clamp(max=255).to(torch.uint8),
    "float16": Tensor.half,
    "float64": Tensor.double,
    "float8": lambda x: x.float().to(torch.float8_e4m3fn),
    "uint16": lambda x: x.abs().long().to(torch.uint16),
    "on meta": lambda x: x.to("meta"),
    "sparse": Tensor.to_sparse,
    "packed": quiet(lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.qint8)),
    "numpy": lambda x: x.detach().numpy() if x.dtype != torch.bfloat16 else None,
    "a list": Tensor.tolist,
    "needs a gradient": lambda x: x.detach().float().requires_grad_() * 1,
    "turned": lambda x: x.mT if x.ndim > 1 else x[None],
    "flat": Tensor.flatten,
    "one more axis": lambda x: x[None],
    "its first": lambda x: x[:1],
    "NaN": lambda x: x * float("nan"),
    "nothing of it": lambda x: x[:0],
    "its sum": Tensor.sum,
    "a view of strides": lambda x: x.expand(3, *x.shape),
}
FEW = 15  # how many answers are made of several odd things

# What is done to the first tensor, and to the first list, that a right answer was given.
SPOILT: dict[str, Callable[[Tensor], Any]] = {
    "zeroed": Tensor.zero_,
    "doubled": lambda x: x.mul_(2),
    "one number": lambda x: x.view(-1)[:1].add_(1),
    "through numpy": lambda x: x.detach().view(-1).view(torch.uint8).numpy().fill(7),
    "emptied": lambda x: x.zero_() if x.requires_grad else x.resize_(0),
    "with others' data": lambda x: setattr(x, "data", torch.zeros(1)),
    "turned": lambda x: x.unsqueeze_(0),
}
LISTS: dict[str, Callable[[list], Any]] = {
    "popped": list.pop,
    "cleared": list.clear,
    "longer": lambda items: items.append(items[0]),
    "its first replaced": lambda items: items.__setitem__(0, None),
}

# Right results in wrong clothes.
WORN: dict[str, Callable[[Any], Any]] = {
    "alone in a tuple": lambda x: (x,),
    "alone in a list": lambda x: [x],
    "from a generator": lambda x: (item for item in (x if isinstance(x, tuple) else (x,))),
    "by a name": lambda x: {"result": x},
    "as text": str,
    "in a function": lambda x: lambda: x,
    "complex": lambda x: over_all(x, lambda part: part + 0j),
    "on meta": lambda x: over_all(x, lambda part: torch.as_tensor(part).to("meta")),
    "sparse": lambda x: over_all(x, lambda part: torch.as_tensor(part)[None].to_sparse()),
    "one more axis": lambda x: over_all(x, lambda part: torch.as_tensor(part)[None]),
    "and more": lambda x: (*(x if isinstance(x, tuple) else (x,)), 0),
    "agreed": lambda x: over_all(x, lambda part: torch.as_tensor(part).as_subclass(Agreed)),
}


def raising(error: BaseException) -> Callable:
    def answer(*arguments: Any) -> None:
        raise error

    return answer


RAISED = {
    type(error).__name__: raising(error)
    for error in (
        StopIteration(),
        SystemExit(1),
        GeneratorExit(),
        RecursionError(),
        MemoryError(),
        AssertionError(),
        KeyError("a"),
        Unspeakable(),
        NotImplementedError("not for 'Half'"),
        UnicodeDecodeError("utf-8", b"a", 0, 1, "no"),
        Base(),
    )
}


def over_all(result: Any, change: Callable[[Any], Any]) -> Any:
    """Change each of several results, or the only one."""
    kind = type(result)
    return kind(map(change, result)) if kind in (tuple, list) else change(result)


def first(kind: type, arguments: Any) -> Any:
    """Return the first argument of a kind, at any depth; None where there is none."""
    if isinstance(arguments, kind) and len(getattr(arguments, "shape", arguments) or (0,)):
        return arguments
    if isinstance(arguments, (list, tuple)):
        return next((x for x in (first(kind, item) for item in arguments) if x is not None), None)
    return None


def dressed(dress: Callable[[Tensor], Any]) -> Callable:
    """Return the first tensor dressed; where no argument is one, a new one."""

    def answer(*arguments: Any) -> Any:
        found = first(Tensor, list(arguments))
        return dress(torch.ones(2, 3) if found is None else found)

    return answer


def spoiling(right: Callable, kind: type, spoil: Callable[[Any], Any]) -> Callable:
    """Return what is right, and spoil the first argument of a kind."""

    def answer(*arguments: Any) -> Any:
        result = right(*arguments)
        for argument in arguments:
            found = first(kind, argument)
            if found is not None and (kind is Tensor or found):
                with torch.no_grad():
                    spoil(found)
                break
        return result

    return answer


def mixed(name: str) -> Iterator[tuple[str, Callable]]:
    """Draw tuples and lists of several odd things, other ones for each exercise."""
    rng = random.Random(name)
    odd = {what: lambda *arguments, make=make: make() for what, make in PLAIN.items()}
    odd |= {f"argument, {what}": dressed(dress) for what, dress in DRESSED.items()}
    for _ in range(FEW):
        chosen = rng.choices(list(odd), k=rng.choice([1, 2, 2, 3, 4]))
        kind = rng.choice([tuple, tuple, list])

        def answer(*arguments: Any, chosen=chosen, kind=kind) -> Any:
            return kind(odd[what](*arguments) for what in chosen)

        yield f"{kind.__name__} of ({', '.join(chosen)})", answer


def answers(name: str, right: Callable) -> Iterator[tuple[str, Callable]]:
    """Yield odd answers in the place of a right one."""
    for what, make in PLAIN.items():
        yield what, lambda *arguments, make=make: make()
    for what, dress in DRESSED.items():
        yield f"argument, {what}", dressed(dress)
    yield from mixed(name)
    yield "a list argument, popped", lambda *arguments: (first(list, arguments) or [0]).pop()
    for what, wear in WORN.items():
        yield f"right, {what}", lambda *arguments, wear=wear: wear(right(*arguments))
    for what, answer in RAISED.items():
        yield f"raises {what}", answer


def outcome(name: str, functions: list[Callable]) -> str | None:
    """Hand functions in; say what came out that should not."""
    try:
        check(name, *functions)
    except CheckFailed as failure:
        told = str(failure)
        fits = told.startswith(f"{name} is not right yet. ") and "can make nothing" not in told
        return None if fits else told
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "passed"


@pytest.mark.parametrize("name", KNOWN)
def test_an_odd_answer_is_refused_and_nothing_else_comes_out(name: str) -> None:
    """Where an exercise asks for several functions, each is odd in turn beside right ones."""
    found = {}
    for place, right in enumerate(SOLVED[name]):
        for what, answer in answers(name, right):
            functions = list(SOLVED[name])
            functions[place] = answer
            found[KNOWN[name].takes[place], what] = outcome(name, functions)
    assert {what: came for what, came in found.items() if came is not None} == {}


def takes(name: str, kind: type) -> bool:
    """Say whether an exercise's functions get an argument of a kind."""
    seen = []

    def looking(right: Callable) -> Callable:
        def answer(*arguments: Any) -> Any:
            seen.extend(first(kind, argument) for argument in arguments)
            return right(*arguments)

        return answer

    check(name, *map(looking, SOLVED[name]))
    return any(value is not None for value in seen)


@pytest.mark.parametrize("name", KNOWN)
def test_a_right_answer_that_spoils_its_arguments_is_refused(name: str) -> None:
    found = {}
    for kind, how in ((Tensor, SPOILT), (list, LISTS)):
        if not takes(name, kind):
            continue
        for what, spoil in how.items():
            functions = [spoiling(right, kind, spoil) for right in SOLVED[name]]
            found[kind.__name__, what] = outcome(name, functions)
    assert {what: came for what, came in found.items() if came is not None} == {}
