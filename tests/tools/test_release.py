"""tools/release.py on a small copy of the course: stamps, generates, and changes nothing twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.processes import ROOT
from tools import release

NAME = "03_quantization"
PAGE = "notebooks/pages/anatomy.ipynb"
PYPROJECT = """[project]
name = "shrinkkit"
repo = "not/this"

[project.urls]
Home = "https://github.com/old-owner/old.name"

# owner/name of the published repository
[tool.shrinkkit]
repo = "old-owner/old.name"

[tool.ruff]
line-length = 100
"""
README = """See https://github.com/old-owner/old.name, its
https://github.com/old-owner/old.name/issues and https://github.com/old-owner/old.name-extras.
[![Open](https://x/badge.svg)](https://colab.research.google.com/github/any/body/blob/main/n.ipynb)
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A course of one page and one lesson's exercises, published by someone else."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    folder = tmp_path / "notebooks" / "solutions" / NAME
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "solutions" / NAME / f"{NAME}.ipynb", folder)
    (tmp_path / PAGE).parent.mkdir()
    shutil.copy(ROOT / PAGE, tmp_path / PAGE)
    (folder / "hint.txt").write_text("a file that goes with the notebook", encoding="utf-8")
    return tmp_path


def contents(root: Path) -> dict[str, bytes]:
    """Return every file but nbgrader's gradebook."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "gradebook.db" and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_release_stamps_generates_and_is_idempotent(course: Path) -> None:
    before = contents(course)
    changed = release.release(course, "me/my.fork")
    after = contents(course)
    assert sorted(changed) == sorted(
        name for name, data in after.items() if before.get(name) != data
    )
    assert f"notebooks/exercises/{NAME}/hint.txt" in after
    assert not [name for name in after if ".tmp-" in name]

    assert release.current_repo(course) == "me/my.fork"
    pyproject = after["pyproject.toml"].decode()
    assert pyproject == PYPROJECT.replace("old-owner/old.name", "me/my.fork")
    readme = after["README.md"].decode()
    assert "https://github.com/me/my.fork, its" in readme
    assert "https://github.com/me/my.fork/issues" in readme
    assert "old-owner/old.name-extras" in readme
    assert "/github/me/my.fork/blob/main/n.ipynb" in readme
    exercises = [f"notebooks/{kind}/{NAME}/{NAME}.ipynb" for kind in ("solutions", "exercises")]
    for name in (*exercises, PAGE):
        text = after[name].decode()
        assert text.count("colab.research.google.com/github/me/my.fork/blob/main/") == 1
        assert text.count('git+https://github.com/me/my.fork\\"') == 1
        assert "shrinkkit/shrinkkit" not in text
        json.loads(text)

    assert release.release(course, "me/my.fork") == []
    assert release.release(course) == []
    assert release.release(course, check=True) == []
    assert contents(course) == after


def test_check_changes_nothing_and_names_what_is_out_of_date(course: Path) -> None:
    before = contents(course)
    assert f"notebooks/exercises/{NAME}/{NAME}.ipynb" in release.release(course, check=True)
    assert contents(course) == before
    assert not (course / "gradebook.db").exists()


def test_an_exercise_without_a_solution_is_named(course: Path) -> None:
    orphan = course / "notebooks" / "exercises" / "99_gone" / "99_gone.ipynb"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("{}", encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"no solution to come from.*99_gone\.ipynb"):
        release.release(course, check=True)
    assert orphan.exists()


@pytest.mark.slow
def test_a_broken_solution_leaves_the_exercises_alone(course: Path) -> None:
    release.release(course)
    path = course / "notebooks" / "solutions" / NAME / f"{NAME}.ipynb"
    text = path.read_text(encoding="utf-8").replace("### END SOLUTION", "### END", 1)
    path.write_text(text, encoding="utf-8")
    before = contents(course)
    with pytest.raises(release.ReleaseError, match=f"could not generate {NAME}"):
        release.release(course)
    assert contents(course) == before


@pytest.mark.parametrize("repo", ["shrinkkit", "a/b/c", "a b/c", "https://github.com/a/b", "/b"])
def test_a_bad_repository_name(course: Path, repo: str) -> None:
    before = contents(course)
    with pytest.raises(release.ReleaseError, match="must be owner/name"):
        release.release(course, repo)
    assert contents(course) == before


def test_a_missing_setting(course: Path) -> None:
    (course / "pyproject.toml").write_text("[tool.other]\nrepo = 'x/y'\n", encoding="utf-8")
    with pytest.raises(release.ReleaseError, match=r"under \[tool.shrinkkit\]"):
        release.release(course)


@pytest.mark.slow
def test_the_command_line(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(release, "ROOT", course)
    assert release.main(["--check"]) == 1
    assert f"out of date: notebooks/exercises/{NAME}/{NAME}.ipynb" in capsys.readouterr().out
    assert release.main(["--repo", "me"]) == 1
    assert "release: --repo must be owner/name" in capsys.readouterr().err
    assert release.main([]) == 0
    assert release.main(["--check"]) == 0
    assert capsys.readouterr().out.endswith("everything is up to date\n")
