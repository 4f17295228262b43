"""Quantize a whole model with the help of text: GPTQ, AWQ, or both, block by block.

For each decoder block: collect the Hessian of each distinct input (q, k and v share one, gate and
up another), rescale channels if asked (AWQ), round the block's layers (to nearest or by GPTQ), then
send the text through the rounded block, so that the next block is calibrated on what it will really
receive. The output head is rounded to nearest at 8 bits, as `quantize_model` does, because it is
large, sensitive, and read once a token.

Memory: the model, one block's Hessians (10 MB for SmolLM2) and the windows' activations. Where the
model itself is too large for that, `streaming` does the same with one block in memory at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial

import torch
from torch import nn

from shrinkkit.calibration.accumulators import Hessian
from shrinkkit.calibration.walk import Walk, calibrate
from shrinkkit.errors import InputError, near_matches, require_choice
from shrinkkit.quant.grids.affine import quantize, search_qparams
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.ptq.awq import output_error, search_scale
from shrinkkit.quant.ptq.gptq import Rounded, gptq
from shrinkkit.quant.ptq.model import head_format, quantize_head, refuse_compressed, weight_format
from shrinkkit.surgery.invariance import norm_groups, rescale
from shrinkkit.surgery.parts import clone, decoder_blocks, find_linears, replace_module

# round_layer(weight [out, in], hessian [in, in], format) -> Rounded
RoundLayer = Callable[[torch.Tensor, torch.Tensor, Format], Rounded]


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
    include: str | tuple[str, ...] = "*",
    formats: Mapping[str, Format] | None = None,
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
    include: globs over the names of the layers to quantize; the text goes no further than the last
        block that has one, so "model.layers.[0-3].*" is a quick look.
    formats: {layer's full name: grid} for layers that get another one, such as `choose_formats`
        chooses within a budget.
    batch_size: windows that go through a block at once.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model, in eval mode.
    Raises InputError: bad arguments, a model that is compressed already, no windows, NaN.
    """
    fmt, head_fmt = weight_format(bits, group_size, symmetric), head_format(head_bits, group_size)
    how = {"damping": damping, "act_order": act_order, "static_groups": static_groups}
    round_layer = partial(gptq, search=search, **how)
    model = _prepared(model, inplace)
    format_of = _formats(model, fmt, formats, include)
    _walk(model, calibration, format_of, round_layer, scaled=False, batch_size=batch_size)
    quantize_head(model, head_fmt)
    return model.eval()


def awq_model(
    model: nn.Module,
    calibration: torch.Tensor,
    bits: int | Format = 4,
    group_size: int | None = None,
    *,
    symmetric: bool | None = None,
    rounding: str = "nearest",
    damping: float = 0.01,
    include: str | tuple[str, ...] = "*",
    formats: Mapping[str, Format] | None = None,
    head_bits: int | Format | None = 8,
    batch_size: int = 4,
    inplace: bool = False,
) -> nn.Module:
    """Quantize the linear layers of a decoder by AWQ: rescale the channels that matter, then round.

    model: a decoder of a family that `invariance.norm_groups` knows.
    calibration, bits, group_size, symmetric, include, formats, head_bits, batch_size, inplace: as
        for `gptq_model`. Channels are rescaled only where all layers that read them are included.
    rounding: "nearest", ranges searched with the Hessian's diagonal, or "gptq" on top of AWQ.
    damping: of GPTQ.
    Returns the quantized model, in eval mode.
    Raises InputError as `gptq_model` does, for an unknown rounding and for an unknown family.
    """
    require_choice("rounding", rounding, ("nearest", "gptq"))
    fmt, head_fmt = weight_format(bits, group_size, symmetric), head_format(head_bits, group_size)

    def to_nearest(weight: torch.Tensor, hessian: torch.Tensor, fmt: Format) -> Rounded:
        counts = hessian.diagonal().clamp(min=1e-12)
        scale, zero_point = search_qparams(weight, fmt, column_importance=counts)
        found = Rounded(quantize(weight, scale, zero_point, fmt), scale, zero_point, 0.0)
        error = output_error(weight.float(), found.dequantize(fmt), hessian) / len(weight)
        return Rounded(found.q, scale, zero_point, error)

    round_layer = to_nearest if rounding == "nearest" else partial(gptq, damping=damping)
    model = _prepared(model, inplace)
    format_of = _formats(model, fmt, formats, include)
    _walk(model, calibration, format_of, round_layer, scaled=True, batch_size=batch_size)
    quantize_head(model, head_fmt)
    return model.eval()


def _prepared(model: nn.Module, inplace: bool) -> nn.Module:
    refuse_compressed(model)
    return model if inplace else clone(model)


def _formats(
    model: nn.Module,
    fmt: Format,
    formats: Mapping[str, Format] | None,
    include: str | tuple[str, ...],
) -> dict[str, Format]:
    """Return the grid of each layer that is to be quantized: its own where one is given."""
    layers, formats = find_linears(model, include), formats or {}
    for name in formats:
        if name not in layers:
            near = ", ".join(near_matches(name, layers) or list(layers)[:3])
            raise InputError(
                f"formats names {name!r}, which is no linear layer to quantize; near: {near}."
            )
    return {name: formats.get(name, fmt) for name in layers}


