"""Folders in GPTQ and AWQ format, written by the tests: the same numbers, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shrinkkit.errors import AssetError, InputError
from shrinkkit.loading import load_model
from shrinkkit.measure import saved_bytes
from shrinkkit.quant import (
    QuantizedLinear,
    add_lora,
    dequantize_model,
    fuse_projections,
    load,
    quantize_model,
    save,
    tensors_of,
)
from shrinkkit.quant.layers.ordered import OrderedLinear
from shrinkkit.sources.models import QUANTIZED_FILE
from shrinkkit.surgery.fitness import compressed_by
from tests import tiny
from tests.quant.store.publisher import Folder, Writer, publish

TOKENS = tiny.tokens(2, 12)

PLAIN = Writer()
WRITERS = {
    "gptq": PLAIN,
    "gptq, 2 bits": Writer(bits=2),
    "gptq, 3 bits": Writer(bits=3, group_size=32),
    "gptq, 8 bits": Writer(bits=8),
    "gptq, whole rows": Writer(group_size=-1),
    "gptq, a group as long as some rows": Writer(group_size=64),
    "gptq, a short last group": Writer(group_size=48),
    "gptq, act-order": Writer(act_order=True),
    "gptq, act-order, 3 bits": Writer(bits=3, act_order=True),
    "gptq, act-order, a short last group": Writer(bits=8, group_size=48, act_order=True),
    "gptq_v2, zero points of 0": Writer(layout="gptq_v2", lowest_zero=0),
    "gptq_v2, 3 bits": Writer(bits=3, layout="gptq_v2", lowest_zero=0),
    "gptq, bfloat16 scales": Writer(group_size=32, scales=torch.bfloat16),
    "gptq, float32 scales": Writer(scales=torch.float32),
    "awq": Writer("awq", lowest_zero=0),
    "awq, groups of 32": Writer("awq", group_size=32),
    "awq, whole rows": Writer("awq", group_size=-1),
}


@pytest.fixture
def written(tiny_llama, tmp_path: Path) -> Callable[..., Folder]:
    """Return what writes a tied Llama's folder."""

    def write(writer: Writer = PLAIN) -> Folder:
        return publish(tiny_llama, tmp_path / "there", writer)

    return write


def same_as_written(model, folder: Folder) -> None:
    """Assert that a model holds the numbers that were drawn, and computes with them."""
    for name, layer in folder.layers.items():
        packed = model.get_submodule(name)
        assert isinstance(packed, QuantizedLinear)
        assert torch.equal(packed.dequantize(), layer.weight)
        assert torch.equal(packed.integers().long(), layer.q)
        assert torch.equal(packed.qparams()[1], layer.scale.float())
        assert torch.equal(packed.qparams()[2].long(), layer.zero_point)
    floats = dict(folder.model.named_parameters())
    assert all(torch.equal(p, floats[name]) for name, p in model.named_parameters())


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_the_same_integers_scales_and_zero_points(written, writer: Writer, tmp_path: Path) -> None:
    folder = written(writer)
    model = load_model(folder.path)
    same_as_written(model, folder)
    expected = tiny.logits(folder.model, TOKENS)
    kernel = model.model.layers[0].mlp.down_proj.kernel
    tolerance = 1e-4 if kernel == "unpack" else 3e-2  # torch's kernel multiplies in bfloat16
    assert (tiny.logits(model, TOKENS) - expected).abs().max() < tolerance * expected.abs().max()
    again = load(save(model, tmp_path / "ours"))
    assert tiny.same_tensors(again, model)
    assert torch.equal(tiny.logits(again, TOKENS), tiny.logits(model, TOKENS))


def test_the_layers_are_of_the_expected_kinds(written) -> None:
    kinds = {}
    for name in ("gptq", "gptq, act-order", "gptq, bfloat16 scales"):
        layer = load_model(written(WRITERS[name]).path).model.layers[0].mlp.up_proj
        kinds[name] = (type(layer), layer.kernel, str(layer.format), layer.format.scale_bits)
    assert kinds == {
        "gptq": (QuantizedLinear, "unpack", "int4 g16 asymmetric", 32),
        "gptq, act-order": (OrderedLinear, "unpack", "int4 g16 asymmetric", 32),
        "gptq, bfloat16 scales": (QuantizedLinear, "int4", "int4 g32 asymmetric", 16),
    }


def test_the_group_index_is_kept(written) -> None:
    folder = written(Writer(act_order=True))
    layer = load_model(folder.path).model.layers[1].mlp.down_proj
    index = folder.tensors["model.layers.1.mlp.down_proj.g_idx"]
    assert not torch.equal(index, index.sort().values)
    assert torch.equal(index[layer.order], index.sort().values)


