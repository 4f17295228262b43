"""Unpacking a GGUF file, against the `gguf` package's own numpy de-quantisation."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from shrinkkit.sources.gguf import unpack_gguf
from tests import tiny

Q4_1, F32 = gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.F32
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleave(rows: np.ndarray, n_heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of query and key weights (its rotary pairs are neighbours)."""
    split = rows.reshape(n_heads, 2, rows.shape[0] // n_heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A random two-layer Llama as a Q4_1 GGUF file, and the weights it should unpack to."""
    sizes = tiny.LARGER | {"vocab_size": 260, "intermediate_size": 96}
    model = tiny.llama(seed=1, **sizes, tie_word_embeddings=True)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(260)
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_bytes(), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * 257)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    expected = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array = weight.numpy()
        if array.ndim == 2:
            packed = gguf.quants.quantize(array, Q4_1)
            expected[name] = torch.from_numpy(gguf.quants.dequantize(packed, Q4_1).copy())
            heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
            packed = interleave(packed, heads) if heads else packed
            writer.add_tensor(_gguf_name(name), packed, raw_dtype=Q4_1)
        else:
            expected[name] = weight
            writer.add_tensor(_gguf_name(name), array, raw_dtype=F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, expected


def _bytes() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return f"{NAMES[stem]}.weight"


def test_unpacks_to_what_the_blocks_say(
    tiny_gguf: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    path, expected = tiny_gguf
    before = torch.get_rng_state()
    unpack_gguf(path, tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    weights = model.state_dict()
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert set(weights) == {*expected, "lm_head.weight"}
    for name, weight in expected.items():
        assert torch.equal(weights[name], weight), name
    config = model.config.to_dict()
    assert "quantization_config" not in config
    assert (config["num_key_value_heads"], config["tie_word_embeddings"]) == (2, True)
    assert (tmp_path / "model.safetensors").is_file()


def test_digits_stand_apart(
    tiny_gguf: tuple[Path, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    unpack_gguf(tiny_gguf[0], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    # Were digits not set apart first, the second space would go with the digit: "Ġ", "Ġ", "1".
    pieces = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("ab  12")
    assert [piece for piece, _ in pieces] == ["ab", "ĠĠ", "1", "2"]
    ids = tokenizer("abab  12")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["ab", "ab", "Ġ", "Ġ", "1", "2"]
    assert tokenizer.decode(ids) == "abab  12"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 512
