"""Saving and loading: exact, portable, small, and refusing damaged files."""

from __future__ import annotations

import errno
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from shrinkkit.errors import AssetError, InputError, ShrinkkitError
from shrinkkit.export import save_compressed_tensors
from shrinkkit.loading import load_model
from shrinkkit.quant import (
    FP8_E4M3,
    MXFP4,
    NF4,
    add_lora,
    dequantize_model,
    int_format,
    load,
    quantize_model,
    save,
)
from shrinkkit.quant.layers import kernels
from shrinkkit.sources.models import PAGE, QUANTIZED_FILE
from tests.tiny import logits

IDS = torch.arange(24).view(2, 12)


@pytest.fixture
def saved(tiny_llama, tmp_path):
    return save(quantize_model(tiny_llama, bits=4, group_size=32), tmp_path / "small")


HOW = {
    "int8": {"bits": 8},
    "int4": {"bits": 4, "group_size": 32},
    "int3-head": {"bits": 3, "head_bits": 3},
    "nf4-float-head": {"bits": NF4, "head_bits": None},
    "mxfp4-fp8-head": {"bits": MXFP4, "head_bits": FP8_E4M3},
    "int4-exact-scales": {"bits": int_format(4, group_size=48, scale_bits=32)},
    "int3-small-scales": {"bits": int_format(3, group_size=16, scale_bits=6)},
    "int4-small-scales": {"bits": int_format(4, group_size=32, scale_bits=5)},
}


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_a_loaded_model_is_the_saved_one(tiny_llama, tmp_path, how):
    small = quantize_model(tiny_llama, **how)
    loaded = load(save(small, tmp_path / "small"))
    assert torch.equal(logits(loaded, IDS), logits(small, IDS))
    assert not loaded.training
    assert type(loaded) is type(small)
    assert loaded.generation_config.to_dict() == small.generation_config.to_dict()


def test_load_model_opens_the_folder(saved):
    for name in (saved, str(saved)):
        assert torch.equal(logits(load_model(name), IDS), logits(load(saved), IDS))


def test_four_bit_weights_take_four_bits_on_disk(tiny_llama, saved):
    with safe_open(saved / QUANTIZED_FILE, framework="pt") as opened:
        packed = opened.get_tensor("model.layers.0.mlp.up_proj.packed")
        zeros = opened.get_tensor("model.layers.0.mlp.up_proj.zero_point")
    weight = tiny_llama.model.layers[0].mlp.up_proj.weight
    assert packed.numel() * 8 == weight.numel() * 4
    assert zeros.numel() * 8 == weight.numel() // 32 * 4


def test_small_scales_take_their_bits_on_disk_and_an_older_reader_is_told(tiny_llama, tmp_path):
    fmt = int_format(3, group_size=16, scale_bits=6)
    folder = save(quantize_model(tiny_llama, fmt), tmp_path / "small")
    with safe_open(folder / QUANTIZED_FILE, framework="pt") as opened:
        header = json.loads(opened.metadata()["shrinkkit"])
        name = "model.layers.0.mlp.up_proj"
        tensors = {
            key: opened.get_tensor(key)
            for key in opened.keys()  # noqa: SIM118
            if key.startswith(name)
        }
    weight = tiny_llama.model.layers[0].mlp.up_proj.weight
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    assert n_bytes * 8 == pytest.approx(fmt.bits_per_weight(weight.shape) * weight.numel())
    assert header["version"] == 3


def test_the_file_does_not_depend_on_the_kernel(tiny_llama, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("shrinkkit.quant.layers.linear.choose_kernel", lambda *args: kernels.UNPACK)
    other = save(quantize_model(tiny_llama, bits=4, group_size=32), tmp_path / "other")
    assert (other / QUANTIZED_FILE).read_bytes() == (saved / QUANTIZED_FILE).read_bytes()
    assert torch.equal(
        dequantize_model(load(other)).lm_head.weight, dequantize_model(load(saved)).lm_head.weight
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda whole: whole[: len(whole) // 2], "damaged"),
        (lambda whole: whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:], "SHA-256 differs"),
    ],
    ids=["truncated", "a changed byte"],
)
def test_a_spoilt_file_is_refused(saved, spoil, says):
    file = saved / QUANTIZED_FILE
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(AssetError, match=says):
        load(saved)


