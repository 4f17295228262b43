"""A kept folder: built once, checked, rebuilt when damaged, never half there."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import shrinkkit.system.cache
from shrinkkit.errors import StorageError
from shrinkkit.system.cache import MANIFEST, cached_folder, is_whole
from shrinkkit.system.files import lock
from tests.processes import start_python


class Builder:
    """Writes two files and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "weights.bin").write_bytes(bytes(range(256)) * 100)
        (folder / "sub").mkdir()
        (folder / "sub" / "config.json").write_text("{}")


def test_built_once(tmp_path: Path) -> None:
    build = Builder()
    for _ in range(3):
        assert cached_folder(tmp_path / "a", build, source="s") == tmp_path / "a"
    assert build.calls == 1
    assert is_whole(tmp_path / "a", source="s", thorough=True)
    manifest = json.loads((tmp_path / "a" / MANIFEST).read_text())
    assert set(manifest["files"]) == {"weights.bin", "sub/config.json"}
    assert manifest["files"]["weights.bin"]["size_bytes"] == 25_600


def truncate(folder: Path) -> None:
    os.truncate(folder / "weights.bin", 100)


def flip_a_bit(folder: Path) -> None:
    with open(folder / "weights.bin", "r+b") as stream:
        stream.write(b"\xff")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_bit,
        lambda folder: (folder / "weights.bin").unlink(),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
        lambda folder: (folder / MANIFEST).write_text("[]"),
    ],
    ids=["truncated", "changed", "file gone", "no manifest", "cut manifest", "not a manifest"],
)
def test_damage_is_repaired(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    build = Builder()
    folder = cached_folder(tmp_path / "a", build, source="s")
    damage(folder)
    assert not is_whole(folder)
    cached_folder(folder, build, source="s")
    assert build.calls == 2
    assert is_whole(folder, thorough=True)


def test_large_files_are_hashed_only_when_thorough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = cached_folder(tmp_path / "a", Builder(), source="s")
    monkeypatch.setattr(shrinkkit.system.cache, "_CHEAP_BYTES", 1000)
    flip_a_bit(folder)
    assert is_whole(folder)
    assert not is_whole(folder, thorough=True)


def test_another_source_rebuilds(tmp_path: Path) -> None:
    build = Builder()
    for source in ("one", "two"):
        cached_folder(tmp_path / "a", build, source=source)
    assert build.calls == 2


def test_a_failing_build_keeps_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError, match="no such luck"):
        cached_folder(tmp_path / "a", build, source="s")
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]
    assert cached_folder(tmp_path / "a", Builder(), source="s").is_dir()


def test_full_disk_keeps_nothing(tmp_path: Path) -> None:
    build = Builder()
    with pytest.raises(StorageError, match="disk is full"):
        cached_folder(tmp_path / "a", build, source="s", needed_bytes=10**15)
    assert build.calls == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from shrinkkit.system.cache import cached_folder

log = Path(sys.argv[1]) / "log"

def build(folder):
    with open(log, "a") as stream:
        stream.write("built\\n")
    (folder / "first").write_bytes(bytes(1000))
    print("building", flush=True)
    time.sleep(float(sys.argv[2]))
    (folder / "second").write_bytes(bytes(1000))

folder = cached_folder(Path(sys.argv[1]) / "model", build, source="s")
print(sorted(path.name for path in folder.iterdir()), flush=True)
"""


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    processes = [start_python("-c", BUILD_SLOWLY, tmp_path, 0.5) for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert all("['first', 'manifest.json', 'second']" in out for out, _ in answers)
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_builder_is_replaced(tmp_path: Path) -> None:
    process = start_python("-c", BUILD_SLOWLY, tmp_path, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    with pytest.raises(StorageError, match="still locked"), lock(tmp_path / "model", timeout_s=0.1):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not (tmp_path / "model").exists()
    out, err = start_python("-c", BUILD_SLOWLY, tmp_path, 0).communicate(timeout=60)
    assert "['first', 'manifest.json', 'second']" in out, err
