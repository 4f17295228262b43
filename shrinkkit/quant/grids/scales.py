"""Scales: from a range that must be covered to the number that is stored.

A scale costs bits as well, shared by its group: 16 for a bfloat16, 8 for an MX power of two, 4 to 8
for an integer times a power of two that the whole row shares. Whatever it is stored in, integers
are chosen with the *stored* scale, so that its own rounding is made up for where it can be.
"""

from __future__ import annotations

import math

import torch

from shrinkkit.quant.grids.formats import Format


def scale_exponent(scale: torch.Tensor, fmt: Format) -> torch.Tensor:
    """Return the exponent that lets a row's largest scale use all of its `scale_bits` bits.

    scale: [out_features, n_groups], positive; fmt.scale_bits is 8 or less.
    Returns [out_features, 1] int32: scale = code * 2**exponent, code below 2**scale_bits.

    >>> fmt = Format(4, granularity="per_group", group_size=32, scale_bits=6)
    >>> scale_exponent(torch.tensor([[40.0, 5.0], [0.5, 0.25]]), fmt).tolist()
    [[0], [-6]]
    """
    largest = scale.amax(dim=1, keepdim=True).clamp(min=2.0**-100)
    exponent = torch.frexp(largest).exponent - fmt.scale_bits  # 2**(bits - 1) <= code < 2**bits
    return exponent.clamp(-120, 120)


def round_scale(
    scale: torch.Tensor, fmt: Format, exponent: torch.Tensor | None = None
) -> torch.Tensor:
    """Round scales to the precision that is stored; a zero range gets scale 1 (all q are equal).

    scale: [out_features, n_groups], not negative.
    exponent: [out_features, 1], for scales of 8 bits or less; None: of each row's largest scale.
    Returns the same shape, float32.

    >>> round_scale(torch.tensor([[0.1, 0.0]]), Format(4)).tolist()
    [[0.10009765625, 1.0]]
    """
    if fmt.power_of_two:
        fraction, power = torch.frexp(torch.where(scale > 0, scale, torch.ones_like(scale)))
        power = torch.where(fraction < 0.5**0.5, power - 1, power)  # the nearest, in octaves
        return torch.ones_like(scale).ldexp(power.clamp(-126, 126))
    if fmt.row_exponent:
        exponent = scale_exponent(scale, fmt) if exponent is None else exponent
        unit = torch.ones_like(scale[:, :1]).ldexp(exponent)
        return (scale / unit).round().clamp(1, 2**fmt.scale_bits - 1) * unit
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    if fmt.scale_bits == 16:
        tiny = torch.finfo(torch.bfloat16).tiny  # keeps 1 / scale finite
        scale = scale.clamp(min=tiny).bfloat16().float()
    return scale


def scale_of_range(low: torch.Tensor, high: torch.Tensor, fmt: Format) -> torch.Tensor:
    """Return the scales that cover [low, high] exactly, before they are rounded themselves."""
    largest = torch.maximum(-low, high)
    if fmt.power_of_two:
        # MX 1.0: the exponents of the largest weight and the largest value are matched,
        # so the largest weight may lie up to a third above the largest value, and saturates
        exponent = torch.frexp(largest).exponent - math.frexp(fmt.code[-1])[1]
        return torch.where(largest > 0, torch.ones_like(largest).ldexp(exponent), largest)
    if fmt.code is not None:
        return largest / fmt.code[-1]
    if fmt.symmetric:
        return largest / fmt.qmax
    return (high - low) / (fmt.qmax - fmt.qmin)


def qparams_of_range(
    low: torch.Tensor, high: torch.Tensor, fmt: Format, exponent: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (scale, zero_point) that cover [low, high]; low <= 0 <= high.

    exponent: [out, 1], for scales of 8 bits or less; None: of the largest of these scales.
    """
    scale = round_scale(scale_of_range(low, high, fmt), fmt, exponent)
    if fmt.code is not None or fmt.symmetric:
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    zero_point = (fmt.qmin - low / scale).round().clamp(fmt.qmin, fmt.qmax)
    return scale, zero_point.to(torch.int32)
