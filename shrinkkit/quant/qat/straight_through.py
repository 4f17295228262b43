"""Round in the forward pass, learn in the backward pass: the mathematics of training on a grid.

Rounding is a staircase. Its derivative is zero on every step and undefined at every edge, so a
network that rounds its weights learns nothing: whatever the loss says, the gradient is zero. The
straight-through estimator (Hinton 2012; Bengio et al. 2013, arXiv 1308.3432) answers with a white
lie: forward, use the rounded weight; backward, pretend that there was only the clipping,

    d rounded / d weight = 1 inside the grid's range, 0 outside

so that float weights collect many small changes until one of them tips over an edge.

The step of the grid can learn in the same way. LSQ (Esser et al. 2019, arXiv 1902.08153) writes
rounded = scale * round(clip(weight / scale)), again lets the gradient pass through round, and gets

    d rounded / d scale = round(v) - v    inside, v = weight / scale
                          qmin or qmax    outside (counted from the zero point)

Every weight of the group adds its part, so the sum is large: it is divided by sqrt(n * qmax).
(Under SGD that matters. Adam divides a gradient by its own size, and the factor drops out.)

Ternary weights (BitNet b1.58, Ma et al. 2024, arXiv 2402.17764) are the grid -1, 0, 1 with the mean
magnitude as scale, computed anew in each step; there the gradient passes everywhere.

Everything here is tensor in, tensor out; `prepare.py` puts it into layers. It costs a pass over the
weights in each direction, little beside the matrix product that follows.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.affine import expand, sum_groups
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.scales import round_scale

TERNARY = Format(bits=2, symmetric=True, granularity="per_tensor")


def _ends(zero_point: torch.Tensor, shape: Any, fmt: Format) -> tuple[Any, Any]:
    """Return the grid's ends in steps from zero, (low, high), each to be broadcast to `shape`."""
    if fmt.symmetric:
        return float(fmt.qmin), float(fmt.qmax)
    zero = expand(zero_point, shape, fmt).float()
    return fmt.qmin - zero, fmt.qmax - zero


