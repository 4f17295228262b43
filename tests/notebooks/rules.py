"""The shape of a lesson or a page, as rules: each takes one and says what is wrong.

A rule returns a list of complaints, each naming the cell (counted from 1), and an empty list when
there are none. They are in DESIGN.md's words; the numbers stand here, once. A notebook's name is
its path within notebooks/: a page's begins with "pages/".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from nbformat import NotebookNode

from tests.processes import ROOT
from tools.release import current_repo

MAX_CODE_LINES = 25
MAX_CODE_IN_A_ROW = 2
WORDS, WORDS_OF_FIRST = (1200, 2000), (800, 2000)
CELLS, CELLS_OF_FIRST = (40, 70), (20, 70)
MIN_ALT_CHARACTERS = 15
FIRST = "00_start_here.ipynb"
WORDS_OF_PAGE, CELLS_OF_PAGE = (300, 1600), (10, 30)
# Full pace is to take three minutes on two quiet cores; quick pace a fraction of it, and not
# more than this on busy ones.
QUICK_LIMIT_S = 300
PAGE_LIMIT_S = 120  # likewise, of some 20 seconds

FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#{1,6})\s+(.+)$", re.MULTILINE)
MARKDOWN_IMAGE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
HTML_ALT = re.compile(r"\balt\s*=\s*([\"'])(?P<alt>.*?)\1", re.IGNORECASE | re.DOTALL)
URL = re.compile(r"https?://\S+")
COLAB = re.compile(r"\(https://colab\.research\.google\.com(/[^)]*\))")
LESSONS_OWN = re.compile(r"\b(record|check)\(")


def _cells(notebook: NotebookNode, kind: str) -> list[tuple[int, NotebookNode]]:
    return [(i, cell) for i, cell in enumerate(notebook.cells, 1) if cell.cell_type == kind]


def _between(what: str, n: int, bounds: tuple[int, int]) -> list[str]:
    low, high = bounds
    return [] if low <= n <= high else [f"{n} {what}, where {low} to {high} are wanted"]


def is_page(name: str) -> bool:
    """Say whether a notebook is a page beside the lessons."""
    return name.startswith("pages/")


def headings(notebook: NotebookNode, name: str) -> list[str]:
    """One H1, in the first cell, and no level skipped on the way down."""
    found = [
        (i, len(marks), title)
        for i, cell in _cells(notebook, "markdown")
        for marks, title in HEADING.findall(FENCE.sub("", cell.source))
    ]
    complaints = []
    top = [i for i, level, _ in found if level == 1]
    if top != [1]:
        complaints.append(f"one H1, in cell 1, is wanted; found in cells {top}")
    for (_, before, _), (i, level, title) in pairwise(found):
        if level > before + 1:
            complaints.append(f"cell {i}: {title!r} skips from level {before} to {level}")
    return complaints


def code_cells(notebook: NotebookNode, name: str) -> list[str]:
    """Code cells are short, and never more than two stand in a row."""
    complaints = []
    in_a_row = 0
    for i, cell in enumerate(notebook.cells, 1):
        in_a_row = in_a_row + 1 if cell.cell_type == "code" else 0
        if in_a_row == MAX_CODE_IN_A_ROW + 1:
            complaints.append(f"cell {i}: {in_a_row} code cells in a row")
        n_lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and n_lines > MAX_CODE_LINES:
            complaints.append(f"cell {i}: {n_lines} lines of code")
    return complaints


def length(notebook: NotebookNode, name: str) -> list[str]:
    """As many cells, and as many words of prose, as a lesson has, or a page."""
    words, n_cells = WORDS, CELLS
    if name == FIRST:
        words, n_cells = WORDS_OF_FIRST, CELLS_OF_FIRST
    if is_page(name):
        words, n_cells = WORDS_OF_PAGE, CELLS_OF_PAGE
    prose = "\n".join(cell.source for _, cell in _cells(notebook, "markdown"))
    n_words = len(URL.sub("", FENCE.sub("", prose)).split())
    return [
        *_between("words of prose", n_words, words),
        *_between("cells", len(notebook.cells), n_cells),
    ]


def outputs(notebook: NotebookNode, name: str) -> list[str]:
    """Outputs of one clean run are committed: in order, without an error or a warning."""
    complaints = []
    code = [(i, cell) for i, cell in _cells(notebook, "code") if cell.source.strip()]
    for expected, (i, cell) in enumerate(code, 1):
        if cell.execution_count != expected:
            complaints.append(
                f"cell {i}: execution count {cell.execution_count}, expected {expected}"
            )
        for output in cell.outputs:
            if output.output_type == "error":
                complaints.append(f"cell {i}: raised {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr":
                complaints.append(f"cell {i}: printed to stderr: {output.text.strip()[:200]}")
    n_shown = sum(bool(cell.outputs) for _, cell in code)
    if n_shown < len(code) / 3:
        complaints.append(f"only {n_shown} of {len(code)} code cells show an output")
    return complaints


def images(notebook: NotebookNode, name: str) -> list[str]:
    """Every image says in words what it shows."""
    complaints = []
    for i, cell in enumerate(notebook.cells, 1):
        texts = [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts.append(str(data.get("text/html", "")))
            for kind in data:
                alt = output.metadata.get(kind, {}).get("alt", "")
                if kind.startswith("image/") and len(alt) < MIN_ALT_CHARACTERS:
                    complaints.append(f"cell {i}: {kind} without alt text; use plotting.show")
        alts = [alt for text in texts for alt in MARKDOWN_IMAGE.findall(text)]
        for tag in (tag for text in texts for tag in HTML_IMAGE.findall(text)):
            found = HTML_ALT.search(tag)
            alts.append(found["alt"] if found else "")
        if not all(alt.strip() for alt in alts):
            complaints.append(f"cell {i}: an image without alt text")
    return complaints


def set_up(notebook: NotebookNode, name: str) -> list[str]:
    """The first code cell is the set-up cell, the same in every lesson, for this repository."""
    code = _cells(notebook, "code")
    wanted = set_up_cell()
    if code and code[0][1].source.strip() == wanted:
        return []
    return [f"the first code cell is not the set-up cell, which reads:\n{wanted}"]


def colab(notebook: NotebookNode, name: str) -> list[str]:
    """The link in the first cell opens this very notebook, in this repository."""
    wanted = f"/github/{current_repo(ROOT)}/blob/main/notebooks/{name})"
    found = COLAB.findall(notebook.cells[0].source)
    return [] if found == [wanted] else [f"the link to Colab is {found}, not {wanted!r}"]


def apart(notebook: NotebookNode, name: str) -> list[str]:
    """A page explains; it neither records results nor grades an exercise."""
    code = _cells(notebook, "code") if is_page(name) else []
    return [
        f"cell {i}: a page does not call {call[1]}"
        for i, cell in code
        for call in LESSONS_OWN.finditer(cell.source)
    ]


def set_up_cell() -> str:
    """Return the set-up cell, with the repository's owner/name from pyproject.toml."""
    repo = current_repo(ROOT)
    return (
        "import importlib.util\n\n"
        "# Colab: install the course, and leave torch and numpy alone.\n"
        'if importlib.util.find_spec("shrinkkit") is None:\n'
        f'    %pip install -q "shrinkkit[course] @ git+https://github.com/{repo}"\n'
        "    !shrinkkit install-assets"
    )


RULES: tuple[Callable[[NotebookNode, str], list[str]], ...] = (
    headings,
    code_cells,
    length,
    outputs,
    images,
    set_up,
    colab,
    apart,
)
