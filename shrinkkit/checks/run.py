"""One run of a judge: its seed, its comparisons by number, and the one of them that failed.

A run counts its comparisons, so that a known mistake can be judged as far as the one that failed
(`judge.explained`), and it holds the seed of the cases that are drawn afresh (`inputs.fresh`): a
mistake is judged on the very cases that the learner's function got.
"""

from __future__ import annotations

import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shrinkkit.errors import CheckFailed

Array = np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What was compared, as float64 or int64 arrays, and how closely."""

    title: str
    actual: Array
    expected: Array
    hint: str
    rtol: float
    atol: float | Array


class Wrong(CheckFailed):
    """A comparison that failed; `place` is its number among those of its run."""

    def __init__(self, message: str, comparison: Comparison, place: int) -> None:
        super().__init__(message)
        self.comparison, self.place = comparison, place


class Reached(Exception):
    """Ends the judging of a known mistake: `actual` is what it gives where the learner failed."""

    def __init__(self, actual: Any) -> None:
        self.actual = actual


def new_seed() -> int:
    """Draw a seed that nobody can foresee."""
    return secrets.randbits(32)


@dataclass
class Run:
    """One run of a judge.

    seed: of the cases that are drawn afresh. drawn: how many generators it has given out.
    place: how many comparisons it has made.
    sought: the learner's failure, where a known mistake is judged as far as that.
    """

    seed: int = field(default_factory=new_seed)
    drawn: int = 0
    place: int = 0
    sought: Wrong | None = None

    @property
    def replays(self) -> bool:
        """Say whether a known mistake is judged, and not the learner's function."""
        return self.sought is not None


RUN: ContextVar[Run] = ContextVar("run")


def this_run() -> Run:
    """Return the run in progress, or a new one where none is."""
    return RUN.get(None) or Run()