class _Rounded(torch.autograd.Function):
    """rounded = scale * round(clip(weight / scale)), with straight-through gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        weight: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor,
        fmt: Format,
        scale_factor: float,
        clipped: bool,
    ) -> torch.Tensor:
        ctx.save_for_backward(weight, scale, zero_point)
        ctx.settings = fmt, scale_factor, clipped
        wide = expand(scale, weight.shape, fmt)
        low, high = _ends(zero_point, weight.shape, fmt)
        return (weight / wide).round().clamp(low, high) * wide

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        weight, scale, zero_point = ctx.saved_tensors
        fmt, scale_factor, clipped = ctx.settings
        v = weight / expand(scale, weight.shape, fmt)
        low, high = _ends(zero_point, weight.shape, fmt)
        inside = (v >= low) & (v <= high)
        to_weight = gradient * inside if clipped else gradient
        to_scale = None
        if ctx.needs_input_grad[1]:
            steps = v.round().clamp(low, high)
            each = torch.where(inside, steps - v, steps)  # outside, steps is low or high
            to_scale = sum_groups(gradient * each, fmt) * scale_factor
        return to_weight, to_scale, None, None, None, None


def fake_quantize_ste(
    weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> torch.Tensor:
    """Round a weight to a fixed grid; the gradient passes inside its range and stops outside.

    Bengio et al. 2013 (arXiv 1308.3432), section 4; Jacob et al. 2018 (arXiv 1712.05877), section
    3. Forward: dequantize(quantize(weight)). Backward: the incoming gradient where
    qmin <= weight / scale + zero_point <= qmax, else 0; nothing for the scale.

    weight: [out_features, in_features] float.
    scale, zero_point: [out, n_groups], or [1, 1], as of `choose_qparams`; scale as it is stored.
    Returns [out, in] float. Raises InputError for a code table (NF4), whose steps are not even.

    >>> w = torch.tensor([[0.26, -0.9]], requires_grad=True)
    >>> fmt = Format(2, True, "per_channel", scale_bits=32)
    >>> y = fake_quantize_ste(w, torch.tensor([[0.5]]), torch.tensor([[0]]), fmt)
    >>> y.sum().backward()
    >>> y.tolist(), w.grad.tolist()
    ([[0.5, -0.5]], [[1.0, 0.0]])
    """
    require_even(fmt)
    return _Rounded.apply(weight, scale.detach(), zero_point, fmt, 1.0, True)


def lsq_quantize(
    weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> torch.Tensor:
    """Round a weight to a grid whose scale learns (LSQ).

    Esser et al. 2019 (arXiv 1902.08153), equations 1 to 3 and section 2.2. The scale is rounded to
    what `fmt.scale_bits` stores, straight through, so that what was learned can be saved.

    weight: [out_features, in_features] float.
    scale: [out, n_groups], or [1, 1], above 0; zero_point: the same shape, integer, fixed.
    Returns [out, in] float. The gradient of a scale is the sum over its n weights of
    gradient * (round(v) - v inside, the grid's end outside), divided by sqrt(n * high), where high
    is the grid's upper end in steps from zero.
    Raises InputError for a code table (NF4), whose steps are not even.

    >>> s = torch.tensor([[0.5]], requires_grad=True)
    >>> fmt = Format(2, True, "per_channel", scale_bits=32)
    >>> y = lsq_quantize(torch.tensor([[0.3, -0.9]]), s, torch.tensor([[0]]), fmt)
    >>> y.sum().backward()
    >>> y.tolist(), round(s.grad.item(), 4)  # (1 - 0.6) + (-1) = -0.6, over sqrt(2 * 1)
    ([[0.5, -0.5]], -0.4243)
    """
    require_even(fmt)
    with torch.no_grad():
        stored = round_scale(scale.clamp(min=0), fmt)
    used = _Exactly.apply(scale, stored)
    factor = lsq_gradient_scale(weight.shape, fmt)
    return _Rounded.apply(weight, used, zero_point, fmt, factor, True)


class _Exactly(torch.autograd.Function):
    """Return the second argument, bit for bit, and give its gradient to the first."""

    @staticmethod
    def forward(ctx: Any, learned: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
        return used.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def _high(fmt: Format) -> int:
    """Return LSQ's Q_P: the steps above zero of a signed grid of so many bits."""
    return fmt.qmax if fmt.symmetric else 2 ** (fmt.bits - 1) - 1


def lsq_gradient_scale(shape: tuple[int, int], fmt: Format) -> float:
    """Return 1 / sqrt(n * high), n the weights that share a scale (LSQ, section 2.2).

    >>> lsq_gradient_scale((4, 100), Format(3))  # n = 100, and the grid ends at 3
    0.05773502691896257
    """
    n = math.prod(shape) if fmt.granularity == "per_tensor" else fmt.columns_per_scale(shape[1])
    return 1 / math.sqrt(n * _high(fmt))


def lsq_qparams(weight: torch.Tensor, fmt: Format) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where LSQ starts: scale = 2 * mean|weight| / sqrt(high), and the zero point.

    Esser et al. 2019, section 2.1. The zero point is 0, or the middle of an asymmetric format
    (2 for the levels -2, -1, 0, 1 of two bits), which makes it the paper's signed grid.

    weight: [out_features, in_features].
    Returns scale and zero_point, [out, n_groups] or [1, 1]; a group of zeros gets scale 1.

    >>> lsq_qparams(torch.tensor([[1.0, -3.0]]), Format(2, False, scale_bits=32))
    (tensor([[4.]]), tensor([[2]], dtype=torch.int32))
    """
    require_even(fmt)
    scale = round_scale(2 * _mean_magnitude(weight, fmt) / math.sqrt(_high(fmt)), fmt)
    zero = 0 if fmt.symmetric else 2 ** (fmt.bits - 1)
    return scale, torch.full_like(scale, zero, dtype=torch.int32)


def absmean_scale(weight: torch.Tensor, fmt: Format = TERNARY) -> torch.Tensor:
    """Return the scale of ternary weights: their mean magnitude, rounded to what is stored.

    Ma et al. 2024 (arXiv 2402.17764), equation 3.

    weight: [out_features, in_features].
    Returns [1, 1], or [out, n_groups] for a format with more scales; 1 for a group of zeros.

    >>> absmean_scale(torch.tensor([[0.5, -1.0], [0.0, 0.5]]))
    tensor([[0.5000]])
    """
    return round_scale(_mean_magnitude(weight.detach(), fmt), fmt)


def ternarize(weight: torch.Tensor, fmt: Format = TERNARY) -> torch.Tensor:
    """Round a weight to -1, 0 and 1 times its mean magnitude; the gradient passes everywhere.

    Ma et al. 2024 (arXiv 2402.17764), equations 1 to 3: scale * clip(round(weight / scale), -1, 1).

    weight: [out_features, in_features] float.
    fmt: 2 bits, symmetric; one scale for the whole matrix as in the paper, or more.
    Returns [out, in] float. Raises InputError for another grid.

    >>> ternarize(torch.tensor([[0.5, -1.0], [0.0, 0.5]])).tolist()
    [[0.5, -0.5], [0.0, 0.5]]
    """
    if fmt.bits != 2 or not fmt.symmetric or fmt.code is not None:
        raise InputError(f"fmt is {fmt}; ternary weights need a symmetric grid of 2 bits.")
    scale = absmean_scale(weight, fmt)
    zero_point = torch.zeros_like(scale, dtype=torch.int32)
    return _Rounded.apply(weight, scale, zero_point, fmt, 1.0, False)


def _mean_magnitude(weight: torch.Tensor, fmt: Format) -> torch.Tensor:
    total = sum_groups(weight.detach().float().abs(), fmt)
    return total / sum_groups(torch.ones_like(weight, dtype=torch.float32), fmt)


def require_even(fmt: Format) -> None:
    """Raise InputError for a code table: what trains here are grids of even steps."""
    if fmt.code is not None:
        raise InputError(f"fmt is {fmt}; training on a grid needs even steps, an integer format.")
