"""Find what a learner's function holds: what it wraps, closes over and names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

MOST = 5000  # things looked at; a learner's function reaches a few dozen


def innermost(function: Callable) -> Callable:
    """Look inside functools.partial and methods, for the function that does the work."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif type(function) is MethodType:
            function = function.__func__
        else:
            return function


def copies_in(function: Callable, known: Iterable[FunctionType]) -> Iterator[CodeType]:
    """Yield the code objects that a function can reach, except those of `known` functions.

    A known function itself may be reached: it raises when it is called.
    """
    known = {id(fn) for fn in known}
    globals_ = getattr(innermost(function), "__globals__", None)
    waiting: list[Any] = [function]
    if not isinstance(function, (FunctionType, functools.partial, MethodType)):
        waiting += [type(function), getattr(function, "__dict__", None)]  # a callable object
    seen: dict[int, Any] = {}
    while waiting and len(seen) < MOST:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value
        if type(value) is CodeType:
            yield value
        elif type(value) is FunctionType and id(value) not in known:
            yield value.__code__
            waiting += _held(value, own=globals_ in (None, value.__globals__))
        else:
            waiting += _inside(value)


def _held(function: FunctionType, *, own: bool) -> list[Any]:
    """List what a function holds; its globals only where they are the learner's own."""
    held = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    held += vars(function).values()  # __wrapped__
    for cell in function.__closure__ or ():
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    if own:
        held += [function.__globals__[n] for n in names_in(function.__code__, function.__globals__)]
    return held


def names_in(code: CodeType, namespace: dict[str, Any]) -> set[str]:
    """Return the names of a namespace that code uses, functions inside it included."""
    names = {name for name in code.co_names if name in namespace}
    for inner in code.co_consts:
        if type(inner) is CodeType:
            names |= names_in(inner, namespace)
    return names


def _inside(value: Any) -> list[Any]:
    """List what a container, a partial, a method or a class of functions holds."""
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if type(value) is MethodType:
        return [value.__func__, value.__self__]
    if type(value) in (list, tuple, set, frozenset):
        return list(value)[:MOST]
    if type(value) is dict:
        return list(value.values())[:MOST]
    if type(value) in (staticmethod, classmethod):
        return [value.__func__]
    if isinstance(value, type):  # a class that the learner wrote holds functions of theirs
        return [part for part in vars(value).values() if type(part) is FunctionType]
    return []
