"""Draw a curtain over the right answers for as long as a learner's function runs.

An exercise asks the learner to write what the package already has. So during every call of the
learner's function these are closed: the modules that the exercise names, the truths, judges and
known mistakes of every lesson, and the tests' answers.

- Their functions and methods raise, whoever holds them and under whatever name: not the names are
  replaced but the code inside the function objects (`__code__`), and put back after the call.
- Their files, and the solutions' notebooks, cannot be opened, nor imported by another name: an
  audit hook (`sys.addaudithook`) watches while a learner's function runs, and only then.
- A function that was compiled from one of these files and copied before the check is refused when
  the learner's function is it, wraps it, closes over it or names it.

The curtain is up while a judge draws inputs and works out truths.

This keeps honest people from going astray, and it is no lock. It runs in the learner's process:
whoever copies a source into a string beforehand, reads it from another process, leaves a thread, a
trace function or one of torch's modes behind, or changes what the checks are made of can still
cheat.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, ModuleType
from typing import Any

from shrinkkit.checks.reach import copies_in, innermost
from shrinkkit.errors import CheckFailed

# Files, with / between folders, that hold right answers to exercises of any lesson.
ANSWERS = re.compile(
    r"/shrinkkit/lessons/\w+/(truths|mistakes|exercises)\w*\.py$"
    r"|/tests/lessons/\w+/answers\.py$"
    r"|/notebooks/solutions/.+\.ipynb$"
)
WRAPPERS = (FunctionType, staticmethod, classmethod, type(functools.lru_cache(len)))


def functions_of(module_name: str) -> list[FunctionType]:
    """List the functions that a module defines itself, private ones and methods included."""
    module = importlib.import_module(module_name)
    found = {id(function): function for function in _defined_in(module, vars(module))}
    return list(found.values())


def _defined_in(module: ModuleType, namespace: Any) -> Iterator[FunctionType]:
    """Yield the functions of a module, or of one of its classes, that the module defines."""
    for value in list(namespace.values()):
        is_own_class = isinstance(value, type) and value.__module__ == module.__name__
        if is_own_class and namespace is vars(module):
            yield from _defined_in(module, vars(value))
        parts = (value.fget, value.fset) if isinstance(value, property) else (value,)
        for part in parts:
            if isinstance(part, WRAPPERS):
                part = inspect.unwrap(part)
            if isinstance(part, FunctionType) and part.__globals__ is vars(module):
                yield part


def source_of(path: Any) -> str:
    """Return the source that a path leads to, also from its compiled copy in __pycache__."""
    path = os.path.realpath(os.fsdecode(path)).replace(os.sep, "/")
    folder, _, name = path.rpartition("/")
    if folder.endswith("/__pycache__"):
        return f"{folder.removesuffix('/__pycache__')}/{name.partition('.')[0]}.py"
    return path


def _answer_modules() -> list[str]:
    """List the loaded modules that hold right answers, of every lesson."""
    return [
        name
        for name, module in list(sys.modules.items())
        if ".lessons." in name and ANSWERS.search(source_of(getattr(module, "__file__", "") or ""))
    ]


def _stand_in(original: CodeType) -> CodeType:
    """Return code that raises, and fits the function which has the original."""

    def stand_in(*_: Any, **__: Any) -> None:
        from shrinkkit.checks.curtain import closed

        raise closed("NAME")

    code = stand_in.__code__
    return code.replace(
        co_consts=tuple(original.co_name if c == "NAME" else c for c in code.co_consts),
        co_freevars=original.co_freevars,
        co_name=original.co_name,
    )


def closed(name: str) -> CheckFailed:
    """Say that a function is closed."""
    return CheckFailed(
        f"Your code calls shrinkkit's own `{name}`, which is closed while this exercise is "
        "checked: write the calculation itself."
    )


class Curtain:
    """What is closed while a learner's function runs.

    modules: full names, such as "shrinkkit.quant.grids.affine", beside the answers of all lessons.
    """

    def __init__(self, modules: Iterable[str]) -> None:
        names = dict.fromkeys([*modules, *_answer_modules()])
        self.functions = [function for name in names for function in functions_of(name)]
        self.files = {source_of(importlib.import_module(name).__file__) for name in names}
        self._codes = [(fn, fn.__code__, _stand_in(fn.__code__)) for fn in self.functions]

    def covers(self, path: Any) -> bool:
        """Say whether a file holds what is closed."""
        source = source_of(path)
        return source in self.files or bool(ANSWERS.search(source))

    def refuse(self, functions: Iterable[Callable]) -> None:
        """Raise CheckFailed when a learner's function is the package's own, or holds a copy."""
        for function in functions:
            code = getattr(innermost(function), "__code__", None)
            if type(code) is CodeType and self.covers(code.co_filename):
                raise CheckFailed(
                    f"`{code.co_name}` is shrinkkit's own function: hand in the one that you wrote."
                )
            for code in copies_in(function, self.functions):
                if self.covers(code.co_filename):
                    raise CheckFailed(
                        f"Your code holds a copy of shrinkkit's own `{code.co_name}`: write the "
                        "calculation itself."
                    )

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Close everything inside the `with` block."""
        try:
            for function, _, stand_in in self._codes:
                function.__code__ = stand_in
            with _watching(self):
                yield
        finally:
            for function, code, _ in self._codes:
                function.__code__ = code


_WATCHED: list[Curtain] = []  # the curtains that are drawn; the last one is asked
_HOOKED: list[bool] = []


@contextmanager
def _watching(curtain: Curtain) -> Iterator[None]:
    """Let the audit hook look at what is opened; it is installed once, and stays."""
    if not _HOOKED:
        sys.addaudithook(_hook)
        _HOOKED.append(True)
    _WATCHED.append(curtain)
    try:
        yield
    finally:
        _WATCHED.pop()


def _hook(event: str, arguments: tuple) -> None:
    """Refuse to open a file that holds what is closed, or to import it."""
    if not _WATCHED or event != "open":
        return
    path = arguments[0]
    if isinstance(path, (str, bytes, os.PathLike)) and _WATCHED[-1].covers(path):
        raise CheckFailed(
            f"Your code opens {os.path.basename(os.fsdecode(path))!r}, which holds the answers and "
            "is closed while this exercise is checked: write the calculation itself."
        )
