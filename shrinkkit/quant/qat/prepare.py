"""Quantization-aware training: let a model learn while its weights are rounded.

Rounding after training asks the weights to be good at something that they never practised. QAT
rounds them in every forward pass, so the loss is the rounded model's own, and moves the float
weights behind them until the rounded ones are good. Two verbs stand around any training loop:

    student = prepare_qat(model, bits=2)        # linears that round in their forward pass
    ...                                         # train: student.parameters() as usual
    small = convert_qat(student)                # packed integers; the floats are dropped

The ways to round (`method`), all with straight-through gradients (see `straight_through.py`):

| method | grid | who learns |
| --- | --- | --- |
| `ste` | ranges searched once, before training | weights |
| `lsq` | the step starts where LSQ (or the search) starts it | weights and steps |
| `ternary` | -1, 0, 1 times the mean magnitude, one scale a matrix (BitNet b1.58) | weights |

The prepared model computes with exactly the weights that `convert_qat` packs, so nothing is lost
between the two. Embedding and norms train in float; the head stays in float while training and is
rounded to 8 bits at the end, as every verb of this package does. BitNet also rounds activations to
8 bits, which `activations.py` does for 8-bit weights; here they stay in float.

Ternary weights hold log2(3) = 1.58 bits of information and are packed in 2 bits here, since 2 bits
are what can be unpacked with a shift; five of them in a byte (3**5 = 243) would make it 1.6.

It costs a training run: float weights, gradients and two numbers of Adam for each weight, where
GPTQ needs one block's Hessians. `train_qat` is a loop that suffices for the course's models.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.errors import InputError, require_choice, require_finite
from shrinkkit.quant.grids.affine import quantize, search_qparams
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.scales import round_scale
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.seal import seal
from shrinkkit.quant.ptq.model import head_format, quantize_head, weight_format
from shrinkkit.quant.qat.straight_through import (
    TERNARY,
    absmean_scale,
    fake_quantize_ste,
    lsq_qparams,
    lsq_quantize,
    require_even,
    ternarize,
)
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.matrices import is_transposed, matrix
from shrinkkit.surgery.parts import clone, find_linears, replace_module

METHODS = ("ste", "lsq", "ternary")
STARTS = ("paper", "search")


class FakeQuantLinear(nn.Module):
    """Multiply by a weight that is rounded in the forward pass and learns in the backward pass.

    Made from a float layer. Attributes: `format`, `method`, `weight` (float, trainable), `bias`,
    `scale` (trainable for "lsq", fixed for "ste", None for "ternary"), `zero_point` (fixed).

    >>> layer = FakeQuantLinear(nn.Linear(8, 4), Format(2, True, "per_tensor"), "ternary")
    >>> layer(torch.ones(2, 8)).shape, layer.qparams()[0].unique().tolist()
    (torch.Size([2, 4]), [-1, 0, 1])
    """

    def __init__(
        self, layer: nn.Module, fmt: Format, method: str = "lsq", start: str = "paper"
    ) -> None:
        super().__init__()
        require_choice("method", method, METHODS)
        require_choice("start", start, STARTS)
        require_even(fmt)
        weight = matrix(layer)
        require_finite("weight", weight)
        self.format, self.method = fmt, method
        self.out_features, self.in_features = weight.shape
        self.transposed = is_transposed(layer)
        self.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        scale = zero_point = None
        if method == "ternary":
            ternarize(self.weight.detach(), fmt)  # refuses a grid that is not ternary
        else:
            from_paper = method == "lsq" and start == "paper"
            find = lsq_qparams if from_paper else search_qparams
            scale, zero_point = find(self.weight.detach(), fmt)
        self.register_buffer("zero_point", zero_point)
        if method == "lsq":
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def rounded_weight(self) -> torch.Tensor:
        """Return the weight as the layer uses it, [out_features, in_features], with gradients."""
        if self.method == "ternary":
            return ternarize(self.weight, self.format)
        rounding = lsq_quantize if self.method == "lsq" else fake_quantize_ste
        return rounding(self.weight, self.scale, self.zero_point, self.format)

    @torch.no_grad()
    def qparams(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what is packed: q [out, in], scale [out, n_groups], zero_point [out, n_groups]."""
        weight = self.weight.detach()
        if self.method == "ternary":
            scale = absmean_scale(weight, self.format)
            zero_point = torch.zeros_like(scale, dtype=torch.int32)
        else:
            scale = round_scale(self.scale.detach().clamp(min=0), self.format)
            zero_point = self.zero_point
        return quantize(weight, scale, zero_point, self.format), scale, zero_point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply: x [..., in_features] -> [..., out_features]."""
        return linear(x, self.rounded_weight().to(x.dtype), self.bias)

    def packed(self) -> QuantizedLinear:
        """Return the layer that computes the same from packed integers."""
        packed = QuantizedLinear.from_integers(*self.qparams(), self.format, self.bias)
        return packed.standing_for(self)

    def extra_repr(self) -> str:
        """Return what print(model) shows of this layer."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"format={self.format}, method={self.method}"
        )


