"""Refuse a model that cannot be compressed, before any work: it is already, or it is not all here.

A second compression only adds error, whoever did the first. Tools leave different traces: packed
layers of this package, the quantization config that transformers keeps, integers or 8-bit floats
where weights belong. And a model whose weights are still on disk (accelerate's offloading leaves
tensors on the meta device) has nothing to round.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.parts import is_compressed


def compressed_by(model: nn.Module) -> str | None:
    """Say by what a model is compressed already; None: by nothing that can be seen.

    >>> compressed_by(nn.Linear(2, 2)) is None
    True
    """
    if is_compressed(model):
        return "shrinkkit"
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    config = config or _config_on_disk(model)
    if config is not None or getattr(model, "hf_quantizer", None) is not None:
        said = config if isinstance(config, dict) else getattr(config, "__dict__", {})
        method = said.get("quant_method")
        return str(getattr(method, "value", method) or "another tool")
    for name, parameter in model.named_parameters():
        dtype = parameter.dtype
        if parameter.ndim > 1 and not (dtype.is_floating_point and dtype.itemsize > 1):
            return f"another tool ({name} holds {str(dtype).removeprefix('torch.')})"
    return None


def _config_on_disk(model: nn.Module) -> dict | None:
    """Return what the folder that a model was opened from says of its compression.

    transformers unpacks some formats to floats as it opens them, and then forgets what they were.
    """
    folder = getattr(getattr(model, "config", None), "_name_or_path", None)
    path = Path(folder, "config.json") if folder else None
    try:
        return json.loads(path.read_text("utf-8")).get("quantization_config") if path else None
    except (OSError, ValueError, AttributeError):
        return None


def refuse_unfit(model: nn.Module) -> None:
    """Raise InputError for a model that is compressed already, or whose weights are not here."""
    if (tool := compressed_by(model)) is not None:
        by = "" if tool == "shrinkkit" else f" by {tool}"
        raise InputError(
            f"This model is quantized already{by}. Rounding it again would only add error: start "
            "from the original, as in quantize_model(load_model('smollm2-135m'), bits=4). (A "
            "notebook cell that was run twice is the usual cause.)"
        )
    absent = next((name for name, p in model.named_parameters() if p.is_meta), None)
    if absent is not None:
        raise InputError(
            f"The weights of {absent} are not in memory: the model was opened without weights, or "
            "offloaded to disk (device_map). Open it whole, as load_model does; for a checkpoint "
            "larger than memory there is gptq_checkpoint."
        )
