"""GPTQ's integers are what they were: digests of many grids and settings, recorded once.

A change of layout, of the walk or of the loop's speed may not change a single integer. The digests
were taken from the commit named in `RECORDED_AT`; to see them, run this file as a script. Weights
and inputs are drawn so that no value that is rounded lies near a tie: another processor's last bits
do not matter.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch

from shrinkkit.quant import (
    FP8_E4M3,
    MXFP4,
    NF4,
    Format,
    Rounded,
    awq_model,
    gptq,
    gptq_model,
    int_format,
)
from tests import tiny

RECORDED_AT = "fe78ebb"

GRIDS = {
    "int2 g8": int_format(2, group_size=8),
    "int3 g8": int_format(3, group_size=8),
    "int4 g8": int_format(4, group_size=8),
    "int5 g16": int_format(5, group_size=16),
    "int6 g16": int_format(6, group_size=16),
    "int7 g16": int_format(7, group_size=16),
    "int8 per channel": int_format(8),
    "int4 g8 symmetric": int_format(4, group_size=8, symmetric=True),
    "int4 per channel": Format(4, True, "per_channel"),
    "int4 per tensor": Format(4, True, "per_tensor"),
    "int4 g16, 6-bit scales": Format(4, False, "per_group", 16, scale_bits=6),
    "int3 g8, 6-bit scales": Format(3, False, "per_group", 8, scale_bits=6),
    "int4 g5, short last group": int_format(4, group_size=5),
    "nf4 g16": replace(NF4, group_size=16),
    "mxfp4": MXFP4,
    "fp8": FP8_E4M3,
}
SETTINGS = {
    "defaults": {},
    "left to right": {"act_order": False},
    "left to right, static": {"act_order": False, "static_groups": True},
    "min and max": {"search": False},
    "undamped": {"damping": 1e-6},
    "much damping": {"damping": 0.5},
    "small blocks": {"block_size": 4},
}
CASES = [(grid, "defaults") for grid in GRIDS] + [
    (grid, how)
    for grid in ("int4 g8", "int3 g8, 6-bit scales")
    for how in SETTINGS
    if how != "defaults"
]
MODELS = {
    "gptq int4 g32": lambda model, text: gptq_model(model, text, 4, 32),
    "gptq int3 g32, left to right": lambda model, text: gptq_model(
        model, text, 3, 32, act_order=False
    ),
    "gptq int4, first block": lambda model, text: gptq_model(
        model, text, 4, 32, include="model.layers.0.*"
    ),
    "awq int4 g32": lambda model, text: awq_model(model, text, 4, 32),
    "awq then gptq int3 g32": lambda model, text: awq_model(model, text, 3, 32, rounding="gptq"),
}
# fmt: off
DIGESTS: dict[str, str] = {
    "int2 g8, defaults": "343a11aa2a21d9c6",
    "int3 g8, defaults": "51670fd3a9f226ba",
    "int4 g8, defaults": "8f54d6637b1a0085",
    "int5 g16, defaults": "603b354a5d23b52f",
    "int6 g16, defaults": "507cfa0f8b2fa554",
    "int7 g16, defaults": "71894213157ed66b",
    "int8 per channel, defaults": "775072e1de87d6fa",
    "int4 g8 symmetric, defaults": "fef6639ac6db177e",
    "int4 per channel, defaults": "2aa497f44638a20b",
    "int4 per tensor, defaults": "62295784caafac3f",
    "int4 g16, 6-bit scales, defaults": "df0e9af22a1cb339",
    "int3 g8, 6-bit scales, defaults": "0611a68cc2a1ed4d",
    "int4 g5, short last group, defaults": "e717e9ea13fe1374",
    "nf4 g16, defaults": "a083ee872989b324",
    "mxfp4, defaults": "4ffc68a317a328d4",
    "fp8, defaults": "d4c3784e8a55db15",
    "int4 g8, left to right": "2b2755964b36fbda",
    "int4 g8, left to right, static": "e24a503fa9947eab",
    "int4 g8, min and max": "26015900cb595689",
    "int4 g8, undamped": "1d6b481b346e4c8e",
    "int4 g8, much damping": "fc486f115b52e9e1",
    "int4 g8, small blocks": "8f54d6637b1a0085",
    "int3 g8, 6-bit scales, left to right": "79e85ee486a52fc3",
    "int3 g8, 6-bit scales, left to right, static": "d874eb4f4b45aba5",
    "int3 g8, 6-bit scales, min and max": "e9b48716a03c1a1b",
    "int3 g8, 6-bit scales, undamped": "fd690d0b4322ea47",
    "int3 g8, 6-bit scales, much damping": "2ecbecf3ed4928c5",
    "int3 g8, 6-bit scales, small blocks": "0611a68cc2a1ed4d",
    "gptq int4 g32": "a721aedfa4c24716",
    "gptq int3 g32, left to right": "ce6cf7833ecdb9f4",
    "gptq int4, first block": "417ed978394cc43a",
    "awq int4 g32": "3b43497f86befdda",
    "awq then gptq int3 g32": "e0100d5dcb9ec357",
}
# fmt: on


def digest(*tensors: torch.Tensor) -> str:
    of = hashlib.sha256()
    for tensor in tensors:
        of.update(tensor.contiguous().to(torch.int16).numpy().tobytes())
    return of.hexdigest()[:16]


def layer(grid: str, how: str) -> Rounded:
    draw = torch.Generator().manual_seed(7)
    mix = torch.randn(32, 32, generator=draw) + 2 * torch.eye(32)
    x = torch.randn(200, 32, generator=draw) @ mix * torch.linspace(0.3, 2.0, 32)
    weight = 0.05 * torch.randn(8, 32, generator=draw)
    return gptq(weight, 2 * x.t() @ x / len(x), GRIDS[grid], **SETTINGS[how])


def of_layer(grid: str, how: str) -> str:
    found = layer(grid, how)
    return digest(found.q, found.zero_point)


def of_model(name: str) -> str:
    text = torch.randint(64, (6, 32), generator=torch.Generator().manual_seed(1))
    small = MODELS[name](tiny.llama(), text)
    layers = [m for m in small.modules() if hasattr(m, "integers")]
    return digest(*(layer.integers() for layer in layers))


@pytest.mark.parametrize(("grid", "how"), CASES, ids=[f"{g}, {h}" for g, h in CASES])
def test_a_layers_integers(grid: str, how: str) -> None:
    assert of_layer(grid, how) == DIGESTS[f"{grid}, {how}"]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_integers(name: str) -> None:
    assert of_model(name) == DIGESTS[name]


if __name__ == "__main__":
    for case in CASES:
        print(f'    "{case[0]}, {case[1]}": "{of_layer(*case)}",')
    for model in MODELS:
        print(f'    "{model}": "{of_model(model)}",')