def test_files_of_others_and_empty_folders_are_refused(saved, tmp_path):
    with pytest.raises(AssetError, match=f"has no {QUANTIZED_FILE}"):
        load(tmp_path)
    save_file({"x": torch.zeros(2)}, saved / QUANTIZED_FILE)
    with pytest.raises(AssetError, match="not a shrinkkit file"):
        load(saved)


def test_a_newer_format_is_said_so(saved):
    with safe_open(saved / QUANTIZED_FILE, framework="pt") as opened:
        header = json.loads(opened.metadata()["shrinkkit"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    header["version"] = 99
    save_file(tensors, saved / QUANTIZED_FILE, {"shrinkkit": json.dumps(header)})
    with pytest.raises(AssetError, match="format 99"):
        load(saved)


def test_a_full_disk_leaves_nothing(tiny_llama, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ShrinkkitError, match="disk is full"):
        save(quantize_model(tiny_llama, bits=8), tmp_path / "small")
    assert list(tmp_path.iterdir()) == []


def test_saving_over_ones_own_folder_replaces_it_and_others_are_safe(tiny_llama, saved, notes):
    save(quantize_model(tiny_llama, bits=8), saved)
    assert load(saved).model.layers[0].mlp.up_proj.format.bits == 8
    with pytest.raises(InputError, match="not written by shrinkkit"):
        save(quantize_model(tiny_llama, bits=8), notes)


def test_what_others_put_beside_the_model_stays_and_a_link_is_followed(tiny_llama, tmp_path):
    small = quantize_model(tiny_llama, bits=8)
    disk = tmp_path / "large disk"
    disk.mkdir()
    place = tmp_path / "link"
    place.symlink_to(disk)
    save(small, place)
    (disk / "NOTES.md").write_text("mine")
    (disk / "adapter" / "deep").mkdir(parents=True)
    (disk / "adapter" / "deep" / "weights").write_bytes(b"theirs")
    (disk / PAGE).write_text("of an earlier run")
    save(quantize_model(tiny_llama, bits=4, group_size=32), place)
    assert place.is_symlink()
    assert (disk / "NOTES.md").read_text() == "mine"
    assert (disk / "adapter" / "deep" / "weights").read_bytes() == b"theirs"
    assert not (disk / PAGE).exists()  # it would say of the new model what was true of the old
    assert load(place).model.layers[0].mlp.up_proj.format.bits == 4
    assert {path.name for path in tmp_path.iterdir()} == {"large disk", "link"}


def test_what_no_class_of_transformers_could_open_is_not_saved(tiny_llama, tmp_path):
    adapted = add_lora(quantize_model(tiny_llama, bits=8))
    with pytest.raises(InputError, match=r"PeftModel.* is none of its classes"):
        save(adapted, tmp_path / "adapted")
    assert not (tmp_path / "adapted").exists()


def test_a_home_folder_is_the_users(tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    small = quantize_model(tiny_llama, bits=8)
    save(small, "~/model")
    save_compressed_tensors(quantize_model(tiny_llama, 4, 32, head_bits=None), "~/exported")
    assert not (tmp_path / "~").exists()
    assert torch.equal(logits(load_model("~/model"), IDS), logits(small, IDS))
    assert (tmp_path / "home" / "exported" / "config.json").is_file()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_model_that_an_export_opens_is_not_quantized_again(tiny_llama, tmp_path, symmetric):
    small = quantize_model(tiny_llama, 4, 32, symmetric=symmetric, head_bits=None)
    opened = load_model(save_compressed_tensors(small, tmp_path / "exported"))
    with pytest.raises(InputError, match="quantized already by compressed-tensors"):
        quantize_model(opened, 3, 32)


def test_a_float_model_is_not_saved_here(tiny_llama, tmp_path):
    with pytest.raises(InputError, match="no quantized layer"):
        save(tiny_llama, tmp_path / "small")