def test_it_is_an_ordinary_model_of_ours(written, tmp_path: Path) -> None:
    folder = written()
    model = load_model(str(folder.path), dtype=torch.bfloat16)
    assert (type(model).__name__, model.training) == ("LlamaForCausalLM", False)
    assert model.lm_head.weight is model.model.embed_tokens.weight  # tied
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert model.model.layers[0].mlp.up_proj.dtype == torch.bfloat16
    assert compressed_by(model) == "shrinkkit"
    assert not hasattr(model.config, "quantization_config")
    with pytest.raises(InputError, match="quantized already"):
        quantize_model(model, bits=4)
    with pytest.raises(InputError, match=r"quant\.save"):
        model.save_pretrained(tmp_path / "theirs")
    plain = dequantize_model(load_model(folder.path))
    assert torch.allclose(
        tiny.logits(plain, TOKENS), tiny.logits(folder.model, TOKENS), atol=1e-5, rtol=0
    )


def test_what_the_package_does_with_packed_models(written) -> None:
    folder = written(Writer(act_order=True))
    model = load_model(folder.path)
    expected = tiny.logits(model, TOKENS)
    tensors, header = tensors_of(model)
    assert sum(tensor.nbytes for tensor in tensors.values()) == saved_bytes(model)
    assert header["version"] == 5  # an older reader is told that there are orders
    fused = fuse_projections(model)  # layers with orders of their own stay apart
    assert isinstance(fused.model.layers[0].self_attn.q_proj, OrderedLinear)
    assert torch.equal(tiny.logits(fused, TOKENS), expected)
    with_lora = add_lora(model, rank=2)
    assert torch.allclose(tiny.logits(with_lora, TOKENS), expected, atol=1e-5)
    loss = with_lora(TOKENS, labels=TOKENS).loss
    loss.backward()
    assert all(p.grad is not None for p in with_lora.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["gptq, act-order", "awq"])
def test_it_writes_what_the_float_model_writes(written, name: str) -> None:
    folder = written(WRITERS[name])
    how = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 2}
    mask = torch.ones_like(TOKENS)
    found = load_model(folder.path).generate(TOKENS, attention_mask=mask, **how)
    assert torch.equal(found, folder.model.generate(TOKENS, attention_mask=mask, **how))
    assert found.shape == (2, 20)


def test_weights_in_several_files(written) -> None:
    folder = written()
    folder.rewrite(shards=3)
    assert len(list(folder.path.glob("*.safetensors"))) == 3
    same_as_written(load_model(folder.path), folder)


def test_a_packed_head_beside_an_embedding(tmp_path: Path) -> None:
    untied = tiny.llama(**tiny.LARGER, tie_word_embeddings=False)
    folder = publish(untied, tmp_path / "there", Writer(words={"lm_head": True}), head=True)
    model = load_model(folder.path)
    assert isinstance(model.lm_head, QuantizedLinear)
    same_as_written(model, folder)
    assert tiny.same_tensors(load(save(model, tmp_path / "ours")), model)
    page = json.loads((folder.path / "config.json").read_text())
    page["tie_word_embeddings"] = True  # whatever the page says: a packed head is its own
    (folder.path / "config.json").write_text(json.dumps(page))
    model = load_model(folder.path)
    same_as_written(model, folder)
    assert tiny.same_tensors(load(save(model, tmp_path / "ours")), model)


def test_a_head_that_is_tied_and_stored_twice(written) -> None:
    folder = written()
    folder.tensors["lm_head.weight"] = folder.tensors["model.embed_tokens.weight"].clone()
    model = load_model(folder.rewrite())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    folder.tensors["lm_head.weight"][0] += 1  # then it is not tied, whatever the config says
    model = load_model(folder.rewrite())
    assert torch.equal(model.lm_head.weight.half(), folder.tensors["lm_head.weight"])
    assert torch.equal(
        model.model.embed_tokens.weight.half(), folder.tensors["model.embed_tokens.weight"]
    )


def test_a_tied_matrix_under_the_heads_name(written) -> None:
    folder = written()
    folder.tensors["lm_head.weight"] = folder.tensors.pop("model.embed_tokens.weight")
    same_as_written(load_model(folder.rewrite()), folder)


