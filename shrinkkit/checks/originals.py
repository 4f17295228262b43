"""Put back what a learner's code has replaced in torch, numpy, math and Python itself.

`torch.isclose = lambda *args, **kwargs: torch.tensor(True)` in a cell would make every comparison
pass, here and for the rest of the session. So the names of these namespaces are noted when the
checks are imported. Before a check and after every call of a learner's function they are compared
(3,000 names in a tenth of a millisecond), put back where they differ, and told.

Only names that were there are looked at, and of these only functions and types: a library that
adds a name, or loads a submodule late, is no one's mistake.
"""

from __future__ import annotations

import builtins
import math
from operator import is_not
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
# The namespaces themselves, and which of the noted names they hold and which they inherit.
NOW = {title: vars(namespace) for title, namespace in NAMESPACES.items()}
OWN = {title: [name for name in noted if name in NOW[title]] for title, noted in NOTED.items()}
VALUES = {title: [NOTED[title][name] for name in names] for title, names in OWN.items()}
INHERITED = {title: noted.keys() - NOW[title].keys() for title, noted in NOTED.items()}
any_, map_ = any, map  # as they were: those of builtins may be among what was replaced


def put_back() -> list[str]:
    """Put back every name that stands for something else now; return their full names."""
    found = []
    for title, namespace in NAMESPACES.items():
        now, noted = NOW[title], NOTED[title]
        if any_(map_(is_not, map_(now.get, OWN[title]), VALUES[title])):
            for name in [name for name in OWN[title] if now.get(name) is not noted[name]]:
                setattr(namespace, name, noted[name])
                found.append(f"{title}.{name}")
        for name in INHERITED[title] & now.keys():
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
