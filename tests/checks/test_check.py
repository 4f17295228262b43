"""`check` itself: what it asks for, what it prints, what it says when an answer is wrong."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from shrinkkit.checks import check, exercises, rooms
from shrinkkit.checks.compare import close
from shrinkkit.checks.judge import Attempt, Exercise, judged
from shrinkkit.checks.mistakes import Mistakes
from shrinkkit.errors import CheckFailed, InputError

EXAMPLE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


def rtn(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A right answer to quant.rtn."""
    scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)
    return scale * torch.nan_to_num(weight / scale).round()


def test_a_right_answer_prints_one_green_line_and_returns_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check("quant.rtn", rtn) is None
    out, err = capsys.readouterr()
    assert out == "\033[32mPassed: quant.rtn\033[0m\n"
    assert err == ""


@pytest.mark.parametrize(
    ("name", "near"), [("quant.rnt", "quant.rtn"), ("Quant.Pack_int4", "quant.pack_int4")]
)
def test_an_unknown_name_gets_the_near_ones(name: str, near: str) -> None:
    with pytest.raises(InputError, match=rf"Did you mean '{near}'"):
        check(name, rtn)


def test_names_have_the_form_lesson_dot_exercise() -> None:
    assert all(name.count(".") == 1 for room in rooms() for name in exercises(room))


def test_a_result_instead_of_the_function() -> None:
    with pytest.raises(CheckFailed, match=r'A Tensor was handed in .* check\("quant.rtn", rtn\)'):
        check("quant.rtn", rtn(EXAMPLE, 4))


@pytest.mark.parametrize("functions", [(), (rtn, rtn)], ids=["none", "two"])
def test_too_few_or_too_many_functions(functions: tuple) -> None:
    with pytest.raises(CheckFailed, match=rf"has 1 function\(s\) and {len(functions)} were"):
        check("quant.rtn", *functions)


def test_an_answer_without_return() -> None:
    with pytest.raises(CheckFailed, match=r"`rtn\(float32 \[3, 8\], 4\)` returned None"):
        check("quant.rtn", lambda weight, bits: None)


def test_an_unwritten_helper_is_the_one_named() -> None:
    def helper() -> None:
        raise NotImplementedError

    with pytest.raises(CheckFailed, match=r"`helper` is not written yet"):
        check("quant.rtn", lambda weight, bits: helper())


def test_torchs_own_not_implemented_is_not_taken_for_a_stub() -> None:
    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        raise NotImplementedError("not implemented for 'Half'")

    with pytest.raises(CheckFailed, match=r"raised NotImplementedError .*for 'Half'"):
        check("quant.rtn", answer)


def test_an_exception_is_told_with_its_line_and_the_shapes() -> None:
    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        return weight @ weight

    with pytest.raises(CheckFailed) as failure:
        check("quant.rtn", answer)
    message = str(failure.value)
    assert "`rtn(float32 [3, 8], 4)` raised RuntimeError at line" in message
    assert "(`return weight @ weight`)" in message
    assert "mat1 and mat2 shapes cannot be multiplied (3x8 and 3x8)" in message
    assert isinstance(failure.value.__cause__, RuntimeError)


def test_a_wrong_signature() -> None:
    with pytest.raises(CheckFailed, match=r"raised TypeError: .*positional argument"):
        check("quant.rtn", lambda weight: weight)


def test_an_input_changed_in_place() -> None:
    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        return weight.copy_(rtn(weight, bits))

    with pytest.raises(CheckFailed, match="changed its argument 1 in place"):
        check("quant.rtn", answer)


def test_warnings_and_stderr_do_not_reach_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """nbgrader gives no points to a cell that writes to stderr."""

    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        warnings.warn("a library grumbles", stacklevel=1)
        print("50 %", file=sys.stderr)
        return rtn(weight, bits)

    check("quant.rtn", answer)
    out, err = capsys.readouterr()
    assert err == ""
    assert "50 %" in out


def test_a_keyboard_interrupt_is_left_alone() -> None:
    def answer(weight: torch.Tensor, bits: int) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("quant.rtn", answer)


def test_a_partial_and_a_callable_object_are_functions_too() -> None:
    class Rounder:
        def __call__(self, weight: torch.Tensor, bits: int) -> torch.Tensor:
            return rtn(weight, bits)

    check("quant.rtn", functools.partial(rtn))
    check("quant.rtn", Rounder())


def test_a_notebook_shows_the_message_alone() -> None:
    shell = InteractiveShell()
    shown: list[list[str]] = []
    shell._showtraceback = lambda kind, value, lines: shown.append(list(lines))
    shell.run_cell(
        "from shrinkkit.checks import check\ncheck('quant.rtn', lambda weight, bits: weight)"
    )
    assert len(shown) == 1
    assert len(shown[0]) == 1
    assert "CheckFailed\033[0m: quant.rtn is not right yet. The rounded" in shown[0][0]
    assert "Traceback" not in shown[0][0]


def test_importing_the_checks_does_not_load_transformers() -> None:
    code = "import sys, shrinkkit.checks; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ------------------------------------------------------------------------------ known mistakes

# Wrong answers to an exercise that returns its argument, which is EXAMPLE and then 2.0.
KNOWN = {
    "half was left": lambda x: x / 2,
    "it was turned": lambda x: -x,
    "it was squared": lambda x: x * x,
    "it fails here": lambda x: x.nothing,
}


def told(answer: Callable) -> str:
    """Judge an answer, and return what its author is told; empty where it is right."""

    def judge(same: Attempt) -> None:
        close(same(EXAMPLE), EXAMPLE, "the weight", "Look here.")
        close(same(3.0), 3.0, "the number", "Look here.")

    mistakes = Mistakes()
    for says, function in KNOWN.items():
        mistakes.add(says, function)
    exercise = Exercise(judge, (), mistakes)
    try:
        judged(exercise, [answer])
    except CheckFailed as failed:
        return str(failed)
    return ""


def test_the_mistake_that_explains_a_result_best_is_named() -> None:
    assert told(lambda x: -x) == "The weight is wrong: it looks as if it was turned. Look here."
    for_numbers = told(lambda x: x if isinstance(x, torch.Tensor) else x * x)
    assert for_numbers == "The number is wrong: it looks as if it was squared. Look here."


def test_no_mistake_is_named_that_explains_too_little() -> None:
    assert "looks as if" not in told(lambda x: torch.tensor([[-1.0, -2.0], [9.0, 9.0]]))


def test_a_known_mistake_does_not_make_a_right_answer_wrong() -> None:
    assert told(lambda x: x) == ""
