"""What may be rescaled in a block is measured, and names that lie are found out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from shrinkkit.calibration import Block, Hessian, Walk, free_groups
from shrinkkit.calibration.free_groups import watched_groups
from shrinkkit.errors import InputError
from shrinkkit.quant import awq_model, rotate, smooth
from tests import tiny

SIZES = {
    **tiny.SIZES,
    "intermediate_size": 64,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "pad_token_id": 0,
}
IDS = tiny.tokens(3, 12, vocab_size=64)
NORMS = {"input_layernorm": 0, "post_attention_layernorm": 0}
ONE_MORE = dict.fromkeys(NORMS, 1)


def lively(architecture: str, **sizes):
    return tiny.redrawn(tiny.model(architecture, **{**SIZES, **sizes}))


def sources(model, only=lambda group: True) -> dict[str, float]:
    """Return {source: offset} of the groups that are free in the first block."""
    walk = Walk(model, IDS)
    with tiny.left_alone(model):
        return {g.source: g.offset for g in free_groups(walk.blocks[0], walk, only)}


@pytest.mark.parametrize(
    ("architecture", "free"),
    [
        (
            "LlamaForCausalLM",
            {
                "input_layernorm": 0,
                "self_attn.v_proj": 0,
                "post_attention_layernorm": 0,
                "mlp.up_proj": 0,
            },
        ),
        (  # multiplies by 1 + weight
            "GemmaForCausalLM",
            {
                "input_layernorm": 1,
                "self_attn.v_proj": 0,
                "post_attention_layernorm": 1,
                "mlp.up_proj": 0,
            },
        ),
        # its norms stand behind attention and MLP
        ("Olmo2ForCausalLM", {"self_attn.v_proj": 0, "mlp.up_proj": 0}),
        # one norm for attention and MLP, which no table names
        ("CohereForCausalLM", {"self_attn.v_proj": 0, "mlp.up_proj": 0, "input_layernorm": 0}),
        # a ReLU, squared, between up and down
        (
            "NemotronForCausalLM",
            {"self_attn.v_proj": 0, "input_layernorm": 1, "post_attention_layernorm": 1},
        ),
        # q, k and v in one matrix, gate and up in one: found by watching
        ("Phi3ForCausalLM", NORMS),
    ],
)
def test_the_groups_that_are_free_are_those_of_the_familys_arithmetic(architecture, free) -> None:
    found = sources(lively(architecture))
    for source, offset in free.items():
        assert found[source] == offset
    wrong = {"Olmo2": "post_attention_layernorm", "Nemotron": "mlp.up_proj"}
    for family, source in wrong.items():
        assert not (architecture.startswith(family) and source in found)


def test_a_norm_that_somebody_else_reads_is_not_free() -> None:
    model = lively("LlamaForCausalLM")
    block = model.model.layers[0]
    block.register_forward_hook(lambda m, args, out: out + block.input_layernorm(args[0]))
    assert "input_layernorm" not in sources(model)


def test_where_nothing_is_free_it_is_said_by_how_much() -> None:
    model = tiny.redrawn(tiny.bert())
    with pytest.raises(
        InputError, match=r"rescaling a module .* changed the output \(attention\.out"
    ):
        sources(model, lambda group: group.source != "attention.self.value")
    assert sources(model, lambda group: False) == {}


def test_watching_finds_who_reads_a_norm() -> None:
    walk = Walk(lively("LlamaForCausalLM"), IDS)
    found = {g.source: g.consumers for g in watched_groups(walk.blocks[0], walk)}
    assert found == {
        "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
    }


@pytest.mark.parametrize("architecture", ["GemmaForCausalLM", "Olmo2ForCausalLM", "PhiForCausalLM"])
def test_awq_and_smoothing_keep_a_family_of_other_norms(architecture: str) -> None:
    model = lively(architecture)
    exact = tiny.logits(model, IDS)
    torch.testing.assert_close(tiny.logits(smooth(model, IDS), IDS), exact, rtol=1e-3, atol=1e-3)
    small = awq_model(model, IDS, 8, symmetric=True, head_bits=None)
    assert (tiny.logits(small, IDS) - exact).norm() / exact.norm() < 0.05


def test_a_turn_that_would_change_the_answers_is_refused_and_undone() -> None:
    model = lively("GemmaForCausalLM")
    with (
        tiny.left_alone(model),
        pytest.raises(InputError, match="Turning the hidden space changed"),
    ):
        rotate(model, inplace=True)


def test_hessians_are_where_the_layer_is() -> None:
    """A pretended GPU: tensors without numbers that refuse to meet those of another device."""
    with FakeTensorMode():
        layer = nn.Linear(64, 32)
        layer.weight = nn.Parameter(torch.empty(32, 64, device="cuda"))
        hessian = Hessian.of(layer)
        hessian.add(torch.empty(4, 64, device="cuda"))
        assert hessian.value().device.type == "cuda"


def test_every_block_is_fed_what_the_model_feeds_it() -> None:
    windows = {"sliding_window": 4, "query_pre_attn_scalar": 16}
    model = lively("Gemma3ForCausalLM", num_hidden_layers=7, **windows)
    truth: dict[int, torch.Tensor] = {}
    for number, block in enumerate(model.model.layers):
        block.register_forward_hook(lambda m, a, out, n=number: truth.setdefault(n, out.clone()))
    tiny.logits(model, IDS)
    walk = Walk(model, IDS)
    for block in walk:
        assert isinstance(block, Block)
        walk.advance(block)
        torch.testing.assert_close(walk.hidden, truth[block.number])
