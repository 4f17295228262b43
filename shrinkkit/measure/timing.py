"""Time things on a machine that is never quiet, and report what can be repeated.

A single timing says little: the first call allocates memory and picks kernels, other programs take
the cores away, and processors change their clock with temperature. The recipe here:

1. warm up: a few calls that are not counted;
2. repeat, and report the median with the quartiles around it: half of the calls fell between
   `low_ms` and `high_ms`. The mean would follow one hiccup; the minimum, a lucky moment;
3. compare in turns: A B A B A B, never all of A and then all of B (`time_paired`), and compare
   within each turn (`speedup`). Whatever slows the machine for a second then hits both.

The turns are why Python's timeit and torch's benchmark are not used: both finish one function
before they begin the next. A gap that is smaller than the spread is a tie. What this cannot fix is
a machine that is busy all along: close what you can.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from shrinkkit.errors import InputError, require_int

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """How long a call takes: median, quartiles `low_ms` and `high_ms`, number of calls `n`."""

    median_ms: float
    low_ms: float
    high_ms: float
    n: int
    samples_ms: tuple[float, ...] = ()

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Timing:
        """Sum up samples in milliseconds.

        >>> Timing.of([1.0, 2.0, 3.0, 4.0, 50.0]).median_ms
        3.0
        """
        return cls(*spread(samples_ms), len(samples_ms), tuple(samples_ms))

    def __str__(self) -> str:
        """Read as '12.3 ms (11.9-12.8, n = 10)'."""
        return f"{self.median_ms:.3g} ms ({self.low_ms:.3g}-{self.high_ms:.3g}, n = {self.n})"


@dataclass(frozen=True)
class Rate:
    """A speed or a ratio: median, quartiles `low` and `high`, number of measurements `n`."""

    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Rate:
        """Sum up samples.

        >>> Rate.of([10.0, 20.0, 30.0])
        Rate(median=20.0, low=15.0, high=25.0, n=3)
        """
        return cls(*spread(samples), len(samples))


def spread(samples: Sequence[float]) -> tuple[float, float, float]:
    """Give (median, lower quartile, upper quartile), between samples by straight lines.

    >>> spread([4.0, 1.0, 2.0, 3.0, 5.0])
    (3.0, 2.0, 4.0)
    """
    if not len(samples):
        raise InputError("samples is empty: there is nothing to sum up.")
    values = torch.tensor(list(samples), dtype=torch.float64)
    low, high = torch.quantile(values, torch.tensor([0.25, 0.75], dtype=torch.float64)).tolist()
    return float(median(samples)), low, high


def time_call(
    fn: Callable[[], object],
    warmup: int = 2,
    repeats: int = 10,
    *,
    clock: Clock = time.perf_counter,
) -> Timing:
    """Time a function: warm up, repeat, median and quartiles.

    fn: called without arguments; work that it starts on a GPU is waited for.
    warmup: calls that are not counted; repeats: calls that are.
    clock: gives seconds.
    Returns Timing in milliseconds.
    Raises InputError for repeats below 1 or warmup below 0.

    >>> ticks = iter([0.0, 0.010, 5.0, 5.030])
    >>> round(time_call(lambda: None, 1, 2, clock=lambda: next(ticks)).median_ms, 6)
    20.0
    """
    return time_paired({"fn": fn}, warmup, repeats, clock=clock)["fn"]


def time_paired(
    fns: Mapping[str, Callable[[], object]],
    warmup: int = 2,
    repeats: int = 10,
    *,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Time several functions in turns, A B A B, so that noise falls on all of them alike.

    fns: {name: function}; otherwise as `time_call`.
    Returns {name: Timing}; sample i of each was taken in the same turn (see `speedup`).
    """
    require_int("warmup", warmup, 0)
    require_int("repeats", repeats, 1)
    if not fns:
        raise InputError("fns is empty: give at least one function to time.")
    samples: dict[str, list[float]] = {name: [] for name in fns}
    for turn in range(warmup + repeats):
        for name, fn in fns.items():
            wait_for_device()
            start = clock() if turn >= warmup else 0.0
            fn()
            wait_for_device()
            if turn >= warmup:
                samples[name].append((clock() - start) * 1e3)
    return {name: Timing.of(values) for name, values in samples.items()}


def speedup(slow: Timing, fast: Timing) -> Rate:
    """Give how many times faster `fast` is than `slow`, turn by turn, from one `time_paired`.

    ratio of turn i = slow.samples_ms[i] / fast.samples_ms[i]; the median and quartiles of these.

    Raises InputError when the two were not timed in the same turns.

    >>> speedup(Timing.of([10.0, 22.0, 30.0]), Timing.of([5.0, 11.0, 10.0])).median
    2.0
    """
    if not slow.samples_ms or len(slow.samples_ms) != len(fast.samples_ms):
        raise InputError(
            f"slow and fast have {len(slow.samples_ms)} and {len(fast.samples_ms)} samples: time "
            "both in one call of time_paired, so that they can be compared turn by turn."
        )
    pairs = zip(slow.samples_ms, fast.samples_ms, strict=True)
    return Rate.of([a / b for a, b in pairs])


def wait_for_device() -> None:
    """Wait until a GPU has finished; its calls return before the work is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
