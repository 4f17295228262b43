"""The package's own functions are closed while a check runs, and open again afterwards."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator

import pytest
import torch

import shrinkkit.quant
import shrinkkit.quant.grids.affine
from shrinkkit.checks import check
from shrinkkit.checks.curtain import functions_of, unavailable
from shrinkkit.checks.judge import Exercise
from shrinkkit.errors import CheckFailed
from shrinkkit.quant import Format
from shrinkkit.quant.grids.affine import fake_quantize
from shrinkkit.quant.grids.affine import fake_quantize as own_name
from tests.lessons.gates import all_exercises

WEIGHT = torch.tensor([[0.5, -1.0, 0.25]])
FORMAT = Format(4, True, "per_channel")
MODULES = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.grids.packing")


@pytest.fixture(autouse=True)
def _is_open_before_and_after() -> Iterator[None]:
    before = {name: vars(sys.modules[name]).copy() for name in (*MODULES, "shrinkkit.quant")}
    yield
    for name, namespace in before.items():
        assert vars(sys.modules[name]) == namespace
    assert fake_quantize is own_name is shrinkkit.quant.grids.affine.fake_quantize
    assert torch.isfinite(fake_quantize(WEIGHT, FORMAT)).all()


def by_module(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return shrinkkit.quant.grids.affine.fake_quantize(weight, FORMAT)


def by_package(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return shrinkkit.quant.fake_quantize(weight, FORMAT)


def by_own_name(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return own_name(weight, FORMAT)


def by_late_import(weight: torch.Tensor, bits: int) -> torch.Tensor:
    from shrinkkit.quant import fake_quantize as late

    return late(weight, FORMAT)


def by_layer(weight: torch.Tensor, bits: int) -> torch.Tensor:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight
    return shrinkkit.quant.QuantizedLinear.from_linear(linear, FORMAT).dequantize()


@pytest.mark.parametrize(
    "answer",
    [by_module, by_package, by_own_name, by_late_import, by_layer],
    ids=lambda f: f.__name__,
)
def test_the_packages_own_version_is_closed(answer: Callable) -> None:
    with pytest.raises(
        CheckFailed, match=r"Your code calls shrinkkit's own `\w+`, which is closed"
    ):
        check("quant.rtn", answer)


@pytest.mark.parametrize("answer", [fake_quantize, functools.partial(fake_quantize, fmt=FORMAT)])
def test_the_packages_own_version_handed_in_is_refused(answer: Callable) -> None:
    with pytest.raises(CheckFailed, match="`fake_quantize` is shrinkkit's own function"):
        check("quant.rtn", answer)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_opens_again_after_any_exception(error: type[BaseException]) -> None:
    def use_and_raise() -> None:
        with unavailable(MODULES, []):
            with pytest.raises(CheckFailed, match="`fake_quantize`"):
                shrinkkit.quant.grids.affine.fake_quantize(WEIGHT, FORMAT)
            raise error

    with pytest.raises(error):
        use_and_raise()


def test_a_module_imported_meanwhile_gets_the_original_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late = types.ModuleType("shrinkkit.late")
    with unavailable(MODULES, []):
        late.borrowed = shrinkkit.quant.grids.affine.fake_quantize
        monkeypatch.setitem(sys.modules, "shrinkkit.late", late)
    assert late.borrowed is fake_quantize


def test_other_functions_stay_open() -> None:
    with unavailable(MODULES, []):
        assert Format(4, True, "per_channel").qmax == 7
        assert torch.equal(WEIGHT.round(), torch.tensor([[0.0, -1.0, 0.0]]))


@pytest.mark.parametrize("exercise", all_exercises().values(), ids=all_exercises())
def test_every_module_that_an_exercise_hides_has_functions(exercise: Exercise) -> None:
    for module in exercise.hides:
        assert functions_of(module), f"{module} defines no functions"
