"""Put back what a learner's code has replaced in torch, numpy, math and Python itself.

`torch.isclose = lambda *args, **kwargs: torch.tensor(True)` in a cell would make every comparison
pass, here and for the rest of the session. So the names of these namespaces are noted when the
checks are imported. Before a check and after every call of a learner's function they are compared
(3,000 names take less than a millisecond), put back where they differ, and told.

Only names that were there are looked at, and of these only functions and types: a library that
adds a name, or loads a submodule late, is no one's mistake.
"""

from __future__ import annotations

import builtins
import math
from types import ModuleType
from typing import Any

import numpy as np
import torch

from shrinkkit.errors import CheckFailed

# IPython, its kernel and debuggers put their own here, and no sum needs them.
NOTEBOOKS_OWN = {"input", "print", "open", "exit", "quit", "help", "breakpoint", "_", "display"}
NOTEBOOKS_OWN |= {"__import__", "__build_class__", "copyright", "credits", "license"}
SETTINGS = {"manual_seed", "seed", "load", "save", "compile"}  # torch itself wraps one of them late
NAMESPACES: dict[str, ModuleType | type] = {
    "torch": torch,
    "torch.Tensor": torch.Tensor,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "numpy": np,
    "numpy.linalg": np.linalg,
    "math": math,
    "builtins": builtins,
}


def _noted(namespace: ModuleType | type) -> dict[str, Any]:
    """Return what a namespace's names stand for, those that a class inherits included."""
    owners = reversed(namespace.__mro__) if isinstance(namespace, type) else (namespace,)
    left_out = NOTEBOOKS_OWN if namespace is builtins else SETTINGS
    return {
        name: value
        for owner in owners
        for name, value in vars(owner).items()
        if name not in left_out
        and not isinstance(value, ModuleType)
        and (callable(value) or hasattr(type(value), "__get__"))
    }


NOTED = {title: _noted(namespace) for title, namespace in NAMESPACES.items()}
OWN = {title: NOTED[title].keys() & vars(space).keys() for title, space in NAMESPACES.items()}


def put_back() -> list[str]:
    """Put back every name that stands for something else now; return their full names."""
    found = []
    for title, namespace in NAMESPACES.items():
        noted, now, own = NOTED[title], vars(namespace), OWN[title]
        changed = [n for n, value in now.items() if noted.get(n, value) is not value]
        changed += own - now.keys()
        for name in changed:
            if name in own:
                setattr(namespace, name, noted[name])
            else:  # it was inherited
                delattr(namespace, name)
            found.append(f"{title}.{name}")
    return found


def require_originals() -> None:
    """Put back what was replaced, and raise CheckFailed that names it."""
    found = put_back()
    if found:
        names = ", ".join(f"`{name}`" for name in found[:5])
        raise CheckFailed(
            f"{names} was replaced by your code, and is put back now. Give what you write "
            "a name of its own, remove that line, and run your cell and this one again."
        )
