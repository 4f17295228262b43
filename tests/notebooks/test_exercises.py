"""The form of the exercise notebooks, and that they are what the solutions release to."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from shrinkkit.errors import CheckFailed
from tests.lessons.gates import EXERCISES, ROOT, SOLUTIONS, all_exercises, cells, notebooks
from tests.notebooks.rules import headings, set_up_cell
from tools import release

SOLVED = [pytest.param(path, id=path.stem) for path in notebooks(SOLUTIONS)]
BOTH = [
    pytest.param(path, id=f"{folder.name}/{path.stem}")
    for folder in (SOLUTIONS, EXERCISES)
    for path in notebooks(folder)
]
CHECK = re.compile(r'check\("([a-z_0-9]+\.[a-z_0-9]+)", (\w+(?:, \w+)*)\)')
IMPORT = "from shrinkkit.checks import check\n\n"  # a cell above may have defined another `check`


def text_of(path: Path) -> str:
    return "\n\n".join(c["source"] for c in cells(path) if c["cell_type"] == "markdown")


def code_of(path: Path) -> list[dict]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def test_there_are_exercises() -> None:
    assert SOLVED
    assert len(BOTH) == 2 * len(SOLVED)


def test_the_exercises_are_what_the_solutions_release_to() -> None:
    """`make release` would change nothing: neither an exercise nor a badge."""
    assert release.release(ROOT, check=True) == [], "run `make release` and commit the result"


@pytest.mark.parametrize("path", BOTH)
def test_one_folder_an_assignment(path: Path) -> None:
    assert path.parent.name == path.stem
    assert re.fullmatch(r"\d\d_[a-z_]+", path.stem)


@pytest.mark.parametrize("path", BOTH)
def test_title_badge_and_headings(path: Path) -> None:
    first = cells(path)[0]["source"]
    repo = release.current_repo(ROOT)
    place = f"notebooks/exercises/{path.stem}/{path.stem}.ipynb"
    assert first.startswith("# Exercises: ")
    assert f"(https://colab.research.google.com/github/{repo}/blob/main/{place})" in first
    assert headings(nbformat.read(path, as_version=4), path.name) == []


@pytest.mark.parametrize("path", BOTH)
def test_links_lead_to_files(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", text_of(path))
    assert targets
    for target in targets:
        found = (path.parent / target).resolve()
        assert found.exists(), f"{path.stem} links to {target}"


def test_the_set_up_cell_is_the_same_everywhere() -> None:
    everywhere = [p for p in (ROOT / "notebooks").rglob("*.ipynb") if p.parent.name[0] != "."]
    for path in everywhere:
        found = [c["source"].strip() for c in code_of(path) if "install-assets" in c["source"]]
        assert found == [set_up_cell()], path


@pytest.mark.parametrize("path", SOLVED)
def test_sources_carry_no_outputs(path: Path) -> None:
    for cell in code_of(path):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@pytest.mark.parametrize("path", BOTH)
def test_cell_ids_are_words(path: Path) -> None:
    for cell in cells(path):
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cell["id"]), cell["id"]
        assert not re.fullmatch(r"[0-9a-f]{8}", cell["id"]), f"{cell['id']} was drawn at random"
        marks = cell["metadata"].get("nbgrader")
        if marks:
            assert marks["grade_id"] == cell["id"]


@pytest.mark.parametrize("path", SOLVED)
def test_three_to_five_exercises_of_one_lesson(path: Path) -> None:
    names = [name for c in code_of(path) for name, _ in CHECK.findall(c["source"])]
    assert 3 <= len(names) <= 5
    assert len({name.partition(".")[0] for name in names}) == 1
    assert set(names) <= set(all_exercises())


@pytest.mark.parametrize("path", SOLVED)
def test_each_solution_is_followed_by_its_locked_check(path: Path) -> None:
    marked = [c for c in code_of(path) if c["metadata"].get("nbgrader")]
    answers = [c for c in marked if c["metadata"]["nbgrader"]["solution"]]
    graded = [c for c in marked if c["metadata"]["nbgrader"]["grade"]]
    assert len(answers) == len(graded)
    for answer, grade in zip(answers, graded, strict=True):
        assert answer["source"].count("### BEGIN SOLUTION") >= 1
        assert grade["id"] == f"check-{answer['id']}"
        assert grade["metadata"]["nbgrader"]["locked"]
        assert grade["metadata"]["nbgrader"]["points"] > 0
        handed_in = CHECK.fullmatch(grade["source"].removeprefix(IMPORT))
        assert grade["source"].startswith(IMPORT), f"{grade['id']} should import check itself"
        assert handed_in, f"{grade['id']} should hold the call of check and nothing else"
        for function in handed_in[2].split(", "):
            assert f"def {function}(" in answer["source"]


@pytest.mark.parametrize("path", BOTH)
def test_a_check_of_the_students_own_is_not_what_grades(path: Path) -> None:
    """A function called `check` in an answer above passes no wrong answer."""
    graded = [c["source"] for c in code_of(path) if c["metadata"].get("nbgrader", {}).get("grade")]
    assert graded
    for source in graded:
        name, functions = CHECK.search(source).groups()
        namespace = {"check": lambda *_: print("Passed"), "__name__": "__main__"}
        namespace |= {function: lambda *case: "wrong" for function in functions.split(", ")}
        with pytest.raises(CheckFailed, match=rf"^{name} is not right yet"):
            exec(source, namespace)


@pytest.mark.parametrize("path", list(notebooks(EXERCISES)), ids=lambda p: p.stem)
def test_no_solution_is_released(path: Path) -> None:
    for cell in cells(path):
        assert "SOLUTION" not in cell["source"]
    assert sum("raise NotImplementedError()" in c["source"] for c in code_of(path)) >= 3
