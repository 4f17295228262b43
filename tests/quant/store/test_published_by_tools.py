"""Folders that GPTQModel wrote: our weights are its weights, bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shrinkkit.loading import load_model
from shrinkkit.quant import QuantizedLinear, load, save
from shrinkkit.quant.layers.ordered import OrderedLinear
from tests.tiny import logits, same_tensors

FOLDERS = Path(__file__).resolve().parents[2] / "data" / "published_gptq"
NAMES = sorted(path.name for path in FOLDERS.iterdir() if path.is_dir())
TOKENS = torch.arange(4, 20)[None]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_and_nearly_the_same_logits(name: str) -> None:
    model = load_model(FOLDERS / name)
    theirs = load_file(FOLDERS / f"{name}.safetensors")
    expected = theirs.pop("logits").float()
    assert len(theirs) >= 2
    for layer, weight in theirs.items():  # float16 there: our product is exact and then rounded
        packed = model.get_submodule(layer)
        assert isinstance(packed, QuantizedLinear)
        assert torch.equal(packed.dequantize().half(), weight)
    # float16 computes with 3 digits there, ours in float32
    found = logits(model, TOKENS)
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()


def test_they_are_the_kinds_that_they_are_there_for() -> None:
    assert NAMES == ["awq-int4", "gptq-int3", "gptq-int4-act-order"]
    layers = {name: load_model(FOLDERS / name).model.layers[0].mlp.down_proj for name in NAMES}
    assert isinstance(layers["gptq-int4-act-order"], OrderedLinear)
    assert {name: layer.format.bits for name, layer in layers.items()} == {
        "awq-int4": 4,
        "gptq-int3": 3,
        "gptq-int4-act-order": 4,
    }


@pytest.mark.parametrize("name", NAMES)
def test_ours_to_keep(name: str, tmp_path: Path) -> None:
    model = load_model(FOLDERS / name)
    again = load(save(model, tmp_path / "ours"))
    assert same_tensors(again, model)
    assert torch.equal(logits(again, TOKENS), logits(model, TOKENS))
