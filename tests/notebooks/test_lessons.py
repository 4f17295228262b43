"""Every lesson runs from its first cell to its last, at quick pace, in a fresh kernel.

What a lesson asserts about its own numbers is asserted here too, for the cells are the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.run_notebooks import lessons, run

pytestmark = pytest.mark.notebooks

# Full pace is to take three minutes on two quiet cores; quick pace a fraction of it, and not
# more than this on busy ones.
LIMIT_S = 300


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
def test_lesson_runs_to_its_end(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    done = run(path, pace="quick", results=tmp_path / "results")
    code = [cell for cell in done.notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code if cell.source.strip())
    errors = [out for cell in code for out in cell.outputs if out.output_type == "error"]
    assert errors == []
    assert done.seconds < LIMIT_S, f"{path.name} took {done.seconds:.0f} s at quick pace"
    assert path.read_bytes() == before
