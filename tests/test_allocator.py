"""Freed pieces leave the process: what measurements and long runs need of the allocator."""

from __future__ import annotations

import ctypes
import gc
import sys

import psutil
import pytest

from shrinkkit import allocator
from shrinkkit.allocator import give_back, large_pieces_given_back

MIB = 2**20
GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")


def resident() -> int:
    """Bytes of memory that this process holds."""
    return psutil.Process().memory_info().rss


def gaps() -> int:
    """Make 16 pieces of 8 MiB, free every second one, and return by how much memory fell."""
    pieces = [bytearray(b"x" * 8 * MIB) for _ in range(16)]
    before = resident()
    del pieces[::2]
    gc.collect()
    return before - resident()


@pytest.mark.skipif(not GLIBC, reason="speaks to glibc")
def test_gaps_between_pieces_in_use_are_given_back():
    with large_pieces_given_back():
        assert gaps() > 60 * MIB
    assert gaps() < 32 * MIB  # glibc keeps them; without that, the test above would show nothing
    give_back()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_libc", lambda function: None)
    with large_pieces_given_back():
        give_back()
