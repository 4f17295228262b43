"""What all methods that make a smaller model, or a model that is rounded better, have in common."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    awq_model,
    gptq_model,
    int_format,
    load,
    prepare_qat,
    quantize_activations,
    quantize_model,
    rotate,
    save,
    smooth,
    smooth_quantize,
    train_qat,
    tune_scales,
)
from shrinkkit.quant.ptq.budget import rounding_prices
from shrinkkit.surgery.parts import find_linears, is_packed
from tests.tiny import left_alone, logits, same_tensors

PACKING = {
    "rounding": lambda m, _, **how: quantize_model(m, 4, 32, **how),
    "GPTQ": lambda m, text, **how: gptq_model(m, text, 4, 32, **how),
    "AWQ": lambda m, text, **how: awq_model(m, text, 4, 32, **how),
    "W8A8": lambda m, _, **how: quantize_activations(m, **how),
    "W8A8, static": lambda m, text, **how: quantize_activations(
        m, "per_tensor_static", text, **how
    ),
    "SmoothQuant": lambda m, text, **how: smooth_quantize(m, text, **how),
    "SmoothQuant, searched": lambda m, text, **how: smooth_quantize(m, text, "search", **how),
}
PREPARING = {
    "smoothing": lambda m, text, **how: smooth(m, text, **how),
    "rotation": lambda m, _, **how: rotate(m, seed=7, **how),
    "ste": lambda m, _, **how: prepare_qat(m, 2, 16, method="ste", **how),
    "lsq": lambda m, _, **how: prepare_qat(m, 2, 16, method="lsq", **how),
}
METHODS = PACKING | PREPARING


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_given_model_is_left_alone_and_twice_gives_the_same(method, llama, tokens) -> None:
    with left_alone(llama):
        one, two = (method(llama, tokens) for _ in range(2))
    assert same_tensors(one, two)
    assert torch.equal(logits(one, tokens), logits(two, tokens))
    assert not same_tensors(one, llama)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_inplace_changes_the_model_itself(method, llama, tokens) -> None:
    model = copy.deepcopy(llama)
    assert method(model, tokens, inplace=True) is model
    assert not same_tensors(model, llama)


@pytest.mark.parametrize("method", PACKING.values(), ids=PACKING)
def test_saved_and_loaded_it_gives_the_same_logits(method, llama, tokens, tmp_path) -> None:
    small = method(llama, tokens)
    opened = load(save(small, tmp_path / "small"))
    assert torch.equal(logits(opened, tokens), logits(small, tokens))


@pytest.mark.parametrize("name", METHODS)
def test_a_model_is_not_quantized_twice(name: str, llama, tokens) -> None:
    with pytest.raises(InputError, match="quantized already"):
        METHODS[name](quantize_model(llama, 8), tokens)


@pytest.mark.parametrize("name", ["rounding", "W8A8", "W8A8, static", "ste", "lsq"])
def test_include_and_exclude_choose_layers(name: str, llama, tokens) -> None:
    head = {"head_bits": None} if name in PACKING else {}
    small = METHODS[name](llama, tokens, include="*.mlp.*", exclude="*.down_proj", **head)
    changed = {n for n, m in small.named_modules() if "proj" in n and type(m) is not nn.Linear}
    assert changed == {f"model.layers.{i}.mlp.{n}_proj" for i in (0, 1) for n in ("gate", "up")}
    with pytest.raises(InputError, match="No linear layer matches"):
        METHODS[name](llama, tokens, include="nothing*")


READING = {name: METHODS[name] for name in ("W8A8, static", "SmoothQuant", "smoothing")}
LEARNING = {
    "GPTQ": METHODS["GPTQ"],
    "AWQ": METHODS["AWQ"],
    "prices": lambda m, text: rounding_prices(m, text, [int_format(4)]),
    "tuning": lambda m, text: tune_scales(quantize_model(m, 4, 32), m, text, steps=1),
    "training": lambda m, text: train_qat(prepare_qat(m), text, steps=1),
}


@pytest.mark.parametrize("method", (READING | LEARNING).values(), ids=READING | LEARNING)
@pytest.mark.parametrize(
    ("windows", "says"),
    [
        (torch.zeros(0, 8).long(), "at least one of them"),
        (torch.zeros(2, 8), "integers"),
        (torch.arange(8), r"shape \(8,\)"),
    ],
    ids=["empty", "floats", "flat"],
)
def test_text_has_to_be_windows(method, windows, says, llama) -> None:
    with pytest.raises(InputError, match=says):
        method(llama, windows)


@pytest.mark.parametrize("method", LEARNING.values(), ids=LEARNING)
def test_tokens_have_to_be_the_models_own(method, llama) -> None:
    with pytest.raises(InputError, match=r"ids up to 300.* 255"):
        method(llama, torch.full((1, 4), 300))


@pytest.mark.parametrize("name", ["rounding", "GPTQ", "ste", "lsq"])
def test_weights_that_are_not_finite_are_named_by_layer(name: str, llama, tokens) -> None:
    broken = copy.deepcopy(llama)
    broken.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("nan")
    with pytest.raises(InputError, match=r"model\.layers\.1\.mlp\.up_proj.*1 NaN"):
        METHODS[name](broken, tokens)
    assert not any(is_packed(layer) for layer in find_linears(broken).values())