def is_prepared(model: nn.Module) -> bool:
    """Tell whether some layer of the model rounds its weight in the forward pass.

    >>> is_prepared(nn.Linear(2, 2))
    False
    """
    return any(isinstance(module, FakeQuantLinear) for module in model.modules())


def prepare_qat(
    model: nn.Module,
    bits: int | Format = 2,
    group_size: int | None = None,
    *,
    method: str = "lsq",
    start: str = "paper",
    symmetric: bool | None = None,
    include: str | tuple[str, ...] = "*",
    exclude: str | tuple[str, ...] = (),
    inplace: bool = False,
) -> nn.Module:
    """Put layers that round in their forward pass where the linear layers of a model are.

    model: a float model; its output head stays as it is.
    bits, group_size, symmetric: the grid, as for `quantize_model`. For "ternary" only bits=2 is
        possible, and group_size=None means one scale a matrix.
    method: "ste", "lsq" or "ternary" (see the module's table).
    start: of "lsq", "paper" for LSQ's own first step, "search" for the ranges that rounding would
        choose, zero points too: nearer to the float model, and so better for a short training.
    include, exclude: globs over layer names; the other layers stay in float.
    inplace: change `model` itself instead of a copy.
    Returns the prepared model in train mode, every weight of it trainable.
    Raises InputError: bad arguments, weights that are not finite (naming the layer), a model that
    is prepared or compressed already.
    """
    require_choice("method", method, METHODS)
    require_choice("start", start, STARTS)
    fmt = qat_format(bits, group_size, symmetric, method)
    refuse_unfit(model)
    if is_prepared(model):
        raise InputError(
            "This model is prepared already: its layers round their weights in the forward pass. "
            "Train it, or pack it with convert_qat(model). (A notebook cell that was run twice is "
            "the usual cause.)"
        )
    names = list(find_linears(model, include, exclude))
    model = _exchange(
        model, names, lambda layer: FakeQuantLinear(layer, fmt, method, start), inplace
    )
    return model.requires_grad_().train()


def _exchange(
    model: nn.Module, names: list[str], make: Callable[[nn.Module], nn.Module], inplace: bool
) -> nn.Module:
    """Put what `make` makes of each named layer in its place, all of them or none."""
    made = {}
    for name in names:
        try:
            made[name] = make(model.get_submodule(name))
        except InputError as error:
            raise InputError(f"Layer {name}: {error}") from None
    if not inplace:
        model = clone(model, shared=[model.get_submodule(name).weight for name in names])
    for name, layer in made.items():
        replace_module(model, name, layer)
    return model


def qat_format(
    bits: int | Format, group_size: int | None, symmetric: bool | None, method: str
) -> Format:
    """Return the grid that the arguments of `prepare_qat` describe.

    Raises InputError for arguments that do not fit together.

    >>> str(qat_format(2, None, None, "ternary")), str(qat_format(3, None, None, "lsq"))
    ('int2 per tensor symmetric', 'int3 g64 asymmetric')
    """
    if method != "ternary" or isinstance(bits, Format):
        fmt = weight_format(bits, group_size, symmetric)
        require_even(fmt)
        return fmt
    if bits != 2 or symmetric is False:
        raise InputError(
            f"bits={bits!r}, symmetric={symmetric!r} was given with method='ternary', whose grid "
            "is -1, 0 and 1: leave both out."
        )
    return TERNARY if group_size is None else Format(2, True, "per_group", group_size)


def convert_qat(
    model: nn.Module, *, head_bits: int | Format | None = 8, inplace: bool = False
) -> nn.Module:
    """Pack a prepared model: integers instead of float weights that are rounded again and again.

    model: of `prepare_qat`, trained or not.
    head_bits: of the output head and a tied embedding, rounded to nearest; None leaves both in
        float, and the logits are then the prepared model's.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model in eval mode; `save` and `load` take it.
    Raises InputError for a model that is not prepared, or bad head_bits.
    """
    head = head_format(head_bits)
    names = [name for name, layer in model.named_modules() if isinstance(layer, FakeQuantLinear)]
    if not names:
        raise InputError(
            "This model has no layer to pack: give one of prepare_qat, as in "
            "convert_qat(train_qat(prepare_qat(model), tokens))."
        )
    model = _exchange(model, names, FakeQuantLinear.packed, inplace).requires_grad_(False)
    quantize_head(model, head)
    return seal(model.eval())
