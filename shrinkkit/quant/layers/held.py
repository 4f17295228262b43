"""Pack a weight where it stands, in a module that goes on computing as it always did.

Where a weight stands in no plain linear layer (`surgery.matrices.other_matrices`), its module
cannot be exchanged: nobody knows what else it does. So only the parameter goes. Its numbers are
packed in a `QuantizedLinear` beside it, and whoever reads `module.weight` gets a `LazyWeight`,
which unpacks them when they are used. The module's class becomes a subclass of its own that has
the attribute.

That is small and not fast: each call unpacks what it reads.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.quant.layers.lazy import LazyWeight
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.surgery.matrices import Place


class _Holder:
    """Marks a module some of whose parameters are packed; `_shapes`: {leaf: the usual shape}."""

    _shapes: dict[str, tuple[int, ...]]


def as_rows(parameter: torch.Tensor) -> nn.Linear:
    """Show a parameter [..., columns] as a linear layer with all of its rows, for a grid to round.

    The layer shares the parameter's memory.
    """
    layer = nn.Linear(1, 1, bias=False, device="meta")
    layer.weight = nn.Parameter(parameter.detach().flatten(0, -2), requires_grad=False)
    layer.out_features, layer.in_features = layer.weight.shape
    return layer


def hold(model: nn.Module, place: Place, packed: QuantizedLinear) -> None:
    """Let a module read a parameter from packed numbers, in place.

    place: of the parameter, or of its packed numbers in a model without weights; packed: all of
        its rows [rows of all matrices, columns].
    Raises InputError where the model has no such parameter.
    """
    owner = model.get_submodule(place.owner)
    parameter = owner._parameters.get(place.leaf)
    if parameter is None:
        raise InputError(f"The model has no parameter {place.name!r}.")
    shapes = {**getattr(owner, "_shapes", {}), place.leaf: tuple(parameter.shape)}
    base = type(owner).__mro__[2] if isinstance(owner, _Holder) else type(owner)
    del owner._parameters[place.leaf]
    packed.is_held = True
    owner.add_module(_packed_name(place.leaf), packed)
    owner.__class__ = _holder_of(base, tuple(sorted(shapes)))
    owner._shapes = shapes


def held_by(module: nn.Module) -> dict[str, QuantizedLinear]:
    """Return what a module holds packed, {parameter: its packed rows}."""
    if not isinstance(module, _Holder):
        return {}
    return {leaf: module._modules[_packed_name(leaf)] for leaf in module._shapes}


def release(module: nn.Module) -> None:
    """Give a module its parameters back, as floats, in place."""
    for leaf, packed in held_by(module).items():
        weight = packed.dequantize().to(packed.dtype).view(module._shapes[leaf])
        del module._modules[_packed_name(leaf)]
        module._parameters[leaf] = nn.Parameter(weight, requires_grad=False)
    module.__class__ = type(module).__mro__[2]
    del module._shapes


def place_of(model: nn.Module, name: str) -> Place | None:
    """Return where the parameter stood whose packed rows are the module `name`; None: nowhere."""
    owner, _, leaf = name.rpartition(".")
    leaf = leaf.removeprefix(_packed_name(""))
    known = leaf in model.get_submodule(owner)._parameters
    return Place(owner, leaf) if known else None


def _packed_name(leaf: str) -> str:
    return f"packed_{leaf}"


@cache
def _holder_of(base: type, leaves: tuple[str, ...]) -> type:
    """Make the class of a module whose parameters `leaves` are packed."""
    attributes = {leaf: property(lambda self, leaf=leaf: _read(self, leaf)) for leaf in leaves}
    return type(f"Packed{base.__name__}", (_Holder, base), attributes)


def _read(module: nn.Module, leaf: str) -> LazyWeight:
    packed, shape = module._modules[_packed_name(leaf)], module._shapes[leaf]

    def whole() -> torch.Tensor:
        return packed.dequantize().to(packed.dtype).view(shape)

    def one(index: int) -> torch.Tensor:
        rows = torch.arange(shape[-2], device=packed.device) + index % shape[0] * shape[-2]
        return packed.rows(rows).to(packed.dtype)

    part = one if len(shape) == 3 else None
    return LazyWeight.of(whole, shape, packed.dtype, packed.device, part)
