"""Measure the energy of a piece of work, or say plainly that it cannot be measured.

Three cases, and the result always says which one it is:

- `rapl`: Linux on Intel or AMD, where the processor counts its own energy and the counters may be
  read (on most systems only by the administrator since 2020; never in a virtual machine). This is
  a measurement, of the whole processor and its memory: other programs are in it. They are read
  here, because codecarbon adds an estimate for memory to what it reads from them.
- `estimated`: codecarbon (offline: nothing leaves the machine) multiplies the processor time used
  by a power rating from a table. Good for saying "a tenth of"; do not quote the joules themselves.
- `not available`: neither. `joules` is None, never a guess and never 0.

Short work is repeated until it has taken `min_seconds`, because counters tick slowly; results are
per call. To compare models, divide by what was done: joules per token, not joules per second.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shrinkkit.errors import InputError

RAPL_FOLDER = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Energy of one call: `joules` (None if unknown), `source`, `note`, `seconds`, `n_calls`."""

    joules: float | None
    source: str
    note: str
    seconds: float
    n_calls: int

    def __str__(self) -> str:
        """Read as '12.3 J (estimated)'."""
        return "not available" if self.joules is None else f"{self.joules:.3g} J ({self.source})"


def measure_energy(
    fn: Callable[[], Any], *, min_seconds: float = 2.0, rapl_folder: Path = RAPL_FOLDER
) -> Energy:
    """Run a function and give the energy of one call, with where the number comes from.

    fn: called without arguments, as often as needed to fill min_seconds.
    min_seconds: shortest time to measure over; below a second the numbers are noise.
    rapl_folder: where Linux shows the processor's counters.
    Returns Energy; source 'rapl', 'estimated' or 'not available'.
    Raises InputError when fn cannot be called or min_seconds is negative.
    """
    if not callable(fn):
        raise InputError(f"fn is a {type(fn).__name__}: give a function to call, not its result.")
    if not isinstance(min_seconds, (int, float)) or not min_seconds >= 0:
        raise InputError(f"min_seconds is {min_seconds!r}: give seconds, 0 or more.")
    counters = _rapl_counters(Path(rapl_folder))
    if counters:
        before = [_read(counter / "energy_uj") for counter in counters]
        seconds, n_calls = _repeat(fn, min_seconds)
        joules = sum(map(_joules_since, counters, before))
        names = ", ".join(_name(counter) for counter in counters)
        note = f"measured by the processor ({names}); everything that ran meanwhile is in it"
        return Energy(joules / n_calls, "rapl", note, seconds, n_calls)
    return _estimate(fn, min_seconds)


def _repeat(fn: Callable[[], Any], min_seconds: float) -> tuple[float, int]:
    """Call fn until min_seconds have passed; give (seconds a call, calls)."""
    start, n_calls = time.perf_counter(), 0
    while n_calls == 0 or time.perf_counter() - start < min_seconds:
        fn()
        n_calls += 1
    return (time.perf_counter() - start) / n_calls, n_calls


def _rapl_counters(folder: Path) -> list[Path]:
    """Find the readable counters of whole processors and their memory.

    A package's count contains its cores', and psys contains the packages': each joule once.
    """
    found = []
    for counter in sorted(folder.glob("intel-rapl:*")):
        try:
            if _name(counter).startswith(("package", "dram")):
                _read(counter / "energy_uj")
                found.append(counter)
        except (OSError, ValueError):  # not ours to read
            return []
    return found


def _name(counter: Path) -> str:
    return (counter / "name").read_text(encoding="ascii").strip()


def _read(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _joules_since(counter: Path, before: int) -> float:
    """Give the joules since `before`; a counter that ran over starts again at 0."""
    used = _read(counter / "energy_uj") - before
    if used < 0:
        used += _read(counter / "max_energy_range_uj")
    return used / 1e6


def _estimate(fn: Callable[[], Any], min_seconds: float) -> Energy:
    """Let codecarbon estimate from processor time and a table of power ratings."""
    tracker = _tracker()
    if tracker is None:
        seconds, n_calls = _repeat(fn, min_seconds)
        note = (
            "no readable energy counters, and codecarbon is not installed: pip install codecarbon"
        )
        return Energy(None, "not available", note, seconds, n_calls)
    with _silence():
        tracker.start()
    try:
        seconds, n_calls = _repeat(fn, min_seconds)
    finally:
        with _silence():
            tracker.stop()
    data = getattr(tracker, "final_emissions_data", None)
    joules = getattr(data, "energy_consumed", 0.0) * 3.6e6 if data is not None else 0.0
    if not joules > 0:
        note = "no readable energy counters, and codecarbon knows no power rating for this machine"
        return Energy(None, "not available", note, seconds, n_calls)
    note = "estimated by codecarbon from processor time and a table of power ratings; not measured"
    return Energy(joules / n_calls, "estimated", note, seconds, n_calls)


def _tracker() -> Any | None:
    """Set codecarbon up so that it neither writes, nor prints, nor asks the network."""
    try:
        with _silence():
            from codecarbon import OfflineEmissionsTracker

            return OfflineEmissionsTracker(
                country_iso_code="USA",  # needed to stay offline; only its CO2 figure depends on it
                tracking_mode="process",
                measure_power_secs=1,
                allow_multiple_runs=True,
                save_to_file=False,
                save_to_api=False,
                save_to_logger=False,
                log_level="critical",
            )
    except ImportError:
        return None


@contextmanager
def _silence() -> Iterator[None]:
    """Keep codecarbon's start-up messages and warnings out of the notebook."""
    logger = logging.getLogger("codecarbon")
    level = logger.level
    with (
        open(os.devnull, "w", encoding="utf-8") as null,
        redirect_stdout(null),
        redirect_stderr(null),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
