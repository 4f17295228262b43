"""Measure the most memory that a piece of work takes while it runs.

`size.resident_bytes` counts a model's own tensors. Running it takes more: activations, the KV
cache, copies that exist for a moment while loading. What decides whether a machine can do the work
at all is the peak of the whole process, its resident set (RSS): the pages of real memory that
it holds.

How the peak is found, best way first:

- `kernel` (Linux): the operating system keeps a high-water mark for each process; it is reset
  before and read after. Nothing is missed.
- `lifetime` (macOS, Windows, and Linux where resetting is not allowed): the high-water mark since
  the process began, used when the work raised it.
- `sampled`: otherwise a thread looks every 2 ms and keeps the largest value; a shorter spike
  between two looks is missed, so this is a lower bound.

Memory that Python freed is often kept by the allocator for later, and work that fits into it adds
nothing to the process. For a number that does not depend on what ran before, use
`peak_rss(fn, ..., fresh_process=True)`. Memory that was swapped out or lies on a GPU is not in RSS
(`torch.cuda.max_memory_allocated` counts the latter), and pages of a file that is mapped into
memory count only once they are touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import psutil

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.system.allocator import give_back

_INTERVAL_S = 0.002
_MARK = "peak_rss:"
# Runs this file by itself: importing the package would bring torch in, and its 200 MB.
_CHILD = "import runpy, sys; runpy.run_path(sys.argv[1])['_serve']()"


@dataclass(frozen=True)
class PeakMemory:
    """Peak `bytes` of the process, `baseline_bytes` before the work, and `method` (see above)."""

    bytes: int
    baseline_bytes: int
    method: str

    @property
    def increase_bytes(self) -> int:
        """What the work added at its peak.

        >>> PeakMemory(bytes=300, baseline_bytes=100, method="kernel").increase_bytes
        200
        """
        return max(self.bytes - self.baseline_bytes, 0)


def peak_rss(fn: Callable[..., Any], *args: Any, fresh_process: bool = False) -> PeakMemory:
    """Run a function and give the peak memory of the process while it ran.

    fn: the work; its result is dropped.
    args: what to call it with.
    fresh_process: run it in a new Python process, started for this. fn must then be a function
        that can be imported by its name (not one written in the notebook), and args plain values:
        numbers, texts, lists. The baseline is taken after fn's module was imported.
    Returns PeakMemory.
    Raises InputError when a fresh process could not find fn or take args; ShrinkkitError when fn
        fails in there. In this process, fn's own error is passed on.

    >>> peak_rss(bytearray, 50_000_000).increase_bytes > 40_000_000
    True
    """
    if not callable(fn):
        raise InputError(f"fn is a {type(fn).__name__}: give a function to call, not its result.")
    if fresh_process:
        return _in_fresh_process(fn, args)
    return _here(fn, args)


def _here(fn: Callable[..., Any], args: tuple) -> PeakMemory:
    """Measure in this process."""
    give_back()
    resets = _reset_kernel_peak()
    lifetime = _lifetime_peak()
    baseline = psutil.Process().memory_info().rss
    with _Sampler() as sampler:
        result = fn(*args)
    after = psutil.Process().memory_info().rss
    if resets:
        peak, method = _kernel_peak(), "kernel"
    elif _lifetime_peak() > lifetime:
        peak, method = _lifetime_peak(), "lifetime"
    else:
        peak, method = sampler.largest, "sampled"
    del result
    return PeakMemory(max(peak, after, baseline), baseline, method)


class _Sampler:
    """A thread that keeps the largest RSS it sees."""

    def __init__(self) -> None:
        self.largest = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._stop.is_set():
            self.largest = max(self.largest, process.memory_info().rss)
            self._stop.wait(_INTERVAL_S)

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._stop.set()
        self._thread.join()


def _reset_kernel_peak() -> bool:
    """Set Linux's high-water mark back to the present; False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _kernel_peak() > 0
    except (OSError, ValueError):
        return False


def _kernel_peak() -> int:
    """Read Linux's high-water mark (VmHWM) in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _lifetime_peak() -> int:
    """Give the largest RSS since the process began, in bytes."""
    if os.name == "nt":
        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _in_fresh_process(fn: Callable[..., Any], args: tuple) -> PeakMemory:
    """Measure in a new Python process, which gets the function's name and the arguments as JSON."""
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", "")
    if module in (None, "__main__") or "<" in name:
        raise InputError(
            f"fn is {name or fn!r}, which a fresh process cannot import: move it into a .py file, "
            "or measure in this process with fresh_process=False."
        )
    try:
        job = json.dumps({"module": module, "name": name, "args": args})
    except (TypeError, ValueError) as problem:
        raise InputError(
            f"args hold something that cannot be handed to a fresh process ({problem}): give "
            "numbers, texts and lists, such as a model's name, and load the model inside fn."
        ) from problem
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # '' is this folder
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, __file__],
        input=job,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode != 0 or not answers:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ShrinkkitError(
            f"{module}.{name} failed in the fresh process: {reason}. An exit status of -9 means "
            "that the system ended it, most often because memory ran out."
        )
    return PeakMemory(**json.loads(answers[-1].removeprefix(_MARK)))


def _serve() -> None:
    """Do the job that stands on the standard input (runs in the fresh process)."""
    job = json.load(sys.stdin)
    fn = attrgetter(job["name"])(import_module(job["module"]))
    peak = _here(fn, tuple(job["args"]))
    print(_MARK + json.dumps(vars(peak)), flush=True)
