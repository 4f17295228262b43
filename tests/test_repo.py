"""What may not be in the repository: what is large, one machine's paths, skipped tests."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, run_python

MAX_BYTES = 25 * 2**20
MAX_FILES, MAX_ROOT_MODULES = 20, 8
NOT_OURS = (".git", ".venv", "build", "dist", "__pycache__", ".ruff_cache", ".pytest_cache")

# Each is put together here so that this file does not trip over its own words.
A_MACHINES_PATH = re.compile(
    r"(?<![\w.~/<-])/(?:"
    + "|".join(("home", "Users", "root", "work", "farm", "mnt"))
    + r")/[\w.-]+"
    r"|\b[A-Z]:\\" + "Users"
)
AN_INDEX_HOST = re.compile(
    r"\b("
    + "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("files", "pythonhosted", "org"),
            ("download", "pytorch", "org"),
            ("registry", "npmjs", "org"),
            ("conda", "anaconda", "org"),
            ("deb", "debian", "org"),
        )
    )
    + r")\b"
)
A_SKIP = re.compile("|".join((r"pytest\.(?:mark\.)?(?:ski" + "p|xfai" + "l)", "importorski" + "p")))


def files() -> list[Path]:
    """Return what belongs to the repository: what git tracks or would add, else what is there."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0 and listing.stdout:
        found = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:  # a downloaded archive, or a machine without git
        paths = (path.relative_to(ROOT) for path in ROOT.rglob("*"))
        found = [ROOT / path for path in paths if not set(path.parts) & set(NOT_OURS)]
    return sorted(path for path in found if path.is_file())


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text file with its text; of a notebook, all but its pictures."""
    for path in files():
        data = path.read_bytes()
        if b"\0" in data[:8000]:
            continue
        text = data.decode("utf-8", errors="replace")
        yield path, without_pictures(text) if path.suffix == ".ipynb" else text


def without_pictures(notebook: str) -> str:
    """Return a notebook's text without images: base64 spells any word sooner or later."""
    content = json.loads(notebook)
    for cell in content["cells"]:
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
                del output["data"][kind]
    return json.dumps(content, ensure_ascii=False)


def hits(pattern: re.Pattern[str], only: Callable[[Path], bool] = lambda path: True) -> list[str]:
    """Return "file: what was found" for every hit in the repository's texts."""
    return [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path, text in texts()
        if only(path)
        for found in pattern.finditer(text)
    ]


def test_the_listing_finds_the_repository() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"Makefile", "requirements.txt", "tests/test_repo.py", "data/assets.txt"} <= names
    assert not any(name.startswith((".venv/", "build/")) for name in names)


def test_no_file_is_large() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in files()}
    assert {name: size for name, size in sizes.items() if size > MAX_BYTES} == {}


def test_no_folder_holds_more_than_one_can_look_over() -> None:
    folders = Counter(path.parent.relative_to(ROOT).as_posix() for path in files())
    code = re.compile(r"(shrinkkit|tests)(?!/data)\b")  # tests/data holds what others wrote
    held = {name: n for name, n in folders.items() if code.match(name)}
    assert {"shrinkkit/measure", "tests"} <= set(held)
    assert {name: n for name, n in held.items() if n > MAX_FILES} == {}
    assert len(list((ROOT / "shrinkkit").glob("*.py"))) <= MAX_ROOT_MODULES


def test_importing_the_package_loads_nothing_large() -> None:
    code = "import sys, shrinkkit; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(run_python("-c", code).stdout.split())
    assert "shrinkkit" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "pandas", "matplotlib", "typer"}


def test_no_path_of_one_machine() -> None:
    assert hits(A_MACHINES_PATH) == []


def test_no_host_of_a_package_index() -> None:
    assert hits(AN_INDEX_HOST) == []


def test_no_test_is_skipped() -> None:
    assert hits(A_SKIP, lambda path: "tests" in path.parts and path.suffix == ".py") == []


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (A_MACHINES_PATH, "open('/ho" + "me/ann/model')", True),
        (A_MACHINES_PATH, "File /ro" + "ot/.cache/x", True),
        (A_MACHINES_PATH, "C:\\" + "Users\\ann", True),
        (A_MACHINES_PATH, "https://github.com/ro" + "ot/repo", False),
        (A_MACHINES_PATH, "/proc/cpuinfo and ./wo" + "rk/done", False),
        (AN_INDEX_HOST, "https://py" + "pi.org/simple", True),
        (AN_INDEX_HOST, "https://pytorch.org", False),
        (A_SKIP, "@pytest.mark.ski" + "p", True),
        (A_SKIP, "pytest.importorski" + "p('torch')", True),
        (A_SKIP, "the test skipped nothing", False),
    ],
)
def test_the_patterns_find_what_they_are_for(
    pattern: re.Pattern[str], text: str, found: bool
) -> None:
    assert bool(pattern.search(text)) is found


def test_pictures_are_not_read_as_text() -> None:
    cell = {"outputs": [{"data": {"image/png": "/ho" + "me/ann", "text/plain": "a line"}}]}
    assert "a line" in without_pictures(json.dumps({"cells": [cell]}))
    assert "ann" not in without_pictures(json.dumps({"cells": [cell]}))


def test_requirements_are_exact_and_start_with_torch() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins[0] == "torch==2.13.0"
    exact = re.compile(r"[a-z0-9][a-z0-9-]*==[\w.+!]+( ; .+)?")
    assert [pin for pin in pins if not exact.fullmatch(pin)] == []
