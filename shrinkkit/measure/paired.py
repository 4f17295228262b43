"""Compare two models on the same items, and say how sure the comparison is.

Two models that answer the same 3,000 questions mostly agree, so the difference of their scores is
known far better than either score. The bootstrap (Efron 1979) uses that: draw the items again and
again with replacement, always both models' results on the same draw, and look at how the
comparison moves. The middle 95 % of what it does is its interval.

    interval = paired_interval(difference, small.right, large.right)     # accuracy, in points
    interval = paired_interval(share, small.right, large.right)          # "97 % of the teacher"
    interval = paired_interval(times, small.losses, fp32.losses)         # perplexity, times fp32's
    interval.verdict(at_least=0.97)                                      # may be "undecided"

What was drawn together stays together: sentences about one film, or queries from one passage, are
no independent witnesses, so whole groups are drawn (`groups`). Trainings differ by their seed, so
results of several seeds are drawn, too: three seeds show little of that luck, five some more.

`mcnemar` asks an older question of two accuracies: of the items on which exactly one of both is
right, does one model have more than a coin's share?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shrinkkit.errors import InputError, require_int

HOLDS, NOT_HERE, UNDECIDED = "holds", "not here", "undecided"


@dataclass(frozen=True)
class Interval:
    """A measured number: `value`, what else fits the data (`low` to `high`), `n` items."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Read as '0.974 (0.961-0.987, n = 3239)'."""
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f}, n = {self.n})"

    def verdict(self, *, at_least: float | None = None, at_most: float | None = None) -> str:
        """Judge a claim by the whole interval: "holds", "not here", or "undecided" between.

        at_least, at_most: the claimed bound; give one of them.
        Raises InputError for none or both.

        >>> Interval(0.974, 0.961, 0.987, 3239).verdict(at_least=0.97)
        'undecided'
        """
        if (at_least is None) == (at_most is None):
            raise InputError("Give at_least or at_most: the bound that the claim names.")
        if at_least is not None:
            holds, fails = self.low >= at_least, self.high < at_least
        else:
            holds, fails = self.high <= at_most, self.low > at_most
        return HOLDS if holds else NOT_HERE if fails else UNDECIDED


def difference(a: Any, b: Any) -> Any:
    """Return a - b: two accuracies, in points."""
    return a - b


def share(a: Any, b: Any) -> Any:
    """Return a / b: the part of the teacher's accuracy that a student has."""
    return a / b


def times(a: Any, b: Any) -> Any:
    """Return exp(a - b): from mean losses in nats, one perplexity as a multiple of the other."""
    return np.exp(a - b)


def lead(student: Any, teacher: Any, rival: Any) -> Any:
    """Return (student - rival) / (teacher - rival): the part of the lead over a simple rival."""
    return (student - rival) / (teacher - rival)


