"""Collect what the gates need: answers from tests/lessons/*/answers.py, code from the notebooks."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from IPython.core.inputtransformer2 import TransformerManager

from shrinkkit.checks import check, curtain, exercises, rooms
from shrinkkit.checks.judge import Exercise

ROOT = Path(__file__).resolve().parents[2]
SOLUTIONS = ROOT / "notebooks" / "solutions"
EXERCISES = ROOT / "notebooks" / "exercises"

Functions = tuple[Callable, ...]


@dataclass
class Answers:
    """Hold the second solution of one exercise, and mistakes beside those that the check knows.

    `answers.second(fn)` and `answers.mistake(name, says)(fn)` also serve as decorators. Where an
    exercise asks for two functions, both are handed in: `answers.second(pack, unpack)`.
    """

    name: str
    second_functions: Functions = ()
    mistakes: dict[str, tuple[Functions, str]] = field(default_factory=dict)

    def second(self, *functions: Callable) -> Callable:
        """Register another right way to write the exercise."""
        self.second_functions = functions
        return functions[0]

    def mistake(self, name: str, says: str) -> Callable:
        """Register a mistake; `says` is a part of the message that it must lead to."""
        assert name not in self.mistakes, f"{self.name} has two mistakes called {name!r}"

        def register(*functions: Callable) -> Callable:
            self.mistakes[name] = (functions, says)
            return functions[0]

        return register


def all_answers() -> dict[str, Answers]:
    """Import every lesson's answers.py and return its `Answers` by exercise name."""
    found: dict[str, Answers] = {}
    for room in rooms():
        for value in vars(importlib.import_module(f"tests.lessons.{room}.answers")).values():
            if isinstance(value, Answers):
                assert value.name not in found, f"two Answers for {value.name}"
                found[value.name] = value
    return found


def all_exercises() -> dict[str, Exercise]:
    """Return the exercises of all lessons by name."""
    return {name: one for room in rooms() for name, one in exercises(room).items()}


def notebooks(folder: Path) -> list[Path]:
    """List the notebooks of solutions/ or exercises/: one folder a lesson, of the same name."""
    return sorted(p for p in folder.glob("*/*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def cells(path: Path) -> list[dict]:
    """Read a notebook's cells, each with its source as one string."""
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell in found:
        cell["source"] = "".join(cell["source"])
    return found


def handed_in(path: Path, tolerate: type[Exception] | tuple = ()) -> dict[str, Functions]:
    """Run a notebook's code and return what it hands to `check`, by exercise name.

    tolerate: exceptions that a cell may raise, as under nbgrader.
    """
    found: dict[str, Functions] = {}

    def record(name: str, *functions: Callable) -> None:
        assert name not in found, f"{path.name} checks {name} twice"
        found[name] = functions

    namespace: dict = {"__name__": path.stem}
    with mock.patch("shrinkkit.checks.check", record):
        for cell in cells(path):
            if cell["cell_type"] == "code":
                source = TransformerManager().transform_cell(cell["source"])
                try:
                    exec(compile(source, f"{path.name}:{cell['id']}", "exec"), namespace)
                except tolerate:
                    continue
    return found


def all_handed_in(folder: Path, tolerate: type[Exception] | tuple = ()) -> dict[str, Functions]:
    """Run every notebook of a folder and return what they hand to `check`."""
    found: dict[str, Functions] = {}
    for path in notebooks(folder):
        for name, functions in handed_in(path, tolerate).items():
            assert name not in found, f"two notebooks check {name}"
            found[name] = functions
    return found


def check_openly(name: str, functions: Functions) -> None:
    """Check functions that stand in the files of answers, which are closed to learners'."""
    with mock.patch.object(curtain, "ANSWERS", re.compile("(?!)")):
        check(name, *functions)
