"""Nothing half-written: full disks, killed processes, two writers, whatever was there before."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest
from platformdirs import windows
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from safetensors import SafetensorError

from shrinkkit.errors import ShrinkkitError, StorageError
from shrinkkit.system import files
from shrinkkit.system.files import (
    cache_dir,
    data_dir,
    lock,
    results_dir,
    sha256_of,
    size_of,
    write_atomically,
)
from tests.processes import run_python


def contents(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def write_folder(path: Path, name: str) -> None:
    with write_atomically(path) as temporary:
        temporary.mkdir()
        (temporary / name).write_text(name)


def write_and_fail(path: Path, make: Callable[[Path], object], error: Exception) -> None:
    with write_atomically(path) as temporary:
        make(temporary)
        raise error


def hold(path: Path, timeout_s: float) -> None:
    with lock(path, timeout_s=timeout_s):
        pass


def test_folders_follow_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHRINKKIT_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("SHRINKKIT_RESULTS", str(tmp_path / "r"))
    assert cache_dir() == tmp_path / "c"
    assert results_dir() == tmp_path / "r"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (Unix, ".cache/shrinkkit"),
        (MacOS, "Library/Caches/shrinkkit"),
        (windows.Windows, "local/shrinkkit"),
    ],
    ids=["linux", "mac", "windows"],
)
def test_the_users_cache(
    system: type, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SHRINKKIT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    # only Windows can be asked for its folders; the environment says the same
    monkeypatch.setattr(windows, "get_win_folder", windows.get_win_folder_from_env_vars)
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    assert cache_dir() == tmp_path / expected


def test_the_users_own_choice_of_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHRINKKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg/shrinkkit"


def test_data_lies_in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHRINKKIT_RESULTS", raising=False)
    assert (data_dir() / "assets.txt").is_file()
    assert results_dir() == data_dir() / "results"


def test_data_of_an_installed_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_cache: Path
) -> None:
    monkeypatch.delenv("SHRINKKIT_RESULTS", raising=False)
    monkeypatch.setattr(
        files, "__file__", str(tmp_path / "site-packages/shrinkkit/system/files.py")
    )
    assert data_dir() == tmp_path / "site-packages/shrinkkit/_data"
    assert results_dir() == isolated_cache / "results"


def test_sha256_and_size(tmp_path: Path) -> None:
    body = os.urandom(3_000_001)  # more than one read of the file
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(body)
    (tmp_path / "b.bin").write_bytes(b"12345")
    assert sha256_of(tmp_path / "sub" / "a.bin") == hashlib.sha256(body).hexdigest()
    assert size_of(tmp_path) == 3_000_006
    assert size_of(tmp_path / "missing") == 0


def test_writes_a_file_and_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.json"
    for body in ("one", "two"):
        with write_atomically(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".json"
            temporary.write_text(body)
        assert path.read_text() == body
    assert contents(tmp_path) == ["deep", "deep/rows.json"]


def test_writes_a_folder_and_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("old.txt", "new.txt"):
        write_folder(path, name)
    assert contents(tmp_path) == ["model", "model/new.txt"]


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_a_failure_keeps_the_old_one(tmp_path: Path, as_folder: bool) -> None:
    path = tmp_path / "thing"

    def make(where: Path, body: str) -> None:
        if as_folder:
            where.mkdir()
            where = where / "part"
        where.write_text(body)

    make(path, "old")
    before = contents(tmp_path)
    with pytest.raises(KeyError):  # the caller's own error is passed on
        write_and_fail(path, lambda temporary: make(temporary, "half"), KeyError())
    assert contents(tmp_path) == before
    assert (path / "part" if as_folder else path).read_text() == "old"


def test_a_failed_swap_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").touch()
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(source).joinpath("new").exists():
            raise OSError(errno.EIO, "the disk broke")
        real(source, target)

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(OSError, match="the disk broke"):
        write_folder(path, "new")
    assert contents(tmp_path) == ["model", "model/old"]


def test_writing_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ShrinkkitError, match="Nothing was written"),
        write_atomically(tmp_path / "x"),
    ):
        pass


FULL = r"disk is full.*More than [\d,]+ bytes are.*free"


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "!"), StorageError, FULL),
        (OSError(errno.EDQUOT, "!"), StorageError, FULL),
        (OSError(errno.EFBIG, "!"), StorageError, FULL),
        (SafetensorError("No space left on device (os error 28)"), StorageError, FULL),
        (PermissionError(errno.EACCES, "!"), StorageError, "does not allow it.*SHRINKKIT_CACHE"),
        (IsADirectoryError(errno.EISDIR, "not about room"), IsADirectoryError, "not about room"),
    ],
    ids=["full", "quota", "size limit", "full, says safetensors", "not allowed", "other"],
)
def test_what_goes_wrong_is_said_plainly(
    tmp_path: Path, error: Exception, kind: type[Exception], says: str
) -> None:
    path = tmp_path / "model.bin"
    path.write_text("old")
    with pytest.raises(kind, match=says):
        write_and_fail(path, lambda temporary: temporary.write_text("12345"), error)
    assert contents(tmp_path) == ["model.bin"]
    assert path.read_text() == "old"


def test_a_disk_known_to_be_too_small_is_refused_at_once(tmp_path: Path) -> None:
    writing = write_atomically(tmp_path / "x", needed_bytes=10**15)
    with pytest.raises(StorageError, match=r"1,000,000,000,000,000 bytes are needed"):
        writing.__enter__()
    assert contents(tmp_path) == []


def test_a_real_size_limit_leaves_nothing(tmp_path: Path) -> None:
    code = """
import resource, sys, numpy
from safetensors.numpy import save_file
from shrinkkit.errors import StorageError
from shrinkkit.system.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (
    lambda path: save_file({"w": numpy.zeros(1_000_000)}, path),
    lambda path: path.write_bytes(bytes(1_000_000)),
):
    try:
        with write_atomically(sys.argv[1] + "/model.safetensors") as temporary:
            write(temporary)
    except StorageError as error:
        print(error)
"""
    done = run_python("-c", code, tmp_path)
    assert done.stdout.count("disk is full or a size limit was reached") == 2, done.stderr
    assert contents(tmp_path) == []


def test_old_leftovers_go_and_fresh_ones_stay(tmp_path: Path) -> None:
    old, fresh = tmp_path / f".tmp-{'a' * 12}-model", tmp_path / f".tmp-{'b' * 12}-model"
    other = tmp_path / f".tmp-{'c' * 12}-another-model"
    for folder in (old, fresh, other):
        folder.mkdir()
        (folder / "part").touch()
    two_days_ago = time.time() - 2 * 24 * 3600
    for folder in (old, other):
        os.utime(folder, (two_days_ago, two_days_ago))
    with write_atomically(tmp_path / "model") as temporary:
        temporary.touch()
    assert not old.exists()
    assert fresh.exists()
    assert other.exists()


def test_lock_excludes_threads(tmp_path: Path) -> None:
    log: list[str] = []

    def work() -> None:
        with lock(tmp_path / "x"):
            log.append("in")
            time.sleep(0.02)
            log.append("out")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["in", "out"] * 4


def test_lock_gives_up_with_a_message(tmp_path: Path) -> None:
    with lock(tmp_path / "x"), pytest.raises(StorageError, match=r"still locked after 0\.1 s"):
        hold(tmp_path / "x", timeout_s=0.1)
    hold(tmp_path / "x", timeout_s=0.1)  # free again
