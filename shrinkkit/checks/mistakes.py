"""The usual wrong answers to an exercise: functions as a learner might write them, and what to say.

    MEAN = Mistakes()

    @MEAN("the sum was not divided by n, the number of rows")
    def a_sum(rows):
        return rows.sum(dim=0)

A wrong result says little by itself. So when the judge has found one, it asks the same question of
each known mistake, and where one gives (nearly) the same wrong result, the learner is told "it
looks as if" and what the mistake is. Messages say what to change, not only what is wrong. The
tests hand every mistake to the check, which must refuse it with its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mistake:
    """One wrong answer: the functions that an exercise asks for, and what to tell their author."""

    says: str
    functions: tuple[Callable, ...]


class Mistakes:
    """The wrong answers to one exercise, in the order in which a wrong result is compared.

    >>> doubled = Mistakes()
    >>> @doubled("it was squared, not doubled")
    ... def squared(x):
    ...     return x * x
    >>> [mistake.says for mistake in doubled]
    ['it was squared, not doubled']
    """

    def __init__(self) -> None:
        self._known: dict[str, Mistake] = {}

    def __iter__(self) -> Iterator[Mistake]:
        return iter(self._known.values())

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, says: str) -> Callable[[Callable], Callable]:
        """Register the decorated function; `says` goes on from "it looks as if"."""

        def register(function: Callable) -> Callable:
            self.add(says, function)
            return function

        return register

    def add(self, says: str, *functions: Callable) -> None:
        """Register a mistake of an exercise that asks for several functions, in its order."""
        if says in self._known:
            raise ValueError(f"two mistakes say {says!r}")
        self._known[says] = Mistake(says, functions)
