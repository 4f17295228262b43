"""The right answers are closed while a learner's function runs, and open again afterwards."""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import shrinkkit.quant
import shrinkkit.quant.grids.affine
from shrinkkit.checks import check
from shrinkkit.checks.curtain import Curtain, functions_of
from shrinkkit.checks.judge import Exercise
from shrinkkit.errors import CheckFailed
from shrinkkit.lessons.quant import exercises, truths
from shrinkkit.quant import Format
from shrinkkit.quant.grids.affine import fake_quantize
from shrinkkit.quant.grids.affine import fake_quantize as own_name
from tests.lessons.gates import ROOT, all_exercises

WEIGHT = torch.tensor([[0.5, -1.0, 0.25]])
FORMAT = Format(4, True, "per_channel")
MODULES = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.grids.packing")
ROOM = ROOT / "shrinkkit" / "lessons" / "quant"


@pytest.fixture(autouse=True)
def _is_open_before_and_after() -> Iterator[None]:
    functions = [*functions_of(MODULES[0]), *functions_of(truths.__name__)]
    before = [function.__code__ for function in functions]
    yield
    assert [function.__code__ for function in functions] == before
    assert torch.isfinite(fake_quantize(WEIGHT, FORMAT)).all()


def loaded_by_path(name: str, path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def right(weight: torch.Tensor, bits: int, round_groups: Callable) -> torch.Tensor:
    return torch.from_numpy(round_groups(weight.numpy(), bits, weight.shape[1])).to(weight.dtype)


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


IN_A_LIST = [fake_quantize, functools.partial(fake_quantize, fmt=FORMAT)]


def by_list(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return IN_A_LIST[0](weight, FORMAT)


def by_partial(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return IN_A_LIST[1](weight)


def closing_over(round_groups: Callable) -> Callable:
    return lambda weight, bits: right(weight, bits, round_groups)


def by_truth(weight: torch.Tensor, bits: int) -> torch.Tensor:
    from shrinkkit.lessons.quant.truths import round_groups

    return right(weight, bits, round_groups)


def by_another_rooms_truth(weight: torch.Tensor, bits: int) -> torch.Tensor:
    from shrinkkit.lessons.quant import mistakes

    return next(iter(functions_of(mistakes.__name__)))(weight, bits)


def by_frame(weight: torch.Tensor, bits: int) -> torch.Tensor:
    frame = sys._getframe()
    while frame.f_globals.get("__name__") != exercises.__name__:
        frame = frame.f_back
    return right(weight, bits, frame.f_globals["truths"].round_groups)


@pytest.mark.parametrize(
    "answer",
    [
        by_module,
        by_package,
        by_own_name,
        by_late_import,
        by_layer,
        by_list,
        by_partial,
        closing_over(truths.round_groups),
        by_truth,
        by_another_rooms_truth,
        by_frame,
    ],
    ids=lambda f: f.__name__,
)
def test_a_right_answer_of_ours_is_closed(answer: Callable) -> None:
    with pytest.raises(
        CheckFailed, match=r"Your code calls shrinkkit's own `\w+`, which is closed"
    ):
        check("quant.rtn", answer)


@pytest.mark.parametrize(
    "answer",
    [
        fake_quantize,
        functools.partial(fake_quantize, fmt=FORMAT),
        types.FunctionType(fake_quantize.__code__, vars(shrinkkit.quant.grids.affine)),
        loaded_by_path("second", ROOT / "shrinkkit/quant/grids/affine.py").fake_quantize,
    ],
    ids=["itself", "partial", "copy", "second module"],
)
def test_the_packages_own_version_handed_in_is_refused(answer: Callable) -> None:
    with pytest.raises(CheckFailed, match="`fake_quantize` is shrinkkit's own function"):
        check("quant.rtn", answer)


def test_known_mistakes_and_truths_are_refused_too() -> None:
    for function in (functions_of("shrinkkit.lessons.kv.mistakes")[0], truths.round_groups):
        with pytest.raises(CheckFailed, match="is shrinkkit's own function"):
            check("quant.rtn", function)


COPY = types.FunctionType(truths.round_groups.__code__, vars(truths), "mine")
COPIES = {"in a dict": COPY}


def naming_a_copy(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return right(weight, bits, COPY)


def naming_a_dict(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return right(weight, bits, COPIES["in a dict"])


def with_a_default(weight: torch.Tensor, bits: int, copy: Callable = COPY) -> torch.Tensor:
    return right(weight, bits, copy)


def naming_code(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return right(weight, bits, types.FunctionType(CODE, vars(truths)))


CODE = truths.round_groups.__code__


def helper(weight: torch.Tensor, bits: int) -> torch.Tensor:
    return naming_a_copy(weight, bits)


class Holder:
    def __init__(self) -> None:
        self.copy = COPY

    def __call__(self, weight: torch.Tensor, bits: int) -> torch.Tensor:
        return right(weight, bits, self.copy)

    def method(self, weight: torch.Tensor, bits: int) -> torch.Tensor:
        return naming_a_copy(weight, bits)


@pytest.mark.parametrize(
    "answer",
    [
        naming_a_copy,
        naming_a_dict,
        with_a_default,
        naming_code,
        helper,
        closing_over(COPY),
        functools.partial(with_a_default, copy=COPY),
        Holder(),
        Holder().method,
    ],
    ids=lambda f: getattr(f, "__name__", type(f).__name__),
)
def test_a_copy_that_was_made_before_is_refused(answer: Callable) -> None:
    with pytest.raises(CheckFailed, match="holds a copy of shrinkkit's own `round_groups`"):
        check("quant.rtn", answer)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_it_opens_again_after_any_exception(error: type[BaseException]) -> None:
    def use_and_raise() -> None:
        with Curtain(MODULES).drawn():
            with pytest.raises(CheckFailed, match="`fake_quantize`"):
                fake_quantize(WEIGHT, FORMAT)
            raise error

    with pytest.raises(error):
        use_and_raise()


def test_methods_properties_wrapped_functions_and_closures_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hidden_kinds.py"
    path.write_text(
        "import functools, torch\n"
        "class Answer:\n"
        "    def method(self): return 1\n"
        "    @staticmethod\n"
        "    def static(): return 1\n"
        "    @classmethod\n"
        "    def of_class(cls): return 1\n"
        "    @property\n"
        "    def attribute(self): return 1\n"
        "@torch.no_grad()\n"
        "def wrapped(): return 1\n"
        "@functools.cache\n"
        "def cached(): return 1\n"
        "def outer(x):\n"
        "    def inner(): return x\n"
        "    return inner\n"
        "closure = outer(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    hidden = importlib.import_module("hidden_kinds")
    one = hidden.Answer()
    calls = {
        "method": one.method,
        "static": one.static,
        "of_class": one.of_class,
        "attribute": lambda: one.attribute,
        "wrapped": hidden.wrapped,
        "cached": hidden.cached,
        "inner": hidden.closure,
    }
    with Curtain(["hidden_kinds"]).drawn():
        for name, call in calls.items():
            with pytest.raises(CheckFailed, match=f"shrinkkit's own `{name}`"):
                call()
    assert [call() for call in calls.values()] == [1] * len(calls)


def test_other_functions_stay_open() -> None:
    with Curtain(MODULES).drawn():
        assert Format(4, True, "per_channel").qmax == 7
        assert torch.equal(WEIGHT.round(), torch.tensor([[0.0, -1.0, 0.0]]))


def test_a_learners_decorator_of_torch_is_no_copy() -> None:
    @torch.no_grad()
    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
        return scale * torch.nan_to_num(weight / scale).round()

    check("quant.rtn", answer)


@pytest.mark.parametrize("exercise", all_exercises().values(), ids=all_exercises())
def test_every_module_that_an_exercise_hides_has_functions(exercise: Exercise) -> None:
    for module in exercise.hides:
        assert functions_of(module), f"{module} defines no functions"
