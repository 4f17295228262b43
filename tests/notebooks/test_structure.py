"""Every lesson has the shape that DESIGN.md describes, and is stored clean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tests.notebooks.rules import CELLS, FIRST, MAX_CODE_LINES, RULES, WORDS, set_up_cell
from tools.run_notebooks import clean, lessons

Rule = Callable[[NotebookNode, str], list[str]]


def good_lesson() -> NotebookNode:
    """A lesson that no rule complains about."""
    new = nbformat.v4
    cells = [new.new_markdown_cell("# A lesson\n![Open in Colab](badge.svg)")]
    n_code = CELLS[0] // 2
    for i in range(n_code):
        cell = new.new_code_cell(set_up_cell() if i == 0 else f"x = {i}", execution_count=i + 1)
        data = {"image/png": "", "text/plain": "a"}
        figure = {"image/png": {"alt": "A line that rises from left to right"}}
        cell.outputs = [new.new_output("display_data", data, metadata=figure)]
        prose = f"## Part {i}\n" + "word " * (WORDS[0] // n_code)
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
        "badge_without_alt": lambda cells: cells[0].update(source="# A lesson\n![](badge.svg)"),
        "html_image_without_alt": lambda cells: add(cells[2], '\n<img src="a.png">'),
    },
    "set_up": {"another_set_up": lambda cells: cells[1].update(source="%pip install torch")},
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_lesson_keeps_the_rule(path: Path, rule: Rule) -> None:
    complaints = rule(nbformat.read(path, as_version=4), path.name)
    assert not complaints, "\n".join([f"{path.name}, {rule.__doc__}", *complaints])


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_lesson_is_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert clean(notebook) == notebook, "`make notebooks` saves the lessons clean"


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_the_files_that_a_lesson_sends_its_reader_to_are_there(path: Path) -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", path.read_text("utf-8"))
    root = path.parents[1]
    there = [f"/{file.relative_to(root)}" for file in (root / "shrinkkit").rglob("*.py")]
    there += [f"/{file.relative_to(root)}" for file in (root / "benchmarks").rglob("*.py")]
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in there)] == []


def test_the_first_lesson_is_the_one_that_the_course_opens() -> None:
    assert lessons()[0].name == FIRST


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_lesson(rule: Rule) -> None:
    assert rule(good_lesson(), "01_good.ipynb") == []


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        pytest.param(rule, break_it, id=f"{rule.__name__}-{what}")
        for rule in RULES
        for what, break_it in BROKEN[rule.__name__].items()
    ],
)
def test_rule_notices(rule: Rule, break_it: Callable[[list[NotebookNode]], None]) -> None:
    lesson = good_lesson()
    break_it(lesson.cells)
    assert len(rule(lesson, "01_broken.ipynb")) == 1
