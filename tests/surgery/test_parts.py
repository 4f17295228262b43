"""Finding, replacing and watching parts of real transformers models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.parts import (
    capture_inputs,
    clone,
    decoder_blocks,
    find_linears,
    input_embedding,
    is_tied,
    output_head,
    replace_module,
    watch_inputs,
)


def test_linears_of_a_llama_are_the_seven_of_each_block(tiny_llama):
    names = list(find_linears(tiny_llama))
    n_blocks = tiny_llama.config.num_hidden_layers
    assert len(names) == 7 * n_blocks
    assert names[0] == "model.layers.0.self_attn.q_proj"
    assert output_head(tiny_llama) == "lm_head"
    assert "lm_head" in find_linears(tiny_llama, head=True)


def test_globs_choose_layers(tiny_llama):
    assert set(find_linears(tiny_llama, "*.mlp.*", exclude="*.1.*")) == {
        f"model.layers.0.mlp.{leaf}_proj" for leaf in ("gate", "up", "down")
    }
    with pytest.raises(InputError, match=r"No linear layer matches include='\*\.mpl\.\*'"):
        find_linears(tiny_llama, "*.mpl.*")


@pytest.mark.parametrize(
    ("model", "first"), [("tiny_bert", "encoder.layer.0"), ("tiny_gpt2", "transformer.h.0")]
)
def test_blocks_of_other_families(model, first, request):
    blocks = decoder_blocks(request.getfixturevalue(model))
    assert next(iter(blocks)) == first
    assert len(blocks) == 2


def test_an_unknown_family_is_said_so():
    with pytest.raises(InputError, match="Sequential has 0 stacks of as many blocks"):
        decoder_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_ties_are_seen_and_survive_a_clone(tiny_llama, tiny_bert):
    assert is_tied(tiny_llama)
    copy = clone(tiny_llama)
    assert is_tied(copy)
    assert copy.lm_head.weight is not tiny_llama.lm_head.weight
    assert not is_tied(tiny_bert)
    assert input_embedding(tiny_bert) == "embeddings.word_embeddings"


def test_clone_can_share_what_will_be_replaced(tiny_llama):
    layer = tiny_llama.model.layers[0].mlp.up_proj
    copy = clone(tiny_llama, shared=[layer.weight])
    assert copy.model.layers[0].mlp.up_proj.weight is layer.weight
    assert (
        copy.model.layers[0].mlp.gate_proj.weight
        is not tiny_llama.model.layers[0].mlp.gate_proj.weight
    )


def test_replace_names_near_matches(tiny_llama):
    model = clone(tiny_llama)
    replace_module(model, "model.layers.1.mlp.up_proj", nn.Identity())
    assert isinstance(model.model.layers[1].mlp.up_proj, nn.Identity)
    with pytest.raises(InputError, match="Did you mean"):
        replace_module(model, "model.layers.0.mlp.up_prj", nn.Identity())


def test_replacing_a_shared_module_replaces_it_under_all_of_its_names():
    shared = nn.Sequential(nn.Linear(2, 2))
    model = nn.ModuleDict({"first": shared, "second": shared})
    for name in ("third", "", "first.weight", "first..0"):
        with pytest.raises(InputError, match="no module named"):
            replace_module(model, name, nn.Identity())
    replace_module(model, "second.0", nn.Identity())
    assert isinstance(model["first"][0], nn.Identity)  # it is the same parent
    replace_module(model, "first", new := nn.ReLU())
    assert model["first"] is model["second"] is new


def test_captured_inputs_are_what_the_layer_multiplies(tiny_llama):
    name = "model.layers.1.self_attn.o_proj"
    layer, outputs = tiny_llama.get_submodule(name), []
    handle = layer.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad(), capture_inputs(tiny_llama, [name]) as seen:
        tiny_llama(torch.arange(6)[None])
    handle.remove()
    torch.testing.assert_close(seen[name][0] @ layer.weight.T, outputs[0])
    assert not layer._forward_pre_hooks


def test_watchers_see_every_call_and_are_taken_off(tiny_llama):
    name, shapes = "model.layers.0.mlp.down_proj", []
    with torch.no_grad(), watch_inputs(tiny_llama, {name: lambda x: shapes.append(tuple(x.shape))}):
        tiny_llama(torch.arange(6)[None])
        tiny_llama(torch.arange(8).view(2, 4))
    assert shapes == [(1, 6, 128), (2, 4, 128)]
    assert not tiny_llama.get_submodule(name)._forward_pre_hooks
