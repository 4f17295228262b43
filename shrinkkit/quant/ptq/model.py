"""Quantize a whole model: every linear layer rounded to nearest, the vocabulary matrix too.

The walk is short: find the linears of the blocks, replace each by a `QuantizedLinear`, then the
output head. In a small model the head is large: SmolLM2's 49,152 x 576 matrix is a fifth of all
weights, and reading it is a fifth of the work of each token, so leaving it in float32 would cost
half of the saving. It is also the most sensitive matrix, so it gets 8 bits unless told otherwise.
Where it is tied to the embedding, the embedding reads the same packed rows.

Norms and biases stay in float: thousands of numbers against millions, and so does an embedding that
is not tied. No data is used here; methods that use data (GPTQ, AWQ) choose better integers for the
same layers.

Weights that stand in no plain linear layer (the experts of a mixture, `surgery.matrices`) are
rounded to nearest, too, whatever the method, and packed where they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from tqdm.auto import tqdm

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.formats import Format, int_format
from shrinkkit.quant.layers.embedding import QuantizedEmbedding
from shrinkkit.quant.layers.held import as_rows, held_by, hold, release
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.seal import seal, unseal
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.matrices import Place, is_linear, matrix, other_matrices
from shrinkkit.surgery.parts import (
    clone,
    find_linears,
    matches,
    output_head,
    replace_module,
    tied_embeddings,
)
from shrinkkit.surgery.step import Step, step_of

W = TypeVar("W", bound="WeightStep")


def _default_format(bits: int, group_size: int | None, symmetric: bool | None) -> Format:
    checked = int_format(bits, symmetric=symmetric)  # a wrong `bits` is named before its group
    if group_size is None:
        return checked if bits == 8 else int_format(bits, group_size=64, symmetric=symmetric)
    return int_format(bits, group_size=group_size, symmetric=symmetric)


def weight_format(
    bits: int | Format, group_size: int | None = None, symmetric: bool | None = None
) -> Format:
    """Return the grid that the arguments of a quantizing verb describe.

    bits: 2 to 8, or a whole Format, which then says group_size and symmetric itself.
    group_size, symmetric: None chooses one scale a row and symmetric at 8 bits, groups of 64 and
        asymmetric below.
    Raises InputError for arguments that do not fit together.

    >>> str(weight_format(4)), str(weight_format(8))
    ('int4 g64 asymmetric', 'int8 per channel symmetric')
    """
    if not isinstance(bits, Format):
        return _default_format(bits, group_size, symmetric)
    if group_size is not None or symmetric is not None:
        raise InputError(
            "bits is a Format, which says group_size and symmetric itself; leave both out."
        )
    return bits


def head_format(bits: int | Format | None, group_size: int | None = None) -> Format | None:
    """Return the grid of the output head; None, for a head that stays in float.

    bits: 2 to 8, a whole Format, or None; group_size: for fewer than 8 bits, as for the weights.
    Raises InputError for bad bits: ask before long work, not after it.
    """
    if bits is None or isinstance(bits, Format):
        return bits
    return _default_format(bits, None if bits == 8 else group_size, None)


@dataclass(frozen=True)
class WeightStep(Step):
    """What every step that rounds weights says.

    bits: 2 to 8, or a whole Format (NF4, say), which then says group_size and symmetric itself.
    group_size: columns that share a scale; None: one scale a row at 8 bits, groups of 64 below. A
        layer with shorter rows than that has one scale a row.
    symmetric: None: symmetric at 8 bits, asymmetric below.
    head_bits: bits (or a Format) of the output head and of an embedding tied to it; None leaves
        both in float.
    include: globs over layer names, for layers other than the head.
    """

    gives: ClassVar[str] = "packed"

    bits: int | Format = 4
    group_size: int | None = None
    symmetric: bool | None = None
    head_bits: int | Format | None = 8
    include: str | tuple[str, ...] = "*"

    def __post_init__(self) -> None:
        _ = self.format, self.head_format  # refuse a bad grid now, not after long work

    @property
    def format(self) -> Format:
        """The grid of the weights."""
        return weight_format(self.bits, self.group_size, self.symmetric)

    @property
    def head_format(self) -> Format | None:
        """The grid of the output head; None, for a head that stays in float."""
        return head_format(self.head_bits, self.group_size)


@dataclass(frozen=True)
class RTN(WeightStep):
    """Round to nearest, without any data.

    search: choose ranges by `search_qparams` (True) or by min and max (False, plain rounding to
        nearest); None searches below 8 bits.
    exclude: globs over layer names that are left in float.

    >>> print(RTN(bits=4, group_size=32))
    RTN(bits=4, group_size=32)
    """

    needs_text: ClassVar[bool] = False

    bits: int | Format = 8
    search: bool | None = None
    exclude: str | tuple[str, ...] = ()

    @property
    def searches(self) -> bool:
        """Whether ranges are searched."""
        return self.format.bits < 8 if self.search is None else self.search

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Round a model; see `Step.apply`."""
        return quantize_model(model, self, inplace=inplace)


