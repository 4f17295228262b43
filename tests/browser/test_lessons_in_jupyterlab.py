"""A reader's first minutes: JupyterLab opens, the lessons run, a slider moves its figure."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Server
from tests.browser.lab import (
    SCREENSHOTS,
    open_lesson,
    photograph_outputs,
    pictures,
    problems,
    run_all,
    screenshot,
)
from tools.lab import FIRST_LESSON

pytestmark = pytest.mark.browser

FIRST = "00_start_here.ipynb"
WIDGETS = "01_the_shrinking_frontier.ipynb"
WIDGETS_BY_LESSON = {
    "03": ("number_line", "number_line_widget"),
    "04": ("smoothquant", "smoothing_widget"),
    "05": ("gptq", "surgery_widget"),
    "06": ("awq", "scaling_widget"),
    "07": ("qat", "staircase_widget"),
    "08": ("kv_cache", "kv_widget"),
}
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
# Two minutes on two quiet cores are the aim; the machine that tests may be a busy one.
RUN_S = 480


def test_the_server_wants_its_token(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{server.address}api/contents", timeout=30)
    assert refusal.value.code == 403
    refusal.value.close()
    with urllib.request.urlopen(f"{server.address}api/contents?token={server.token}") as answer:
        assert answer.status == 200


def test_the_printed_address_opens_the_first_lesson(server: Server, page: Page) -> None:
    printed = server.log.read_text()
    path = f"lab/tree/{FIRST_LESSON}?token={server.token}"
    address = next(word for word in printed.split() if word.endswith(path))
    page.goto(address)
    expect(page.locator(".jp-Notebook h1").first).to_be_visible(timeout=90_000)
    assert FIRST_LESSON.endswith(FIRST)
    page.wait_for_timeout(3000)  # what JupyterLab may ask comes a moment later
    assert page.locator(".jp-Dialog, .Toastify__toast").count() == 0  # nothing asks for anything


def test_the_first_lesson_runs_to_its_end(server: Server, page: Page) -> None:
    open_lesson(page, server.address, server.token, FIRST)
    screenshot(page, "00_start_here-opened")
    notebook = run_all(page, server.folder / "notebooks" / FIRST, RUN_S)
    screenshot(page, "00_start_here-run")
    assert problems(notebook) == []
    assert photograph_outputs(page, "00_start_here") >= 1


def test_a_slider_changes_its_figure(server: Server, page: Page) -> None:
    open_lesson(page, server.address, server.token, WIDGETS)
    notebook = run_all(page, server.folder / "notebooks" / WIDGETS, RUN_S)
    assert problems(notebook) == []
    photograph_outputs(page, "01_the_shrinking_frontier")
    reacts(page.locator(".jp-Notebook .jp-Cell:has(.noUi-handle)").first, "01_slider")


def test_the_widgets_of_all_other_lessons_react(server: Server, page: Page) -> None:
    path = server.folder / "notebooks" / "widgets.ipynb"
    cells = [
        new_code_cell(f"from shrinkkit.widgets.{module} import {widget}\n\n{widget}()")
        for module, widget in WIDGETS_BY_LESSON.values()
    ]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    open_lesson(page, server.address, server.token, path.name)
    assert problems(run_all(page, path, RUN_S)) == []
    shown = page.locator(".jp-Notebook .jp-Cell:has(.noUi-handle)")
    assert shown.count() == len(WIDGETS_BY_LESSON)
    for number, lesson in enumerate(WIDGETS_BY_LESSON):
        reacts(shown.nth(number), f"{lesson}_widget")


def reacts(cell: Locator, name: str) -> None:
    """Move the first slider of a cell to its other end: its figure and its readout must change."""
    handle = cell.locator(".noUi-handle").first
    handle.scroll_into_view_if_needed()
    readout = cell.locator(".widget-readout").first
    before, value_before = pictures(cell), readout.inner_text()
    assert before, f"{name} shows no figure beside its slider"
    cell.screenshot(path=SCREENSHOTS / f"{name}-before.png")
    handle.focus()
    at_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    handle.press("Home" if at_end else "End")
    deadline = time.monotonic() + 60
    while pictures(cell) in (before, []) and time.monotonic() < deadline:
        time.sleep(0.5)
    cell.screenshot(path=SCREENSHOTS / f"{name}-after.png")
    assert readout.inner_text() != value_before, name
    assert pictures(cell) not in (before, []), name
