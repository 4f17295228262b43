"""What a published GPTQ or AWQ folder says of itself, or why it cannot be read.

The words have changed over the years, and each tool adds its own. `config.json` has them as its
`quantization_config`; older folders have a page of their own beside it, `quantize_config.json` for
GPTQ and `quant_config.json` for AWQ. What changes how the integers lie, or what the model computes
beside them, and is not known here, is refused by its name; what only says how they were found
(damping, calibration, kernels to use) does not matter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shrinkkit.errors import AssetError, InputError
from shrinkkit.quant.store.published import AS_IT_IS, ONE_LESS, ONE_LESS_WRAPPED

METHODS = ("gptq", "awq")
BITS = {"gptq": (2, 3, 4, 8), "awq": (4,)}
LAYOUTS = {"gptq": ("gptq", "gptq_v2"), "awq": ("gemm",)}
PAGES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
SYNONYMS = {"w_bit": "bits", "wbits": "bits", "q_group_size": "group_size"}
# What a layer's output also depends on, and this package does not compute.
BESIDE = ("adapter", "rotation")
NOT_READ = (
    "Open it with the tool that wrote it, or start from the original checkpoint and quantize that "
    "with gptq_model or awq_model."
)
THREE_BITS_SINCE = (7, 6)  # GPTQModel before it shifted the zero points of 3 bits by other amounts


@dataclass(frozen=True)
class Published:
    """Say how a published checkpoint holds its layers.

    method: "gptq" or "awq". bits: of an integer. group_size: input columns that share a scale;
    None: the whole row. zero_points: how they are stored, of `published`. act_order: the columns of
    a group need not be neighbours. doubtful: only zero points in the middle of the grid can be
    trusted. file: its safetensors file without the ending, where the page names one.
    """

    method: str
    bits: int
    group_size: int | None
    zero_points: str = AS_IT_IS
    act_order: bool = False
    doubtful: bool = False
    file: str | None = None


def published_as(folder: Path) -> Published | None:
    """Return how a folder was published; None where it says of neither GPTQ nor AWQ.

    Raises InputError for a variant that is not read here, AssetError for a damaged page.
    """
    said = _page(folder / "config.json").get("quantization_config")
    if said is None:
        found = next((name for name in PAGES if (folder / name).is_file()), None)
        if found is None:
            return None
        said = {"quant_method": PAGES[found], **_page(folder / found)}
    return read_config(said, str(folder))


def read_config(said: Any, where: str) -> Published | None:
    """Read what a folder says; None where it is of another method.

    said: the page, {word: value}; where: the folder, for messages.
    Raises InputError for what is not read here.

    >>> page = {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}
    >>> read_config(page, "there").zero_points
    'one less'
    """
    if not isinstance(said, Mapping):
        raise AssetError(f"{where}: quantization_config is no page of words. Copy it again.")
    said = {SYNONYMS.get(key, key): value for key, value in said.items()}
    method = str(said.get("quant_method") or said.get("method")).lower()
    if method in ("marlin", "gptq_marlin", "awq_marlin"):
        _refuse(where, f"its layers lie as the Marlin kernel wants them (quant_method={method!r})")
    if method not in METHODS:
        return None
    layout = _layout(said, method, where)
    _refuse_beside(said, where)
    bits, group_size = said.get("bits"), said.get("group_size", -1)
    if type(bits) is not int or bits not in BITS[method]:
        allowed = ", ".join(map(str, BITS[method]))
        _refuse(where, f"it says bits={bits!r}, and {method} is read with {allowed}")
    if type(group_size) is not int or (group_size < 1 and group_size != -1):
        _refuse(where, f"it says group_size={group_size!r}: neither a size nor -1 for the row")
    maker, version = _maker(said)
    by_gptqmodel = maker == "gptqmodel"
    zero_points = AS_IT_IS
    if layout == "gptq":
        zero_points = ONE_LESS_WRAPPED if by_gptqmodel else ONE_LESS
    old = by_gptqmodel and layout == "gptq" and bits == 3 and version < THREE_BITS_SINCE
    return Published(
        method,
        bits,
        None if group_size == -1 else group_size,
        zero_points,
        act_order=method == "gptq" and bool(said.get("desc_act")),
        doubtful=old,
        file=said.get("model_file_base_name"),
    )


def _layout(said: Mapping[str, Any], method: str, where: str) -> str:
    """Return which layout the words have, after refusing those that are not read."""
    if said.get("is_marlin_format"):
        _refuse(where, "its layers lie as the Marlin kernel wants them (is_marlin_format)")
    words = [said.get(key) for key in ("checkpoint_format", "format", "version")]
    layout = str(next((word for word in words if word), LAYOUTS[method][0])).lower()
    if layout not in LAYOUTS[method]:
        allowed = " and ".join(LAYOUTS[method])
        _refuse(where, f"its layout is {layout!r}; of {method}, {allowed} are read")
    if method == "awq" and str(said.get("backend")).lower() == "llm-awq":
        _refuse(where, "its layout is that of llm-awq (backend); of awq, gemm is read")
    return layout


def _refuse_beside(said: Mapping[str, Any], where: str) -> None:
    """Refuse rules for single layers, other words than int32, and parts that change the output."""
    rules = said.get("dynamic") or {}
    others = [rule for rule in rules if not str(rule).startswith("-:")]  # "-:" leaves in float
    if others:
        _refuse(where, f"it has a grid of its own for some layers (dynamic: {others[0]!r})")
    words = str(said.get("pack_dtype") or "int32").removeprefix("torch.")
    if words != "int32":
        _refuse(where, f"its words are {words} (pack_dtype), and int32 is read")
    meta = said.get("meta") if isinstance(said.get("meta"), Mapping) else {}
    for key in BESIDE:
        if said.get(key) or meta.get(key):
            _refuse(where, f"it has something beside its integers ({key})")


def _maker(said: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    """Return (the tool that wrote it, its version); ("", ()) where none is named."""
    meta = said.get("meta")
    found = meta.get("quantizer") if isinstance(meta, Mapping) else None
    first = (found[:1] or [""])[0] if isinstance(found, list) else found or ""
    name, _, version = str(first).lower().partition(":")
    return name, tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _refuse(where: str, why: str) -> None:
    raise InputError(f"{where} cannot be opened: {why}. {NOT_READ}")


def _page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} could not be read ({error}). Copy it again.") from None
    if not isinstance(page, dict):
        raise AssetError(f"{path} is no page of words. Copy it again.")
    return page
