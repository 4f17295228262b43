"""A list of steps is its verbs one after another; orders that cannot work are refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from shrinkkit import shrink
from shrinkkit.errors import InputError
from shrinkkit.measure import bits_per_weight, saved_bytes
from shrinkkit.quant import (
    AWQ,
    GPTQ,
    RTN,
    W8A8,
    Rotate,
    SmoothQuant,
    TuneScales,
    awq_model,
    gptq_model,
    quantize_model,
    rotate,
    smooth_quantize,
    tune_scales,
)
from shrinkkit.recipes import write_recipe
from tests import tiny

TEXT = tiny.tokens(6, 16)
TUNE = TuneScales(steps=2, batch_size=2)
LISTS = {
    "rounding": ([RTN(4, 32)], lambda m: quantize_model(m, 4, 32)),
    "GPTQ, tuned": (
        [GPTQ(4, 32), TUNE],
        lambda m: tune_scales(gptq_model(m, TEXT, 4, 32), m, TEXT, steps=2, batch_size=2),
    ),
    "AWQ": ([AWQ(3, 32)], lambda m: awq_model(m, TEXT, 3, 32)),
    "SmoothQuant": ([SmoothQuant(0.6), W8A8()], lambda m: smooth_quantize(m, TEXT, 0.6)),
    "rotated": (
        [Rotate(seed=2), RTN(4, 32, head_bits=None)],
        lambda m: quantize_model(rotate(m, 2), 4, 32, head_bits=None),
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_its_verbs_one_after_another(name: str, tiny_llama) -> None:
    steps, by_hand = LISTS[name]
    with tiny.left_alone(tiny_llama):
        small, expected = shrink(tiny_llama, steps, TEXT), by_hand(tiny_llama)
    assert torch.equal(tiny.logits(small.model, TEXT), tiny.logits(expected, TEXT))
    assert [row["step"] for row in small.rows] == [str(step) for step in steps]
    assert small.rows[-1]["saved_bytes"] == saved_bytes(expected)
    assert small.rows[-1]["bits_per_weight"] == bits_per_weight(expected)
    assert all(row["seconds"] > 0 for row in small.rows)


def test_a_file_does_what_its_steps_do(tiny_llama, tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "mine.yaml", [RTN(4, 32)])
    assert tiny.same_tensors(*(shrink(tiny_llama, how).model for how in (path, [RTN(4, 32)])))


def test_inplace_changes_the_model_itself(tiny_llama) -> None:
    model = copy.deepcopy(tiny_llama)
    assert shrink(model, [SmoothQuant(), W8A8()], TEXT, inplace=True).model is model


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "steps is empty"),
        ("nothing.yaml", "There is no recipe at"),
        ([GPTQ], "must be a list of steps"),
        (GPTQ(), "must be a list of steps"),
        ([RTN(), GPTQ()], r"Step 2, GPTQ\(\), needs float weights.*since step 1, RTN\(\)"),
        ([W8A8(), SmoothQuant()], r"Step 2, SmoothQuant\(\), needs float weights"),
        ([RTN(4), Rotate()], r"Step 2, Rotate\(\), needs float weights"),
        ([TuneScales()], r"needs packed weights with float activations, but finds float"),
        ([W8A8(), TuneScales()], "but finds packed weights with integer activations"),
    ],
)
def test_orders_that_cannot_work_are_refused_before_any_work(steps, says, tiny_llama) -> None:
    with pytest.raises(InputError, match=says):
        shrink(tiny_llama, steps, TEXT)


@pytest.mark.parametrize("step", [GPTQ(), AWQ(), SmoothQuant(), W8A8("per_tensor_static")], ids=str)
def test_a_step_that_looks_at_text_needs_some(step, tiny_llama) -> None:
    with pytest.raises(InputError, match="looks at text, and calibration is missing"):
        shrink(tiny_llama, [step])


def test_what_learns_from_the_float_model_needs_it(tiny_llama) -> None:
    packed = quantize_model(tiny_llama, 4, 32)
    with pytest.raises(InputError, match="learns from the float model"):
        shrink(packed, [TUNE], TEXT)
    with pytest.raises(InputError, match="learns from the float model"):
        shrink(copy.deepcopy(tiny_llama), [RTN(4, 32), TUNE], TEXT, inplace=True)
    with pytest.raises(InputError, match=r"integers by now \(the model is so already\)"):
        shrink(packed, [RTN(4, 32)])
    with pytest.raises(InputError, match="finds packed weights with integer activations"):
        shrink(shrink(tiny_llama, [W8A8()]).model, [TUNE], TEXT)
