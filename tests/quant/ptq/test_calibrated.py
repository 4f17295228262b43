"""GPTQ on a whole model: which grid, in which order, better than rounding, saved and loaded."""

from __future__ import annotations

import warnings

import pytest
import torch

from shrinkkit.calibration.accumulators import Hessian
from shrinkkit.calibration.walk import Walk
from shrinkkit.errors import InputError
from shrinkkit.quant import NF4, awq_model, gptq_model, quantize_model
from shrinkkit.quant.ptq.calibrated import hessians
from shrinkkit.quant.ptq.gptq import gptq
from shrinkkit.surgery.parts import find_linears, is_packed
from tests import tiny
from tests.calibration.test_walk import inputs_of
from tests.quant.conftest import divergence


def test_the_first_block_is_gptq_of_its_layers(llama, tokens) -> None:
    small = gptq_model(llama, tokens, bits=4, group_size=32)
    name = "model.layers.0.mlp.gate_proj"
    seen = inputs_of(llama, [name], tokens)
    hessian = Hessian(64)
    hessian.add(seen[name])
    layer = small.get_submodule(name)
    expected = gptq(llama.get_submodule(name).weight, hessian.value(), layer.format)
    assert (layer.integers() == expected.q).float().mean() > 0.995  # sums in another order
    assert str(layer.format) == "int4 g32 asymmetric"


def test_hessians_are_one_for_each_input(llama, tokens) -> None:
    walk = Walk(llama, tokens)
    found = hessians(walk.blocks[0], walk)
    assert [(len(names), tuple(h.shape)) for names, h in found] == [
        (3, (64, 64)),
        (1, (64, 64)),
        (2, (64, 64)),
        (1, (128, 128)),
    ]


def test_only_what_is_included_is_quantized_and_the_text_stops_there(llama, tokens) -> None:
    include = "model.layers.0.mlp.*"
    small = gptq_model(llama, tokens, 4, 32, include=include, head_bits=None)
    name = "model.layers.0.mlp.gate_proj"
    packed = {name for name, layer in find_linears(small).items() if is_packed(layer)}
    assert packed == set(find_linears(llama, include))
    assert not torch.equal(small.get_submodule(name).dequantize(), llama.get_submodule(name).weight)
    last = small.model.layers[-1].mlp.down_proj.weight
    assert torch.equal(last, llama.model.layers[-1].mlp.down_proj.weight)
    with pytest.raises(InputError, match="No linear layer matches"):
        gptq_model(llama, tokens, include="model.layers.9.*")


@pytest.mark.parametrize("include", ["model.layers.0.*", "*.q_proj"], ids=["a block", "a reader"])
def test_awq_rescales_only_where_all_readers_are_included(llama, tokens, include: str) -> None:
    small = awq_model(llama, tokens, 3, 32, include=include, head_bits=None)
    norms = [
        torch.equal(ours.input_layernorm.weight, theirs.input_layernorm.weight)
        for ours, theirs in zip(small.model.layers, llama.model.layers, strict=True)
    ]
    assert norms == ([False] if include[0] == "m" else [True]) + [True] * (len(norms) - 1)


@pytest.mark.parametrize("bits", [3, 4])
def test_it_predicts_more_like_the_reference_than_rounding(llama, tokens, bits: int) -> None:
    others = tiny.tokens(16, 24, seed=2)
    rounded = quantize_model(llama, bits=bits, group_size=32, head_bits=None)
    ours = gptq_model(llama, tokens, bits=bits, group_size=32, head_bits=None)
    # random weights and words: there is little to make up with
    assert divergence(llama, ours, others) < 0.95 * divergence(llama, rounded, others)


def test_uneven_grids_and_the_head(llama, tokens) -> None:
    small = gptq_model(llama, tokens, bits=NF4, head_bits=None)
    assert small.model.layers[0].mlp.up_proj.format is NF4
    assert small.lm_head.weight.dtype == torch.float32
    both = gptq_model(llama, tokens, group_size=32)
    assert both.model.layers[1].mlp.up_proj.format.bits == 4
    assert both.lm_head.format.bits == 8
    assert both.model.embed_tokens.source is both.lm_head


def test_too_little_text_is_said(llama) -> None:
    window = torch.full((1, 4), 7)
    with pytest.warns(UserWarning, match="needed more damping; the first: model"):
        gptq_model(llama, window, bits=4, group_size=32, damping=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gptq_model(llama, window, bits=4, group_size=32)


def test_bad_input(llama, tokens) -> None:
    with pytest.raises(InputError, match="bits must be a whole number"):
        gptq_model(llama, tokens, bits=1)
    with pytest.raises(InputError, match=r"Layer model\.layers\.0\.self_attn.*larger than the row"):
        gptq_model(llama, tokens, bits=4, group_size=1000)
    with pytest.raises(InputError, match="bits must be a whole number"):
        gptq_model(llama, tokens[:0], head_bits=1)  # said before the text is looked at
