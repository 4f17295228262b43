"""The compressed-tensors export: against that library's own packing, and opened by transformers."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationScheme
from safetensors import safe_open
from torch import nn
from transformers import AutoModelForCausalLM

from shrinkkit.errors import InputError
from shrinkkit.export import save_compressed_tensors
from shrinkkit.export.compressed_tensors import quantization_config
from shrinkkit.export.pack_quantized import compressed_state, pack_int32, scheme_of
from shrinkkit.loading import load_model
from shrinkkit.quant import (
    NF4,
    Format,
    QuantizedLinear,
    dequantize_model,
    int_format,
    quantize_model,
    smooth_quantize,
)
from shrinkkit.quant.ptq.model import quantize_head
from tests import tiny
from tests.processes import run_python

IDS = torch.arange(24).view(2, 12)
GRIDS = {
    "int4-g32": int_format(4, group_size=32),
    "int4-g32-symmetric": int_format(4, group_size=32, symmetric=True),
    "int4-channel": int_format(4),
    "int8-channel-symmetric": int_format(8),
    "int8-g16": int_format(8, group_size=16, symmetric=False),
    "int3-g32": int_format(3, group_size=32),
    "int5-symmetric": int_format(5, symmetric=True),
    "int2-tensor": Format(2, False, "per_tensor"),
    "int4-short-last-group": int_format(4, group_size=48),
    "int4-small-scales": int_format(4, group_size=32, scale_bits=6),
    "int4-float32-scales": int_format(4, group_size=32, scale_bits=32),
}


def _logits(model):
    return tiny.logits(model, IDS).float()


@pytest.fixture(scope="module")
def untied():
    """The tiny model with a head of its own and a bias in each attention projection."""
    return tiny.biased(tiny.llama(seed=1, **tiny.LARGER, attention_bias=True))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("columns", [1, 31, 64, 100])
def test_packing_is_the_librarys(bits, columns):
    low = -(2 ** (bits - 1))
    q = torch.randint(low, -low, (5, columns), generator=torch.Generator().manual_seed(0))
    q[0, 0], q[-1, -1] = low, -low - 1
    assert torch.equal(pack_int32(q, bits), pack_to_int32(q.to(torch.int8), bits))
    by_rows = pack_int32(q.t(), bits).t()
    assert torch.equal(by_rows, pack_to_int32(q.to(torch.int8), bits, packed_dim=0))


@pytest.mark.parametrize("fmt", GRIDS.values(), ids=GRIDS)
def test_the_library_decompresses_to_exactly_our_weights(fmt):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layer = QuantizedLinear.from_linear(nn.Linear(80, 48), fmt)
    scheme = scheme_of(layer)
    tensors = compressed_state(layer, scheme)
    config = quantization_config({"layer": scheme}, [])["config_groups"]["group_0"]
    # in float32, where an integer of up to 8 bits times a scale is exact
    tensors["weight_scale"] = tensors["weight_scale"].float()
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    found = compressor.decompress(tensors, QuantizationScheme.model_validate(config))
    assert torch.equal(found["weight"], layer.dequantize())


def test_a_case_by_hand():
    # q 0..15 with zero point 8 moves down by 8 and up by 8 again in the packed nibbles
    q = torch.tensor([[0, 1, 8, 15]], dtype=torch.uint8)
    fmt = int_format(4, group_size=4)
    scale, zero_point = torch.tensor([[0.5]]), torch.tensor([[8]])
    layer = QuantizedLinear.from_integers(q, scale, zero_point, fmt)
    tensors = compressed_state(layer, scheme_of(layer))
    assert tensors["weight_packed"].tolist() == [[0xF810]]
    assert tensors["weight_zero_point"].tolist() == [[8]]
    assert tensors["weight_scale"].tolist() == [[0.5]]
    assert tensors["weight_shape"].tolist() == [1, 4]
    assert scheme_of(layer) == (4, False, 4)


@pytest.mark.parametrize(
    "how",
    [
        {"bits": 4, "group_size": 32},
        {"bits": 4, "group_size": 32, "symmetric": True, "head_bits": None},
        {"bits": int_format(4)},
        {"bits": 8},
        {"bits": 8, "head_bits": None, "exclude": "*.mlp.*"},
        {"bits": 3, "head_bits": 3},
        {"bits": int_format(4, group_size=48, scale_bits=6)},
    ],
    ids=["int4", "int4-symmetric", "int4-rows", "int8", "some-in-float", "int3", "short-groups"],
)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_plain_transformers_computes_the_same(tiny_llama, untied, tmp_path, how, tied):
    small = quantize_model(tiny_llama if tied else untied, **how)
    expected = _logits(dequantize_model(small))
    folder = save_compressed_tensors(small, tmp_path / "exact", dtype=torch.float32)
    opened = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(_logits(opened), expected, atol=1e-5, rtol=1e-5)
    assert opened.dtype == torch.float32
    assert (opened.lm_head.weight is opened.model.embed_tokens.weight) == tied
    opened = AutoModelForCausalLM.from_pretrained(save_compressed_tensors(small, tmp_path / "ct"))
    assert opened.dtype == torch.bfloat16
    torch.testing.assert_close(_logits(opened), expected, atol=0.02, rtol=0.02)


def test_the_file_is_small_and_its_names_are_the_formats(untied, tmp_path, tiny_tokenizer):
    grid = int_format(4, group_size=32)
    small = quantize_model(untied, grid, exclude="*.q_proj", head_bits=grid)
    folder = save_compressed_tensors(small, tmp_path / "ct", tiny_tokenizer)
    with safe_open(folder / "model.safetensors", framework="pt") as opened:
        names = set(opened.keys())
        packed = opened.get_tensor("model.layers.0.mlp.up_proj.weight_packed")
        zeros = opened.get_tensor("model.layers.0.mlp.up_proj.weight_zero_point")
        head = opened.get_tensor("lm_head.weight_packed")
    assert (packed.shape, packed.dtype) == ((128, 64 * 4 // 32), torch.int32)
    assert (zeros.shape, zeros.dtype) == ((128 * 4 // 32, 2), torch.int32)
    assert head.shape == (256, 64 * 4 // 32)
    assert "model.layers.0.self_attn.q_proj.weight" in names
    found = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert found["ignore"] == [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    assert (found["config_groups"]["group_0"]["targets"], found["dequantize"]) == (["Linear"], True)
    assert (folder / "tokenizer.json").exists()


def test_symmetric_grids_are_mixed_and_layers_on_rarer_ones_are_named(untied, tmp_path):
    small = quantize_model(untied, bits=4, group_size=32, symmetric=True)
    folder = save_compressed_tensors(small, tmp_path / "ct")
    found = json.loads((folder / "config.json").read_text())["quantization_config"]
    groups = found["config_groups"]
    assert [groups[name]["targets"] for name in groups] == [["Linear"], ["lm_head"]]
    assert [groups[name]["weights"]["num_bits"] for name in groups] == [4, 8]
    assert found["ignore"] == []
    assert "dequantize" not in found


def test_the_model_itself_is_left_as_it_was(tiny_llama, tmp_path):
    small = quantize_model(tiny_llama, bits=4, group_size=32)
    before = _logits(small)
    save_compressed_tensors(small, tmp_path / "ct")
    assert torch.equal(_logits(small), before)
    assert not hasattr(small.config, "quantization_config")
    assert small.config.dtype == tiny_llama.config.dtype


@pytest.mark.slow
def test_a_new_process_opens_it_without_shrinkkit(tiny_llama, tiny_tokenizer, tmp_path):
    small = quantize_model(tiny_llama, bits=4, group_size=32)
    folder = save_compressed_tensors(small, tmp_path / "ct", tiny_tokenizer, dtype=torch.float32)
    code = (
        "import json, sys, torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "ids = AutoTokenizer.from_pretrained(sys.argv[1])('abc', return_tensors='pt').input_ids\n"
        "assert not any(name.startswith('shrinkkit') for name in sys.modules)\n"
        "with torch.no_grad(): print('LOGITS ' + json.dumps(model(ids).logits[0, -1].tolist()))\n"
    )
    done = run_python("-c", code, folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    printed = torch.tensor(json.loads(done.stdout.rpartition("LOGITS ")[2]))
    ids = tiny_tokenizer("abc", return_tensors="pt").input_ids
    expected = tiny.logits(dequantize_model(small), ids)[0, -1]
    torch.testing.assert_close(printed, expected, atol=1e-5, rtol=1e-5)


def _two_grids(model):
    model = quantize_model(model, bits=4, group_size=32, exclude="*.q_proj", head_bits=None)
    layer = model.model.layers[0].self_attn
    layer.q_proj = QuantizedLinear.from_linear(layer.q_proj, int_format(8))
    return model


def _only_the_vocabulary(model):
    model = copy.deepcopy(model)
    quantize_head(model, int_format(8))
    return model


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda model: model, "no quantized layer"),
        (lambda model: quantize_model(model, NF4, head_bits=None), "nf4 g64"),
        (_two_grids, "2 different grids"),
        (_only_the_vocabulary, "only the embedding"),
        (lambda model: smooth_quantize(model, IDS), "activations"),
    ],
    ids=["float", "nf4", "mixed-asymmetric", "embedding-alone", "w8a8"],
)
def test_what_cannot_be_written_says_what_to_do(tiny_llama, tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        save_compressed_tensors(make(tiny_llama), tmp_path / "ct")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_dtype_is_named(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="dtype"):
        save_compressed_tensors(tiny_llama, tmp_path / "ct", dtype=torch.float16)


def test_saving_again_replaces_its_own_folder_and_nothing_else(tiny_llama, tmp_path, notes):
    folder = save_compressed_tensors(quantize_model(tiny_llama, bits=8), tmp_path / "ct")
    save_compressed_tensors(quantize_model(tiny_llama, bits=4), folder)
    bits = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert bits["config_groups"]["group_0"]["weights"]["num_bits"] == 4
    with pytest.raises(InputError, match="not written by this export"):
        save_compressed_tensors(quantize_model(tiny_llama, bits=8), notes)


@pytest.mark.slow
def test_smollm2_at_four_bits_computes_what_we_compute(tmp_path):
    small = quantize_model(load_model("smollm2-135m"), bits=4, search=False)
    folder = save_compressed_tensors(small, tmp_path / "ct")
    # 106 million weights at 4.3125 bits, the vocabulary's 28 million at 16
    assert (folder / "model.safetensors").stat().st_size < 116e6
    opened = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tiny.tokens(1, 16, seed=0, vocab_size=49152)
    ours, theirs = tiny.logits(dequantize_model(small), ids), tiny.logits(opened, ids)
    # they round the vocabulary matrix and the unpacked weights to bfloat16
    assert (theirs - ours).norm() / ours.norm() < 0.02
    assert torch.equal(theirs.argmax(-1), ours.argmax(-1))
