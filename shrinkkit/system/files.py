"""Where files live, and how one is written so that nobody ever reads half of it.

A model unpacked to fp32 is 540 MB. A laptop that runs out of disk, a kernel that is restarted
in the middle, or two notebooks that load the same model at once must not leave a file that
looks whole and is not. The recipe is the one databases use:

1. take a lock, so that of two processes one works and the other waits for the result;
2. write to a temporary name in the same folder;
3. fsync, so the bytes are on the disk and not only in memory;
4. rename to the real name: the operating system does this in one step or not at all.

Whatever fails on the way, the temporary is removed and the old file is still there. A process
that is killed outright cannot tidy up; the next writer of the same name removes leftovers that
are more than a day old.

Three folders matter: the cache (`SHRINKKIT_CACHE`; may be deleted at any time), the course's
data (read only) and the results that lessons record (`SHRINKKIT_RESULTS`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from shrinkkit.errors import ShrinkkitError, StorageError

_LEFTOVER_AGE_S = 24 * 3600
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def cache_dir() -> Path:
    """Return the folder for what can be made again: SHRINKKIT_CACHE, else the user's cache."""
    given = os.environ.get("SHRINKKIT_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    return user_cache_path("shrinkkit", appauthor=False, opinion=False)


def _checkout_data() -> Path | None:
    """Return the checkout's data folder, or None when the package was installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    return (
        root / "data" if (root / "data").is_dir() and (root / "pyproject.toml").is_file() else None
    )


def data_dir() -> Path:
    """Return the course's data: data/ of the checkout, else the copy inside the package."""
    return _checkout_data() or Path(__file__).resolve().parents[1] / "_data"


def results_dir() -> Path:
    """Return where measured rows are kept: SHRINKKIT_RESULTS, else the checkout, else the cache."""
    given = os.environ.get("SHRINKKIT_RESULTS")
    if given:
        return Path(given).expanduser().absolute()
    checkout = _checkout_data()
    return checkout / "results" if checkout else cache_dir() / "results"


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits (about a second for 500 MB)."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def size_of(path: str | Path) -> int:
    """Return the bytes of a file, or of all the files in a folder."""
    path = Path(path)
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size if path.exists() else 0


@contextmanager
def write_atomically(
    path: str | Path, *, needed_bytes: int | None = None, replaces: Iterable[str] | None = None
) -> Iterator[Path]:
    """Yield a temporary path; what stands there at the end becomes `path` in one step.

    The caller makes either a file or a folder at the yielded path, which lies in the same
    folder and keeps the file's ending. On any exception nothing remains and an older `path`
    is untouched. (An older *folder* has to be moved aside first, so there it is two steps:
    readers of folders should hold `lock(path)`.)

    path: the final name, "~" and links followed. Its parent folders are made.
    needed_bytes: bytes about to be written, when known: a disk with less room is then refused
        before any work is done.
    replaces: names inside an older folder that go with it; all others are kept, as links or copies
        in the new one. None: the folder goes as a whole.
    Raises StorageError: the disk is full, or the folder may not be written to.
    """
    path = Path(path).expanduser().resolve()
    with _plain_storage_errors(path, needed_bytes):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        if needed_bytes is not None and shutil.disk_usage(path.parent).free < needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        with _plain_storage_errors(path, needed_bytes, temporary):
            yield temporary
            if not temporary.exists():
                raise ShrinkkitError(f"Nothing was written to {temporary}, so {path} is unchanged.")
            if replaces is not None and path.is_dir():
                _keep_others(path, temporary, set(replaces))
            _sync(temporary)
            _replace(temporary, path)
    finally:
        _remove(temporary)


@contextmanager
def lock(path: str | Path, *, timeout_s: float = 900.0) -> Iterator[None]:
    """Hold the right to write `path`, among all processes (and threads) of this machine.

    An advisory lock on `<path>.lock` beside it: the operating system frees it when the holder
    ends, however it ends, so no stale lock is ever left.

    path: what is about to be written; it need not exist.
    timeout_s: seconds to wait for another holder.
    Raises StorageError: still held after `timeout_s`, or the folder may not be written to.
    """
    path = Path(path).absolute()
    held = FileLock(path.with_name(path.name + ".lock"))
    with _plain_storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=timeout_s)
        except Timeout:
            raise StorageError(
                f"{path} is being written by another process and was still locked after "
                f"{timeout_s:g} s. Wait for that process, or end it, and try again."
            ) from None
    try:
        yield
    finally:
        held.release()


def _sync(path: Path) -> None:
    """Ask the operating system to put a file, or a folder's files, on the disk now."""
    parts = [path, *path.rglob("*")] if path.is_dir() else [path]
    for part in parts:
        if part.is_file():
            # Windows flushes only what is open for writing; elsewhere a read-only file will do.
            with open(part, "rb+" if os.name == "nt" else "rb") as stream:
                os.fsync(stream.fileno())
        elif os.name != "nt":
            descriptor = os.open(part, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _keep_others(old: Path, new: Path, replaced: set[str]) -> None:
    """Bring over to a new folder what an older one holds beside the files that are replaced."""
    for part in old.iterdir():
        if part.name in replaced or (new / part.name).exists():
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.copytree(part, new / part.name, copy_function=_link, symlinks=True)
        else:
            _link(part, new / part.name)


def _link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; copy it where the disk knows no such thing."""
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def _replace(temporary: Path, path: Path) -> None:
    """Rename `temporary` to `path`; an older folder is moved aside and put back on failure."""
    if not path.is_dir():
        os.replace(temporary, path)
        return
    aside = path.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{path.name}")
    os.replace(path, aside)
    try:
        os.replace(temporary, path)
    except BaseException:
        os.replace(aside, path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed process left behind when it was writing the same name."""
    for leftover in path.parent.glob(".tmp-*"):
        if re.fullmatch(r"\.tmp-[0-9a-f]{12}-" + re.escape(path.name), leftover.name):
            with suppress(OSError):
                if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE_S:
                    _remove(leftover)


@contextmanager
def _plain_storage_errors(
    path: Path, needed_bytes: int | None = None, temporary: Path | None = None
) -> Iterator[None]:
    """Turn "no space left" and "permission denied" into a StorageError that says what to do."""
    try:
        yield
    except ShrinkkitError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        # safetensors writes from Rust and raises a class of its own, the code in its text.
        if code is None and (found := re.search(r"\(os error (\d+)\)", str(error))):
            code = int(found[1])
        if code not in _FULL | _DENIED:
            raise
        where = next(parent for parent in path.parents if parent.exists())
        if code in _DENIED:
            raise StorageError(
                f"{path} cannot be written: {where} does not allow it. Choose another folder "
                "(SHRINKKIT_CACHE sets the cache, SHRINKKIT_RESULTS the results)."
            ) from error
        free = shutil.disk_usage(where).free
        written = size_of(temporary) if temporary else 0
        # A library may have removed what it wrote; all that is free now was not enough then.
        too_little = written if code == errno.EFBIG else max(written, free)
        needed = f"{needed_bytes:,}" if needed_bytes else f"More than {too_little:,}"
        raise StorageError(
            f"{path} was not written: the disk is full or a size limit was reached. {needed} "
            f"bytes are needed and {free:,} bytes are free in {where}. Nothing half-written was "
            "left. Make room, or set SHRINKKIT_CACHE to a folder on a disk with more of it."
        ) from error
