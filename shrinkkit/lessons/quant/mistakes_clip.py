"""The usual mistakes in the search for the scale with the least squared error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from shrinkkit.checks.mistakes import Mistakes
from shrinkkit.lessons.quant.mistakes import RAISED, RAISED_A_LITTLE, largest, qmax_of


def widest(weight: Tensor, bits: int) -> Tensor:
    """Return max|row| / qmax, [out, 1]; 1 for a row of zeros."""
    scale = largest(weight) / qmax_of(bits)
    return scale.masked_fill(scale == 0, 1.0)


def squares(error: Tensor) -> Tensor:
    return error.square().sum(dim=2)


def cheapest(
    weight: Tensor,
    bits: int,
    ratios: Tensor,
    cost: Callable[[Tensor], Tensor] = squares,
    *,
    clamp: bool = True,
    in_steps: bool = False,
    dead: float = 1.0,
    least: float = 0.0,
) -> Tensor:
    """Return each row's scale of least cost; cost: [n_ratios, out] of errors [n_ratios, out, in].

    in_steps: errors are counted in steps of the scale; dead: the scale of a row of zeros; least: no
    scale is smaller.
    """
    scale = (ratios.view(-1, 1, 1) * widest(weight, bits)).clamp(min=least)
    q = (weight / scale).round()
    if clamp:
        q = q.clamp(-qmax_of(bits), qmax_of(bits))
    error = q - weight / scale if in_steps else scale * q - weight
    best = scale[:, :, 0].gather(0, cost(error).argmin(dim=0, keepdim=True)).T
    return best.where(largest(weight) > 0, dead)


def greedy(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    """Stop at the first ratio that makes a row's error larger."""
    scale = ratios.view(-1, 1, 1) * widest(weight, bits)
    q = (weight / scale).round().clamp(-qmax_of(bits), qmax_of(bits))
    cost = squares(scale * q - weight)  # [n_ratios, out]
    worse = torch.cat([torch.zeros(1, len(weight)), (cost[1:] > cost[:-1]).float()]).cumsum(0) > 0
    chosen = cost.masked_fill(worse, torch.inf).argmin(dim=0, keepdim=True)
    return scale[:, :, 0].gather(0, chosen).T.where(largest(weight) > 0, 1.0)


BEST_CLIP = Mistakes()
for says, wrong in {
    "no ratio was tried: this is max|row| / qmax": lambda weight, bits, _: widest(weight, bits),
    "the last ratio won every time: keep the scale of the smallest error": (
        lambda *given: cheapest(*given[:2], given[2][-1:])
    ),
    "the first ratio won every time: go through all of them": (
        lambda *given: cheapest(*given[:2], given[2][:1])
    ),
    "the smallest ratio won every time: it is the error that has to be small": (
        lambda *given: cheapest(*given[:2], given[2].min()[None])
    ),
    "the largest ratio won every time: the scale with the smallest error should": (
        lambda *given: cheapest(*given[:2], given[2].max()[None])
    ),
    "the last ratio was never tried: go through all of them": (
        lambda *given: cheapest(*given[:2], given[2][:-1])
    ),
    "the first ratio was never tried: go through all of them": (
        lambda *given: cheapest(*given[:2], given[2][1:])
    ),
    "ratios above 1 were not tried, or cut to 1: try every one": (
        lambda *given: cheapest(*given[:2], given[2].clamp(max=1))
    ),
    "the search stopped at the first ratio that was worse: go through all of them": greedy,
    "the grid has as many levels at every bit width: qmax = 2**(bits-1) - 1 depends on bits": (
        lambda weight, bits, ratios: cheapest(weight, 4, ratios)
    ),
    "q was not clamped to [-qmax, qmax] after the scale shrank": (
        lambda *given: cheapest(*given, clamp=False)
    ),
    "the largest error won: look for the smallest": (
        lambda *given: cheapest(*given, lambda error: -squares(error))
    ),
    "errors were summed without squaring them, so that they cancel": (
        lambda *given: cheapest(*given, lambda error: error.sum(dim=2).abs())
    ),
    "errors were summed without squaring them, so that the most negative sum won": (
        lambda *given: cheapest(*given, lambda error: error.sum(dim=2))
    ),
    "absolute errors were summed, not squared ones": (
        lambda *given: cheapest(*given, lambda error: error.abs().sum(dim=2))
    ),
    "the worst single error decided, not the sum of squares": (
        lambda *given: cheapest(*given, lambda error: error.abs().amax(dim=2))
    ),
    "errors were measured in steps, which favours large steps: multiply q by the scale first": (
        lambda *given: cheapest(*given, in_steps=True)
    ),
    "one ratio was chosen for all rows together": (
        lambda *given: cheapest(*given, lambda e: squares(e).sum(1, True).expand(e.shape[:2]))
    ),
    "the ratio came back: multiply it by max|row| / qmax": (
        lambda weight, bits, ratios: cheapest(weight, bits, ratios) / widest(weight, bits)
    ),
    "the clipped range came back: divide it by qmax": (
        lambda weight, bits, ratios: cheapest(weight, bits, ratios) * qmax_of(bits)
    ),
    "it is not a column: its shape should be [out_features, 1]": (
        lambda *given: cheapest(*given)[:, 0]
    ),
    "a row of zeros has a scale of zero: give it scale 1": (
        lambda *given: cheapest(*given, dead=0.0)
    ),
    RAISED: lambda *given: cheapest(*given, least=1e-2),
    RAISED_A_LITTLE: lambda *given: cheapest(*given, least=1e-8),
}.items():
    BEST_CLIP.add(says, wrong)
