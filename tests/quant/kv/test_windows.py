"""A quantized cache forgets what no layer looks at any more, and what it keeps is right."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from transformers import DynamicCache, FalconConfig, GPTBigCodeConfig

from shrinkkit.errors import InputError
from shrinkkit.measure import cache_bytes, cache_bytes_at, kv_shapes
from shrinkkit.quant import QuantizedKVCache
from shrinkkit.quant.kv.cache import sliding_windows
from tests import tiny

SIZES = {**tiny.SIZES, "intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 16}
WINDOW = {"sliding_window": 8}


def sliding(architecture: str = "MistralForCausalLM", **more):
    return tiny.redrawn(tiny.model(architecture, **{**SIZES, **WINDOW, **more}))


def written(model, cache, pieces: list[int]) -> torch.Tensor:
    """Return the logits of all tokens, fed in pieces through a cache."""
    tokens = tiny.tokens(2, sum(pieces), vocab_size=64)
    with torch.no_grad():
        parts = [
            model(piece, past_key_values=cache, use_cache=True).logits
            for piece in tokens.split(pieces, dim=1)
        ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("pieces", [[40], [9, *[1] * 31], [3, 20, 1, 16], [7, 1, 1, 31]])
@pytest.mark.parametrize("group_size", [4, 16])
@pytest.mark.parametrize("architecture", ["MistralForCausalLM", "Gemma3ForCausalLM"])
def test_answers_are_those_of_the_float_cache(architecture, group_size, pieces) -> None:
    model = sliding(architecture, num_hidden_layers=3)
    exact = written(model, DynamicCache(config=model.config), pieces)
    found = written(model, QuantizedKVCache(8, group_size=group_size), pieces)
    assert (found - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("residual", [0, 3, 30])
def test_memory_stops_growing_where_the_window_ends(residual: int) -> None:
    model, sizes = sliding(), {}
    for n in (32, 64, 128):
        cache = QuantizedKVCache(4, group_size=8, residual=residual)
        written(model, cache, [n])
        sizes[n] = cache.nbytes
        assert cache.get_seq_length() == n
    assert len(set(sizes.values())) == 1
    usual = DynamicCache(config=model.config)
    written(model, usual, [128])
    assert residual > 3 or sizes[128] < 1.2 * cache_bytes(usual)


def test_the_config_may_be_given_and_is_found_where_it_is_not() -> None:
    model = sliding("Gemma3ForCausalLM", num_hidden_layers=7)
    assert sliding_windows(model.config) == [8, 8, 8, 8, 8, None, 8]
    given = QuantizedKVCache(8, group_size=4, config=model.config)
    found = QuantizedKVCache(8, group_size=4)
    written(model, given, [20])
    written(model, found, [20])
    assert [layer.is_sliding for layer in found.layers] == [
        layer.is_sliding for layer in given.layers
    ]
    assert given.nbytes == found.nbytes


def test_beyond_the_window_nothing_can_be_cropped_and_reset_forgets_all() -> None:
    model, cache = sliding(), QuantizedKVCache(8, group_size=4)
    written(model, cache, [5])
    cache.crop(-2)
    assert cache.get_seq_length() == 3
    written(model, cache, [20])
    with pytest.raises(InputError, match="looks back at 8 tokens and has forgotten"):
        cache.crop(-1)
    cache.reset()
    assert cache.get_seq_length() == 0


def test_a_family_with_recurrent_layers_is_refused() -> None:
    model = tiny.model("JambaForCausalLM", **SIZES, attn_layer_period=2, attn_layer_offset=1)
    with pytest.raises(InputError, match="the state of a recurrent layer"):
        written(model, QuantizedKVCache(8, group_size=4), [5])
    with pytest.raises(InputError, match="layer 0 of this jamba keeps something else"):
        QuantizedKVCache(8, config=model.config)


def test_each_layer_is_asked_what_it_keeps() -> None:
    falcon = FalconConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=64)
    bigcode = GPTBigCodeConfig(n_embd=64, n_layer=2, n_head=4, vocab_size=64)
    assert kv_shapes(falcon) == kv_shapes(bigcode) == [(1, 16, 16)] * 2
    latent = {
        "kv_lora_rank": 24,
        "q_lora_rank": None,
        "qk_rope_head_dim": 8,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    deepseek = tiny.model("DeepseekV3ForCausalLM", **{**SIZES, **latent, "n_routed_experts": 8})
    cache = DynamicCache(config=deepseek.config)
    tokens = tiny.tokens(1, 5, vocab_size=64)
    with torch.no_grad():
        deepseek(tokens, past_key_values=cache, use_cache=True)
    for kept, layer in zip(kv_shapes(deepseek.config), cache.layers, strict=True):
        assert kept == (layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3])


@pytest.mark.parametrize(
    "architecture", ["MistralForCausalLM", "Gemma3ForCausalLM", "LlamaForCausalLM"]
)
@pytest.mark.parametrize("bits", [None, 4])
def test_bytes_that_are_foretold_are_those_of_a_run(architecture: str, bits: int | None) -> None:
    sizes = {**SIZES, **({} if "Llama" in architecture else WINDOW), "num_hidden_layers": 7}
    model = tiny.model(architecture, **sizes)

    def new():
        if bits is None:
            return DynamicCache(config=model.config)
        return QuantizedKVCache(bits, group_size=8)

    cache = new()
    written(model, cache, [40])
    assert cache_bytes_at(new, model.config, 40, batch=2, dtype=torch.float32) == cache_bytes(cache)


def test_whoever_else_has_a_config_is_not_taken_for_attention() -> None:
    class Shell:
        """As IPython's, under which a notebook's cell runs."""

        config = mock.MagicMock()  # whose every attribute is there

        def run(self, cache: QuantizedKVCache) -> None:
            cache.update(*torch.zeros(2, 1, 1, 4, 8), layer_idx=0)

    cache = QuantizedKVCache(4, group_size=4)
    Shell().run(cache)
    assert cache.get_seq_length() == 4
    assert cache.is_sliding == [False]
