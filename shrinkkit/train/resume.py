"""What runs that can be killed have in common: a page that says what they are of.

A long run keeps its state in a folder. Beside the state lies a page of JSON with everything that
the result depends on: settings, digests of the text and of the checkpoint. Whoever finds the folder
compares pages: the same run goes on, another one is refused, and the message names what differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shrinkkit.errors import AssetError, InputError
from shrinkkit.system.files import write_atomically

DIGEST = "_sha256"  # how the name of a value ends that nobody can read
ANEW = "Name another folder, or begin again in this one with restart=True (--restart)."


def plain(page: Mapping[str, Any]) -> dict[str, Any]:
    """Return a page as it comes back from a file, where a tuple is a list.

    >>> plain({"shape": (2, 3)})
    {'shape': [2, 3]}
    """
    return json.loads(json.dumps(page))


def write_page(path: Path, page: Mapping[str, Any]) -> None:
    """Write what a run is of, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")


def read_page(path: Path) -> dict[str, Any]:
    """Read what a run is of; raises AssetError for a damaged page."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise AssetError(f"{path} is damaged ({error}). {ANEW}") from None


def refuse_other(place: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise InputError where two pages differ, naming what does."""
    ours = plain(ours)
    differing = [
        f"it has another {name.removesuffix(DIGEST).replace('_', ' ')}"
        if name.endswith(DIGEST)
        else f"{name} was {theirs.get(name)!r} and is {ours.get(name)!r}"
        for name in dict.fromkeys([*ours, *theirs])
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise InputError(f"{place} is of another run: {'; '.join(differing)}. {ANEW}")
