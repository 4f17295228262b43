"""A reader's first minutes: JupyterLab opens, the lessons run, a slider moves its figure."""

from __future__ import annotations

import importlib
import time
import urllib.error
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Locator, Page, expect

from shrinkkit.checks import rooms
from tests.browser.conftest import Server
from tests.browser.lab import (
    LESSONS,
    SCREENSHOTS,
    SLIDERS,
    open_lesson,
    photograph_outputs,
    pictures,
    problems,
    run_all,
    screenshot,
)
from tests.notebooks.rules import FIRST, QUICK_LIMIT_S
from tests.processes import ROOT
from tools.lab import FIRST_LESSON

pytestmark = pytest.mark.slow

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


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


@pytest.mark.parametrize("name", LESSONS, ids=["first", "with-sliders"])
def test_a_lesson_runs_to_its_end(server: Server, page: Page, name: str) -> None:
    """Every cell, no error, in time, and the committed file as it was; then a slider is moved."""
    before = (ROOT / "notebooks" / name).read_bytes()
    lesson = name.partition(".")[0]
    open_lesson(page, server.address, server.token, name)
    screenshot(page, f"{lesson}-opened")
    start = time.monotonic()
    notebook = run_all(page, server.folder / "notebooks" / name, QUICK_LIMIT_S)
    assert time.monotonic() - start < QUICK_LIMIT_S
    screenshot(page, f"{lesson}-run")
    assert problems(notebook) == []
    assert photograph_outputs(page, lesson) >= 1
    assert (ROOT / "notebooks" / name).read_bytes() == before
    if name == SLIDERS:
        reacts(page.locator(".jp-Notebook .jp-Cell:has(.noUi-handle)").first, f"{lesson}-slider")


def test_the_widgets_of_all_lessons_react(server: Server, page: Page) -> None:
    path = server.folder / "notebooks" / "widgets.ipynb"
    found = [(room, name) for room in rooms() for name in widgets(room)]
    assert found
    cells = [
        new_code_cell(f"from shrinkkit.lessons.{room} import {name}\n\n{name}()")
        for room, name in found
    ]
    nbformat.write(new_notebook(cells=cells, metadata=KERNEL), path)
    open_lesson(page, server.address, server.token, path.name)
    assert problems(run_all(page, path, QUICK_LIMIT_S)) == []
    shown = page.locator(".jp-Notebook .jp-Cell:has(.noUi-handle)")
    assert shown.count() == len(found)
    for number, names in enumerate(found):
        reacts(shown.nth(number), "_".join(names))


def widgets(room: str) -> list[str]:
    """Return the names of the widgets that a lesson's room gives out."""
    given = vars(importlib.import_module(f"shrinkkit.lessons.{room}"))
    return [name for name in given if name.endswith("_widget")]


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
