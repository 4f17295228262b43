"""AWQ: make the weights that matter larger before rounding, so that rounding hurts them less.

Not all weights count alike: those that meet large inputs do. Keeping one per cent of them in float
would repair most of the damage, but mixed storage is slow. AWQ (Lin et al. 2024, arXiv 2306.00978)
gets nearly the same from a product that does not care who is large:

    x @ W.T  =  (x / s) @ (W * s).T

Multiply the columns that matter by s > 1 before rounding: their relative error shrinks (the step of
a group hardly changes as long as its largest weight is another one), and dividing x by s undoes the
scale. As in SmoothQuant the division is folded into whatever makes x, a norm or the layer before,
so the model computes the same function and is no slower. How large? s = size of the input ** ratio,
with one ratio a group of layers, from 0 (plain rounding) to 1, whichever leaves the least output
error. Because 0 is among them, the search cannot lose to rounding on the calibration text.

The output error of a layer is (W - Q) H (W - Q)ᵀ with the Hessian of its inputs, so no text has to
be run again for each ratio; and sqrt(H_jj) is the size of input j. The original uses mean |x|.

It costs twenty roundings of each weight: seconds. AWQ chooses scales and GPTQ chooses integers, so
they go together: `rounding="gptq"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from shrinkkit.errors import InputError, require_finite
from shrinkkit.quant.grids.affine import fake_quantize
from shrinkkit.quant.grids.formats import Format
from shrinkkit.surgery.invariance import NormGroup

RATIOS = tuple(i / 20 for i in range(20))


@dataclass(frozen=True)
class Scaling:
    """What the search chose: scale [channels], the ratio, and the output error it leaves.

    errors: one for each ratio tried, in order; the first is plain rounding's.
    """

    scale: torch.Tensor
    ratio: float
    errors: tuple[float, ...]


def output_error(weight: torch.Tensor, rounded: torch.Tensor, hessian: torch.Tensor) -> float:
    """Return 1/2 sum over rows of (w - q) H (w - q)ᵀ.

    weight, rounded: [out, in]; hessian: [in, in].

    >>> output_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), 2 * torch.eye(2))
    1.0
    """
    off = weight - rounded
    return ((off @ hessian) * off).sum().item() / 2


def search_scale(
    weights: Sequence[torch.Tensor],
    hessian: torch.Tensor,
    fmt: Format,
    group: NormGroup,
    *,
    ratios: Sequence[float] = RATIOS,
) -> Scaling:
    """Choose the scale of the channels that some layers read.

    Lin et al. 2024 (arXiv 2306.00978), equation 4 and 5: s = size ** ratio, normalised so that
    the largest and the smallest s are each other's inverse; argmin over ratios of the output error
    of all layers, rounded.

    weights: each [out_i, columns]; the layers that read the channels.
    hessian: [columns, columns] of their input.
    fmt: the grid; ranges are those of min and max.
    group: which column reads which channel.
    ratios: what is tried; 0 must be among them.
    Returns Scaling. Raises InputError for shapes that do not fit, NaN, ratios without 0.

    >>> group = NormGroup("norm", ("q",), n_channels=2, repeat=1, head_dim=2)
    >>> h = torch.diag(torch.tensor([200.0, 2.0]))  # the first input is ten times larger
    >>> fmt = Format(2, True, "per_channel", scale_bits=32)
    >>> found = search_scale([torch.tensor([[0.4, 1.0]])], h, fmt, group)
    >>> found.ratio > 0, found.errors[0] > min(found.errors)
    (True, True)
    """
    if 0 not in ratios:
        raise InputError("ratios must hold 0 (plain rounding), so that the search cannot lose.")
    columns = weights[0].shape[1]
    if hessian.shape != (columns, columns) or any(w.shape[1] != columns for w in weights):
        raise InputError(
            f"hessian has shape {tuple(hessian.shape)} and the weights "
            f"{[tuple(w.shape) for w in weights]}: all need the same number of columns."
        )
    require_finite("hessian", hessian)
    weights = [weight.detach().float() for weight in weights]
    size = group.channels(hessian.diagonal().float().clamp(min=0).sqrt())  # [channels]
    size = size.clamp(min=1e-4 * size.max()) if size.max() > 0 else torch.ones_like(size)
    best: tuple[float, float, torch.Tensor] | None = None
    errors = []
    for ratio in ratios:
        scale = size.pow(ratio)
        scale = scale / (scale.max() * scale.min()).sqrt()
        wide = group.columns(scale)  # [columns]
        error = sum(
            output_error(weight, fake_quantize(weight * wide, fmt) / wide, hessian)
            for weight in weights
        )
        errors.append(error)
        if best is None or error < best[0]:
            best = error, ratio, scale
    return Scaling(best[2], best[1], tuple(errors))
