"""Whole models: what is replaced, what stays, and the clear errors."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    NF4,
    QuantizedEmbedding,
    QuantizedLinear,
    dequantize_model,
    fake_quantize,
    int_format,
    quantize_model,
)
from shrinkkit.surgery.parts import find_linears
from tests import tiny
from tests.tiny import logits

IDS = torch.arange(24).view(2, 12)


def test_every_linear_the_head_and_the_tied_embedding_are_packed(tiny_llama):
    small = quantize_model(tiny_llama, bits=4, group_size=32)
    assert all(isinstance(layer, QuantizedLinear) for layer in find_linears(small).values())
    assert {layer.format.bits for layer in find_linears(small).values()} == {4}
    assert small.lm_head.format.bits == 8
    assert isinstance(small.model.embed_tokens, QuantizedEmbedding)
    assert small.model.embed_tokens.source is small.lm_head
    assert not find_linears(tiny_llama)["model.layers.0.mlp.up_proj"].weight.is_meta


def test_plain_rounding_gives_the_formula_in_every_layer(tiny_llama):
    fmt = int_format(4, group_size=16)
    small = quantize_model(tiny_llama, bits=4, group_size=16, search=False)
    for name, layer in find_linears(small).items():
        expected = fake_quantize(tiny_llama.get_submodule(name).weight.detach(), fmt)
        torch.testing.assert_close(layer.dequantize(), expected, rtol=0, atol=1e-7)


def test_logits_equal_those_of_the_dequantized_model(tiny_llama):
    small = quantize_model(tiny_llama, bits=8)
    plain = dequantize_model(small)
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    expected, got = logits(plain, IDS), logits(small, IDS)
    assert (got - expected).norm() < 0.01 * expected.norm()
    reference = logits(tiny_llama, IDS)
    assert (got - reference).norm() < 0.05 * reference.norm()


def test_generate_works_and_twice_gives_the_same(tiny_llama):
    small = quantize_model(tiny_llama, bits=4, group_size=32)
    texts = [
        small.generate(IDS[:1], max_new_tokens=8, do_sample=False, pad_token_id=0) for _ in range(2)
    ]
    assert texts[0].shape == (1, 20)
    assert torch.equal(*texts)


def test_head_can_stay_float_or_take_four_bits(tiny_llama):
    kept = quantize_model(tiny_llama, bits=4, head_bits=None)
    assert kept.lm_head.weight is kept.model.embed_tokens.weight
    four = quantize_model(tiny_llama, bits=4, group_size=32, head_bits=4)
    assert four.lm_head.format.bits == 4
    rows = four.model.embed_tokens(torch.tensor([3, 200]))
    torch.testing.assert_close(rows, four.lm_head.dequantize()[[3, 200]])


def test_an_encoder_with_biases_and_a_format_of_ones_own():
    bert = tiny.biased(tiny.bert(**tiny.LARGER))
    small = quantize_model(bert, NF4)
    with torch.no_grad():
        got, expected = (m(IDS).last_hidden_state for m in (small, dequantize_model(small)))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 1.5}, "bits must be a whole number from 2 to 8, but 1.5 was given"),
        ({"bits": 4, "group_size": 0}, "group_size must be a whole number of at least 1"),
        ({"bits": 4, "group_size": 4096}, r"Layer model\.layers\.0.*larger than the row"),
        ({"bits": NF4, "group_size": 32}, "says group_size and symmetric itself"),
    ],
    ids=["bits-1.5", "group-0", "group-large", "format-and-group"],
)
def test_bad_arguments_are_named(tiny_llama, arguments, words):
    with pytest.raises(InputError, match=words):
        quantize_model(tiny_llama, **arguments)
