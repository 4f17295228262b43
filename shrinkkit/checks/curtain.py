"""Draw a curtain over the package's own answer while a learner's answer is judged.

An exercise asks the learner to write what the package already has. So for as long as a check runs,
the functions of the modules that the exercise names are replaced by stand-ins that raise: in every
`shrinkkit` module that exposes them, in the learner's own notebook (for whoever imported one
there), and in modules that are imported meanwhile. The originals come back whatever happens.

Objects are found by identity, not by name, so `from shrinkkit.quant import fake_quantize as fq` is
covered too. A function stored in a list or a closure is not: this keeps honest people from going
astray, and it is no lock.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, NoReturn

from shrinkkit.errors import CheckFailed


def functions_of(module_name: str) -> list[FunctionType]:
    """List the functions that a module defines itself, private ones included."""
    module = importlib.import_module(module_name)
    return [
        value
        for value in vars(module).values()
        if isinstance(value, FunctionType) and value.__module__ == module_name
    ]


def _stand_in(original: FunctionType) -> Callable[..., NoReturn]:
    """Return a function that raises wherever the original would have been called."""

    def unavailable(*_: Any, **__: Any) -> NoReturn:
        raise CheckFailed(
            f"Your code calls shrinkkit's own `{original.__name__}`, which is closed while this "
            "exercise is checked: write the calculation itself, with torch."
        )

    return unavailable


def _swap(replacements: list[tuple[Any, Any]], namespaces: Iterable[dict[str, Any]]) -> None:
    """Replace, in every namespace, each value that is the first of a pair by the second."""
    by_id = {id(old): new for old, new in replacements}
    for namespace in namespaces:
        for key, value in list(namespace.items()):
            if id(value) in by_id:
                namespace[key] = by_id[id(value)]


def _namespaces(functions: Iterable[Callable]) -> list[dict[str, Any]]:
    """List the globals of every loaded shrinkkit module, of `__main__` and of the functions."""
    modules = [
        vars(module)
        for name, module in list(sys.modules.items())
        if module is not None
        and (name == "__main__" or name == "shrinkkit" or name.startswith("shrinkkit."))
    ]
    own = [fn.__globals__ for fn in functions if hasattr(fn, "__globals__")]
    return list({id(namespace): namespace for namespace in modules + own}.values())


@contextmanager
def unavailable(modules: Iterable[str], functions: Iterable[Callable]) -> Iterator[None]:
    """Make the functions of `modules` raise `CheckFailed` inside the `with` block.

    modules: full names, such as "shrinkkit.quant.grids.affine".
    functions: the learner's functions; one that is the package's own is refused.
    Raises CheckFailed when one of `functions` is the package's own.
    """
    functions = list(functions)
    hidden = [function for module in modules for function in functions_of(module)]
    for fn in functions:
        if any(fn is original for original in hidden):
            raise CheckFailed(
                f"`{fn.__name__}` is shrinkkit's own function: hand in the one that you wrote."
            )
    pairs: list[tuple[Any, Any]] = [(original, _stand_in(original)) for original in hidden]
    try:
        _swap(pairs, _namespaces(functions))
        yield
    finally:
        # The namespaces are listed anew: a module imported meanwhile has copied a stand-in.
        _swap([(stand_in, original) for original, stand_in in pairs], _namespaces(functions))
