"""README shows recorded results and nothing else; benchmarks say what they measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _run(*line: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *line], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_readme_shows_the_recorded_results():
    done = _run("tools/stamp_results.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_figure_changed_by_hand_is_noticed(tmp_path):
    for folder in ("data", "tools"):
        (tmp_path / folder).mkdir()
    results = tmp_path / "data" / "results"
    results.mkdir()
    for path in (ROOT / "data" / "results").glob("*.json"):
        (results / path.name).write_text(path.read_text("utf-8"), "utf-8")
    script = tmp_path / "tools" / "stamp_results.py"
    script.write_text((ROOT / "tools" / "stamp_results.py").read_text("utf-8"), "utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(readme.replace("| int8 |", "| int9 |"), "utf-8")
    assert _run(str(script), "--check").returncode == 1
    assert _run(str(script)).returncode == 0
    assert (tmp_path / "README.md").read_text("utf-8") == readme


@pytest.mark.parametrize("script", ["decode", "low_bits", "quantization", "streaming"])
def test_benchmarks_say_what_they_measure(script):
    done = _run(f"benchmarks/{script}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "data/results/" in done.stdout
