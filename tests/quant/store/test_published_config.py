"""What published folders say of themselves, and which variants are refused, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shrinkkit.errors import AssetError, InputError
from shrinkkit.quant.store.published import AS_IT_IS, ONE_LESS, ONE_LESS_WRAPPED
from shrinkkit.quant.store.published_config import Published, published_as, read_config

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}

READ: dict[str, tuple[dict[str, Any], Published]] = {
    "AutoGPTQ": (GPTQ, Published("gptq", 4, 128, ONE_LESS)),
    "AutoGPTQ, act-order": (
        GPTQ | {"desc_act": True, "model_file_base_name": "model"},
        Published("gptq", 4, 128, ONE_LESS, act_order=True, file="model"),
    ),
    "whole rows": (GPTQ | {"group_size": -1}, Published("gptq", 4, None, ONE_LESS)),
    "GPTQModel": (
        GPTQ | {"checkpoint_format": "gptq", "meta": {"quantizer": ["gptqmodel:7.6.0"]}},
        Published("gptq", 4, 128, ONE_LESS_WRAPPED),
    ),
    "GPTQModel, 3 bits": (
        GPTQ | {"bits": 3, "meta": {"quantizer": ["gptqmodel:7.6.0"]}},
        Published("gptq", 3, 128, ONE_LESS_WRAPPED),
    ),
    "old GPTQModel, 3 bits": (
        GPTQ | {"bits": 3, "meta": {"quantizer": "gptqmodel:1.4.2"}},
        Published("gptq", 3, 128, ONE_LESS_WRAPPED, doubtful=True),
    ),
    "v2": (GPTQ | {"checkpoint_format": "gptq_v2"}, Published("gptq", 4, 128, AS_IT_IS)),
    "v2 in GPTQModel's newer word": (GPTQ | {"format": "gptq_v2"}, Published("gptq", 4, 128)),
    "some layers left in float": (
        GPTQ | {"dynamic": {"-:.*down_proj": {}}},
        Published("gptq", 4, 128, ONE_LESS),
    ),
    "AutoAWQ": (AWQ, Published("awq", 4, 128)),
    "AutoAWQ's older page": (
        {"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "version": "GEMM"},
        Published("awq", 4, 64),
    ),
    "AWQ by GPTQModel": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "checkpoint_format": "gemm"},
        Published("awq", 4, 32),
    ),
}


@pytest.mark.parametrize(("said", "how"), READ.values(), ids=READ)
def test_what_is_read(said: dict[str, Any], how: Published) -> None:
    assert read_config(said, "there") == how


@pytest.mark.parametrize("method", ["compressed-tensors", "bitsandbytes", "fp8", None])
def test_other_methods_are_not_ours_to_judge(method: str | None) -> None:
    assert read_config({"quant_method": method, "bits": 4}, "there") is None


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "marlin": (GPTQ | {"quant_method": "marlin"}, "Marlin"),
    "marlin layout": (GPTQ | {"checkpoint_format": "marlin"}, "layout is 'marlin'"),
    "marlin flag": (GPTQ | {"is_marlin_format": True}, "is_marlin_format"),
    "exllama": (AWQ | {"version": "exllama"}, "layout is 'exllama'"),
    "gemv": (AWQ | {"version": "gemv"}, "layout is 'gemv'; of awq, gemm"),
    "llm-awq": (AWQ | {"backend": "llm-awq"}, "llm-awq"),
    "planar": (GPTQ | {"checkpoint_format": "gptq_p"}, "'gptq_p'"),
    "dynamic": (GPTQ | {"dynamic": {"-:.*a": {}, r"+:.*down": {"bits": 8}}}, r"dynamic: '\+:"),
    "pack_dtype": (GPTQ | {"pack_dtype": "int16"}, "pack_dtype"),
    "adapter": (GPTQ | {"adapter": {"name": "lora", "rank": 8}}, "adapter"),
    "rotation": (GPTQ | {"meta": {"rotation": "hadamard"}}, "rotation"),
    "5 bits": (GPTQ | {"bits": 5}, r"bits=5, and gptq is read with 2, 3, 4, 8"),
    "8-bit AWQ": (AWQ | {"bits": 8}, "bits=8, and awq is read with 4"),
    "no bits": ({"quant_method": "gptq", "group_size": 128}, "bits=None"),
    "bits with a point": (GPTQ | {"bits": 4.0}, r"bits=4\.0"),
    "true": (GPTQ | {"bits": True}, "bits=True"),
    "a group of 0": (GPTQ | {"group_size": 0}, "group_size=0"),
    "half a group": (GPTQ | {"group_size": 64.5}, "group_size=64.5"),
}


@pytest.mark.parametrize(("said", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=rf"there cannot be opened.*{why}.*Open it with the tool"):
        read_config(said, "there")


def test_pages_beside_an_older_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert published_as(tmp_path) is None
    (tmp_path / "quant_config.json").write_text(json.dumps({"w_bit": 4, "q_group_size": 128}))
    assert published_as(tmp_path) == Published("awq", 4, 128)
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 3, "group_size": -1}))
    assert published_as(tmp_path) == Published("gptq", 3, None, ONE_LESS)
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": GPTQ}))
    assert published_as(tmp_path) == Published("gptq", 4, 128, ONE_LESS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"quantization_config": 4}', "\udcff"])
def test_damaged_pages(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(AssetError, match="Copy it again"):
        published_as(tmp_path)
