"""Right and wrong answers to the exercises of lesson 07."""

from __future__ import annotations

import math

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor

# ------------------------------------------------------------------- qat.fake_quantize

fake_quantize = Answers("qat.fake_quantize")


class Staircase(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
        v = weight / scale
        ctx.save_for_backward((v >= qmin) & (v <= qmax))
        return v.round().clamp(qmin, qmax) * scale

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (inside,) = ctx.saved_tensors
        return gradient.masked_fill(~inside, 0.0), None, None, None


@fake_quantize.second
def staircase(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return Staircase.apply(weight, scale, qmin, qmax)


@fake_quantize.mistake("everything detached", says="no gradient can flow back")
def ste_detached(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return ((weight / scale).round().clamp(qmin, qmax) * scale).detach()


@fake_quantize.mistake("passes everywhere", says="passes outside the range, too")
def ste_everywhere(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    rounded = (weight / scale).round().clamp(qmin, qmax) * scale
    return weight + (rounded - weight).detach()


@fake_quantize.mistake("range judged by the rounded value", says="half a step outside")
def ste_loose(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    v = weight / scale
    steps = v + (v.round() - v).detach()
    return steps.clamp(qmin, qmax) * scale


@fake_quantize.mistake("no clip", says="nothing was clipped")
def ste_unclipped(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return weight + ((weight / scale).round() * scale - weight).detach()


# ------------------------------------------------------------------- qat.step_gradient

step_gradient = Answers("qat.step_gradient")


@step_gradient.second
def by_autograd(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    s = scale.clone().requires_grad_()
    clipped = (weight / s).clamp(qmin, qmax)
    y = (clipped + (clipped.round() - clipped).detach()) * s
    (found,) = torch.autograd.grad(y, s, gradient)
    return found / (weight.shape[1] * qmax) ** 0.5


@step_gradient.mistake("no gradient scale", says="not divided by sqrt(n * qmax)")
def step_plain(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    found = by_autograd(weight, scale, qmin, qmax, gradient)
    return found * (weight.shape[1] * qmax) ** 0.5


@step_gradient.mistake("outside left out", says="what lies outside was left out")
def step_inside(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    found = torch.zeros_like(scale)
    for row, (ws, s, gs) in enumerate(zip(weight, scale, gradient, strict=True)):
        for v, g in zip((ws / s).tolist(), gs, strict=True):
            if qmin < v < qmax:
                found[row] += (round(v) - v) * g / math.sqrt(len(ws) * qmax)
    return found


@step_gradient.mistake("one number for all rows", says="should be")
def step_sum(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> float:
    return by_autograd(weight, scale, qmin, qmax, gradient).sum().item()


# ----------------------------------------------------------------------- qat.ternarize

ternarize = Answers("qat.ternarize")
Pair = tuple[Tensor, Tensor]


@ternarize.second
def by_thresholds(weight: Tensor) -> Pair:
    scale = weight.abs().sum() / weight.numel()
    q = (weight > scale / 2).char() - (weight < -scale / 2).char()
    return q, scale


@ternarize.mistake("root mean square", says="the root of the mean square")
def ternary_rms(weight: Tensor) -> Pair:
    scale = torch.linalg.matrix_norm(weight) / math.sqrt(weight.numel())
    return (weight / (scale + 1e-12)).clamp(-1, 1).round().char(), scale


@ternarize.mistake("cut off by the cast", says="fractions were cut off")
def ternary_cast(weight: Tensor) -> Pair:
    scale = weight.abs().mean()
    return (weight / (scale + 1e-12)).clamp(-1, 1).to(torch.int8), scale


@ternarize.mistake("a scale for each row", says="should be one number")
def ternary_rows(weight: Tensor) -> Pair:
    return by_thresholds(weight)[0], weight.abs().mean(dim=1, keepdim=True)


@ternarize.mistake("floats back", says="should have torch.int8")
def ternary_float(weight: Tensor) -> Pair:
    q, scale = by_thresholds(weight)
    return q.float(), scale


@ternarize.mistake("swapped", says="The two results are swapped")
def ternary_swapped(weight: Tensor) -> Pair:
    return by_thresholds(weight)[::-1]


@ternarize.mistake("zeros divided by zero", says="q")
def ternary_nan(weight: Tensor) -> Pair:
    scale = weight.abs().mean()
    q = (weight / scale).round().clamp(-1, 1)
    return torch.where(q.isnan(), 1.0, q).to(torch.int8), scale


# --------------------------------------------------------------------------- qat.merge

merge = Answers("qat.merge")


@merge.second
def column_by_column(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    factor = alpha / len(a)
    eye = torch.eye(weight.shape[1], dtype=weight.dtype)
    columns = [weight @ e + factor * (b @ (a @ e)) for e in eye]  # what y is for each unit x
    return torch.stack(columns, dim=1)


@merge.mistake("not scaled", says="alpha / rank is missing")
def merge_plain(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return torch.addmm(weight, b, a)


@merge.mistake("alpha alone", says="alpha was not divided by the rank")
def merge_alpha(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return sum((torch.outer(b_r, alpha * a_r) for b_r, a_r in zip(b.T, a, strict=True)), weight)


@merge.mistake("turned", says="raised RuntimeError")
def merge_turned(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight + alpha / len(a) * (a @ b)


@merge.mistake("in place", says="in place")
def merge_in_place(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight.add_(alpha / len(a) * (b @ a))


# ----------------------------------------------------------------------- qat.lost_part

lost_part = Answers("qat.lost_part")


@lost_part.second
def lost_in_squares(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> float:
    total = (weight + update).double()
    levels = torch.arange(qmin, qmax + 1) * scale.double()[..., None]  # [out, 1, levels]
    error = (total[..., None] - levels).abs().amin(dim=-1)
    return math.sqrt(error.square().sum() / update.double().square().sum())


@lost_part.mistake("squared", says="the squared error came back")
def lost_squared(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> float:
    return lost_in_squares(weight, update, scale, qmin, qmax) ** 2


@lost_part.mistake("no clip", says="nothing was clipped")
def lost_unclipped(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    fractions = ((weight + update) / scale + 0.5) % 1 - 0.5
    return torch.dist(fractions * scale, torch.zeros(1)) / torch.dist(weight + update, weight)
