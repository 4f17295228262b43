"""Every lesson and page runs from its first cell to its last, at quick pace, in a fresh kernel.

What a lesson asserts about its own numbers is asserted here too, for the cells are the same. The
lessons that tests/browser/ runs, to the same end, are left to it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import LESSONS, problems
from tests.notebooks.rules import PAGE_LIMIT_S, QUICK_LIMIT_S
from tools.run_notebooks import lessons, pages, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "path",
    [path for path in lessons() if path.name not in LESSONS],
    ids=lambda path: path.stem,
)
def test_lesson_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    runs_to_its_end(path, tmp_path / "results", QUICK_LIMIT_S)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_page_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    runs_to_its_end(path, tmp_path / "results", PAGE_LIMIT_S)
    assert not (tmp_path / "results").exists(), "a page records nothing"


def runs_to_its_end(path: Path, results: Path, limit_s: float) -> None:
    before = path.read_bytes()
    done = run(path, pace="quick", results=results)
    assert problems(done.notebook) == []
    assert done.seconds < limit_s, f"{path.name} took {done.seconds:.0f} s at quick pace"
    assert path.read_bytes() == before


def test_what_the_browser_runs_is_a_lesson() -> None:
    assert set(LESSONS) <= {path.name for path in lessons()}
