"""Tune what a quantized model still has in float: its scales and its norms.

GPTQ chooses integers layer by layer and never looks at what the whole model says. Afterwards the
integers are fixed, but each group's scale and each norm's weights are real numbers that can learn:
a few hundredths more here, a little less there, so that the model's answers come closer to the
float model's. This is distillation with very few free numbers (one for each 32 or 64 weights), so a
few hundred windows of text suffice and little can be overfitted. EfficientQAT (Chen et al. 2024,
arXiv 2407.11062) calls it end-to-end training of quantization parameters.

The loss is the Kullback-Leibler divergence from the float model's next-token probabilities
(Hinton et al. 2015, arXiv 1503.02531) at every position of some text. Each number moves in
proportion to itself: value = start * (1 + change), with Adam on the changes, so that one learning
rate serves large and small scales. Scales are rounded to what the format stores in every step, and
the gradient is passed through that rounding (straight through), so that what was learned survives
saving.

The integers are never unpacked for good: a layer's forward and backward pass each make its float
weight, use it, and drop it. A step costs what a training step costs, a second or so for each 200
tokens of SmolLM2 on two cores; the result is no larger and no slower than before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.distill.losses import distillation_loss
from shrinkkit.errors import InputError
from shrinkkit.quant.grids.affine import dequantize, expand, sum_groups
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.scales import round_scale
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.surgery.parts import clone, find_linears, replace_module
from shrinkkit.surgery.running import check_tokens, check_vocabulary, device_of
from shrinkkit.surgery.step import Step, step_of
from shrinkkit.train.descent import Schedule, descend


class _Product(torch.autograd.Function):
    """y = x @ dequantize(q, scale).T; its backward makes the weight again instead of keeping it."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, q: torch.Tensor, zero: Any, fmt: Format
    ) -> torch.Tensor:
        ctx.save_for_backward(x, scale, q, zero)
        ctx.format = fmt
        return linear(x, dequantize(q, scale, zero, fmt).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, scale, q, zero = ctx.saved_tensors
        fmt = ctx.format
        steps = dequantize(q, torch.ones_like(scale), zero, fmt)  # the weight is scale * steps
        to_x = to_scale = None
        if ctx.needs_input_grad[1]:
            flat, errors = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
            to_scale = sum_groups((errors.t() @ flat).to(steps.dtype).mul_(steps), fmt)
        if ctx.needs_input_grad[0]:
            weight = steps.mul_(expand(scale, steps.shape, fmt))
            to_x = gradient @ weight.to(gradient.dtype)
        return to_x, to_scale, None, None, None


class _Tunable(nn.Module):
    """A quantized layer whose scales learn: scale = start * (1 + change), rounded as stored."""

    def __init__(self, layer: QuantizedLinear) -> None:
        super().__init__()
        self.format, self.dtype, self.transposed = layer.format, layer.dtype, layer.transposed
        self.q, self.start, self.zero_point = layer.qparams()
        self.bias = layer.bias
        self.change = nn.Parameter(torch.zeros_like(self.start))

    def scale(self) -> torch.Tensor:
        """Return the scales as they would be stored; gradients pass the rounding unchanged."""
        exact = self.start * (1 + self.change)
        with torch.no_grad():
            stored = round_scale(exact.clamp(min=0), self.format)
        return exact + (stored - exact).detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply: x [..., in] -> [..., out]."""
        scale = self.scale().to(torch.promote_types(x.dtype, torch.float32))
        y = _Product.apply(x, scale, self.q, self.zero_point, self.format)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    @torch.no_grad()
    def finished(self) -> QuantizedLinear:
        """Return the packed layer with the scales that were learned."""
        scale = round_scale((self.start * (1 + self.change)).clamp(min=0), self.format)
        parts = self.q, scale, self.zero_point
        return QuantizedLinear.from_integers(*parts, self.format, self.bias).standing_for(self)


@dataclass(frozen=True)
class TuneScales(Step):
    """Let scales, and norms, learn from the float model's answers (`tune_scales`).

    steps, batch_size: optimizer steps, and windows in each.
    learning_rate: peak, as a fraction of each number; it rises over `warm_up` of the steps and
        then falls along a cosine to zero.
    norms: let the one-dimensional weights (norms, biases) learn too.
    seed: of the order in which windows are taken, and again in another order when all were used.

    >>> print(TuneScales(steps=8))
    TuneScales(steps=8)
    """

    takes: ClassVar[str] = "packed"
    gives: ClassVar[str] = "packed"
    needs_reference: ClassVar[bool] = True

    steps: int = 64
    batch_size: int = 4
    learning_rate: float = 2e-3
    warm_up: float = 0.1
    norms: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.schedule  # refuses numbers out of range

    @property
    def schedule(self) -> Schedule:
        """What `descend` takes."""
        return Schedule(self.steps, self.batch_size, self.learning_rate, self.warm_up, self.seed)

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Tune a model; see `Step.apply`."""
        return tune_scales(model, reference, text, self, inplace=inplace)


def tune_scales(
    model: nn.Module,
    teacher: nn.Module,
    calibration: torch.Tensor,
    steps: int | TuneScales = 64,
    *,
    inplace: bool = False,
    **settings: Any,
) -> nn.Module:
    """Let a quantized model's scales, and its norms, learn from the float model's answers.

    Chen et al. 2024 (arXiv 2407.11062), section 3.3, with distillation as the loss.

    model: a quantized language model, such as `gptq_model` returns.
    teacher: the float model that it was made from.
    calibration: [n_samples, seq_len] integer; windows of text.
    steps, settings: those of the step `TuneScales`, or a whole one in place of steps.
    inplace: change `model` itself instead of a copy.
    Returns the tuned model, in eval mode, with the same integers and formats.
    Raises InputError: nothing is quantized, windows of another vocabulary, numbers out of range,
    a loss that stops being finite (the model is then left as it was, unless `inplace`).
    """
    step = step_of(TuneScales, steps, **settings)
    calibration = check_tokens(calibration)
    check_vocabulary("the model", model, calibration)
    layers = [
        name
        for name, layer in find_linears(model, head=True, needed=False).items()
        if type(layer) is QuantizedLinear
    ]
    if not layers:
        raise InputError(
            "This model has no quantized layer whose scales could be tuned; quantize it first, as "
            "in tune_scales(gptq_model(model, calibration), model, calibration)."
        )
    model = model if inplace else clone(model)
    head = model.get_output_embeddings()
    tunable = {
        name: _Tunable(model.get_submodule(name))
        for name in layers
        if model.get_submodule(name) is not head  # an embedding may read its rows
    }
    requires = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False).eval()
    vectors = [p for p in model.parameters() if step.norms and p.ndim == 1]
    for name, layer in tunable.items():
        replace_module(model, name, layer)
    groups = [([layer.change for layer in tunable.values()], 1.0)]
    # a step in proportion to the vector's size
    groups += [([vector.requires_grad_()], _size(vector)) for vector in vectors]

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        rows = rows.to(device_of(model))
        with torch.no_grad():
            theirs = teacher(rows, use_cache=False).logits
        return distillation_loss(model(rows, use_cache=False).logits, theirs)

    try:
        descend(step.schedule, calibration, groups, loss_of, label="tuning scales", loss_name="KL")
    finally:
        for name, layer in tunable.items():
            replace_module(model, name, layer.finished())
        for parameter, required in requires.items():
            parameter.requires_grad_(required)
    return model.eval()


def _size(vector: torch.Tensor) -> float:
    """Return the root mean square of a vector; 1 for one that is all zero (a new bias)."""
    return vector.detach().float().square().mean().sqrt().item() or 1.0
