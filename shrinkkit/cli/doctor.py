"""Is this machine ready for the course? One finding per question, each with what to do.

Most trouble with a course is the set-up: an old Python, a missing model, a full disk, a network
that is not there. So every question that the lessons depend on is asked here, before a lesson
fails over it, and each answer is one line: what was looked at, what was found, and what to do
about it. Three states:

- `ok`: as it should be. Being offline is ok, and so is having no GPU: the course needs neither.
- `note`: the course runs, but slower or with less; the advice says what would help.
- `wrong`: something essential is missing; `shrinkkit doctor` then ends with exit code 1.

`examine()` only looks. It writes one empty file into the cache folder and removes it, and asks
the model hub for one answer, for at most a few seconds; nothing is installed or changed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import psutil
from packaging.requirements import Requirement
from packaging.version import Version

from shrinkkit.sources.assets import AssetStatus, asset_status
from shrinkkit.system.files import cache_dir
from shrinkkit.system.hardware import cpu_features, usable_cores

State = Literal["ok", "note", "wrong"]
GB = 10**9
# SmolLM2 unpacked to fp32 takes 0.54 GB on disk; a lesson holds up to three copies in memory.
DISK_NEEDED_BYTES, DISK_WISHED_BYTES = 0.7 * GB, 3 * GB
MEMORY_NEEDED_BYTES, MEMORY_WISHED_BYTES = 1.5 * GB, 4 * GB
HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says what to do and is empty when there is nothing."""

    topic: str
    state: State
    found: str
    advice: str = ""


def examine(*, online: bool = True) -> list[Finding]:
    """Return every finding about this machine, in reading order.

    online: also ask whether the model hub is reachable.
    """
    findings = [python(), torch_version(), *packages(), cores(), memory(), cpu(), gpu()]
    findings += map(asset, asset_status())
    findings += [cache_folder(), disk()]
    return [*findings, hub()] if online else findings


