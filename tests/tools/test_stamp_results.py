"""README shows recorded results and nothing else; benchmarks say what they measure."""

from __future__ import annotations

import shutil

import pytest

from tests.processes import ROOT, run_python


def test_readme_shows_the_recorded_results():
    done = run_python(ROOT / "tools/stamp_results.py", "--check")
    assert done.returncode == 0, done.stderr


def test_a_figure_changed_by_hand_is_noticed(tmp_path):
    shutil.copytree(ROOT / "data" / "results", tmp_path / "data" / "results")
    (tmp_path / "tools").mkdir()
    script = shutil.copy(ROOT / "tools" / "stamp_results.py", tmp_path / "tools")
    readme = (ROOT / "README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(readme.replace("| int8 |", "| int9 |"), "utf-8")
    assert run_python(script, "--check").returncode == 1
    assert run_python(script).returncode == 0
    assert (tmp_path / "README.md").read_text("utf-8") == readme


@pytest.mark.parametrize("script", ["decode", "low_bits", "quantization", "streaming"])
def test_benchmarks_say_what_they_measure(script):
    done = run_python(ROOT / f"benchmarks/{script}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
    assert "data/results/" in done.stdout
