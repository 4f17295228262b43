"""The walk through the blocks: what a block gets, what accumulators see, who shares an input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkkit.calibration import Hessian, Maxima, Rows, Several, Walk
from shrinkkit.errors import InputError
from shrinkkit.surgery.parts import capture_inputs, decoder_blocks
from tests import tiny

SHARED = [
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    ["self_attn.o_proj"],
    ["mlp.gate_proj", "mlp.up_proj"],
    ["mlp.down_proj"],
]


@pytest.fixture(scope="module")
def tokens(tokens) -> torch.Tensor:
    return tokens[:7, :12]


def inputs_of(model: nn.Module, names: list[str], tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    """Run a model on tokens; return what the modules of these names got."""
    with torch.no_grad(), capture_inputs(model, names) as seen:
        model(tokens)
    return {name: x for name, (x,) in seen.items()}


def received(model: nn.Module, tokens: torch.Tensor, batch_size: int = 4) -> dict:
    """Walk through a model that stays as it is; return what each block got."""
    got = {}
    walk = Walk(model, tokens, batch_size)
    for block in walk:
        got[block.name] = walk.hidden.clone()
        walk.advance(block)
    return got


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_blocks_get_what_the_whole_model_gives_them(tiny_llama, tokens, batch_size: int) -> None:
    names = list(decoder_blocks(tiny_llama))
    seen = inputs_of(tiny_llama, names, tokens)
    got = received(tiny_llama, tokens, batch_size)
    assert list(got) == names
    for name in names:
        assert torch.allclose(got[name], seen[name], atol=1e-5)


def test_a_changed_block_changes_what_the_next_one_gets(tiny_llama, tokens) -> None:
    model = copy.deepcopy(tiny_llama)
    walk, got = Walk(model, tokens), []
    for block in walk:
        got.append(walk.hidden.clone())
        block.module.mlp.down_proj.weight.data.zero_()
        walk.advance(block)
    seen = inputs_of(model, ["model.layers.1"], tokens)
    assert torch.allclose(got[1], seen["model.layers.1"], atol=1e-5)


def test_a_walk_can_begin_in_the_middle_and_end_early(tiny_llama, tokens) -> None:
    whole, half = Walk(tiny_llama, tokens), Walk(tiny_llama, tokens, n_blocks=1)
    for walk in (whole, half):
        for block in walk:
            walk.advance(block)
    rest = Walk(tiny_llama, tokens, done=1, hidden=half.hidden)
    visited = []
    for block in rest:
        visited.append(block.name)
        rest.advance(block)
    assert visited == ["model.layers.1"]
    assert torch.equal(rest.hidden, whole.hidden)


def test_each_block_is_advanced_once_and_in_order(tiny_llama, tokens) -> None:
    walk = Walk(tiny_llama, tokens)
    with pytest.raises(InputError, match=r"have not gone through model\.layers\.0"):
        for _ in walk:
            pass
    with pytest.raises(InputError, match=r"model\.layers\.1 is not the next block"):
        walk.advance(walk.blocks[1])


def test_accumulators_see_every_token_once(tiny_llama, tokens) -> None:
    name = "mlp.down_proj"
    seen = inputs_of(tiny_llama, [f"model.layers.0.{name}"], tokens)
    x = seen[f"model.layers.0.{name}"].reshape(-1, 128)
    walk = Walk(tiny_llama, tokens, batch_size=2)
    (found,) = walk.observe(walk.blocks[0], Hessian.of, [name])
    assert found.names == [name]
    assert found.seen.n == tokens.numel()
    assert torch.allclose(found.seen.value(), 2 / len(x) * x.t() @ x, atol=1e-5)
    walk.advance(walk.blocks[0])  # nobody watches any more
    assert found.seen.n == tokens.numel()


def test_who_shares_an_input_and_several_watch_it(tiny_llama, tokens) -> None:
    walk = Walk(tiny_llama, tokens, batch_size=3)
    found = walk.observe(walk.blocks[0], lambda layer: Several(Maxima(), Rows(2), Rows(0)))
    assert [one.names for one in found] == SHARED
    for one in found:
        maxima, rows, none = one.seen.parts
        assert rows.value().shape == (2 * len(tokens), len(maxima.value))
        assert (rows.value().abs().amax(dim=0) <= maxima.value).all()
        assert not none.kept


def test_observing_leaves_the_block_and_its_inputs_alone(tiny_llama, tokens) -> None:
    walk, other = Walk(tiny_llama, tokens, batch_size=2), Walk(tiny_llama, tokens, batch_size=2)
    before, layer = walk.hidden.clone(), walk.blocks[0].module.mlp.down_proj
    walk.observe(walk.blocks[0], Hessian.of)
    assert torch.equal(walk.hidden, before)
    assert "forward" not in vars(layer)
    for each in (walk, other):
        each.advance(each.blocks[0])
    assert torch.equal(walk.hidden, other.hidden)


def test_the_last_layer_that_is_watched_rests_once_it_is_known(tiny_llama, tokens) -> None:
    walk = Walk(tiny_llama, tokens, batch_size=2)
    layer, outputs = walk.blocks[0].module.mlp.down_proj, []
    handle = layer.register_forward_hook(lambda *call: outputs.append(bool(call[2].any())))
    walk.observe(walk.blocks[0], Hessian.of)
    handle.remove()
    assert outputs == [True, False, False, False]


WINDOW = {"sliding_window": 4, "query_pre_attn_scalar": 16}
FAMILIES: dict[str, tuple[str, dict]] = {
    "rotary tables by name": ("GPTNeoX", {}),
    "learned positions": ("OPT", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "two kinds of mask": ("Gemma2", {**WINDOW, "num_hidden_layers": 3}),
    "two kinds of mask and of rotary table": ("Gemma3", {**WINDOW, "num_hidden_layers": 7}),
    "a window in the upper layers": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2},
    ),
    "alibi, as large as the batch": ("Bloom", {}),
}
SIZES = {**tiny.SIZES, "vocab_size": 256, "num_hidden_layers": 4, "pad_token_id": 0}
HEADS = {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 16}


@pytest.mark.parametrize("family", FAMILIES)
def test_each_block_gets_its_own_arguments(family: str, tokens) -> None:
    name, own = FAMILIES[family]
    model = tiny.model(f"{name}ForCausalLM", **{**SIZES, **HEADS, **own})
    names = list(decoder_blocks(model))
    seen = inputs_of(model, names, tokens)
    got = received(model, tokens, batch_size=3)
    for name in names:
        assert torch.allclose(got[name], seen[name], atol=1e-4), name


class Tupled(nn.Module):
    """A model whose blocks return a tuple, and depend on what they are called with by place."""

    def __init__(self, n_returned: int) -> None:
        super().__init__()
        self.n_returned = n_returned
        self.embed = nn.Embedding(256, 8)
        self.layers = nn.ModuleList(TupledBlock(n_returned) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(tokens)
        for number, layer in enumerate(self.layers):
            returned = layer(hidden, torch.tensor(float(number)))
            if self.n_returned == 2:
                hidden, _ = returned
            else:
                hidden = returned[0]
        return self.head(hidden)


class TupledBlock(nn.Module):
    def __init__(self, n_returned: int) -> None:
        super().__init__()
        self.n_returned = n_returned
        self.linear = nn.Linear(8, 8)

    def forward(self, hidden: torch.Tensor, shift: torch.Tensor) -> tuple:
        return (hidden + self.linear(hidden) + shift, None)[: self.n_returned]


@pytest.mark.parametrize("n_returned", [1, 2])
def test_blocks_that_return_tuples_and_layers_outside_of_them(n_returned: int, tokens) -> None:
    torch.manual_seed(0)
    model = Tupled(n_returned).eval()
    seen = inputs_of(model, ["head", "layers.2"], tokens)
    walk, hessian = Walk(model, tokens, batch_size=3), Hessian(8)
    for block in walk:
        if block.number == 2:
            assert torch.allclose(walk.hidden, seen["layers.2"], atol=1e-5)
        walk.advance(block)
    walk.observe_rest({"head": hessian})
    x = seen["head"].reshape(-1, 8)
    assert torch.allclose(hessian.value(), 2 / len(x) * x.t() @ x, rtol=1e-4, atol=1e-4)


def test_a_block_that_makes_nan_is_named(tiny_llama, tokens) -> None:
    model = copy.deepcopy(tiny_llama)
    model.model.layers[1].mlp.down_proj.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"the output of model\.layers\.1 must hold finite"):
        received(model, tokens)
    assert model.training is False
