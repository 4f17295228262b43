"""Every lesson has the shape that DESIGN.md describes, a page its own; all are stored clean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.notebooks.rules import (
    CELLS,
    CELLS_OF_PAGE,
    FIRST,
    MAX_CODE_LINES,
    RULES,
    WORDS,
    WORDS_OF_PAGE,
    set_up_cell,
)
from tests.processes import ROOT
from tools.release import current_repo
from tools.run_notebooks import LESSONS, clean, lessons, pages

Rule = Callable[[NotebookNode, str], list[str]]

LESSON, PAGE = "01_good.ipynb", "pages/good.ipynb"
RELATIVE_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")


def named(path: Path) -> str:
    """Return a notebook's path within notebooks/, by which the rules know it."""
    return path.relative_to(LESSONS).as_posix()


def links(path: Path) -> list[Path]:
    """Return the files that a notebook's prose links to."""
    prose = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    return [(path.parent / link).resolve() for link in RELATIVE_LINK.findall("\n".join(prose))]


def good(name: str) -> NotebookNode:
    """A lesson, or a page, that no rule complains about."""
    new = nbformat.v4
    least_cells, least_words = (CELLS[0], WORDS[0]) if name == LESSON else (20, WORDS_OF_PAGE[0])
    colab = f"https://colab.research.google.com/github/{current_repo(ROOT)}/blob/main/notebooks"
    title = f"# A lesson\n![A badge](badge.svg)\n[Open in Colab]({colab}/{name})"
    cells = [new.new_markdown_cell(title)]
    n_code = least_cells // 2
    for i in range(n_code):
        cell = new.new_code_cell(set_up_cell() if i == 0 else f"x = {i}", execution_count=i + 1)
        data = {"image/png": "", "text/plain": "a"}
        figure = {"image/png": {"alt": "A line that rises from left to right"}}
        cell.outputs = [new.new_output("display_data", data, metadata=figure)]
        prose = f"## Part {i}\n" + "word " * (least_words // n_code)
        cells += [cell, new.new_markdown_cell(prose)]
    return new.new_notebook(cells=cells)


def add(cell: NotebookNode, source: str) -> None:
    cell.source += source


def few_words(cells: list[NotebookNode]) -> None:
    for cell in cells[2:9:2]:
        cell.source = "## Part\nword"


def few_cells(cells: list[NotebookNode]) -> None:
    last = cells.pop()
    cells.pop()
    cells[-1].source += last.source


def much_prose(cells: list[NotebookNode]) -> None:
    add(cells[2], " word" * WORDS_OF_PAGE[1])


def many_cells(cells: list[NotebookNode]) -> None:
    cells += [nbformat.v4.new_markdown_cell("word")] * CELLS_OF_PAGE[1]


def no_outputs(cells: list[NotebookNode]) -> None:
    for cell in cells[5:]:
        if cell.cell_type == "code":
            cell.outputs = []


ERROR = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
WARNING = nbformat.v4.new_output("stream", name="stderr", text="careful")
BROKEN: dict[str, dict[str, Callable[[list[NotebookNode]], None]]] = {
    "headings": {
        "second_h1": lambda cells: add(cells[2], "\n# Another"),
        "skipped_level": lambda cells: add(cells[2], "\n#### Deep"),
    },
    "code_cells": {
        "code_in_a_row": lambda cells: (cells.pop(2), cells.pop(3)),
        "long_code": lambda cells: add(cells[3], "\nx = 1" * MAX_CODE_LINES),
    },
    "length": {
        "few_words": few_words,
        "many_words": lambda cells: add(cells[2], " word" * WORDS[1]),
        "few_cells": few_cells,
    },
    "outputs": {
        "raised": lambda cells: cells[3].update(outputs=[ERROR]),
        "warned": lambda cells: cells[3].outputs.append(WARNING),
        "not_run": lambda cells: cells[3].update(execution_count=None),
        "run_out_of_order": lambda cells: cells[3].update(execution_count=99),
        "no_outputs": no_outputs,
    },
    "images": {
        "figure_without_alt": lambda cells: cells[1].outputs[0].update(metadata={}),
        "badge_without_alt": lambda cells: cells[0].update(
            source=cells[0].source.replace("A badge", "")
        ),
        "html_image_without_alt": lambda cells: add(cells[2], '\n<img src="a.png">'),
    },
    "set_up": {"another_set_up": lambda cells: cells[1].update(source="%pip install torch")},
    "colab": {
        "another_notebook": lambda cells: cells[0].update(
            source=cells[0].source.replace("good", "another")
        ),
        "no_link": lambda cells: cells[0].update(source="# A lesson"),
    },
}
BROKEN_PAGE: dict[str, dict[str, Callable[[list[NotebookNode]], None]]] = {
    "headings": {"second_h1": lambda cells: add(cells[2], "\n# Another")},
    "code_cells": {"code_in_a_row": lambda cells: (cells.pop(2), cells.pop(3))},
    "length": {"much_prose": much_prose, "many_cells": many_cells},
    "images": {"figure_without_alt": lambda cells: cells[1].outputs[0].update(metadata={})},
    "colab": {"no_link": lambda cells: cells[0].update(source="# A page")},
    "apart": {
        "records": lambda cells: add(cells[3], "\nmeasure.record('verdicts', rows)"),
        "grades": lambda cells: add(cells[3], "\ncheck('kv.count', count)"),
    },
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", lessons() + pages(), ids=lambda path: path.stem)
def test_lesson_keeps_the_rule(path: Path, rule: Rule) -> None:
    complaints = rule(nbformat.read(path, as_version=4), named(path))
    assert not complaints, "\n".join([f"{path.name}, {rule.__doc__}", *complaints])


@pytest.mark.parametrize("path", lessons() + pages(), ids=lambda path: path.stem)
def test_lesson_is_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert clean(notebook) == notebook, "`make notebooks` saves the lessons clean"


@pytest.mark.parametrize("path", lessons() + pages(), ids=lambda path: path.stem)
def test_the_notebooks_that_a_lesson_links_to_are_there(path: Path) -> None:
    assert [link for link in links(path) if not link.is_file()] == []


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.stem)
def test_a_page_is_reached_from_a_lesson_and_leads_back_to_one(page: Path) -> None:
    assert any(page in links(lesson) for lesson in lessons())
    assert set(links(page)) & set(lessons())


@pytest.mark.parametrize("path", lessons() + pages(), ids=lambda path: path.stem)
def test_the_files_that_a_lesson_sends_its_reader_to_are_there(path: Path) -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text("utf-8"))
    there = [f"/{file.relative_to(ROOT)}" for file in (ROOT / "shrinkkit").rglob("*.py")]
    there += [f"/{file.relative_to(ROOT)}" for file in (ROOT / "benchmarks").rglob("*.py")]
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in there)] == []


