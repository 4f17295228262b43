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
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from shrinkkit.calibration import Block, Hessian, Walk, free_groups
from shrinkkit.calibration.column_solver import check_damping
from shrinkkit.errors import InputError, near_matches, require_choice, require_int
from shrinkkit.quant.grids.affine import quantize, search_qparams
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.seal import seal
from shrinkkit.quant.ptq.awq import output_error, search_scale
from shrinkkit.quant.ptq.gptq import Rounded, check_settings, gptq
from shrinkkit.quant.ptq.model import (
    WeightStep,
    grid_of_each,
    held_places,
    hold_places,
    quantize_head,
    round_to_nearest,
    weight_step,
)
from shrinkkit.surgery import clone, decoder_blocks, find_linears, replace_module
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.invariance import NormGroup, rescale
from shrinkkit.surgery.matrices import is_transposed, matrix
from shrinkkit.surgery.parts import matches


@dataclass(frozen=True)
class CalibratedStep(WeightStep):
    """What GPTQ and AWQ have in common, beside the grid.

    damping: of the Hessian, as for `gptq`.
    formats: {layer's full name: grid} for layers that get another one, such as `choose_formats`
        chooses within a budget.
    batch_size: windows that go through a block at once.
    """

    needs_text: ClassVar[bool] = True
    rescales: ClassVar[bool] = False

    damping: float = 0.01
    formats: Mapping[str, Format] | None = None
    batch_size: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_int("batch_size", self.batch_size, 1)
        check_damping(self.damping)

    def round_layer(self, weight: torch.Tensor, hessian: torch.Tensor, fmt: Format) -> Rounded:
        """Choose integers for a weight [out, in] by the Hessian [in, in] of its inputs."""
        raise NotImplementedError

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Quantize a model; see `Step.apply`."""
        return _quantized_by(self, model, text, inplace)


@dataclass(frozen=True)
class GPTQ(CalibratedStep):
    """Round column by column, and let the others make up for it (`gptq`).

    act_order, static_groups, search: as for `gptq`.

    >>> str(GPTQ(bits=3, group_size=32))
    'GPTQ(bits=3, group_size=32)'
    """

    act_order: bool = True
    static_groups: bool | None = None
    search: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.damping, self.act_order, self.static_groups)

    def round_layer(self, weight: torch.Tensor, hessian: torch.Tensor, fmt: Format) -> Rounded:
        """Round by GPTQ."""
        how = {"act_order": self.act_order, "static_groups": self.static_groups}
        return gptq(weight, hessian, fmt, damping=self.damping, search=self.search, **how)


@dataclass(frozen=True)
class AWQ(CalibratedStep):
    """Rescale the channels that matter, then round.

    rounding: "nearest", with ranges searched by the Hessian's diagonal, or "gptq" on top of AWQ.
    """

    rescales: ClassVar[bool] = True

    rounding: str = "nearest"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("rounding", self.rounding, ("nearest", "gptq"))

    def round_layer(self, weight: torch.Tensor, hessian: torch.Tensor, fmt: Format) -> Rounded:
        """Round to nearest, or by GPTQ."""
        if self.rounding == "gptq":
            return gptq(weight, hessian, fmt, damping=self.damping)
        counts = hessian.diagonal().clamp(min=1e-12)
        scale, zero_point = search_qparams(weight, fmt, column_importance=counts)
        found = Rounded(quantize(weight, scale, zero_point, fmt), scale, zero_point, 0.0)
        error = output_error(weight.float(), found.dequantize(fmt), hessian) / len(weight)
        return Rounded(found.q, scale, zero_point, error)


def gptq_model(
    model: nn.Module,
    calibration: torch.Tensor,
    bits: int | Format | GPTQ = 4,
    group_size: int | None = None,
    *,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Quantize the linear layers of a decoder by GPTQ.

    model: a transformers decoder (Llama, GPT-2, ... : `surgery.parts.BLOCK_PATHS`).
    calibration: [n_samples, seq_len] integer; windows of text, such as
        load_text("wikipedia").calibration(). It goes no further than the last block that has a
        layer to quantize, so include="model.layers.[0-3].*" is a quick look.
    bits, group_size, settings: those of the step `GPTQ`, or a whole one in place of bits.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model, in eval mode.
    Raises InputError: bad settings, a model that is compressed already, no windows, NaN.
    """
    return _quantized_by(weight_step(GPTQ, bits, group_size, settings), model, calibration, inplace)


