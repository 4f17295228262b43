"""What a learner's code replaces in torch, numpy, math and Python is put back and told."""

from __future__ import annotations

import builtins
import math
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.checks.originals import NAMESPACES, put_back
from shrinkkit.errors import CheckFailed

PLACES = [
    (torch, "isclose"),
    (torch, "equal"),
    (torch.Tensor, "double"),  # inherited
    (torch.Tensor, "__eq__"),
    (torch.Tensor, "detach"),
    (torch.nn.functional, "softmax"),
    (torch.linalg, "inv"),
    (np, "isclose"),
    (np, "round"),
    (np.linalg, "solve"),
    (math, "sqrt"),
    (builtins, "abs"),
    (builtins, "isinstance"),
    (builtins, "any"),
    (builtins, "map"),
]
IDS = [f"{place.__name__}.{name}" for place, name in PLACES]


@pytest.fixture(autouse=True)
def _is_whole_before_and_after() -> Iterator[None]:
    assert put_back() == []
    yield
    assert put_back() == []


def other(*_: Any, **__: Any) -> torch.Tensor:
    return torch.ones(3, 8, dtype=torch.bool)


def right(weight: torch.Tensor, bits: int) -> torch.Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return scale * torch.nan_to_num(weight / scale).round()


@pytest.mark.parametrize(("place", "name"), PLACES, ids=IDS)
def test_a_name_replaced_before_the_check(place: Any, name: str) -> None:
    original = getattr(place, name)
    setattr(place, name, other if place is not builtins else lambda *args: original(*args))
    with pytest.raises(CheckFailed, match=rf"\.{name}` was replaced by your code, and is put back"):
        check("quant.rtn", right)
    assert getattr(place, name) is original
    check("quant.rtn", right)


@pytest.mark.parametrize(("place", "name"), PLACES, ids=IDS)
def test_a_name_replaced_inside_of_the_call(place: Any, name: str) -> None:
    original = getattr(place, name)

    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        result = right(weight, bits)
        setattr(place, name, other if place is not builtins else lambda *args: original(*args))
        return result

    with pytest.raises(CheckFailed, match=rf"\.{name}` was replaced by your code"):
        check("quant.rtn", answer)
    assert getattr(place, name) is original


def test_a_name_that_was_removed_comes_back() -> None:
    del math.sqrt
    with pytest.raises(CheckFailed, match=r"`math.sqrt` was replaced"):
        check("quant.rtn", right)
    assert math.sqrt(4) == 2


def test_names_that_are_added_are_left_alone() -> None:
    torch.my_own_name = other
    try:
        check("quant.rtn", right)
        assert torch.my_own_name is other
    finally:
        del torch.my_own_name


@pytest.mark.slow
def test_libraries_that_load_late_replace_nothing() -> None:
    code = (
        "from shrinkkit.checks.originals import put_back\n"
        "import matplotlib.pyplot, pandas, scipy.stats, sklearn.cluster, transformers, datasets\n"
        "import accelerate, peft, shrinkkit.recipes, shrinkkit.train, torch._dynamo\n"
        "from transformers import LlamaForCausalLM\n"
        "print(put_back())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_namespace_has_names() -> None:
    from shrinkkit.checks.originals import NOTED

    assert all(len(NOTED[title]) > 5 for title in NAMESPACES)
