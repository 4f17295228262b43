"""Fused projections change no number; a compiled step writes the same tokens, compiled once."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.export import save_compressed_tensors
from shrinkkit.quant import (
    Format,
    QuantizedLinear,
    compile_decoding,
    fuse_projections,
    int_format,
    quantize_model,
    save,
)
from shrinkkit.quant.layers.fused import FusedAttention, FusedMLP, stack
from shrinkkit.surgery.parts import replace_module
from tests import tiny

TOKENS = tiny.tokens(2, 17, seed=5, vocab_size=253) + 3
FAMILIES = {
    "Llama": {"attention_bias": True},
    "Mistral": {"sliding_window": 8},
    "Qwen2": {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1},
}


def answers(model: nn.Module, tokens: torch.Tensor, n_new: int = 12, **more) -> torch.Tensor:
    """Write n_new tokens after each window, greedily."""
    with torch.no_grad():
        return model.generate(
            tokens, min_new_tokens=n_new, max_new_tokens=n_new, do_sample=False, **more
        )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("bits", [None, 8, 4, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fused_model_computes_what_the_model_does(family, bits, attention):
    model = tiny.biased(tiny.model(f"{family}ForCausalLM", **tiny.LARGER, **FAMILIES[family]))
    model.set_attn_implementation(attention)
    if bits:
        model = quantize_model(model, bits, None if bits == 8 else 32)
    with tiny.left_alone(model):
        fused = fuse_projections(model)
    mask = torch.ones_like(TOKENS)
    mask[1, :5] = 0  # padding on the left of the second window
    with torch.no_grad():
        expected = model(TOKENS, attention_mask=mask).logits
        found = fused(TOKENS, attention_mask=mask).logits
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1, 5:], expected[1, 5:], rtol=1e-5, atol=1e-5)
    assert torch.equal(
        answers(fused, TOKENS, attention_mask=mask, pad_token_id=0),
        answers(model, TOKENS, attention_mask=mask, pad_token_id=0),
    )
    kinds = [type(module) for module in fused.modules()]
    assert kinds.count(FusedAttention) == kinds.count(FusedMLP) == 2


def test_projections_of_different_formats_stay_apart(tiny_llama):
    model = quantize_model(tiny_llama, 4, 32)
    odd = QuantizedLinear.from_linear(
        tiny_llama.model.layers[0].self_attn.k_proj, int_format(3, group_size=32)
    )
    replace_module(model, "model.layers.0.self_attn.k_proj", odd)
    fused = fuse_projections(model)
    kinds = [type(module) for module in fused.modules()]
    assert (kinds.count(FusedAttention), kinds.count(FusedMLP)) == (1, 2)
    torch.testing.assert_close(tiny.logits(fused, TOKENS), tiny.logits(model, TOKENS))


def test_fusing_in_place_keeps_the_model_and_its_size(tiny_llama):
    model = quantize_model(tiny_llama, 4, 32)
    n_weights = sum(m.shape[0] * m.shape[1] for m in model.modules() if hasattr(m, "qparams"))
    assert fuse_projections(model, inplace=True) is model
    found = sum(m.shape[0] * m.shape[1] for m in model.modules() if hasattr(m, "qparams"))
    assert found == n_weights


def test_what_cannot_be_fused_is_refused(tiny_llama):
    fused = fuse_projections(tiny_llama)
    with pytest.raises(InputError, match="fused already"):
        fuse_projections(fused)
    with pytest.raises(InputError, match="family Linear; fused projections are known for llama"):
        fuse_projections(nn.Linear(2, 2))


def test_a_fused_model_is_not_saved(tiny_llama, tmp_path):
    fused = fuse_projections(quantize_model(tiny_llama, 4, 32))
    for write in (save, save_compressed_tensors):
        with pytest.raises(InputError, match="save the model that it was made from"):
            write(fused, tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_stacked_layers_give_their_outputs_one_after_the_other():
    layers = [nn.Linear(64, n, bias=n > 16) for n in (16, 32, 48)]
    x = tiny.normal(3, 64)
    torch.testing.assert_close(stack(layers)(x), torch.cat([f(x) for f in layers], dim=1))
    small = [QuantizedLinear.from_linear(f, int_format(4, group_size=32)) for f in layers]
    made = stack(small)
    assert torch.equal(made(x), torch.cat([f(x) for f in small], dim=1))
    assert torch.equal(made.integers(), torch.cat([f.integers() for f in small]))


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (lambda f: nn.Linear(32, 16), "different kinds or widths"),
        (lambda f: QuantizedLinear.from_linear(f, int_format(3, group_size=32)), "one format"),
        (lambda f: f, "different kinds"),
    ],
)
def test_layers_that_cannot_be_stacked_are_refused(others, message):
    layer = nn.Linear(64, 16)
    small = QuantizedLinear.from_linear(layer, int_format(4, group_size=32))
    with pytest.raises(InputError, match=message):
        stack([small, others(layer)])
    per_tensor = Format(8, granularity="per_tensor")
    with pytest.raises(InputError, match="one scale each"):
        stack([QuantizedLinear.from_linear(layer, per_tensor)] * 2)
    with pytest.raises(InputError, match="_Odd: only"):
        stack([_Odd(), _Odd()])


class _Odd(nn.Identity):
    in_features, out_features, bias = 4, 4, None


@pytest.mark.slow
def test_a_compiled_step_writes_the_same_and_is_compiled_once(tiny_llama):
    from torch._dynamo.utils import counters

    plain = quantize_model(tiny_llama, 4, 32)
    fast = compile_decoding(fuse_projections(plain), max_length=64)
    assert plain.generation_config.cache_implementation is None
    prompt = TOKENS[:1]
    torch._dynamo.reset()
    counters.clear()
    for n_tokens, n_new in ((17, 12), (9, 6), (17, 40)):
        found = answers(fast, prompt[:, :n_tokens], n_new)
        assert torch.equal(found, answers(plain, prompt[:, :n_tokens], n_new))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_a_file_says_nothing_of_the_compiled_step(tiny_llama, tmp_path):
    plain = quantize_model(tiny_llama, 4, 32)
    fast = compile_decoding(plain)
    for name, model in (("plain", plain), ("fast", fast)):
        save(model, tmp_path / name)
    pages = [(tmp_path / name / "generation_config.json").read_text() for name in ("plain", "fast")]
    assert pages[0] == pages[1]
    assert fast.generation_config.cache_implementation == "static"


def test_compiling_asks_for_its_compiler_first(tiny_llama, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler .* leave this step out"):
        compile_decoding(tiny_llama)
    with pytest.raises(InputError, match="max_length"):
        compile_decoding(tiny_llama, max_length=1)
    with pytest.raises(InputError, match="Linear, which cannot generate"):
        compile_decoding(nn.Linear(2, 2))


def test_a_copy_of_a_fused_model_is_its_own(tiny_llama):
    fused = fuse_projections(tiny_llama)
    again = copy.deepcopy(fused)
    again.model.layers[0].mlp.gate_up_proj.weight.data.zero_()
    assert not torch.equal(tiny.logits(fused, TOKENS), tiny.logits(again, TOKENS))
