"""Quantize activations too (W8A8): integers times integers, and both scales outside the sum.

A layer with int8 weights and float activations is small; each product is still made in floats.
If the activations x are integers as well, the whole product is integer arithmetic, for which
processors have instructions several times faster than those for floats:

    y[t, o] = sum_j x[t, j] * w[o, j]  ~  step[t] * scale[o] * sum_j xq[t, j] * wq[o, j]

The scales may stand in front of the sum because they do not depend on j. That is the rule of what
can share a scale: weights one scale an output row (per channel), activations one a token (per
token) or one for all (per tensor). A scale for each column j of the activations, where their
trouble is, would have to stay inside the sum; `smoothquant.py` gets around that.

Activations come in while the model runs, so their range is either measured each time (dynamic:
the largest magnitude of the token, a few operations for a whole row) or fixed beforehand on some
text (static: no measuring, and whatever lies beyond the range is clipped). The choices here:

| activations | step | known when |
| --- | --- | --- |
| `per_token` | one a token | running |
| `per_tensor` | one for all tokens of the call, so neighbours change the answer | running |
| `per_tensor_static` | one a layer, from calibration | before |

The integer product runs on `torch._int_mm` where VNNI instructions make it exact and fast, else in
pieces of 1,024 columns in float32, in which every sum of such products is exact. Production
kernels (CUTLASS, oneDNN) also round x inside the kernel of the layer before, and so save a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from shrinkkit.calibration import Maxima, Walk
from shrinkkit.errors import InputError, require_choice
from shrinkkit.quant.grids.formats import int_format
from shrinkkit.quant.layers import kernels
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.ptq.model import RTN, head_format, quantize_model
from shrinkkit.surgery.parts import find_linears, is_compressed, replace_module
from shrinkkit.surgery.step import Step, step_of

ACTIVATIONS = ("per_token", "per_tensor", "per_tensor_static")
QMAX = 127
EXACT_COLUMNS = 1024  # 1,024 * 127 * 127 < 2**24, up to which float32 holds every integer


def quantize_tokens(
    x: torch.Tensor, step: torch.Tensor | float | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Round activations to int8, one step a token unless a step is given.

    step = max|x of the token| / 127; q = clamp(round(x / step), -127, 127). A token of zeros gets
    q = 0. A token with NaN or infinity gets a step that is not finite, and spoils no other token.

    x: [n_tokens, in_features] float.
    step: a number, or [n_tokens, 1] or [1, 1]; None measures each token.
    Returns q [n_tokens, in_features] int8 and step, float32, as given or [n_tokens, 1].

    >>> q, step = quantize_tokens(torch.tensor([[1.0, -2.0], [0.0, 254.0]]))
    >>> q.tolist(), step.flatten().mul(127).tolist()
    ([[64, -127], [0, 127]], [2.0, 254.0])
    """
    x = x.float()
    if step is None:
        step = x.abs().amax(dim=1, keepdim=True).div_(QMAX).clamp_(min=1e-30)  # [n_tokens, 1]
    else:
        step = torch.as_tensor(step, dtype=torch.float32, device=x.device)
    q = (x / step).round_().clamp_(-QMAX, QMAX)
    return q.to(torch.int8), step


def int_matmul(xq: torch.Tensor, wq: torch.Tensor) -> torch.Tensor:
    """Multiply integers exactly: xq @ wq.T.

    xq: [n_tokens, in_features] int8, from -127 to 127; wq: [out_features, in_features] int8.
    Returns [n_tokens, out_features] int32.

    >>> int_matmul(torch.tensor([[2, -3]]).char(), torch.tensor([[5, 1], [0, 4]]).char())
    tensor([[  7, -12]], dtype=torch.int32)
    """
    if xq.device.type == "cpu" and kernels.kernel.has_vnni():
        return torch._int_mm(xq, wq.t())
    y = torch.zeros(xq.shape[0], wq.shape[0], dtype=torch.int32, device=xq.device)
    for start in range(0, xq.shape[1], EXACT_COLUMNS):
        part = slice(start, start + EXACT_COLUMNS)
        y += (xq[:, part].float() @ wq[:, part].float().t()).int()
    return y


