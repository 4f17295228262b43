"""`close` and `compare`: what passes, what is said first, and that nothing makes them crash."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from shrinkkit.checks.compare import Part, close, compare, describe, must, several
from shrinkkit.checks.judge import Attempt
from shrinkkit.errors import CheckFailed
from tests.checks.test_odd_results import Double, Fake, Liar

EXAMPLE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def failure_of(actual: object, expected: object = EXAMPLE, **options: object) -> str:
    with pytest.raises(CheckFailed) as failure:
        close(actual, expected, "the weight", "Look here.", **options)
    return str(failure.value)


@pytest.mark.parametrize(
    ("actual", "says"),
    [
        pytest.param([[1, 2], [3, 4]], "a list was returned. Look here.", id="type"),
        pytest.param(EXAMPLE[0], "shape [2], and should have [2, 2]. Look here.", id="shape"),
        pytest.param(EXAMPLE.int(), "torch.int32, and should be floating point", id="dtype"),
        pytest.param(EXAMPLE + 0j, "is complex", id="complex"),
        pytest.param(
            EXAMPLE / 0, "holds 4 NaN or infinite value(s), the first at [0, 0]", id="inf"
        ),
        pytest.param(
            EXAMPLE.clamp(max=3),
            "wrong in 1 of 4 values: at [1, 1] it is 3, and should be 4. Look here.",
            id="value",
        ),
    ],
)
def test_close_names_the_first_difference(actual: object, says: str) -> None:
    assert says in failure_of(actual)


def test_close_asks_for_the_exact_dtype_where_told() -> None:
    says = failure_of(EXAMPLE.double(), dtype=torch.float32)
    assert "dtype torch.float64, and should have torch.float32" in says


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_close_asks_for_integers(dtype: torch.dtype) -> None:
    assert "integer dtype such as torch.int32" in failure_of(
        torch.ones(2, dtype=dtype), torch.ones(2, dtype=torch.int64)
    )


def test_close_takes_any_integer_dtype_and_any_float_dtype() -> None:
    for dtype in (torch.uint8, torch.int16, torch.int64):
        close(torch.ones(2, dtype=dtype), torch.ones(2, dtype=torch.int8), "the zero point")
    for dtype in (torch.bfloat16, torch.float64):
        close(EXAMPLE.to(dtype), EXAMPLE, "the weight")


@pytest.mark.parametrize("actual", [2, 2.0, torch.tensor(2.0), torch.tensor(2)])
def test_close_takes_one_number_in_many_forms(actual: object) -> None:
    close(actual, 2.0, "the memory")


@pytest.mark.parametrize("actual", [True, "2", [2.0], torch.tensor([2.0]), None])
def test_close_refuses_what_is_not_one_number(actual: object) -> None:
    assert "should be one number" in failure_of(actual, 2.0)


def test_close_on_numbers_says_both() -> None:
    assert "The weight is 3, and should be 2. Look here." in failure_of(3, 2.0)
    assert "NaN" in failure_of(float("nan"), 2.0)


def test_must() -> None:
    must(True, "never shown")
    with pytest.raises(CheckFailed, match=r"^shown$"):
        must(False, "shown")


def test_describe_shortens() -> None:
    assert describe([1, torch.zeros(2)]) == "list of 2 (1, float32 [2])"
    assert describe(range(3)) == "range"
    assert describe([0] * 9) == "list of 9 (0, 0, 0, 0, …)"


# ---------------------------------------------------------------------- what a result may be


def test_a_tensor_of_a_class_of_ones_own_is_refused() -> None:
    says = failure_of(torch.zeros(2, 2).as_subclass(Fake))
    assert "should be a torch tensor of shape [2, 2], but a Fake was returned" in says
    assert "but a ndarray was returned" in failure_of(EXAMPLE.numpy())


def test_a_parameter_and_a_tensor_with_a_graph_are_tensors() -> None:
    close(torch.nn.Parameter(EXAMPLE), EXAMPLE, "the weight")
    close(EXAMPLE.clone().requires_grad_() * 1, EXAMPLE, "the weight")


def test_a_tensor_is_not_read_through_its_attributes() -> None:
    wrong = torch.zeros(2, 2)
    for name in ("double", "detach", "to", "numpy", "clone", "cpu"):
        setattr(wrong, name, lambda *_, **__: EXAMPLE)
    assert "wrong in 4 of 4 values" in failure_of(wrong)


@pytest.mark.parametrize("number", [Liar(7), Double(7)])
def test_a_number_of_a_class_of_ones_own_is_refused(number: float) -> None:
    assert f"but {type(number).__name__} was returned" in failure_of(number, 2.0)


@pytest.mark.parametrize(
    "number", [4, np.int32(4), torch.tensor(4), torch.tensor(4, dtype=torch.uint8)]
)
def test_a_whole_number_has_an_exact_type(number: object) -> None:
    close(number, 4, "the count", whole=True)
    assert "should be 5" in failure_of(number, 5, whole=True)


@pytest.mark.parametrize(
    "number", [4.0, np.float32(4), torch.tensor(4.0), True, torch.tensor(True)]
)
def test_a_float_is_no_whole_number(number: object) -> None:
    assert "should be a whole number (an int)" in failure_of(number, 4, whole=True)


def test_integers_have_to_be_equal() -> None:
    says = failure_of(torch.tensor([1_000_001]), torch.tensor([1_000_000]))
    assert "it is 1000001, and should be 1000000" in says


def test_a_tolerance_may_differ_from_place_to_place() -> None:
    atol = np.array([[1e-3, 0.0], [0.0, 0.0]])
    off = EXAMPLE + torch.tensor([[5e-4, 0.0], [0.0, 0.0]])
    close(off, EXAMPLE, "the weight", rtol=0, atol=atol)
    assert "at [0, 0]" in failure_of(off, rtol=0, atol=atol[::-1])


def test_the_truth_may_be_a_function() -> None:
    close(EXAMPLE, lambda: EXAMPLE.numpy(), "the weight")
    assert "should be 4" in failure_of(3, lambda: 4)


# ------------------------------------------------------------------------------ several results

TWO = (Part("the ready keys"), Part("the window"))


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x[:1], x[1:]


def compared(answer: object) -> str:
    """Judge a function that halves; return what its author is told, empty where it is right."""
    case = (np.arange(6.0).reshape(3, 2),)
    try:
        compare(Attempt(answer, "halve"), halves, case, *TWO, call="return ready, window")
    except CheckFailed as failed:
        return str(failed)
    return ""


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: (x[:1], x[1:]),
        lambda x: [x[:1], x[1:]],
        lambda x: x.tensor_split([1]),
        lambda x: x.split([1, 2]),
    ],
)
def test_two_results_come_in_a_tuple_or_a_list(answer: object) -> None:
    assert compared(answer) == ""


def test_torchs_own_pairs_are_tuples() -> None:
    parts = several(torch.aminmax(torch.arange(3)), 2, "return low, high")
    assert parts == (torch.tensor(0), torch.tensor(2))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: (part for part in (x[:1], x[1:])), "but a generator was returned, which is no"),
        (lambda x: {"ready": x[:1], "window": x[1:]}, "without names, but a dict was returned"),
        (lambda x: x[:2], "but one tensor was returned (float64 [2, 2])"),
        (lambda x: (x[:1], x[1:], 3), "but 3 came back: tuple of 3 (float64 [1, 2],"),
        (lambda x: map(abs, (x[:1], x[1:])), "but a map was returned"),
        (lambda x: 7, "but 7 was returned"),
        (lambda x: (x[1:], x[:1]), "The two results are swapped: `return ready, window`."),
        (lambda x: (x[:1], 2 * x[1:]), "The window is wrong in 4 of 4 values"),
    ],
    ids=["generator", "dict", "tensor", "three", "map", "number", "swapped", "second wrong"],
)
def test_what_is_no_pair_is_told(answer: object, says: str) -> None:
    assert says in compared(answer)


def test_neither_the_case_nor_its_tolerance_can_be_changed_from_inside() -> None:
    def answer(x: torch.Tensor) -> torch.Tensor:
        frame = sys._getframe()
        while "case" not in frame.f_locals:
            frame = frame.f_back
        frame.f_locals["case"][0][:] = 0
        frame.f_locals["parts"][0].atol[:] = np.inf
        return torch.zeros_like(x)

    part = Part("the same", atol=np.zeros(3))
    with pytest.raises(CheckFailed, match="wrong in 3 of 3 values"):
        compare(Attempt(answer, "same"), lambda x: x, (np.ones(3),), part)


def test_the_truth_is_worked_out_afterwards_from_inputs_of_its_own() -> None:
    order = []

    def answer(x: torch.Tensor) -> torch.Tensor:
        order.append("answer")
        names, frame = set(), sys._getframe().f_back
        while frame is not None:
            names |= set(frame.f_locals)
            frame = frame.f_back
        assert not names & {"right", "expected"}
        return x + 1

    def truth(x: np.ndarray) -> np.ndarray:
        order.append("truth")
        return x + 1

    compare(Attempt(answer, "add"), truth, (np.zeros(3),), Part("the sum"))
    assert order == ["answer", "answer", "truth"]  # called again, with the same arguments

    def spoils(x: torch.Tensor) -> torch.Tensor:
        return x.zero_()

    with pytest.raises(CheckFailed, match="in place"):
        compare(Attempt(spoils, "spoil"), lambda x: x * 0, (np.ones(3),), Part("the zeros"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("the errors", "The errors are wrong in"),
        ("the rounded keys that wait", "The rounded keys that wait are wrong in"),
        ("the norm's bias", "The norm's bias is wrong in"),
        ("the scale of 3 weights", "The scale of 3 weights is wrong in"),
        ("q", "Q is wrong in"),
        ("the loss", "The loss is wrong in"),
    ],
)
def test_a_verb_is_in_the_number_of_its_name(name: str, says: str) -> None:
    with pytest.raises(CheckFailed, match=says):
        close(-EXAMPLE, EXAMPLE, name)
    has = says.replace("is wrong in", "has shape").replace("are wrong in", "have shape")
    with pytest.raises(CheckFailed, match=has):
        close(EXAMPLE[0], EXAMPLE, name)
