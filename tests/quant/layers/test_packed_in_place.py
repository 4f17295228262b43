"""Packed weights that keep what their module does: scaled embeddings, experts, own forwards."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import embedding, linear

from shrinkkit.errors import InputError
from shrinkkit.quant import dequantize_model, load, quantize_model, save
from shrinkkit.quant.grids.formats import int_format
from shrinkkit.quant.layers.embedding import QuantizedEmbedding
from shrinkkit.quant.layers.held import as_rows, held_by, hold, release
from shrinkkit.quant.layers.lazy import LazyWeight
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.surgery.matrices import Place
from tests import tiny


class Scaled(nn.Embedding):
    """As Gemma's: what is looked up is multiplied."""

    scale = 8.0

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return super().forward(index) * self.scale


class ByHand(nn.Embedding):
    """Looks up by itself, and shifts."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return embedding(index, self.weight) + 1


class Experts(nn.Module):
    """A stack of matrices; each batch row goes through one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(tiny.normal(3, 8, 16))
        self.gate = nn.Parameter(tiny.normal(3, 8, 16, seed=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = [linear(x[i], self.up[i]) * linear(x[i], self.gate[i]) for i in range(3)]
        return torch.stack(both)


def packed_table(weight: torch.Tensor) -> QuantizedLinear:
    return QuantizedLinear.from_linear(as_rows(weight), int_format(8))


@pytest.mark.parametrize("kind", [nn.Embedding, Scaled, ByHand])
def test_a_packed_embedding_does_what_the_float_one_does(kind: type) -> None:
    old, index = kind(12, 8, padding_idx=3), torch.tensor([[0, 5], [11, 3]])
    table = packed_table(old.weight)
    made = QuantizedEmbedding.instead_of(old, table)
    rounded = copy.deepcopy(old)
    rounded.weight.data = table.dequantize()
    torch.testing.assert_close(made(index), rounded(index))
    assert isinstance(made, kind)
    assert "weight" not in made.state_dict()
    assert old.weight.requires_grad  # the float one is as it was
    assert made.bfloat16()(index).dtype == torch.bfloat16
    plain = made.plain(nn.Parameter(table.dequantize()))
    assert type(plain) is kind
    torch.testing.assert_close(plain(index), rounded(index))


def test_an_embedding_that_rewrites_its_rows_is_refused() -> None:
    with pytest.raises(InputError, match="max_norm"):
        QuantizedEmbedding.instead_of(
            nn.Embedding(4, 8, max_norm=1.0), packed_table(torch.ones(4, 8))
        )


def test_a_module_goes_on_computing_from_parameters_that_are_packed() -> None:
    module, x = Experts(), tiny.normal(3, 5, 16, seed=2)
    model = nn.ModuleDict({"experts": module})
    for leaf in ("up", "gate"):
        packed = QuantizedLinear.from_linear(as_rows(getattr(module, leaf)), int_format(8))
        hold(model, Place("experts", leaf), packed)
    assert isinstance(module, Experts)
    assert list(held_by(module)) == ["up", "gate"]
    assert list(module.parameters()) == []
    up, gate = (held_by(module)[leaf].dequantize().view(3, 8, 16) for leaf in ("up", "gate"))
    expected = torch.einsum("eti,eoi->eto", x, up) * torch.einsum("eti,eoi->eto", x, gate)
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(copy.deepcopy(module)(x), expected)
    with pytest.raises(InputError, match=r"no parameter 'experts\.up'"):
        hold(model, Place("experts", "up"), packed)
    release(module)
    assert type(module) is Experts
    assert torch.equal(module.up, up)
    torch.testing.assert_close(module(x), expected)


def test_a_lazy_weight_is_made_when_it_is_used_and_of_a_stack_only_what_is_picked() -> None:
    made, parts = [], []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.arange(12.0).view(2, 2, 3)

    def part(index: int) -> torch.Tensor:
        parts.append(index)
        return torch.arange(12.0).view(2, 2, 3)[index]

    weight = LazyWeight.of(make, (2, 2, 3), torch.float32, part=part)
    assert (weight.shape, weight.dtype, weight.device.type) == ((2, 2, 3), torch.float32, "cpu")
    assert not made
    assert weight[1].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert (parts, made) == ([1], [])
    assert (weight * 2)[0, 0].tolist() == [0, 2, 4]
    assert "6.,  7.,  8." in repr(weight)
    x = torch.ones(3, requires_grad=True)
    (weight[0] @ x).sum().backward()
    assert x.grad.tolist() == [3, 5, 7]


def test_reading_the_dtype_of_a_packed_weight_unpacks_nothing(monkeypatch) -> None:
    layer = QuantizedLinear.from_linear(nn.Linear(8, 4, dtype=torch.bfloat16), int_format(4))
    monkeypatch.setattr(QuantizedLinear, "dequantize", lambda self: pytest.fail("unpacked"))
    assert layer.weight.dtype == torch.bfloat16
    assert layer.weight.shape == (4, 8)
    assert layer.half().weight.dtype == torch.float16


@pytest.mark.parametrize(("bits", "group"), [(8, None), (4, 32)])
def test_torchs_own_attention_and_encoder_run_packed(bits: int, group: int | None) -> None:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    model, x = (
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(),
        tiny.normal(2, 5, 64),
    )
    small = quantize_model(model, bits, group)
    plain = dequantize_model(small)
    with torch.no_grad():
        torch.testing.assert_close(small(x), plain(x), atol=0.05, rtol=0.05)
    assert type(plain.layers[0].self_attn) is nn.MultiheadAttention
    assert not [n for n, p in small.named_parameters() if p.ndim > 1]


def test_experts_are_packed_and_counted_saved_and_opened(tmp_path) -> None:
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 64}
    model = tiny.redrawn(
        tiny.model("MixtralForCausalLM", **{**tiny.SIZES, **sizes}, num_key_value_heads=1)
    )
    small, ids = quantize_model(model, 4, 32), tiny.tokens(2, 9, vocab_size=64)
    assert not [n for n, p in small.named_parameters() if "experts" in n and p.ndim == 3]
    opened = load(save(small, tmp_path / "small"))
    assert torch.equal(tiny.logits(opened, ids), tiny.logits(small, ids))


def test_gpt2_stays_gpt2_through_packing_saving_and_back(tmp_path) -> None:
    model = tiny.model(
        "GPT2LMHeadModel", n_embd=32, n_layer=2, n_head=2, vocab_size=64, n_positions=32
    )
    small, ids = quantize_model(model, 8), tiny.tokens(2, 9, vocab_size=64)
    opened = load(save(small, tmp_path / "small"))
    assert torch.equal(tiny.logits(opened, ids), tiny.logits(small, ids))
    plain = dequantize_model(opened)
    plain.save_pretrained(tmp_path / "plain")  # transformers reads [in, out] again
    again = type(model).from_pretrained(tmp_path / "plain")
    torch.testing.assert_close(tiny.logits(again, ids), tiny.logits(plain, ids))
    off = (tiny.logits(again, ids) - tiny.logits(model, ids)).norm() / tiny.logits(
        model, ids
    ).norm()
    assert off < 0.05


def test_a_packed_model_does_not_save_itself_in_a_form_that_nobody_opens(tmp_path) -> None:
    small = quantize_model(tiny.llama(), 8)
    with pytest.raises(InputError, match="save_pretrained would write packed layers"):
        small.save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    with pytest.raises(InputError, match="save_pretrained would write packed layers"):
        small.push_to_hub("me/model")
    with pytest.raises(InputError, match="cannot get other rows"):
        small.resize_token_embeddings(70)
    opened = load(save(small, tmp_path / "small"))
    with pytest.raises(InputError, match=r"shrinkkit\.quant\.save"):
        opened.save_pretrained(tmp_path / "x")
    dequantize_model(opened).save_pretrained(tmp_path / "floats")
    assert (tmp_path / "floats" / "model.safetensors").is_file()


def test_int8_products_do_not_overflow_in_float16(monkeypatch) -> None:
    from shrinkkit.quant.layers import kernels

    layer = nn.Linear(1536, 32, bias=False)
    packed, x = QuantizedLinear.from_linear(layer, int_format(8)), tiny.normal(64, 1536)
    x[:, 7] = 3000.0
    expected = linear(x.double(), packed.dequantize().double())
    for bf16, vnni in ((True, False), (False, True), (False, False)):
        monkeypatch.setattr(kernels.kernel, "has_bfloat16_units", lambda bf16=bf16: bf16)
        monkeypatch.setattr(kernels.kernel, "has_vnni", lambda vnni=vnni: vnni)
        y = packed(x.half())
        assert y.dtype == torch.float16
        assert ((y.double() - expected).norm() / expected.norm()) < 0.01


def test_a_quantized_model_follows_its_dtype() -> None:
    ids = tiny.tokens(2, 9, vocab_size=64)
    small = quantize_model(tiny.llama(tie_word_embeddings=True), 8)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        small = small.to(dtype)
        assert tiny.logits(small, ids).dtype == dtype
    plain = dequantize_model(quantize_model(tiny.llama().bfloat16(), 4, 32))
    assert {p.dtype for p in plain.parameters()} == {torch.bfloat16}