def paired_interval(
    of: Callable[..., Any],
    *items: Any,
    groups: Sequence[Any] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """Give of(mean results of each model) with its paired bootstrap interval (percentiles).

    of: takes one mean a model and works on arrays, such as `difference`, `share`, `times`, `lead`.
    items: for each model its results on the same items in the same order, [n_items] (right or
        wrong, 1 / rank, a loss); or [n_seeds, n_items], row i being training i: items and trainings
        are then both drawn, and a model with one row has no luck of training.
    groups: [n_items]; which items belong together (a film, a passage) and are drawn together.
    confidence: between 0 and 1. n_resamples: draws. seed: of the draws.
    Returns Interval. A draw in which `of` is not a number (a division by 0) is left out.
    Raises InputError: no or unequal items, NaN among them, fewer than two groups.

    >>> a, b = [1, 1, 1, 0] * 100, [1, 1, 0, 0] * 100
    >>> print(paired_interval(difference, a, b))
    0.250 (0.208-0.293, n = 400)
    """
    rows = _rows(items)
    n = rows[0].shape[1]
    confidence = _between(confidence)
    n_resamples = require_int("n_resamples", n_resamples, 100)
    rng = np.random.default_rng(require_int("seed", seed, 0))
    sums, sizes = _by_group(rows, _numbered(groups, n))  # [n_seeds, n_groups] each; [n_groups]
    drawn = _drawn(sums, sizes, n_resamples, rng)
    with np.errstate(all="ignore"):
        value = float(of(*(row.mean() for row in rows)))
        found = np.asarray(of(*drawn), dtype=float)
    found = found[np.isfinite(found)]
    if not len(found):
        raise InputError("of is not a number for any draw: is the model that it divides by at 0?")
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(found, [tail, 100 - tail])
    return Interval(value, float(low), float(high), n)


def _rows(items: Sequence[Any]) -> list[np.ndarray]:
    """Check and copy the results: one [n_seeds, n_items] float64 a model."""
    if not items:
        raise InputError("items is empty: give each model's results, one number an item.")
    rows = [np.atleast_2d(np.asarray(part, dtype=float)) for part in items]
    n = rows[0].shape[-1]
    for number, row in enumerate(rows):
        if row.ndim != 2 or row.shape[1] != n or not n:
            raise InputError(
                f"items[{number}] has shape {row.shape[-2:]} and items[0] {rows[0].shape}: every "
                "model needs one result for each of the same items."
            )
        if not np.isfinite(row).all():
            raise InputError(f"items[{number}] holds NaN or infinity: such an item says nothing.")
    seeds = {len(row) for row in rows} - {1}
    if len(seeds) > 1:
        raise InputError(f"items have {sorted(seeds)} trainings: give as many for each, or one.")
    return rows


def _between(confidence: float) -> float:
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence!r}: give a number between 0 and 1, as 0.95.")
    return confidence


def _numbered(groups: Sequence[Any] | None, n: int) -> np.ndarray:
    """Number the groups from 0, one number an item."""
    if groups is None:
        numbers = np.arange(n)
    elif len(groups) != n:
        raise InputError(f"groups has {len(groups)} entries, but there are {n} items: one each.")
    else:
        numbers = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    if numbers.max() == 0:
        raise InputError(
            "There is only one group (or item): nothing can be said about how sure it is."
        )
    return numbers


def _by_group(rows: Sequence[np.ndarray], numbers: np.ndarray) -> tuple[list[np.ndarray], Any]:
    sizes = np.bincount(numbers).astype(float)
    sums = [np.stack([np.bincount(numbers, weights=line) for line in row]) for row in rows]
    return sums, sizes


def _drawn(
    sums: Sequence[np.ndarray], sizes: np.ndarray, n_resamples: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw groups (and trainings) n_resamples times: each model's means, [n_resamples]."""
    n_groups, n_seeds = len(sizes), max(len(part) for part in sums)
    means: list[list[np.ndarray]] = [[] for _ in sums]
    at_once = max(1, 4_000_000 // n_groups)  # 32 MB of counts
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        counts = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n).astype(float)
        seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n) / n_seeds
        for part, out in zip(sums, means, strict=True):
            each = counts @ part.T / (counts @ sizes)[:, None]  # [n, n_seeds or 1]
            out.append((each * seeds).sum(1) if len(part) > 1 else each[:, 0])
    return [np.concatenate(out) for out in means]


@dataclass(frozen=True)
class McNemar:
    """Items that only the first model has right, only the second; `p` of a fair coin."""

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Any, second: Any) -> McNemar:
    """Test whether two models on the same items are equally often right (McNemar 1947, exact).

    p = probability that a fair coin splits the items on which exactly one model is right at least
    as unevenly.

    first, second: [n_items] right (True, 1) or wrong.
    Returns McNemar; p = 1 where no item tells the models apart.
    Raises InputError: unequal lengths, or values other than 0 and 1.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0])
    McNemar(only_first=5, only_second=0, p=0.0625)
    """
    from scipy.stats import binomtest  # takes longer to import than most of this package

    a, b = (row[0] for row in _rows((first, second)))
    if not np.isin(np.concatenate([a, b]), (0, 1)).all():
        raise InputError("first and second must hold right (1) or wrong (0) for each item.")
    only_first, only_second = int((a > b).sum()), int((b > a).sum())
    decisive = only_first + only_second
    p = binomtest(only_first, decisive).pvalue if decisive else 1.0
    return McNemar(only_first, only_second, float(p))
