"""GPTQ's integers are what they were: digests of many grids and settings, recorded once.

A change of layout, of the walk or of the loop's speed may not change a single integer. The digests
were taken from the commit named in `RECORDED_AT`; to see them, run this file as a script. Weights
and inputs are drawn so that no value that is rounded lies near a tie: another processor's last bits
do not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from shrinkkit.quant import (
    FP8_E4M3,
    MXFP4,
    NF4,
    Format,
    awq_model,
    gptq,
    gptq_model,
    int_format,
)
from tests import tiny

RECORDED_AT = "fe78ebb"

# fmt: off
# Grids, with the digest at the settings' defaults.
GRIDS = {
    "int2 g8": (int_format(2, group_size=8), "343a11aa2a21d9c6"),
    "int3 g8": (int_format(3, group_size=8), "51670fd3a9f226ba"),
    "int4 g8": (int_format(4, group_size=8), "8f54d6637b1a0085"),
    "int5 g16": (int_format(5, group_size=16), "603b354a5d23b52f"),
    "int6 g16": (int_format(6, group_size=16), "507cfa0f8b2fa554"),
    "int7 g16": (int_format(7, group_size=16), "71894213157ed66b"),
    "int8 per channel": (int_format(8), "775072e1de87d6fa"),
    "int4 g8 symmetric": (int_format(4, group_size=8, symmetric=True), "fef6639ac6db177e"),
    "int4 per channel": (Format(4, True, "per_channel"), "2aa497f44638a20b"),
    "int4 per tensor": (Format(4, True, "per_tensor"), "62295784caafac3f"),
    "int4 g16, 6-bit scales": (Format(4, False, "per_group", 16, scale_bits=6), "df0e9af22a1cb339"),
    "int3 g8, 6-bit scales": (Format(3, False, "per_group", 8, scale_bits=6), "0611a68cc2a1ed4d"),
    "int4 g5, short last group": (int_format(4, group_size=5), "e717e9ea13fe1374"),
    "nf4 g16": (replace(NF4, group_size=16), "a083ee872989b324"),
    "mxfp4": (MXFP4, "4ffc68a317a328d4"),
    "fp8": (FP8_E4M3, "d4c3784e8a55db15"),
}
# Settings, with the digests on two of the grids.
TWO = ("int4 g8", "int3 g8, 6-bit scales")
SETTINGS = {
    "left to right": ({"act_order": False}, "2b2755964b36fbda", "79e85ee486a52fc3"),
    "left to right, static": ({"act_order": False, "static_groups": True},
        "e24a503fa9947eab", "d874eb4f4b45aba5"),
    "min and max": ({"search": False}, "26015900cb595689", "e9b48716a03c1a1b"),
    "undamped": ({"damping": 1e-6}, "1d6b481b346e4c8e", "fd690d0b4322ea47"),
    "much damping": ({"damping": 0.5}, "fc486f115b52e9e1", "2ecbecf3ed4928c5"),
    "small blocks": ({"block_size": 4}, "8f54d6637b1a0085", "0611a68cc2a1ed4d"),
}
# fmt: on
CASES = {name: (fmt, {}, expected) for name, (fmt, expected) in GRIDS.items()} | {
    f"{grid}, {name}": (GRIDS[grid][0], how, expected)
    for name, (how, *both) in SETTINGS.items()
    for grid, expected in zip(TWO, both, strict=True)
}
# Methods, in groups of 32, on a whole model.
MODELS = {
    "gptq int4 g32": (gptq_model, 4, {}, "a721aedfa4c24716"),
    "gptq int3 g32, left to right": (gptq_model, 3, {"act_order": False}, "ce6cf7833ecdb9f4"),
    "gptq int4, first block": (gptq_model, 4, {"include": "model.layers.0.*"}, "417ed978394cc43a"),
    "awq int4 g32": (awq_model, 4, {}, "3b43497f86befdda"),
    "awq then gptq int3 g32": (awq_model, 3, {"rounding": "gptq"}, "e0100d5dcb9ec357"),
}


def digest(*tensors: torch.Tensor) -> str:
    of = hashlib.sha256()
    for tensor in tensors:
        of.update(tensor.contiguous().to(torch.int16).numpy().tobytes())
    return of.hexdigest()[:16]


def of_layer(fmt: Format, how: dict) -> str:
    draw = torch.Generator().manual_seed(7)
    mix = torch.randn(32, 32, generator=draw) + 2 * torch.eye(32)
    x = torch.randn(200, 32, generator=draw) @ mix * torch.linspace(0.3, 2.0, 32)
    weight = 0.05 * torch.randn(8, 32, generator=draw)
    found = gptq(weight, 2 * x.t() @ x / len(x), fmt, **how)
    return digest(found.q, found.zero_point)


def of_model(method: Callable, bits: int, how: dict) -> str:
    small = method(tiny.llama(), tiny.tokens(6, 32, vocab_size=64), bits, 32, **how)
    layers = [m for m in small.modules() if hasattr(m, "integers")]
    return digest(*(layer.integers() for layer in layers))


@pytest.mark.parametrize(("fmt", "how", "expected"), CASES.values(), ids=CASES)
def test_a_layers_integers(fmt: Format, how: dict, expected: str) -> None:
    assert of_layer(fmt, how) == expected


@pytest.mark.parametrize(("method", "bits", "how", "expected"), MODELS.values(), ids=MODELS)
def test_a_models_integers(method: Callable, bits: int, how: dict, expected: str) -> None:
    assert of_model(method, bits, how) == expected


if __name__ == "__main__":
    for name, (fmt, how, _) in CASES.items():
        print(f'    "{name}": "{of_layer(fmt, how)}",')
    for name, (*method, _) in MODELS.items():
        print(f'    "{name}": "{of_model(*method)}",')