def is_ready(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing essential is wrong.

    >>> is_ready([Finding("GPU", "ok", "none"), Finding("cores", "note", "1")])
    True
    >>> is_ready([Finding("torch", "wrong", "not installed")])
    False
    """
    return all(finding.state != "wrong" for finding in findings)


def show(findings: Iterable[Finding]) -> None:
    """Print the findings as a table, and a last line that sums them up."""
    from rich.console import Console
    from rich.table import Table

    findings = list(findings)
    styles = {"ok": "green", "note": "yellow", "wrong": "bold red"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for title in ("looked at", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        state = f"[{styles[finding.state]}]{finding.state}[/]"
        table.add_row(state, *map(_plain, (finding.topic, finding.found, finding.advice)))
    console = Console(highlight=False)
    console.print(table)
    n_wrong = sum(finding.state == "wrong" for finding in findings)
    console.print(
        f"\n{n_wrong} thing(s) to mend before the course runs: see the lines marked 'wrong'."
        if n_wrong
        else "\nReady. `make lab` opens the first lesson."
    )


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # rich reads square brackets as styles


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Look at the version of Python."""
    found = ".".join(map(str, version))
    if (3, 10) <= version[:2] <= (3, 13):
        return Finding("Python", "ok", found)
    return Finding(
        "Python", "wrong", found, "install Python 3.10 to 3.13, then `make lab PYTHON=python3.12`"
    )


def torch_version() -> Finding:
    """Look whether torch can be imported, and in which version."""
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "run `make lab`, or `pip install torch`"
        return Finding("torch", "wrong", f"cannot be imported: {error}", advice)
    if Version(torch.__version__) < Version("2.6"):
        return Finding("torch", "wrong", torch.__version__, "`pip install 'torch>=2.6'`")
    return Finding("torch", "ok", torch.__version__)


def packages() -> Iterator[Finding]:
    """Look whether what shrinkkit asks for is installed, and what its lessons ask for."""
    try:
        wanted = [Requirement(line) for line in importlib.metadata.requires("shrinkkit") or ()]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("shrinkkit", "wrong", "is not installed", "run `make lab`")
        return
    own = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    course = [one for one in wanted if one not in own and one.marker.evaluate({"extra": "course"})]
    yield _presence("packages", own, "wrong")
    yield _presence("packages of the lessons", course, "note")


def _presence(topic: str, wanted: list[Requirement], otherwise: State) -> Finding:
    lacking = [f"{one.name}{one.specifier}" for one in wanted if not _satisfied(one)]
    if not lacking:
        return Finding(topic, "ok", f"all {len(wanted)} there")
    advice = "run `make lab`, or `pip install " + " ".join(f"'{name}'" for name in lacking) + "`"
    return Finding(topic, otherwise, f"missing or too old: {', '.join(lacking)}", advice)


def _satisfied(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def cores(n: int | None = None) -> Finding:
    """Look at the processor's cores that this process may use."""
    n = usable_cores() if n is None else n
    found = f"{n} usable ({platform.machine()})"
    if n >= 2:
        return Finding("cores", "ok", found)
    return Finding("cores", "note", found, "lessons are timed on two cores: expect twice as long")


def memory() -> Finding:
    """Look at the memory that is there and that is free."""
    now = psutil.virtual_memory()
    total, available = now.total, now.available
    found = f"{total / GB:.1f} GB, {available / GB:.1f} GB of it free"
    if available >= MEMORY_WISHED_BYTES:
        return Finding("memory", "ok", found)
    state: State = "note" if available >= MEMORY_NEEDED_BYTES else "wrong"
    advice = f"end other programs; the lessons like {MEMORY_WISHED_BYTES / GB:.0f} GB free"
    return Finding("memory", state, found, advice)


def cpu(flags: Collection[str] | None = None, machine: str | None = None) -> Finding:
    """Look at the instructions that fast kernels use."""
    there, absent = cpu_features(flags, machine)
    found = f"{', '.join(there) or 'none known'}; without {', '.join(absent) or 'nothing'}"
    if there:
        return Finding("CPU features", "ok", found)
    advice = "the numbers will be the same, the speed-ups smaller"
    return Finding("CPU features", "note", found, advice)


def gpu() -> Finding:
    """Look for a GPU that torch can use."""
    try:
        import torch

        if torch.cuda.is_available():
            free_bytes, total_bytes = torch.cuda.mem_get_info()
            found = f"{torch.cuda.get_device_name()}, {free_bytes / GB:.1f} GB of "
            return Finding("GPU", "ok", found + f"{total_bytes / GB:.1f} GB free")
        if torch.backends.mps.is_available():
            return Finding("GPU", "ok", "Apple's (mps)")
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("GPU", "note", f"could not be asked: {error}", "the course runs without")
    return Finding("GPU", "ok", "none, and none is needed")


def asset(status: AssetStatus) -> Finding:
    """Say what became of one embedded model or text."""
    version = f" {status.version}" if status.version else ""
    if status.ok:
        return Finding(status.name, "ok", f"there{version}, hash holds")
    found = f"there{version}, but not the pinned bits" if status.present else "not there"
    return Finding(status.name, "wrong", found, status.fix)


def cache_folder() -> Finding:
    """Look whether the cache folder can be written to."""
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "set SHRINKKIT_CACHE to a folder that you may write to"
        return Finding("cache folder", "wrong", f"{folder}: {error.strerror}", advice)
    return Finding("cache folder", "ok", f"{folder}, writable")


def disk(free: int | None = None) -> Finding:
    """Look at the room on the disk that holds the cache folder (bytes)."""
    folder = cache_dir()
    if free is None:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
    found = f"{free / GB:.1f} GB free for the cache"
    if free >= DISK_WISHED_BYTES:
        return Finding("disk", "ok", found)
    state: State = "note" if free >= DISK_NEEDED_BYTES else "wrong"
    return Finding("disk", state, found, "make room, or set SHRINKKIT_CACHE to another disk")


def hub() -> Finding:
    """Ask whether the model hub answers; the course runs without it."""
    fine = "fine: the embedded models need no network, only other hub names do"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return Finding("model hub", "ok", "switched off by HF_HUB_OFFLINE", fine)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if _answers(endpoint):
        return Finding("model hub", "ok", f"{endpoint} answers")
    return Finding("model hub", "ok", f"{endpoint} is not reachable", fine)


def _answers(address: str) -> bool:
    """Tell whether a web server answers at `address`, in HUB_TIMEOUT_S at most."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            pass  # it said no, so it is there
        except (OSError, ValueError):
            return
        answered.set()

    # A thread of its own: the look-up of a name has no timeout, and may hang when offline.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(HUB_TIMEOUT_S)
    return answered.is_set()
