"""Timing with a clock that the test winds: what counts, in which order, and how it is summed."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkkit.errors import InputError
from shrinkkit.measure import Rate, Timing, speedup, time_call, time_paired
from shrinkkit.measure.timing import spread


def test_warm_up_is_not_counted(clock):
    timing = time_call(clock.takes(9, 9, 0.001, 0.002, 0.003), warmup=2, repeats=3, clock=clock)
    assert timing.median_ms == pytest.approx(2.0)
    assert timing.n == 3
    assert timing.samples_ms == pytest.approx((1.0, 2.0, 3.0))


def test_one_hiccup_does_not_move_the_median(clock):
    timing = time_call(clock.takes(1, 1, 1, 1, 60), warmup=0, repeats=5, clock=clock)
    assert timing.median_ms == pytest.approx(1000.0)
    assert timing.high_ms == pytest.approx(1000.0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 10, 11])
def test_spread_equals_numpy(n):
    samples = np.random.default_rng(n).exponential(size=n)
    expected = np.quantile(samples, [0.5, 0.25, 0.75])
    assert spread(samples.tolist()) == pytest.approx(tuple(expected))


def test_paired_calls_take_turns():
    order = []
    fns = {name: lambda name=name: order.append(name) for name in "ABC"}
    timings = time_paired(fns, warmup=1, repeats=2)
    assert "".join(order) == "ABC" * 3
    assert list(timings) == ["A", "B", "C"]
    assert all(timing.n == 2 and min(timing.samples_ms) >= 0 for timing in timings.values())


def test_speedup_compares_within_each_turn(clock):
    # The machine is three times slower in the second turn; the ratio stays 2.
    fns = {"slow": clock.takes(2, 6, 2), "fast": clock.takes(1, 3, 1)}
    timings = time_paired(fns, warmup=0, repeats=3, clock=clock)
    assert speedup(timings["slow"], timings["fast"]) == Rate(2.0, 2.0, 2.0, 3)


def test_a_timing_reads_well():
    assert str(Timing.of([12.0, 12.5, 13.0])) == "12.5 ms (12.2-12.8, n = 3)"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"repeats": 0}, "repeats"), ({"warmup": -1}, "warmup"), ({"repeats": 1.5}, "repeats")],
    ids=["no-repeats", "negative-warmup", "half-a-repeat"],
)
def test_bad_counts_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        time_call(lambda: None, **options)


def test_nothing_to_time_and_other_turns_are_refused():
    with pytest.raises(InputError, match="time_paired"):
        speedup(Timing.of([1.0, 2.0]), Timing.of([1.0]))
    with pytest.raises(InputError, match="fns"):
        time_paired({})
    with pytest.raises(InputError, match="samples"):
        Rate.of([])
