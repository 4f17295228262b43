"""Give freed memory back to the operating system, which allocators do not do by themselves.

The C library keeps what a program frees, to hand it out again: pieces of up to 32 MiB, in gaps
between pieces in use. That is faster, and for once it is in the way: a measurement does not see
work that fits into such gaps, and a run that should be small is larger by them. What is here
speaks to glibc; on other systems it does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD of malloc.h
_LARGE = 2**20  # bytes; pieces from here on come from the system and go back to it
_USUAL = 2**25  # where glibc's own threshold ends up once large pieces were freed


def _libc(function: str) -> Any:
    """Return a function of glibc, or None where there is another C library (or another system)."""
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None


def give_back() -> None:
    """Free what can be freed, and return it to the system.

    Python looks at every object that it knows: 0.1 s and more once torch and transformers are
    loaded, and next to nothing inside `large_pieces_given_back`.
    """
    gc.collect()
    trim = _libc("malloc_trim")
    if trim is not None:
        trim(0)


@contextmanager
def large_pieces_given_back() -> Iterator[None]:
    """While the block runs, let every freed piece of a MiB or more go back to the system at once.

    Costs a few per cent of time. Afterwards the limit is 32 MiB, which is glibc's own after a
    while. What is there at the beginning is not looked at by `give_back` until the end.
    """
    mallopt = _libc("mallopt")
    with _frozen():
        if mallopt is None:
            yield
            return
        give_back()
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
        try:
            yield
        finally:
            mallopt(_MMAP_THRESHOLD, _USUAL)
            mallopt(_TRIM_THRESHOLD, 2 * _USUAL)


@contextmanager
def _frozen() -> Iterator[None]:
    """While the block runs, keep what is there out of garbage collections.

    Where somebody has frozen objects already, theirs stay frozen and nothing is added: Python can
    only thaw all of them at once.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
