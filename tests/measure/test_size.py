"""Counting parameters and bytes: by hand, against files, with ties and packed layers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import bits_per_weight, file_bytes, n_parameters, resident_bytes, saved_bytes
from shrinkkit.quant import QuantizedLinear, int_format, quantize_model, save


def tensor_bytes(path):
    """Read from a safetensors file's header how many bytes of tensors follow it."""
    header = int.from_bytes(path.read_bytes()[:8], "little")
    return path.stat().st_size - 8 - header


def test_a_linear_layer_by_hand():
    layer = nn.Linear(3, 2)  # 6 weights and 2 biases
    assert n_parameters(layer) == 8
    assert saved_bytes(layer) == resident_bytes(layer) == 32
    assert bits_per_weight(layer) == 32.0


def test_tied_weights_count_once(tiny_llama):
    untied = sum(p.numel() for p in tiny_llama.parameters())  # torch's own count is without ties
    assert n_parameters(tiny_llama) == untied
    assert tiny_llama.lm_head.weight is tiny_llama.model.embed_tokens.weight
    copied = copy.deepcopy(tiny_llama)
    copied.lm_head.weight = nn.Parameter(copied.lm_head.weight.detach().clone())
    assert n_parameters(copied) == untied + 256 * 64
    assert saved_bytes(copied) == saved_bytes(tiny_llama) + 256 * 64 * 4


def test_tied_by_memory_counts_once():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = nn.Parameter(first.weight.data)  # another Parameter on the same memory
    model = nn.Sequential(first, second)
    assert n_parameters(model) == 16
    assert saved_bytes(model) == resident_bytes(model) == 64


def test_saved_bytes_are_those_that_transformers_writes(tiny_llama, tiny_bert, tmp_path):
    for name, model in (("llama", tiny_llama), ("bert", tiny_bert)):
        model.save_pretrained(tmp_path / name)
        assert saved_bytes(model) == tensor_bytes(tmp_path / name / "model.safetensors")


@pytest.mark.parametrize(
    ("bits", "group_size"), [(8, None), (4, 32), (4, 48), (3, 64), (2, 32)], ids=str
)
def test_saved_bytes_are_those_that_quant_writes(tiny_llama, tmp_path, bits, group_size):
    small = quantize_model(tiny_llama, bits, group_size)
    save(small, tmp_path / "small")
    (file,) = (tmp_path / "small").glob("*.safetensors")
    assert saved_bytes(small) == tensor_bytes(file)


def test_a_packed_layer_by_hand():
    layer = QuantizedLinear.from_linear(nn.Linear(64, 32), int_format(8))
    # 64 x 32 bytes, a scale of 2 or 4 bytes a row, and 32 biases of 4 bytes
    scale_bytes = layer.format.scale_bits // 8
    assert n_parameters(layer) == 64 * 32 + 32
    assert saved_bytes(layer) == 64 * 32 + 32 * scale_bytes + 32 * 4
    weight_bits = 8 + 8 * scale_bytes / 64
    expected = (64 * 32 * weight_bits + 32 * 32) / (64 * 32 + 32)
    assert bits_per_weight(layer) == pytest.approx(expected)


def test_quantizing_keeps_the_count_and_shrinks_the_bytes(tiny_llama):
    small = quantize_model(tiny_llama, 4, 32)
    assert n_parameters(small) == n_parameters(tiny_llama)
    assert saved_bytes(small) < 0.25 * saved_bytes(tiny_llama)
    assert resident_bytes(small) < 0.3 * resident_bytes(tiny_llama)
    assert 4 < bits_per_weight(small) < 8


class Packed(nn.Module):
    """A packed layer of another kind: only what the duck has to do."""

    nbytes = 20 + 8  # 20 for the weight, 8 for the bias
    in_features, out_features = 10, 4

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))
        self.register_buffer("store", torch.zeros(1000))  # its own business

    def dequantize(self):
        return torch.zeros(4, 10)


def test_packed_layers_are_known_by_what_they_can_do():
    model = nn.Sequential(Packed(), nn.Linear(2, 2, bias=False))
    assert n_parameters(model) == 40 + 2 + 4
    assert saved_bytes(model) == 20 + 8 + 16


def test_a_packed_layer_in_two_places_counts_once():
    layer = Packed()
    assert saved_bytes(nn.ModuleList([layer, nn.Sequential(layer)])) == 28


def test_zeros_take_as_much_room_as_other_numbers(tiny_llama):
    pruned = copy.deepcopy(tiny_llama)
    pruned.model.layers[0].mlp.down_proj.weight.data.zero_()
    assert saved_bytes(pruned) == saved_bytes(tiny_llama)


def test_memory_holds_more_than_a_file():
    layer = nn.Linear(2, 2, bias=False)
    layer.register_buffer("made_anew", torch.zeros(10), persistent=False)
    layer.cache = torch.zeros(100)[:1]  # a small view keeps the whole block alive
    assert saved_bytes(layer) == 16
    assert resident_bytes(layer) == 16 + 40 + 400


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_halves(tiny_llama, dtype):
    half = copy.deepcopy(tiny_llama).to(dtype)
    assert saved_bytes(half) * 2 == saved_bytes(tiny_llama)
    assert bits_per_weight(half) == 16.0


def test_a_model_without_weights_has_no_bits():
    assert n_parameters(nn.ReLU()) == saved_bytes(nn.ReLU()) == 0
    with pytest.raises(InputError, match="without weights"):
        bits_per_weight(nn.ReLU())


def test_file_bytes_of_a_file_and_a_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert file_bytes(tmp_path / "a") == file_bytes(str(tmp_path)) == 3
    with pytest.raises(InputError, match="nowhere"):
        file_bytes(tmp_path / "nowhere")
