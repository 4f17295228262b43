"""What a reader does in JupyterLab, as functions on a playwright page."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from playwright.sync_api import Locator, Page, expect

from tests.notebooks.rules import FIRST
from tests.processes import ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"

# The lessons that are run to their end here, and so by no other test, and which shows sliders.
SLIDERS = "01_the_shrinking_frontier.ipynb"
LESSONS = (FIRST, SLIDERS)

# The pictures that a reader sees in a cell's outputs, as their bytes: an <img> by what it shows
# (its address may change while the picture stays), a drawing by its markup. The slider itself and
# icons are not pictures.
PICTURES = """async (cell) => {
  const shown = [];
  for (const image of cell.querySelectorAll('.jp-Cell-outputWrapper img')) {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    if (image.naturalWidth > 1) shown.push(Array.from(digest).join(' '));
  }
  for (const drawing of cell.querySelectorAll('.jp-Cell-outputWrapper svg')) {
    if (drawing.getBoundingClientRect().width > 100) shown.push(drawing.outerHTML);
  }
  return shown;
}"""


# Whether the open notebook has a kernel that waits for work.
READY = """async () => {
  const panel = window.jupyterapp?.shell.currentWidget;
  if (!panel?.sessionContext?.isReady || !panel.context.isReady) return false;
  return panel.sessionContext.session?.kernel?.status === 'idle';
}"""


def open_lesson(page: Page, address: str, token: str, name: str) -> None:
    """Open notebooks/NAME in JupyterLab, alone, and wait until its kernel is ready."""
    alone = Path(name).stem  # a workspace of its own: nothing opened earlier comes back
    page.goto(f"{address}lab/workspaces/{alone}/tree/notebooks/{name}?token={token}")
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_be_visible(timeout=90_000)
    page.wait_for_function(READY, timeout=90_000)


def run_all(page: Page, path: Path, timeout_s: float) -> NotebookNode:
    """Run all cells from the menu and save; return the notebook as saved.

    The committed outputs are cleared first, so that what is saved is of this run. The kernel is
    idle when it has finished, and also when an error has stopped it: what was saved tells which.
    """
    prompts = page.locator(".jp-Notebook .jp-InputPrompt")
    _choose(page, "Edit", "Clear Outputs of All Cells")
    expect(prompts.filter(has_text=re.compile(r"\[\d+\]:"))).to_have_count(0)
    _choose(page, "Run", "Run All Cells")
    expect(prompts.filter(has_text="[1]:")).to_have_count(1, timeout=timeout_s * 1000)
    expect(prompts.filter(has_text="[*]:")).to_have_count(0, timeout=timeout_s * 1000)
    page.wait_for_function(READY, timeout=timeout_s * 1000)
    return _saved(page, path)


def _choose(page: Page, menu: str, item: str) -> None:
    page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
    page.locator(".lm-Menu-itemLabel", has_text=item).first.click()


def _saved(page: Page, path: Path) -> NotebookNode:
    """Save from the keyboard and return the file's new content."""
    before = path.stat().st_mtime_ns
    page.keyboard.press("Control+s")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.stat().st_mtime_ns != before:
            try:
                return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
            except (json.JSONDecodeError, nbformat.reader.NotJSONError):
                pass  # it is being written
        time.sleep(0.2)
    raise AssertionError(f"{path.name} was not saved within 30 s")


def problems(notebook: NotebookNode) -> list[str]:
    """Return what went wrong in a notebook that was run: cells that raised or were not reached."""
    found = []
    for i, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            found.append(f"cell {i} was not reached")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"cell {i} raised {output.ename}: {output.evalue}")
    return found


def pictures(cell: Locator) -> list[str]:
    """Return what the pictures in a cell's outputs show, as one string each."""
    return cell.evaluate(PICTURES)


def screenshot(page: Page, name: str) -> Path:
    """Save what the window shows to build/screenshots/NAME.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path


def photograph_outputs(page: Page, name: str) -> int:
    """Save each cell output that holds a picture or a widget; return how many there were."""
    selector = ".jp-Notebook .jp-Cell:has(.jp-OutputArea img, .jp-OutputArea .jupyter-widgets)"
    cells = page.locator(selector)
    for i in range(cells.count()):
        cells.nth(i).scroll_into_view_if_needed()
        cells.nth(i).screenshot(path=SCREENSHOTS / f"{name}-output-{i + 1:02}.png")
    return cells.count()
