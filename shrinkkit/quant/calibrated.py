"""Quantize a whole model with the help of text: GPTQ on every linear layer, block by block.

For each decoder block: collect the Hessian of each distinct input (q, k and v share one, gate and
up another), round the block's layers with it, then send the text through the rounded block, so that
the next block is calibrated on what it will really receive. The output head is rounded to nearest
at 8 bits, as `quantize_model` does, because its Hessian would be that of one position alone.

Memory: the model, one block's Hessians (10 MB for SmolLM2) and the windows' activations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from shrinkkit.calibration import Walk, calibrate, watching
from shrinkkit.errors import InputError
from shrinkkit.obs import Hessian
from shrinkkit.quant.formats import Format
from shrinkkit.quant.gptq import gptq
from shrinkkit.quant.linear import QuantizedLinear
from shrinkkit.quant.model import quantize_head, refuse_compressed, weight_format
from shrinkkit.surgery import clone, replace_module


def gptq_model(
    model: nn.Module,
    calibration: torch.Tensor,
    bits: int | Format = 4,
    group_size: int | None = None,
    *,
    symmetric: bool | None = None,
    damping: float = 0.01,
    act_order: bool = True,
    static_groups: bool | None = None,
    search: bool = True,
    head_bits: int | Format | None = 8,
    batch_size: int = 4,
    inplace: bool = False,
) -> nn.Module:
    """Quantize the linear layers of a decoder by GPTQ.

    model: a transformers decoder (Llama, GPT-2, ... : `surgery.BLOCK_PATHS`).
    calibration: [n_samples, seq_len] integer; windows of text, such as
        load_text("wikipedia").calibration().
    bits, group_size, symmetric, head_bits: the grid, as for `quantize_model`.
    damping, act_order, static_groups, search: as for `gptq`.
    batch_size: windows that go through a block at once.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model, in eval mode.
    Raises InputError: bad arguments, a model that is compressed already, no windows, NaN.
    """
    fmt = weight_format(bits, group_size, symmetric)
    refuse_compressed(model)
    if not inplace:
        model = clone(model)
    options = {
        "damping": damping,
        "act_order": act_order,
        "static_groups": static_groups,
        "search": search,
    }
    notes: list[str] = []

    def visit(name: str, block: nn.Module, walk: Walk) -> Callable[[], None]:
        packed: dict[str, QuantizedLinear] = {}
        for names, hessian in hessians(block, walk):
            for layer_name in names:
                layer = block.get_submodule(layer_name)
                try:
                    found = gptq(layer.weight, hessian, fmt, **options)
                except InputError as error:
                    raise InputError(f"Layer {name}.{layer_name}: {error}") from None
                if found.note:
                    notes.append(f"{name}.{layer_name}: {found.note}")
                packed[layer_name] = QuantizedLinear.from_integers(
                    found.q, found.scale, found.zero_point, fmt, layer.bias
                )
                layer.weight.data = packed[layer_name].dequantize().to(layer.weight.dtype)

        def pack() -> None:
            for layer_name, layer in packed.items():
                replace_module(block, layer_name, layer)

        return pack

    calibrate(model, calibration, visit, batch_size=batch_size, label=f"GPTQ to {fmt}")
    if notes:
        warnings.warn(
            f"{len(notes)} layer(s) needed more damping; the first: {notes[0]}", stacklevel=2
        )
    quantize_head(model, head_bits, group_size)
    return model.eval()


def hessians(block: nn.Module, walk: Walk) -> list[tuple[list[str], torch.Tensor]]:
    """Return [(names of the layers that share an input, its Hessian [in, in])] of a block."""
    groups = walk.shared_inputs(block)
    collected = {names[0]: Hessian(block.get_submodule(names[0]).in_features) for names in groups}
    with watching(block, collected):
        walk.run(block, keep=False)
    return [(names, collected[names[0]].value()) for names in groups]