def awq_model(
    model: nn.Module,
    calibration: torch.Tensor,
    bits: int | Format | AWQ = 4,
    group_size: int | None = None,
    *,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Quantize the linear layers of a decoder by AWQ: rescale the channels that matter, then round.

    model: a decoder of a family that `invariance.norm_groups` knows. Channels are rescaled only
        where all layers that read them are included.
    calibration, inplace: as for `gptq_model`.
    bits, group_size, settings: those of the step `AWQ`, or a whole one in place of bits.
    Returns the quantized model, in eval mode.
    Raises InputError as `gptq_model` does, and for an unknown family.
    """
    return _quantized_by(weight_step(AWQ, bits, group_size, settings), model, calibration, inplace)


def _quantized_by(
    step: CalibratedStep, model: nn.Module, calibration: torch.Tensor, inplace: bool
) -> nn.Module:
    """Take the blocks in order, as far as there are layers to quantize, then the head."""
    refuse_unfit(model)
    model = model if inplace else clone(model)
    format_of = _formats(model, step)
    inside = {
        name: {
            inner: format_of[f"{name}.{inner}"]
            for inner in find_linears(block, needed=False)
            if f"{name}.{inner}" in format_of
        }
        for name, block in decoder_blocks(model).items()
    }
    n_blocks = 1 + max((i for i, names in enumerate(inside.values()) if names), default=-1)
    grids = sorted({str(fmt) for fmt in format_of.values()})
    label = f"quantizing to {grids[0] if len(grids) == 1 else f'{len(grids)} grids'}"
    walk = Walk(model, calibration, step.batch_size, n_blocks=n_blocks, label=label)
    notes: list[str] = []
    for block in walk:
        packed = round_block(block, walk, inside[block.name], step, notes)
        walk.advance(block)
        install(block, packed)
    _round_outside(model, step, format_of, notes)
    warn_of(notes, stacklevel=4)
    quantize_head(model, step.head_format)
    return seal(model.eval())


def _round_outside(
    model: nn.Module, step: CalibratedStep, formats: Mapping[str, Format], notes: list[str]
) -> None:
    """Round to nearest, in place, the layers outside of the blocks (a pooler, a classifier)."""
    blocks = tuple(f"{name}." for name in decoder_blocks(model))
    for name, fmt in formats.items():
        if not name.startswith(blocks):
            layer = model.get_submodule(name)
            replace_module(model, name, round_to_nearest(layer, fmt, name, fmt.bits < 8))
            notes.append(f"{name}: {_NEAREST}")
    places = [p for p in held_places(model, step.include) if not p.owner.startswith(blocks)]
    hold_places(model, places, step.format, search=True)
    notes += [f"{place.name}: {_NEAREST}" for place in places]


_NEAREST = "no input of its own was seen"


def _formats(model: nn.Module, step: CalibratedStep) -> dict[str, Format]:
    """Return the grid of each layer that is to be quantized: its own where one is given."""
    needed = not held_places(model, step.include)
    layers, formats = find_linears(model, step.include, needed=needed), step.formats or {}
    for name in formats:
        if name not in layers:
            near = ", ".join(near_matches(name, layers) or list(layers)[:3])
            raise InputError(
                f"formats names {name!r}, which is no linear layer to quantize; near: {near}."
            )
    return grid_of_each(layers, step.format) | dict(formats)


def round_block(
    block: Block,
    walk: Walk,
    formats: Mapping[str, Format],
    step: CalibratedStep,
    notes: list[str],
) -> dict[str, QuantizedLinear]:
    """Round linear layers of one block, in place, by what the walk brings to them.

    The weights become the rounded ones, still as floats, so that the calibration text goes through
    them quickly.

    formats: {name inside the block: grid} of the layers to round.
    notes: gets a line for each layer whose Hessian needed something done about it.
    Returns the packed layers, to `install` once the text went through the block.
    Raises InputError, naming the layer.
    """
    packed: dict[str, QuantizedLinear] = {}
    places = [
        place
        for place in held_places(block.module)
        if matches(f"{block.name}.{place.name}", step.include)
    ]
    if not formats and not places:
        return packed
    found = hessians(block, walk, formats) if formats else []
    if step.rescales:
        rescale_channels(block, walk, found, formats)
    while found:  # a Hessian goes when its layers are done
        names, hessian = found.pop(0)
        for name in names:
            layer, fmt = block.module.get_submodule(name), formats[name]
            try:
                rounded = step.round_layer(matrix(layer), hessian, fmt)
            except InputError as error:
                raise InputError(f"Layer {block.name}.{name}: {error}") from None
            if rounded.note:
                notes.append(f"{block.name}.{name}: {rounded.note}")
            packed[name] = QuantizedLinear.from_integers(
                rounded.q, rounded.scale, rounded.zero_point, fmt, layer.bias
            ).standing_for(layer)
            weight = packed[name].dequantize().to(layer.weight.dtype)
            layer.weight.data = weight.t() if is_transposed(layer) else weight
    for name in formats.keys() - packed.keys():  # no token came by
        layer, fmt, full = block.module.get_submodule(name), formats[name], f"{block.name}.{name}"
        packed[name] = round_to_nearest(layer, fmt, full, fmt.bits < 8)
        notes.append(f"{full}: {_NEAREST}")
    hold_places(block.module, places, step.format, search=step.format.bits < 8)
    notes += [f"{block.name}.{place.name}: {_NEAREST}" for place in places]
    return packed


def install(block: Block, packed: Mapping[str, QuantizedLinear]) -> None:
    """Put packed layers where the block's float ones are."""
    for name, layer in packed.items():
        replace_module(block.module, name, layer)


def warn_of(notes: list[str], stacklevel: int) -> None:
    """Warn once of all layers that needed more damping, and once of those rounded to nearest."""
    nearest = [note for note in notes if note.endswith(_NEAREST)]
    damped = [note for note in notes if not note.endswith(_NEAREST)]
    for kind, what in ((damped, "needed more damping"), (nearest, "were rounded to nearest")):
        if kind:
            warnings.warn(
                f"{len(kind)} layer(s) {what}; the first: {kind[0]}", stacklevel=stacklevel
            )


def hessians(
    block: Block, walk: Walk, only: Collection[str] | None = None
) -> list[tuple[list[str], torch.Tensor]]:
    """Return [(names of the layers that share an input, its Hessian [in, in])] of a block.

    only: names inside the block; other layers are left out, as are those that no token reached.
        None: all.
    """
    found = walk.observe(block, Hessian.of, only)
    return [(one.names, one.seen.value()) for one in found if one.seen.n]


def rescale_channels(
    block: Block,
    walk: Walk,
    found: list[tuple[list[str], torch.Tensor]],
    formats: Mapping[str, Format],
) -> dict[str, float]:
    """Let AWQ rescale what can be rescaled in a block, in place; its function stays the same.

    walk: at this block; its windows show which channels can be rescaled for nothing.
    found: of `hessians`; the Hessians of rescaled inputs are rescaled too, in place. Channels whose
        readers are not all in it stay as they are.
    formats: {name inside the block: grid}; the first reader's is the one that scales are for.
    Returns {source of the channels: ratio chosen}.
    """
    ratios = {}

    def hessian_of(group: NormGroup) -> torch.Tensor | None:
        readers = set(group.consumers)
        return next((hessian for names, hessian in found if readers <= set(names)), None)

    for group in free_groups(block, walk, lambda group: hessian_of(group) is not None):
        hessian = hessian_of(group)
        weights = [matrix(block.module.get_submodule(name)) for name in group.consumers]
        chosen = search_scale(weights, hessian, formats[group.consumers[0]], group)
        rescale(block.module, group, chosen.scale)
        wide = group.columns(chosen.scale)
        hessian.div_(wide[:, None] * wide)
        ratios[group.source] = chosen.ratio
    return ratios