def test_biases(tmp_path: Path) -> None:
    biased = tiny.biased(tiny.llama(**tiny.LARGER, attention_bias=True, mlp_bias=True))
    for writer in (Writer(act_order=True), Writer("awq")):
        folder = publish(biased, tmp_path / "there", writer)
        model = load_model(folder.path)
        same_as_written(model, folder)
        own = model.model.layers[0].self_attn.q_proj.bias
        assert own.any()
        assert torch.equal(own, folder.model.model.layers[0].self_attn.q_proj.bias)


def test_a_bias_of_zeros_where_the_model_has_none(written) -> None:
    folder = written()
    name = "model.layers.0.mlp.up_proj"
    folder.tensors[f"{name}.bias"] = torch.zeros(128).half()
    assert load_model(folder.rewrite()).get_submodule(name).bias is None
    folder.tensors[f"{name}.bias"][3] = 1
    with pytest.raises(InputError, match=r"up_proj\.bias, and that layer has no bias"):
        load_model(folder.rewrite())


def test_gpt2s_turned_layers(tmp_path: Path) -> None:
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 32, "n_positions": 16}
    folder = publish(tiny.model("GPT2LMHeadModel", **sizes), tmp_path / "there", Writer())
    model = load_model(folder.path)
    same_as_written(model, folder)
    assert model.transformer.h[0].mlp.c_fc.transposed
    ids = torch.arange(12)[None]
    assert torch.allclose(tiny.logits(model, ids), tiny.logits(folder.model, ids), atol=1e-4)
    assert tiny.same_tensors(load(save(model, tmp_path / "ours")), model)


def test_layers_left_in_float(written) -> None:
    folder = written(Writer(words={"dynamic": {"-:.*down_proj": {}}}))
    name = "model.layers.0.mlp.down_proj"
    parts = [key for key in folder.tensors if key.startswith(name)]
    for key in parts:
        del folder.tensors[key]
    weight = folder.layers.pop(name).weight
    folder.tensors[f"{name}.weight"] = weight
    model = load_model(folder.rewrite())
    assert type(model.get_submodule(name)) is torch.nn.Linear
    same_as_written(model, folder)


def test_an_older_folder(written) -> None:
    """The words on a page of their own, the weights under a name that it gives."""
    folder = written()
    page = json.loads((folder.path / "config.json").read_text())
    said = page.pop("quantization_config")
    del said["quant_method"]
    said["model_file_base_name"] = "gptq_model-4bit-16g"
    (folder.path / "config.json").write_text(json.dumps(page))
    (folder.path / "quantize_config.json").write_text(json.dumps(said))
    (folder.path / "model.safetensors").rename(folder.path / "gptq_model-4bit-16g.safetensors")
    same_as_written(load_model(folder.path), folder)
    (folder.path / "other.safetensors").write_bytes(b"")
    same_as_written(load_model(folder.path), folder)


def test_what_every_model_makes_for_itself_is_passed_over(written) -> None:
    folder = written()
    folder.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    same_as_written(load_model(folder.rewrite()), folder)


def test_ours_comes_first(written) -> None:
    """A folder that has our file as well is opened by it."""
    folder = written()
    model = load_model(folder.path)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    ours = save(model, folder.path.parent / "ours")
    (folder.path / QUANTIZED_FILE).write_bytes((ours / QUANTIZED_FILE).read_bytes())
    assert not load_model(folder.path).model.norm.weight.any()


UP = "model.layers.0.mlp.up_proj"  # [128, 64]


def without(leaf: str) -> Callable[[dict], None]:
    return lambda tensors: tensors.pop(f"{UP}.{leaf}")


def changed(leaf: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict], None]:
    return lambda tensors: tensors.update({f"{UP}.{leaf}": change(tensors[f"{UP}.{leaf}"])})


def with_other(name: str, size: int = 4) -> Callable[[dict], None]:
    return lambda tensors: tensors.update({name: torch.ones(size)})


