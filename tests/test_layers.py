"""Arrows between the rooms point downward: import-linter, by the contracts in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.processes import ROOT, run_python

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(folder: Path) -> CompletedProcess[str]:
    """Run import-linter on the package in a folder, by the contracts that lie beside it."""
    command = ["-c", LINT, "--no-cache", "--no-logo"]
    return run_python(*command, cwd=folder, PYTHONPATH=str(folder), COLUMNS="200")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package's code, to be spoilt, and of its contracts."""
    code = shutil.ignore_patterns("__pycache__", "_data")
    shutil.copytree(ROOT / "shrinkkit", tmp_path / "shrinkkit", ignore=code)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_all_contracts_are_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "target"),
    [
        pytest.param("system/pace", "import shrinkkit.cli", "cli", id="import"),
        pytest.param(
            "calibration/walk", "from ..measure import size", "measure.size", id="relative"
        ),
        pytest.param(
            "sources/text", "from shrinkkit import measure", "measure", id="from the package"
        ),
        pytest.param(
            "surgery/parts", "def f():\n    from shrinkkit.quant import gptq", "quant", id="lazy"
        ),
        pytest.param(
            "train/descent",
            "if TYPE_CHECKING:\n    from shrinkkit.quant import gptq",
            "quant",
            id="for types",
        ),
        pytest.param("export/__init__", "import shrinkkit.loading", "loading", id="sideways"),
        pytest.param(
            "quant/grids/formats",
            "from shrinkkit.quant.store import io",
            "quant.store.io",
            id="upward in quant",
        ),
        pytest.param(
            "lessons/awq/truths",
            "from shrinkkit.lessons.gptq import figures",
            "lessons.gptq.figures",
            id="another lesson",
        ),
    ],
)
def test_a_bad_arrow_is_noticed(copy: Path, module: str, line: str, target: str) -> None:
    name = module.removesuffix("/__init__").replace("/", ".")
    is_noticed(copy, module, line, f"{name} -> shrinkkit.{target}")


@pytest.mark.parametrize(
    ("module", "line", "says"),
    [
        pytest.param("quant/attic", "", "shrinkkit.quant.attic", id="in no layer of quant"),
        pytest.param("attic", "", "shrinkkit.attic", id="in no layer"),
        pytest.param(
            "figures/style",
            "def f():\n    from shrinkkit.figures import bars",
            "No cycles are allowed in shrinkkit.figures.",
            id="circle",
        ),
    ],
)
def test_a_module_out_of_place_is_noticed(copy: Path, module: str, line: str, says: str) -> None:
    is_noticed(copy, module, line, says)


def is_noticed(copy: Path, module: str, line: str, says: str) -> None:
    assert says not in lint(copy).stdout
    with (copy / "shrinkkit" / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stderr
    assert says in done.stdout
