"""Freed pieces leave the process: what measurements and long runs need of the allocator."""

from __future__ import annotations

import ctypes
import gc
import json
import sys

import pytest

from shrinkkit.system import allocator
from shrinkkit.system.allocator import give_back, large_pieces_given_back
from tests.processes import run_python

SCRIPT = """
import json, psutil
from shrinkkit.system.allocator import large_pieces_given_back

def given_back():
    '''Make 16 pieces of 8 MiB, free every second one, return by how many MiB memory fell.'''
    pieces = [bytearray(b"x" * (8 * 2**20)) for _ in range(16)]
    before = psutil.Process().memory_info().rss
    del pieces[::2]
    return (before - psutil.Process().memory_info().rss) / 2**20

with large_pieces_given_back():
    lean = given_back()
usual = given_back()  # afterwards, glibc keeps pieces of up to 32 MiB again
print(json.dumps([usual, lean]))
"""


def test_gaps_between_pieces_in_use_are_given_back():
    usual, lean = json.loads(run_python("-c", SCRIPT).stdout)
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        assert lean > 60
        assert usual < 32  # without this, the line above would show nothing
    else:
        assert usual >= 0 <= lean  # another allocator; the work runs all the same


def test_what_was_there_is_not_looked_at_until_the_end(monkeypatch):
    counts = iter([0, 1])  # as in a process in which nothing is frozen, then one in which all is
    done = []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: next(counts))
    for name in ("freeze", "unfreeze"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))

    @large_pieces_given_back()
    def fails():
        with large_pieces_given_back():  # what others froze stays as it is
            done.append("work")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert done == ["freeze", "work", "unfreeze"]


def test_another_c_library_is_left_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(allocator, "_libc", asked.append)  # returns None: there is no such function
    with large_pieces_given_back():
        give_back()
    assert asked == ["mallopt", "malloc_trim"]
