"""Finding, replacing and watching parts of real transformers models."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery import (
    capture_inputs,
    clone,
    decoder_blocks,
    find_linears,
    input_embedding,
    is_tied,
    norm_groups,
    output_head,
    replace_module,
    watch_inputs,
)

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 32}


def _bert():
    config = transformers.BertConfig(**SMALL, num_attention_heads=2)
    return transformers.BertModel(config).eval()


def _gpt2():
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=32, n_positions=16)
    return transformers.GPT2LMHeadModel(config).eval()


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
    ("make", "first"), [(_bert, "encoder.layer.0"), (_gpt2, "transformer.h.0")]
)
def test_blocks_of_other_families(make, first):
    blocks = decoder_blocks(make())
    assert next(iter(blocks)) == first
    assert len(blocks) == 2


def test_an_unknown_family_is_said_so():
    with pytest.raises(InputError, match="BLOCK_PATHS"):
        decoder_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_ties_are_seen_and_survive_a_clone(tiny_llama):
    assert is_tied(tiny_llama)
    copy = clone(tiny_llama)
    assert is_tied(copy)
    assert copy.lm_head.weight is not tiny_llama.lm_head.weight
    assert not is_tied(_bert())
    assert input_embedding(_bert()) == "embeddings.word_embeddings"


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


def test_groups_of_a_llama_are_its_norms_and_two_pairs(tiny_llama):
    groups = norm_groups(tiny_llama.model.layers[0])
    assert [(group.source, group.consumers) for group in groups] == [
        ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        ("self_attn.v_proj", ("self_attn.o_proj",)),
        ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
        ("mlp.up_proj", ("mlp.down_proj",)),
    ]
    assert [group.n_channels for group in groups] == [64, 32, 64, 128]
    assert (groups[1].repeat, groups[1].head_dim) == (2, 16)  # 4 query heads, 2 of keys and values


def test_a_value_channel_and_its_columns_belong_together(tiny_llama):
    """Whatever a channel of v_proj is multiplied by, its columns of o_proj can make up for."""
    model = clone(tiny_llama)
    block = model.model.layers[1]
    group = norm_groups(block)[1]
    scale = torch.rand(group.n_channels, generator=torch.Generator().manual_seed(0)) + 0.5
    with torch.no_grad():
        block.self_attn.v_proj.weight.div_(scale[:, None])
        block.self_attn.o_proj.weight.mul_(group.columns(scale))
        got, expected = (m(torch.arange(9)[None]).logits for m in (model, tiny_llama))
    torch.testing.assert_close(got, expected)
    assert torch.equal(group.channels(group.columns(scale)), scale)


def test_only_one_pair_of_a_bert_is_free():
    assert [(g.source, g.consumers) for g in norm_groups(_bert().encoder.layer[0])] == [
        ("attention.self.value", ("attention.output.dense",))
    ]


def test_a_block_of_another_family_is_said_so():
    with pytest.raises(InputError, match="GPT2Block has none of the pairs"):
        norm_groups(_gpt2().transformer.h[0])