def test_the_first_lesson_is_the_one_that_the_course_opens() -> None:
    assert lessons()[0].name == FIRST


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", [LESSON, PAGE], ids=["lesson", "page"])
def test_rule_accepts_what_is_good(rule: Rule, name: str) -> None:
    assert rule(good(name), name) == []


@pytest.mark.parametrize(
    ("name", "rule", "break_it"),
    [
        pytest.param(name, rule, break_it, id=f"{rule.__name__}-{what}{of}")
        for name, broken, of in ((LESSON, BROKEN, ""), (PAGE, BROKEN_PAGE, "-page"))
        for rule in RULES
        for what, break_it in broken.get(rule.__name__, {}).items()
    ],
)
def test_rule_notices(
    name: str, rule: Rule, break_it: Callable[[list[NotebookNode]], None]
) -> None:
    broken = good(name)
    break_it(broken.cells)
    assert len(rule(broken, name)) == 1


def test_every_rule_is_broken_somewhere() -> None:
    assert {rule.__name__ for rule in RULES} == set(BROKEN) | set(BROKEN_PAGE)


def test_a_lesson_may_record_and_grade() -> None:
    lesson = good(LESSON)
    add(lesson.cells[3], "\nrecord('verdicts', rows)")
    assert [complaint for rule in RULES for complaint in rule(lesson, LESSON)] == []
