"""The files of right answers cannot be opened while a learner's function runs; others can."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import shrinkkit.quant.grids.affine
from shrinkkit.checks import check, curtain
from shrinkkit.errors import CheckFailed
from tests.checks.test_curtain import ROOM, WEIGHT, loaded_by_path, right
from tests.lessons.gates import ROOT, SOLUTIONS


def by_second_copy(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return right(weight, bits, loaded_by_path("second", ROOM / "truths.py").round_groups)


def by_reading(weight: torch.Tensor, bits: int) -> torch.Tensor:
    namespace = {}
    exec((ROOM / "truths.py").read_text(encoding="utf-8"), namespace)
    return right(weight, bits, namespace["round_groups"])


def by_own_module(weight: torch.Tensor, bits: int) -> torch.Tensor:
    with open(inspect.getfile(shrinkkit.quant.grids.affine), encoding="utf-8") as file:
        return torch.tensor(len(file.read()))


def by_notebook(weight: torch.Tensor, bits: int) -> torch.Tensor:
    path = SOLUTIONS / "03_quantization" / "03_quantization.ipynb"
    return torch.tensor(len(path.read_bytes()))


def by_first_import(weight: torch.Tensor, bits: int) -> torch.Tensor:
    sys.modules.pop("shrinkkit.lessons.measuring.truths", None)
    from shrinkkit.lessons.measuring.truths import perplexity

    return torch.tensor(perplexity(weight, bits))


@pytest.mark.parametrize(
    "answer",
    [by_second_copy, by_reading, by_own_module, by_notebook, by_first_import],
    ids=lambda f: f.__name__,
)
def test_the_files_of_answers_are_closed(answer: Callable) -> None:
    with pytest.raises(CheckFailed, match=r"Your code opens '[\w.-]+', which holds the answers"):
        check("quant.rtn", answer)


def test_other_files_and_modules_stay_open(tmp_path: Path) -> None:
    kept = tmp_path / "kept.txt"

    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        import colorsys

        importlib.reload(colorsys)
        loaded_by_path("third", ROOT / "shrinkkit/system/pace.py")
        kept.write_text(kept.read_text() if kept.exists() else "1")
        return weight * int(kept.read_text())

    with pytest.raises(CheckFailed, match=r"The rounded weight .* is wrong"):
        check("quant.rtn", answer)
    assert kept.read_text() == "1"


def test_the_files_are_open_when_no_learners_function_runs() -> None:
    with pytest.raises(CheckFailed):
        check("quant.rtn", by_reading)
    assert loaded_by_path("second", ROOM / "truths.py").round_groups(WEIGHT.numpy(), 4, 3).any()


@pytest.mark.slow
def test_libraries_that_load_late_are_let_in() -> None:
    """In a process of its own: matplotlib and transformers are loaded inside the call."""
    code = (
        "from shrinkkit.checks import check\n"
        "def answer(weight, bits):\n"
        "    import matplotlib.pyplot, transformers, shrinkkit.measure\n"
        "    from transformers import LlamaConfig\n"
        "    scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)\n"
        "    return scale * (weight / scale).nan_to_num().round()\n"
        "check('quant.rtn', answer)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Passed: quant.rtn" in done.stdout


@pytest.mark.parametrize(
    ("path", "is_closed"),
    [
        ("shrinkkit/lessons/kv/truths.py", True),
        ("shrinkkit/lessons/kv/__pycache__/truths.cpython-311.pyc", True),
        ("shrinkkit/lessons/kv/figures.py", False),
        ("shrinkkit/measure/quality.py", False),
        ("tests/lessons/kv/answers.py", True),
        ("notebooks/exercises/08_kv_cache/08_kv_cache.ipynb", False),
    ],
)
def test_what_is_closed_goes_by_the_file(path: str, is_closed: bool) -> None:
    assert bool(curtain.ANSWERS.search(curtain.source_of(ROOT / path))) is is_closed