def _walk(
    model: nn.Module,
    calibration: torch.Tensor,
    format_of: Mapping[str, Format],
    round_layer: RoundLayer,
    *,
    scaled: bool,
    batch_size: int,
) -> None:
    """Take the blocks in order, as far as there are layers to quantize; then pack them."""
    notes: list[str] = []
    inside = {
        name: {
            inner: format_of[f"{name}.{inner}"]
            for inner in find_linears(block)
            if f"{name}.{inner}" in format_of
        }
        for name, block in decoder_blocks(model).items()
    }
    n_blocks = 1 + max((i for i, names in enumerate(inside.values()) if names), default=-1)

    def visit(name: str, block: nn.Module, walk: Walk) -> Callable[[], None] | None:
        if not inside[name]:
            return None
        return round_block(name, block, walk, inside[name], round_layer, notes, scaled=scaled)

    grids = sorted({str(fmt) for fmt in format_of.values()})
    label = f"quantizing to {grids[0] if len(grids) == 1 else f'{len(grids)} grids'}"
    calibrate(model, calibration, visit, batch_size=batch_size, n_blocks=n_blocks, label=label)
    warn_of(notes, stacklevel=4)


def round_block(
    name: str,
    block: nn.Module,
    walk: Walk,
    formats: Mapping[str, Format],
    round_layer: RoundLayer,
    notes: list[str],
    *,
    scaled: bool = False,
) -> Callable[[], None]:
    """Round linear layers of one block, in place, by what the walk brings to them.

    name, block, walk: as `calibration.walk_blocks` gives them; the weights become the rounded
        ones, still as floats, so that the calibration text goes through them quickly.
    formats: {name inside the block: grid} of the layers to round; round_layer: how.
    notes: gets a line for each layer whose Hessian needed something done about it.
    scaled: let AWQ rescale channels first.
    Returns a function that packs the layers: call it once the text went through the block.
    Raises InputError, naming the layer.
    """
    packed: dict[str, QuantizedLinear] = {}
    found = hessians(block, walk, formats)
    if scaled:
        rescale_channels(block, found, formats)
    while found:  # a Hessian goes when its layers are done
        names, hessian = found.pop(0)
        for layer_name in names:
            layer, fmt = block.get_submodule(layer_name), formats[layer_name]
            try:
                rounded = round_layer(layer.weight.detach(), hessian, fmt)
            except InputError as error:
                raise InputError(f"Layer {name}.{layer_name}: {error}") from None
            if rounded.note:
                notes.append(f"{name}.{layer_name}: {rounded.note}")
            packed[layer_name] = QuantizedLinear.from_integers(
                rounded.q, rounded.scale, rounded.zero_point, fmt, layer.bias
            )
            layer.weight.data = packed[layer_name].dequantize().to(layer.weight.dtype)

    def pack() -> None:
        for layer_name, layer in packed.items():
            replace_module(block, layer_name, layer)

    return pack


def warn_of(notes: list[str], stacklevel: int) -> None:
    """Warn once of all layers whose Hessian needed more damping than was asked for."""
    if notes:
        warnings.warn(
            f"{len(notes)} layer(s) needed more damping; the first: {notes[0]}",
            stacklevel=stacklevel,
        )


def hessians(
    block: nn.Module, walk: Walk, only: Collection[str] | None = None
) -> list[tuple[list[str], torch.Tensor]]:
    """Return [(names of the layers that share an input, its Hessian [in, in])] of a block.

    only: names inside the block; other layers are left out. None: all.
    """
    groups = [
        [name for name in names if only is None or name in only]
        for names in walk.shared_inputs(block)
    ]
    groups = [names for names in groups if names]
    collected = {names[0]: Hessian(block.get_submodule(names[0]).in_features) for names in groups}
    walk.observe(block, collected)
    return [(names, collected.pop(names[0]).value()) for names in groups]


def rescale_channels(
    block: nn.Module,
    found: list[tuple[list[str], torch.Tensor]],
    formats: Mapping[str, Format],
) -> dict[str, float]:
    """Let AWQ rescale what can be rescaled in a block, in place; its function stays the same.

    found: of `hessians`; the Hessians of rescaled inputs are rescaled too, in place. Channels whose
        readers are not all in it stay as they are.
    formats: {name inside the block: grid}; the first reader's is the one that scales are for.
    Returns {source of the channels: ratio chosen}.
    """
    ratios = {}
    for group in norm_groups(block):
        readers = set(group.consumers)
        hessian = next((h for names, h in found if readers <= set(names)), None)
        if hessian is None:
            continue
        weights = [block.get_submodule(name).weight.detach() for name in group.consumers]
        chosen = search_scale(weights, hessian, formats[group.consumers[0]], group)
        rescale(block, group, chosen.scale)
        wide = group.columns(chosen.scale)
        hessian.div_(wide[:, None] * wide)
        ratios[group.source] = chosen.ratio
    return ratios
