"""tools/setup.sh and tools/mend_env.py: what is installed, in which order, and when nothing is.

A stand-in for Python records what it is asked to do, so that nothing is installed here; the real
thing is what `make test` itself has just done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.processes import ROOT
from tools import mend_env

STAND_IN = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
    "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    --version) echo "Python ${CLAIMS:-3.12.1}" ;;
    *version_info*) [ -z "${CLAIMS:-}" ] || exit 1 ;;
esac
case "$*" in *"${FAILS_AT:-nothing}"*) exit 1 ;; esac
"""
PIP = "-m pip --disable-pip-version-check --no-input install -qq "
EVERYTHING = [
    PIP + "torch==2.13.0",
    PIP + "-r requirements.txt",
    PIP + "--no-deps --require-hashes -r data/assets.txt",
    PIP + "--no-deps --no-build-isolation --editable .",
]


class Course:
    """A course's folder with what setup.sh reads, and the stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder.parent / "calls.txt"
        for name in ("tools/setup.sh", "requirements.txt", "data/assets.txt", "pyproject.toml"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        self.python = folder.parent / "python3.12"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def set_up(self, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        names = {"PYTHON": str(self.python), "CALLS": str(self.calls)}
        return subprocess.run(
            ["sh", str(self.folder / "tools" / "setup.sh")],
            capture_output=True,
            text=True,
            env=os.environ | names | environment,
            check=False,
        )

    def did(self, what: str) -> list[str]:
        """Return the recorded calls that hold `what`."""
        return [line for line in self.calls.read_text().splitlines() if what in line]


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path / "course with a space")


def test_a_fresh_folder_gets_everything_torch_first(course: Course) -> None:
    done = course.set_up()
    assert done.returncode == 0, done.stderr
    assert course.did("-m venv") == ["-m venv --clear .venv"]
    assert course.did(" install ") == EVERYTHING
    assert [line[:5] for line in done.stdout.splitlines()] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_a_second_time_nothing_is_installed_or_said(course: Course) -> None:
    course.set_up()
    done = course.set_up()
    assert done.returncode == 0
    assert done.stdout == ""
    assert course.did("install") == course.did("-m venv") == []


@pytest.mark.parametrize(
    ("changed", "installed"),
    [
        ("requirements.txt", EVERYTHING[:2]),
        ("data/assets.txt", EVERYTHING[2:3]),
        ("pyproject.toml", EVERYTHING[3:]),
    ],
)
def test_what_changed_is_installed_again(
    course: Course, changed: str, installed: list[str]
) -> None:
    course.set_up()
    with (course.folder / changed).open("a") as stream:
        stream.write("# changed\n")
    assert course.set_up().returncode == 0
    assert course.did(" install ") == installed


def test_a_failed_step_says_so_and_is_done_again(course: Course) -> None:
    failed = course.set_up(FAILS_AT="-r requirements.txt")
    assert failed.returncode == 1
    assert "package index" in failed.stderr
    assert course.did(" install ") == EVERYTHING[:2]
    again = course.set_up()
    assert again.returncode == 0
    assert "interrupted" in again.stdout
    assert course.did("mend_env.py") == ["tools/mend_env.py"]
    assert course.did(" install ") == EVERYTHING
    course.set_up()
    assert course.did("mend_env.py") == []


def test_a_moved_folder_gets_a_new_environment(course: Course) -> None:
    course.set_up()
    course.folder = course.folder.rename(course.folder.parent / "moved")
    done = course.set_up()
    assert "moved" in done.stdout
    assert course.did("-m venv") == ["-m venv --clear .venv"]
    assert course.did(" install ") == EVERYTHING


def test_an_environment_without_its_python_is_made_again(course: Course) -> None:
    course.set_up()
    (course.folder / ".venv/bin/python").unlink()
    assert course.set_up().returncode == 0
    assert course.did(" install ") == EVERYTHING


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"CLAIMS": "3.9.18"}, ["3.10, 3.11, 3.12 or 3.13", "Found here: Python 3.9.18"]),
        ({"FAILS_AT": "-m venv"}, ["python3-venv"]),
    ],
    ids=["another python", "one that cannot make environments"],
)
def test_a_python_that_will_not_do(course: Course, trouble: dict, says: list[str]) -> None:
    done = course.set_up(**trouble)
    assert done.returncode == 1
    assert all(words in done.stderr for words in says)
    assert "CLAIMS" not in trouble or not (course.folder / ".venv").exists()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages, as pip leaves them."""
    for name in ("one", "two"):
        metadata = tmp_path / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (tmp_path / f"{name}.py").write_text("x = 1\n")
        (metadata / "RECORD").write_text(
            f"{name}.py,,6\n{name}-1.0.dist-info/METADATA,,\n__pycache__/{name}.pyc,,\n"
        )
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("spoil", "left"),
    [
        (lambda folder: None, ["one", "two"]),
        (lambda folder: (folder / "two.py").unlink(), ["one"]),
        (lambda folder: (folder / "one.py").write_text("x\n"), ["two"]),
        (lambda folder: (folder / "two-1.0.dist-info/RECORD").unlink(), ["one"]),
        (lambda folder: (folder / "two-1.0.dist-info/METADATA").unlink(), ["one"]),
    ],
    ids=["whole", "a missing file", "a short file", "no record", "no metadata"],
)
def test_only_whole_packages_are_left(packages: Path, spoil, left: list[str]) -> None:
    spoil(packages)
    mend_env.main()
    assert sorted(path.name.split("-")[0] for path in packages.glob("*.dist-info")) == left


def test_this_environment_is_whole() -> None:
    from importlib.metadata import distribution

    assert all(mend_env.is_whole(distribution(name)) for name in ("torch", "pytest", "jupyterlab"))
