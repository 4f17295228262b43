"""The walk through the blocks: what a block gets, what accumulators see, who shares an input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkkit.calibration.accumulators import Hessian
from shrinkkit.calibration.walk import Walk, calibrate, walk_blocks, watching
from shrinkkit.errors import InputError
from shrinkkit.surgery.parts import capture_inputs, decoder_blocks
from tests import tiny


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(256, (7, 12), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_blocks_get_what_the_whole_model_gives_them(tiny_llama, tokens, batch_size: int) -> None:
    names = list(decoder_blocks(tiny_llama))
    with torch.no_grad(), capture_inputs(tiny_llama, names) as seen:
        tiny_llama(tokens)
    received = {}

    def visit(name: str, block: nn.Module, walk: Walk) -> None:
        received[name] = walk.hidden.clone()

    calibrate(tiny_llama, tokens, visit, batch_size=batch_size)
    assert list(received) == names
    for name in names:
        assert torch.allclose(received[name], seen[name][0], atol=1e-5)


def test_a_changed_block_changes_what_the_next_one_gets(tiny_llama, tokens) -> None:
    model = copy.deepcopy(tiny_llama)
    received, finished = [], []

    def visit(name: str, block: nn.Module, walk: Walk):
        received.append(walk.hidden.clone())
        block.mlp.down_proj.weight.data.zero_()
        return lambda: finished.append((name, len(received)))

    calibrate(model, tokens, visit)
    with torch.no_grad(), capture_inputs(model, ["model.layers.1"]) as seen:
        model(tokens)
    assert torch.allclose(received[1], seen["model.layers.1"][0], atol=1e-5)
    assert finished == [("model.layers.0", 1), ("model.layers.1", 2)]


def test_a_walk_can_begin_in_the_middle(tiny_llama, tokens) -> None:
    blocks, visited = decoder_blocks(tiny_llama), []
    whole, half = Walk(tiny_llama, tokens), Walk(tiny_llama, tokens)
    walk_blocks(whole, blocks, lambda *seen: visited.append(seen[0]), label="all")
    half.run(tiny_llama.model.layers[0])
    walk_blocks(half, blocks, lambda *seen: visited.append(seen[0]), done=1, label="the rest")
    assert visited == ["model.layers.0", "model.layers.1", "model.layers.1"]
    assert torch.equal(half.hidden, whole.hidden)


def test_accumulators_see_every_token_once(tiny_llama, tokens) -> None:
    name = "model.layers.0.mlp.down_proj"
    with torch.no_grad(), capture_inputs(tiny_llama, [name]) as seen:
        tiny_llama(tokens)
    x = seen[name][0].reshape(-1, 128)
    hessian = Hessian(128)
    walk = Walk(tiny_llama, tokens, batch_size=2)
    block = tiny_llama.model.layers[0]
    with watching(block, {"mlp.down_proj": hessian}):
        walk.run(block)
    assert hessian.n == tokens.numel()
    assert torch.allclose(hessian.value(), 2 / len(x) * x.t() @ x, atol=1e-5)
    walk.run(block)  # nobody watches any more
    assert hessian.n == tokens.numel()


def test_observing_goes_no_further_than_the_last_layer_that_is_watched(tiny_llama, tokens) -> None:
    block, walk = tiny_llama.model.layers[0], Walk(tiny_llama, tokens, batch_size=2)
    names = ["self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj"]
    sizes, outputs = (64, 64, 128), []
    whole, short = ({n: Hessian(k) for n, k in zip(names, sizes, strict=True)} for _ in range(2))
    with watching(block, whole):
        Walk(tiny_llama, tokens, batch_size=2).run(block)
    handle = block.mlp.down_proj.register_forward_hook(lambda *seen: outputs.append(seen))
    before = walk.hidden.clone()
    walk.observe(block, short)
    handle.remove()
    assert not outputs
    assert torch.equal(walk.hidden, before)
    for name in names:
        assert short[name].n == tokens.numel()
        assert torch.equal(short[name].value(), whole[name].value())
    walk.run(block)  # nothing is left behind that would end this pass
    assert not torch.equal(walk.hidden, before)


def test_one_accumulator_for_several_layers_is_fed_once(tiny_llama, tokens) -> None:
    block, hessian = tiny_llama.model.layers[0], Hessian(64)
    walk = Walk(tiny_llama, tokens)
    both = {"self_attn.q_proj": hessian, "self_attn.k_proj": hessian}
    with watching(block, both):
        walk.run(block)
    assert hessian.n == tokens.numel()
    walk.observe(block, both)
    assert hessian.n == 2 * tokens.numel()


def test_who_shares_an_input(tiny_llama, tokens) -> None:
    walk = Walk(tiny_llama, tokens)
    assert walk.shared_inputs(tiny_llama.model.layers[1]) == [
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ["self_attn.o_proj"],
        ["mlp.gate_proj", "mlp.up_proj"],
        ["mlp.down_proj"],
    ]


def test_other_families_walk_too(tokens) -> None:
    sizes = {**tiny.SIZES, "vocab_size": 256, "intermediate_size": 64}
    neox, opt = tiny.model("GPTNeoXForCausalLM", **sizes), tiny.opt(vocab_size=256)
    for model in (neox, opt):
        last = list(decoder_blocks(model))[-1]
        with torch.no_grad(), capture_inputs(model, [last]) as seen:
            model(tokens)
        received = {}

        def visit(name: str, block: nn.Module, walk: Walk, received=received) -> None:
            received[name] = walk.hidden.clone()

        calibrate(model, tokens, visit, batch_size=3)
        assert torch.allclose(received[last], seen[last][0], atol=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param(torch.zeros(0, 4, dtype=torch.long), "at least one of them", id="empty"),
        pytest.param(torch.full((1, 4), 300), "ids up to 300", id="vocabulary"),
        pytest.param(torch.zeros(4, dtype=torch.long), r"has shape \(4,\)", id="one row"),
    ],
)
def test_bad_windows(tiny_llama, given: torch.Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Walk(tiny_llama, given)


def test_a_block_that_makes_nan_is_named(tiny_llama, tokens) -> None:
    model = copy.deepcopy(tiny_llama)

    def visit(name: str, block: nn.Module, walk: Walk) -> None:
        if name.endswith("1"):
            block.mlp.down_proj.weight.data.fill_(float("nan"))

    with pytest.raises(InputError, match=r"the output of model\.layers\.1 must hold finite"):
        calibrate(model, tokens, visit)
    assert model.training is False
