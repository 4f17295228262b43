"""Grade the exercises as an instructor would, with nbgrader's own command line.

In a copy of each lesson's exercises, `nbgrader generate_assignment` and `nbgrader autograde` run
for two students: one hands in the solutions, the other the released notebooks untouched. The points
are read back from nbgrader's gradebook.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.lessons.gates import EXERCISES, SOLUTIONS, cells, notebooks
from tests.processes import ROOT, run_python

pytestmark = pytest.mark.slow


def nbgrader(course: Path, *arguments: str) -> None:
    """Run nbgrader's command line in the course's folder."""
    # The virtual environment need not be activated, and the network is out of reach.
    environment = {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "localhost,127.0.0.1",
    }
    done = run_python("-m", "nbgrader", *arguments, cwd=course, timeout=600, **environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[path.stem for path in notebooks(SOLUTIONS)])
def lesson(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def course(lesson: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course of one lesson, in which its assignment was generated and graded."""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", root)
    shutil.copytree(
        SOLUTIONS / lesson,
        root / "notebooks" / "solutions" / lesson,
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    nbgrader(root, "generate_assignment", lesson)
    released = root / "notebooks" / "exercises" / lesson
    for student, folder in (("solved", SOLUTIONS / lesson), ("untouched", released)):
        shutil.copytree(folder, root / "submitted" / student / lesson)
    nbgrader(root, "autograde", lesson)
    return root


def points_in(path: Path) -> int:
    """Add up the points of a notebook's check cells."""
    marks = [cell["metadata"].get("nbgrader", {}) for cell in cells(path)]
    return sum(mark["points"] for mark in marks if mark.get("grade"))


def test_the_command_line_releases_what_is_committed(course: Path, lesson: str) -> None:
    made = course / "notebooks" / "exercises" / lesson / f"{lesson}.ipynb"
    assert made.read_bytes() == (EXERCISES / lesson / f"{lesson}.ipynb").read_bytes()


@pytest.mark.parametrize(("student", "share"), [("solved", 1), ("untouched", 0)])
def test_points(course: Path, lesson: str, student: str, share: int) -> None:
    from nbgrader.api import Gradebook

    full = points_in(SOLUTIONS / lesson / f"{lesson}.ipynb")
    assert full > 0
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "shrinkkit") as book:
        submission = book.find_submission(lesson, student)
        assert submission.max_score == full
        assert submission.score == share * full
        assert not submission.needs_manual_grade
        grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
        assert [grade.auto_score for grade in grades] == [
            share * grade.max_score for grade in grades
        ]


def test_each_check_said_why(course: Path, lesson: str) -> None:
    """The points were lost to the check itself, not to a kernel that did not start."""
    for student, says in (("solved", "Passed: "), ("untouched", "is not written yet")):
        graded = cells(course / "autograded" / student / lesson / f"{lesson}.ipynb")
        checked = [c for c in graded if c["metadata"].get("nbgrader", {}).get("grade")]
        assert checked
        for cell in checked:
            kinds = {(output["output_type"], output.get("name")) for output in cell["outputs"]}
            assert len(kinds) == 1, cell["outputs"]  # a busy kernel may print a line in two parts
            output = cell["outputs"][0]
            texts = ["".join(part.get("text", "")) for part in cell["outputs"]]
            text = "".join(texts) if "text" in output else output["evalue"]
            assert says in text
            if student == "untouched":
                assert len(output["traceback"]) == 1, "the learner sees the message alone"