def quantize_model(
    model: nn.Module,
    bits: int | Format | RTN = 8,
    group_size: int | None = None,
    *,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Round the linear layers of a model to a grid, without any data.

    model: a transformers model or any module with linear layers.
    bits, group_size, settings: those of the step `RTN`, or a whole one in place of bits.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model, in eval mode.
    Raises InputError: bad settings, weights that are not finite (naming the layer), a model that is
    compressed already or whose weights are not all in memory.
    """
    step = weight_step(RTN, bits, group_size, settings)
    refuse_unfit(model)
    fmt = step.format
    places = held_places(model, step.include, step.exclude)
    layers = list(find_linears(model, step.include, step.exclude, needed=not places))
    if not inplace:
        old = [model.get_submodule(name).weight for name in layers]
        model = clone(model, shared=[*old, *(_parameter(model, place) for place in places)])
    grids = grid_of_each({name: model.get_submodule(name) for name in layers}, fmt)
    for name in tqdm(layers, desc=f"quantizing to {fmt}", unit="layer", leave=False):
        packed = round_to_nearest(model.get_submodule(name), grids[name], name, step.searches)
        replace_module(model, name, packed)
    hold_places(model, places, fmt, search=step.searches)
    quantize_head(model, step.head_format)
    return seal(model.eval())


def grid_of_each(layers: Mapping[str, nn.Module], fmt: Format) -> dict[str, Format]:
    """Return the grid of each layer: one scale a row where its rows are shorter than a group.

    A group that is longer than all rows is a mistake, and stays as it is: rounding refuses it.
    """
    widths = {name: matrix(layer).shape[1] for name, layer in layers.items()}
    if fmt.group_size is None or all(fmt.group_size > width for width in widths.values()):
        return dict.fromkeys(widths, fmt)
    return {name: fmt.for_rows_of(width) for name, width in widths.items()}


def held_places(
    model: nn.Module, include: str | Iterable[str] = "*", exclude: str | Iterable[str] = ()
) -> list[Place]:
    """Return where weights stand that are in no plain linear layer, by glob on their full names."""
    head = output_head(model)
    return [
        place
        for place in other_matrices(model)
        if place.owner != head and matches(place.name, include, exclude)
    ]


def hold_places(model: nn.Module, places: list[Place], fmt: Format, *, search: bool) -> None:
    """Round weights to nearest and pack them where they stand, in place."""
    for place in tqdm(places, desc=f"packing to {fmt}", unit="weight", leave=False):
        rows = as_rows(_parameter(model, place))
        grid = fmt.for_rows_of(rows.in_features)
        hold(model, place, round_to_nearest(rows, grid, place.name, search))


def _parameter(model: nn.Module, place: Place) -> nn.Parameter:
    return model.get_submodule(place.owner)._parameters[place.leaf]


def weight_step(kind: type[W], bits: Any, group_size: int | None, settings: Mapping[str, Any]) -> W:
    """Return the step that a verb was given in place of `bits`, or make it from its keywords."""
    grouped = {} if group_size is None else {"group_size": group_size}
    return step_of(kind, bits, **grouped, **settings)


def round_to_nearest(layer: nn.Module, fmt: Format, name: str, search: bool) -> QuantizedLinear:
    """Round a linear layer's weight; name: for the error, search: choose ranges by searching."""
    try:
        return QuantizedLinear.from_linear(layer, fmt, search=search)
    except InputError as error:
        raise InputError(f"Layer {name}: {error}") from None


def quantize_head(model: nn.Module, fmt: Format | None) -> None:
    """Quantize the output head in place, and let tied embeddings read the head's packed rows.

    fmt: of `head_format`; None leaves the head in float, as does a model without a head.
    """
    if fmt is None or output_head(model) is None:
        return
    head, tied = output_head(model), tied_embeddings(model)
    layer = model.get_submodule(head)
    if not is_linear(layer):
        hold_places(model, [p for p in other_matrices(model) if p.owner == head], fmt, search=False)
        return
    packed = round_to_nearest(layer, fmt, head, fmt.bits < 8)
    replace_module(model, head, packed)
    for name in tied:
        table = QuantizedEmbedding.instead_of(model.get_submodule(name), packed, tied=True)
        replace_module(model, name, table)


def dequantize_model(model: nn.Module) -> nn.Module:
    """Return a float model with the same weights: quantized layers become ordinary ones again.

    Useful to judge a grid's quality where no fast kernel exists, or to go on with another tool.
    Not a way back: the rounding stays. The weights have the dtype of the original's.
    """
    model = unseal(clone(model))
    modules = list(model.named_modules())
    weights: dict[int, nn.Parameter] = {}
    for name, module in modules:
        if held_by(module):
            release(module)
        elif isinstance(module, QuantizedLinear) and not (module.is_held or _is_table(model, name)):
            plain = module.plain()
            replace_module(model, name, plain)
            weights[id(module)] = plain.weight  # for an embedding tied to it
    for name, module in modules:
        if isinstance(module, QuantizedEmbedding):
            weight = weights.get(id(module.source))
            if weight is None:
                own = module.source.dequantize().to(module.dtype)
                weight = nn.Parameter(own, requires_grad=False)
            replace_module(model, name, module.plain(weight))
    return model.eval()


def _is_table(model: nn.Module, name: str) -> bool:
    """Tell whether a packed layer is the matrix that an embedding has for itself."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), QuantizedEmbedding)