DAMAGE = {
    "no scales": (without("scales"), AssetError, r"lacks .*up_proj\.scales"),
    "no zero points": (without("qzeros"), AssetError, r"lacks .*up_proj\.qzeros"),
    "no integers": (without("qweight"), InputError, r"up_proj\.g_idx, which .* has not"),
    "no group index": (without("g_idx"), AssetError, "up_proj .*desc_act is true, and g_idx"),
    "short integers": (changed("qweight", lambda t: t[1:]), AssetError, r"qweight is .*\[7, 128\]"),
    "other integers": (changed("qweight", torch.Tensor.long), AssetError, "qweight is torch.int64"),
    "short zero points": (changed("qzeros", lambda t: t[:3]), AssetError, r"should be .*\[4, 16\]"),
    "whole scales": (changed("scales", torch.Tensor.int), AssetError, "scales is torch.int32"),
    "NaN": (changed("scales", lambda t: t.fill_(torch.nan)), AssetError, "scales holds NaN"),
    "infinity": (changed("scales", lambda t: t / 0), AssetError, "scales holds NaN or infinity"),
    "groups of no size": (changed("g_idx", torch.zeros_like), InputError, "groups of 16"),
    "a group too many": (changed("g_idx", lambda t: t + 1), InputError, "groups of 16"),
    "no norm": (lambda t: t.pop("model.norm.weight"), AssetError, r"lacks 1 .*model\.norm\.weight"),
    "a short norm": (with_other("model.norm.weight"), AssetError, r"\[4\]; its config.json asks"),
    "an adapter": (with_other(f"{UP}.lora_A"), InputError, r"up_proj\.lora_A beside a packed"),
    "both": (with_other(f"{UP}.weight"), InputError, r"up_proj\.weight beside a packed"),
    "a part of another model": (with_other("model.other"), InputError, "model.other, which Llama"),
    "experts": (
        lambda t: t.update({f"{UP}s.0.{k}": t[f"{UP}.{k}"] for k in ("qweight", "scales")}),
        InputError,
        r"up_projs\.0 packed, which is no linear layer of LlamaForCausalLM",
    ),
    "packed norms": (
        lambda t: t.update({f"model.norm.{k}": t[f"{UP}.{k}"] for k in ("qweight", "scales")}),
        InputError,
        r"holds model\.norm packed, which is no linear layer",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "why"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_missing_and_unknown_parts(written, damage, kind: type, why: str) -> None:
    folder = written(Writer(act_order=True))
    damage(folder.tensors)
    with pytest.raises(kind, match=why):
        load_model(folder.rewrite())


def test_a_file_that_is_cut_short_or_missing(written) -> None:
    folder = written()
    path = folder.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(AssetError, match="damaged"):
        load_model(folder.path)
    folder.rewrite(shards=3)
    next(folder.path.glob("*2-of*")).unlink()
    with pytest.raises(AssetError, match="lacks 1 of the 3 files"):
        load_model(folder.path)


def test_words_that_do_not_fit_the_tensors(written) -> None:
    folder = written()
    with pytest.raises(AssetError, match=r"qweight is .*\[16, 64\].*gptq, 8 bits"):
        load_model(folder.say(bits=8))
    with pytest.raises(AssetError, match=r"qzeros is .*group_size=32"):
        load_model(folder.say(bits=4, group_size=32))
    with pytest.raises(InputError, match="layout is 'marlin'"):
        load_model(folder.say(group_size=16, checkpoint_format="marlin"))


def test_words_without_a_packed_tensor(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for path in tiny_checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 128}))
    with pytest.raises(AssetError, match=r"none is called NAME\.qweight"):
        load_model(tmp_path)


def test_rows_that_do_not_fill_words(tmp_path: Path) -> None:
    narrow = tiny.llama(intermediate_size=48)
    folder = publish(narrow, tmp_path / "there", Writer(bits=4))
    folder.say(bits=3)
    with pytest.raises(InputError, match=r"down_proj .* 32 x 48 does not fill words"):
        load_model(folder.path)


def test_a_stored_minus_one_by_an_unknown_tool(written) -> None:
    folder = written()
    folder.tensors[f"{UP}.qzeros"][0, 0] = -1
    with pytest.raises(InputError, match=r"up_proj in .*zero point of 0.*gptq_v2"):
        load_model(folder.rewrite())
    folder.say(meta={"quantizer": ["gptqmodel:7.6.0"]})  # there it borrowed, and is given back
    zero_point = load_model(folder.path).get_submodule(UP).qparams()[2]
    assert zero_point[:8, 0].tolist() == [0] + 7 * [1]


def test_three_bits_by_an_older_gptqmodel(written) -> None:
    folder = written(Writer(bits=3))
    folder.say(meta={"quantizer": ["gptqmodel:2.0.0"]})
    with pytest.raises(InputError, match="zero points of 3 bits"):
        load_model(folder.path)
    for name in folder.layers:  # 3 is stored in each place: all are in the middle
        words = torch.tensor([[0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D]]).to(torch.int32)
        stored = folder.tensors[f"{name}.qzeros"]
        folder.tensors[f"{name}.qzeros"] = words.repeat(len(stored), stored.shape[1] // 3)
    model = load_model(folder.rewrite())
    assert set(model.get_submodule(UP).qparams()[2].flatten().tolist()) == {4}