class W8A8Linear(QuantizedLinear):
    """Multiply int8 activations by int8 weights: y = step * scale * (xq @ wq.T) + bias.

    Make one with `from_quantized`. `activations` says how x is rounded, and `input_step` is the
    fixed step of `per_tensor_static`, else None. Where x needs a gradient, x is not rounded.

    >>> layer = W8A8Linear.from_quantized(QuantizedLinear.from_linear(nn.Linear(64, 32), FORMAT))
    >>> layer.integers().dtype, layer(torch.ones(2, 64)).shape
    (torch.int8, torch.Size([2, 32]))
    """

    activations: str = "per_token"
    input_step: float | None = None

    @classmethod
    def from_quantized(
        cls, layer: QuantizedLinear, activations: str = "per_token", input_step: float | None = None
    ) -> W8A8Linear:
        """Make the layer from a weight-only one.

        layer: int8, symmetric, one scale a row.
        activations: one of ACTIVATIONS; input_step: for per_tensor_static, above 0.
        Raises InputError for another grid, an unknown choice, or a step that is missing.
        """
        require_choice("activations", activations, ACTIVATIONS)
        if layer.format != FORMAT:
            raise InputError(f"layer is {layer.format}; a W8A8 layer takes {FORMAT} weights.")
        if (activations == "per_tensor_static") != (input_step is not None):
            raise InputError(
                f"input_step={input_step!r} was given with activations={activations!r}: "
                "per_tensor_static needs a step, and the others measure their own."
            )
        made = cls.from_integers(*layer.qparams(), FORMAT, layer.bias).standing_for(layer)
        made.activations, made.input_step = activations, input_step
        return made

    def _choose_kernel(self, device: torch.device) -> kernels.Kernel:
        return kernels.INT8  # its layout, plain rows of int8, is what int_matmul reads anywhere

    @property
    def kernel(self) -> str:
        """Name of what multiplies: int8 x int8."""
        return "int8 x int8"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply: x [..., in_features] float -> [..., out_features] of the same dtype."""
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        flat = x.reshape(-1, self.in_features)
        step = self.input_step
        if self.activations == "per_tensor":
            step = flat.abs().max().float().div(QMAX).clamp(min=1e-30) if flat.numel() else 1.0
        xq, step = quantize_tokens(flat, step)
        y = int_matmul(xq, self.qweight).float().mul_(step).mul_(self.scale)
        if self.bias is not None:
            y += self.bias
        return y.to(x.dtype).view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return what print(model) shows of this layer."""
        return f"{super().extra_repr()}, activations={self.activations}"


FORMAT = int_format(8)


def input_maxima(
    model: nn.Module, names: list[str], calibration: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Find how large each input channel of some layers gets on calibration text.

    model: any transformers model; names: its layers, full names.
    calibration: windows [n_samples, seq_len] of token ids.
    Returns {name: [in_features] float32, max|x| of each channel}.
    Raises InputError for calibration that is no windows, and for a layer whose inputs are not
        finite or never came.
    """
    found: dict[str, Maxima] = {}
    walk = Walk(model, calibration, batch_size=1)
    for block in walk:
        inside = {name.removeprefix(f"{block.name}."): name for name in names}
        for observed in walk.observe(block, lambda layer: Maxima(), inside):
            found |= {inside[name]: observed.seen for name in observed.names}
            require_inputs(inside[observed.names[0]], observed.seen)
        walk.advance(block)
    rest = {name: Maxima() for name in names if name not in found}
    walk.observe_rest(rest)
    for name, maxima in rest.items():
        require_inputs(name, maxima)
    found |= rest
    return {name: found[name].value for name in names}


def require_inputs(name: str, maxima: Maxima) -> None:
    """Raise InputError for a layer whose inputs never came, or were not finite."""
    if maxima.value is None or not bool(torch.isfinite(maxima.value).all()):
        what = "never came" if maxima.value is None else "hold NaN or infinity"
        raise InputError(
            f"The inputs of {name} {what} on the calibration windows. Look at the model's output "
            "on them first."
        )


@dataclass(frozen=True)
class W8A8(Step):
    """Round weights and activations of the linear layers to 8 bits.

    activations: per_token, per_tensor or per_tensor_static (see the module's table).
    head_bits: of the output head and a tied embedding, weights alone; None leaves both in float.
    include, exclude: globs over layer names; the other layers stay in float.

    >>> W8A8().needs_text, W8A8("per_tensor_static").needs_text
    (False, True)
    """

    gives: ClassVar[str] = "packed, integer activations"

    activations: str = "per_token"
    head_bits: int | None = 8
    include: str | tuple[str, ...] = "*"
    exclude: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_choice("activations", self.activations, ACTIVATIONS)
        head_format(self.head_bits)

    @property
    def needs_text(self) -> bool:
        """Whether ranges are fixed beforehand, on calibration windows."""
        return self.activations == "per_tensor_static"

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Quantize a model; see `Step.apply`."""
        return quantize_activations(model, self, text, inplace=inplace)


def quantize_activations(
    model: nn.Module,
    activations: str | W8A8 = "per_token",
    calibration: torch.Tensor | None = None,
    *,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Round weights and activations of the linear layers to 8 bits: W8A8.

    model: a float model.
    activations, settings: those of the step `W8A8`, or a whole one in place of activations.
    calibration: windows [n_samples, seq_len] of token ids, for per_tensor_static only.
    inplace: change `model` itself instead of a copy.
    Returns the quantized model, in eval mode.
    Raises InputError: bad settings, static without calibration, a compressed model, weights
        or calibration inputs that are not finite.
    """
    step = step_of(W8A8, activations, **settings)
    static = step.needs_text
    if static and calibration is None:
        raise InputError(
            "calibration is missing: per_tensor_static fixes the range of each layer beforehand. "
            "Give windows, such as load_text('wikipedia').calibration()."
        )
    names = list(find_linears(model, step.include, step.exclude))
    maxima = {}
    if static and not is_compressed(model):  # quantize_model below refuses a compressed one
        maxima = input_maxima(model, names, calibration)
    weights = RTN(8, head_bits=step.head_bits, include=step.include, exclude=step.exclude)
    small = quantize_model(model, weights, inplace=inplace)
    for name in names:
        at = max(maxima[name].max().item(), 1e-20) / QMAX if static else None
        layer = W8A8Linear.from_quantized(small.get_submodule(name), step.activations, at)
        replace_module(small, name, layer)
    return small.eval()
