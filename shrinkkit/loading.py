"""Open a model, float or packed: the one place that knows both.

A folder that `quant.save` wrote holds integers and is opened by `quant.load`. A folder in GPTQ or
AWQ format, as other tools publish them, holds integers too and is opened by `load_published`.
Everything else (embedded names, folders of transformers, the hub) is opened by transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from shrinkkit.errors import InputError
from shrinkkit.quant.store.io import load
from shrinkkit.quant.store.published_config import METHODS, published_as
from shrinkkit.quant.store.published_folder import load_published
from shrinkkit.sources.models import EMBEDDED, HELP, QUANTIZED_FILE, resolve
from shrinkkit.sources.opening import (
    auto_class,
    hub_folder,
    hub_options,
    own_memory,
    plain_load_errors,
    quantized_by,
    quiet,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_model(
    name: str | Path = "smollm2-135m",
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> PreTrainedModel:
    """Open a model, in eval mode.

    name: an embedded name (`EMBEDDED`), a folder, or a hub name such as
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0" or "distilbert-base-uncased".
    dtype: floating type of the weights. A folder saved by `shrinkkit.quant.save` keeps its own
        types; of one in GPTQ or AWQ format the integers and scales are kept, and the rest is in
        this type.
    device: "cpu", "cuda", "cuda:1", "mps".
    Returns a transformers model: causal language model, encoder, or sequence classifier.
    Raises InputError: unknown name (the near matches are listed), dtype or device, a variant of
    GPTQ or AWQ that is not read here; AssetError: a file is missing or damaged, or the hub cannot
    be reached; StorageError: no room for the unpacked copy.
    """
    _require_dtype_and_device(dtype, device)
    name, place = resolve(name)
    if place is not None and (place / QUANTIZED_FILE).is_file():
        return load(place).to(device).eval()
    with plain_load_errors(name, place, HELP), quiet(place is not None):
        source, options = str(place or name), hub_options(place)
        if place is None and quantized_by(name, **options) in METHODS:
            place = hub_folder(name)
        if place is not None and (how := published_as(place)) is not None:
            return load_published(place, how, dtype).to(device)
        model = auto_class(source, **options).from_pretrained(
            source, dtype=dtype, use_safetensors=True, trust_remote_code=False, **options
        )
    if name in EMBEDDED:  # not the cache folder's path, which differs between machines
        model.config._name_or_path = name
        model.name_or_path = name
    return own_memory(model).to(device).eval()


def _require_dtype_and_device(dtype: Any, device: Any) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(
            "dtype must be a floating torch type such as torch.float32 or torch.bfloat16, but "
            f"{dtype!r} was given. To store integers, load in float32 and use "
            "shrinkkit.quant.quantize_model."
        )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"device must be one that this machine and this torch have, but {device!r} was "
            f"given ({str(error).splitlines()[0]}). 'cpu' always works."
        ) from None
