"""Every lesson has the shape that DESIGN.md describes, and is stored clean."""

from __future__ import annotations

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


def code_in_a_row(notebook: NotebookNode) -> None:
    del notebook.cells[2], notebook.cells[3]


def long_code(notebook: NotebookNode) -> None:
    notebook.cells[3].source = "x = 1\n" * (MAX_CODE_LINES + 1)


def second_h1(notebook: NotebookNode) -> None:
    notebook.cells[2].source += "\n# Another"


def skipped_level(notebook: NotebookNode) -> None:
    notebook.cells[2].source += "\n#### Deep"


def few_words(notebook: NotebookNode) -> None:
    for cell in notebook.cells[2:9:2]:
        cell.source = "## Part\nword"


def many_words(notebook: NotebookNode) -> None:
    notebook.cells[2].source += " word" * WORDS[1]


def few_cells(notebook: NotebookNode) -> None:
    last = notebook.cells.pop()
    notebook.cells.pop()
    notebook.cells[-1].source += last.source


def raised(notebook: NotebookNode) -> None:
    error = {"ename": "ValueError", "evalue": "no", "traceback": []}
    notebook.cells[3].outputs = [nbformat.v4.new_output("error", **error)]


def warned(notebook: NotebookNode) -> None:
    text = nbformat.v4.new_output("stream", name="stderr", text="careful")
    notebook.cells[3].outputs.append(text)


def not_run(notebook: NotebookNode) -> None:
    notebook.cells[3].execution_count = None


def run_out_of_order(notebook: NotebookNode) -> None:
    notebook.cells[3].execution_count = 99


def no_outputs(notebook: NotebookNode) -> None:
    for cell in notebook.cells[5:]:
        if cell.cell_type == "code":
            cell.outputs = []


def figure_without_alt(notebook: NotebookNode) -> None:
    notebook.cells[1].outputs[0].metadata = {}


def badge_without_alt(notebook: NotebookNode) -> None:
    notebook.cells[0].source = "# A lesson\n![](badge.svg)"


def html_image_without_alt(notebook: NotebookNode) -> None:
    notebook.cells[2].source += '\n<img src="a.png">'


def another_set_up(notebook: NotebookNode) -> None:
    notebook.cells[1].source = "%pip install torch"


BROKEN = {
    "headings": (second_h1, skipped_level),
    "code_cells": (code_in_a_row, long_code),
    "length": (few_words, many_words, few_cells),
    "outputs": (raised, warned, not_run, run_out_of_order, no_outputs),
    "images": (figure_without_alt, badge_without_alt, html_image_without_alt),
    "set_up": (another_set_up,),
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


def test_the_first_lesson_is_the_one_that_the_course_opens() -> None:
    assert lessons()[0].name == FIRST


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_lesson(rule: Rule) -> None:
    assert rule(good_lesson(), "01_good.ipynb") == []


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        pytest.param(rule, break_it, id=f"{rule.__name__}-{break_it.__name__}")
        for rule in RULES
        for break_it in BROKEN[rule.__name__]
    ],
)
def test_rule_notices(rule: Rule, break_it: Callable[[NotebookNode], None]) -> None:
    lesson = good_lesson()
    break_it(lesson)
    assert len(rule(lesson, "01_broken.ipynb")) == 1
