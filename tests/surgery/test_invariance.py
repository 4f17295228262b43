"""Where a model may be rescaled or turned: the groups of real blocks, and that nothing changes."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.surgery.invariance import norm_groups, rescale, residual_stream, untie
from shrinkkit.surgery.parts import clone, decoder_blocks, is_tied
from tests.tiny import logits

IDS = torch.arange(9)[None]


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
    torch.testing.assert_close(logits(model, IDS), logits(tiny_llama, IDS))
    assert torch.equal(group.channels(group.columns(scale)), scale)


def test_only_one_pair_of_a_bert_is_free(tiny_bert):
    assert [(g.source, g.consumers) for g in norm_groups(tiny_bert.encoder.layer[0])] == [
        ("attention.self.value", ("attention.output.dense",))
    ]


def test_a_block_of_another_family_is_said_so(tiny_llama):
    with pytest.raises(InputError, match="LlamaMLP has none of the pairs"):
        norm_groups(tiny_llama.model.layers[0].mlp)


def test_rescaling_every_group_changes_no_output(tiny_llama):
    model, generator = clone(tiny_llama), torch.Generator().manual_seed(0)
    for block in decoder_blocks(model).values():
        for group in norm_groups(block):
            rescale(block, group, torch.rand(group.n_channels, generator=generator) + 0.5)
    assert not torch.equal(
        model.model.layers[0].mlp.up_proj.weight, tiny_llama.model.layers[0].mlp.up_proj.weight
    )
    torch.testing.assert_close(logits(model, IDS), logits(tiny_llama, IDS))


def test_the_residual_stream_of_a_llama_is_all_that_touches_its_hidden_state(tiny_llama, tiny_gpt2):
    stream = residual_stream(tiny_llama)
    touching = {id(layer) for layer in (*stream.readers(), *stream.writers)}
    hidden = tiny_llama.config.hidden_size
    linears = [m for m in tiny_llama.modules() if isinstance(m, torch.nn.Linear)]
    assert touching == {id(layer) for layer in linears}  # each has one side in the hidden space
    assert all(layer.in_features == hidden for layer in stream.readers())
    assert all(layer.out_features == hidden for layer in stream.writers)
    assert stream.embedding is tiny_llama.model.embed_tokens
    with pytest.raises(InputError, match="GPT2LMHeadModel does not read and write"):
        residual_stream(tiny_gpt2)


def test_an_untied_head_computes_the_same_from_a_matrix_of_its_own(tiny_llama):
    model = clone(tiny_llama)
    untie(model)
    assert is_tied(tiny_llama)
    assert not is_tied(model)
    assert torch.equal(logits(model, IDS), logits(tiny_llama, IDS))
    before = model.lm_head.weight.data_ptr()
    untie(model)  # already
    assert model.lm_head.weight.data_ptr() == before
