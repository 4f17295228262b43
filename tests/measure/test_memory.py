"""Peak memory: work of known size is seen, by each of the three methods, here and elsewhere."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.measure import memory, peak_rss

SIZE = 128 * 2**20


def hold_and_drop():
    """Fill 128 MiB for a moment; hold nothing at the end."""
    block = np.ones(SIZE, dtype=np.uint8)
    time.sleep(0.2)  # long enough for a thread that looks every 2 ms, on a busy machine too
    return int(block[-1])


def near(peak):
    return 0.9 * SIZE < peak.increase_bytes < 1.5 * SIZE


def test_a_peak_that_is_gone_at_the_end_is_seen():
    peak = peak_rss(hold_and_drop)
    assert near(peak)
    assert peak.bytes == peak.baseline_bytes + peak.increase_bytes


def test_each_measurement_starts_afresh():
    assert near(peak_rss(hold_and_drop))
    assert peak_rss(lambda: None).increase_bytes < SIZE / 4


def test_sampling_sees_it_too(monkeypatch):
    monkeypatch.setattr(memory, "_reset_kernel_peak", lambda: False)
    monkeypatch.setattr(memory, "_lifetime_peak", lambda: 10**15)  # never rises
    peak = peak_rss(hold_and_drop)
    assert peak.method == "sampled"
    assert near(peak)


def test_a_risen_lifetime_peak_is_used(monkeypatch):
    monkeypatch.setattr(memory, "_reset_kernel_peak", lambda: False)
    marks = iter([100, 10**12, 10**12])
    monkeypatch.setattr(memory, "_lifetime_peak", lambda: next(marks))
    peak = peak_rss(lambda: None)
    assert (peak.bytes, peak.method) == (10**12, "lifetime")


def test_a_fresh_process_knows_nothing_of_this_one():
    ballast = np.ones(SIZE, dtype=np.uint8)
    peak = peak_rss(np.ones, SIZE // 8, fresh_process=True)  # eight bytes each
    assert near(peak)
    here = memory.psutil.Process().memory_info().rss
    assert peak.baseline_bytes < here - SIZE / 2
    assert ballast[0] == 1


def test_a_function_may_print_in_the_fresh_process():
    assert peak_rss(print, "peak_rss:{}", fresh_process=True).bytes > 0


def test_errors_are_passed_on():
    with pytest.raises(ZeroDivisionError):
        peak_rss(lambda: 1 / 0)
    with pytest.raises(ShrinkkitError, match=r"json\.loads failed"):
        peak_rss(json.loads, "{", fresh_process=True)


def test_what_a_fresh_process_cannot_find_is_refused():
    with pytest.raises(InputError, match="cannot import"):
        peak_rss(lambda: None, fresh_process=True)
    with pytest.raises(InputError, match="numbers, texts"):
        peak_rss(np.ones, object(), fresh_process=True)
    with pytest.raises(InputError, match="function to call"):
        peak_rss(3)
