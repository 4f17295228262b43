"""What counts as a linear layer is what it computes, not what it is called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from shrinkkit.errors import InputError
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.matrices import Place, is_linear, matrix, other_matrices
from shrinkkit.surgery.parts import find_linears, tied_embeddings
from shrinkkit.surgery.running import check_vocabulary, learned_positions
from tests import tiny


class Own(nn.Linear):
    """A linear layer that spells its forward by itself, as Falcon's does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


class Scaled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 1.5


class NoisyInTraining(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x * 1.1 if self.training else x)


class InDouble(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x.double(), self.weight.double())


class TwoResults(nn.Linear):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return super().forward(x), None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (nn.Linear, True),
        (Own, True),
        (Scaled, False),
        (NoisyInTraining, False),
        (InDouble, False),
        (TwoResults, False),
        (nn.Bilinear, False),
    ],
)
def test_linear_is_what_multiplies_and_does_nothing_else(kind: type, expected: bool) -> None:
    sizes = (8, 8, 8) if kind is nn.Bilinear else (8, 8)
    layer = kind(*sizes).eval()
    assert is_linear(layer) is expected
    assert not layer.training  # asking changes nothing


def test_a_transposed_layer_shows_its_matrix_the_usual_way_round() -> None:
    layer, x = Conv1D(6, 4), tiny.normal(3, 4)
    assert is_linear(layer)
    assert matrix(layer).shape == (6, 4)
    torch.testing.assert_close(layer(x), x @ matrix(layer).T + layer.bias)


def test_stacks_of_matrices_are_found_and_what_is_none_is_not() -> None:
    model = nn.Module()
    model.experts = nn.Parameter(torch.zeros(4, 16, 8))
    model.position = nn.Parameter(torch.zeros(1, 16, 8))  # one matrix: a table of positions
    model.narrow = nn.Parameter(torch.zeros(16, 1, 4))  # a convolution's kernel
    model.integers = nn.Parameter(torch.zeros(4, 16, 8, dtype=torch.int8), requires_grad=False)
    model.convolution = nn.Conv1d(16, 16, 8)
    model.scaled = Scaled(8, 8)
    model.attention = nn.MultiheadAttention(8, 2, kdim=16)
    places = {place.name for place in other_matrices(model)}
    kinds = {f"attention.{letter}_proj_weight" for letter in "qkv"}
    assert places == {"experts", "scaled.weight", *kinds}
    assert other_matrices(model)[0] == Place("", "experts")
    assert list(find_linears(model)) == ["attention.out_proj"]


def test_every_embedding_that_looks_up_in_the_head_is_tied() -> None:
    sizes = {"d_model": 32, "vocab_size": 64, "encoder_layers": 1, "decoder_layers": 1}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    bart = tiny.model("BartForConditionalGeneration", **sizes, **heads)
    assert len(tied_embeddings(bart)) >= 2
    assert tied_embeddings(tiny.llama(tie_word_embeddings=False)) == []


def with_integers() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.uint8), requires_grad=False)
    return layer


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: nn.Linear(4, 4, device="meta"), "weight are not in memory"),
        (with_integers, r"quantized already by another tool \(weight holds uint8\)"),
        (lambda: nn.Linear(4, 4).to(torch.float8_e4m3fn), "holds float8_e4m3fn"),
    ],
)
def test_a_model_that_cannot_be_rounded_is_refused(model, says: str) -> None:
    refuse_unfit(nn.Linear(4, 4, dtype=torch.float16))
    with pytest.raises(InputError, match=says):
        refuse_unfit(model())


def test_a_config_that_says_quantized_is_believed() -> None:
    model = tiny.llama()
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(InputError, match="quantized already by bitsandbytes"):
        refuse_unfit(model)


@pytest.mark.parametrize(
    ("architecture", "sizes", "usable"),
    [
        ("GPT2LMHeadModel", {"n_embd": 32, "n_head": 2, "n_layer": 1, "n_positions": 20}, 20),
        ("OPTForCausalLM", {"ffn_dim": 32, "word_embed_proj_dim": 32}, 20),
        ("BertModel", {"intermediate_size": 32}, 20),
        ("RobertaModel", {"intermediate_size": 32, "pad_token_id": 1}, 18),
        ("LlamaForCausalLM", {"intermediate_size": 32}, None),
    ],
)
def test_windows_longer_than_the_learned_positions_are_refused(architecture, sizes, usable) -> None:
    more = {} if "n_embd" in sizes else {**tiny.SIZES, "max_position_embeddings": 20}
    model = tiny.model(architecture, **{**more, "num_hidden_layers": 1, "vocab_size": 64, **sizes})
    assert learned_positions(model) == usable
    longest = tiny.tokens(1, usable or 30, vocab_size=60) + 3
    with torch.no_grad():
        model(longest)
    check_vocabulary("the model", model, longest)
    if usable is not None:
        with pytest.raises(InputError, match=f"has learned {usable} positions"):
            check_vocabulary("the model", model, tiny.tokens(1, usable + 1, vocab_size=60))
