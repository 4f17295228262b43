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


@fake_quantize.mistake("round stops the gradient", says="no gradient passes")
def ste_none(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (weight / scale).round().clamp(qmin, qmax) * scale


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


@fake_quantize.mistake("gradient times scale", says="multiplied by the scale")
def ste_scaled(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    rounded = (weight / scale).round().clamp(qmin, qmax) * scale
    passing = (weight / scale).clamp(qmin, qmax) * scale * scale
    return passing + (rounded - passing).detach()


@fake_quantize.mistake("gradient over scale", says="divided by the scale")
def ste_unscaled(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    rounded = (weight / scale).round().clamp(qmin, qmax) * scale
    passing = (weight / scale).clamp(qmin, qmax)
    return passing + (rounded - passing).detach()


@fake_quantize.mistake("no clip", says="nothing was clipped")
def ste_unclipped(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return weight + ((weight / scale).round() * scale - weight).detach()


@fake_quantize.mistake("nothing rounded", says="nothing was rounded")
def ste_clip_only(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (weight / scale).clamp(qmin, qmax) * scale


@fake_quantize.mistake("floor for round", says="rounded down (floor)")
def ste_floor(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    v = weight / scale
    return (v + (v.floor().clamp(qmin, qmax) - v).detach()) * scale


@fake_quantize.mistake("integers back", says="the integers came back")
def ste_integers(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    v = (weight / scale).clamp(qmin, qmax)
    return v + (v.round() - v).detach()


@fake_quantize.mistake("clipped before dividing", says="divide by the scale first")
def ste_clip_first(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    clipped = weight.clamp(qmin, qmax)
    return clipped + ((clipped / scale).round() * scale - clipped).detach()


# ------------------------------------------------------------------- qat.step_gradient

step_gradient = Answers("qat.step_gradient")


@step_gradient.second
def by_autograd(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    s = scale.clone().requires_grad_()
    clipped = (weight / s).clamp(qmin, qmax)
    y = (clipped + (clipped.round() - clipped).detach()) * s
    (found,) = torch.autograd.grad(y, s, gradient)
    return found / (weight.shape[1] * qmax) ** 0.5


def pieces(weight: Tensor, scale: Tensor, qmin: int, qmax: int) -> tuple[Tensor, Tensor, Tensor]:
    v = weight / scale
    return v, (v > qmin) & (v < qmax), v.round().clamp(qmin, qmax)


def total(parts: Tensor, gradient: Tensor, by: float) -> Tensor:
    return (parts * gradient).sum(dim=1, keepdim=True) / by


def root(weight: Tensor, qmax: int) -> float:
    return math.sqrt(weight.shape[1] * qmax)


@step_gradient.mistake("sign turned", says="the sign inside is turned")
def step_sign(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    return total(torch.where(inside, v - q, q), gradient, root(weight, qmax))


@step_gradient.mistake("outside left out", says="what lies outside was left out")
def step_inside(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    return total((q - v) * inside, gradient, root(weight, qmax))


@step_gradient.mistake("no minus v", says="- v is missing")
def step_round(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    return total(pieces(weight, scale, qmin, qmax)[2], gradient, root(weight, qmax))


@step_gradient.mistake("no gradient scale", says="not divided by sqrt(n * qmax)")
def step_plain(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    return total(torch.where(inside, q - v, q), gradient, 1.0)


@step_gradient.mistake("no root", says="take the root")
def step_no_root(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    return total(torch.where(inside, q - v, q), gradient, weight.shape[1] * qmax)


@step_gradient.mistake("all weights counted", says="n counts all weights")
def step_all(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    return total(torch.where(inside, q - v, q), gradient, math.sqrt(weight.numel() * qmax))


@step_gradient.mistake("incoming gradient unused", says="the incoming gradient was not used")
def step_alone(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    v, inside, q = pieces(weight, scale, qmin, qmax)
    parts = torch.where(inside, q - v, q)
    return total(parts, torch.ones_like(gradient), root(weight, qmax))


@step_gradient.mistake("no keepdim", says="keepdim=True is missing")
def step_flat(weight: Tensor, scale: Tensor, qmin: int, qmax: int, gradient: Tensor) -> Tensor:
    return by_autograd(weight, scale, qmin, qmax, gradient)[:, 0]


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


def thirds(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / scale.clamp(min=1e-12)).round().clamp(-1, 1).to(torch.int8)


@ternarize.mistake("the sign", says="this is the sign")
def ternary_sign(weight: Tensor) -> Pair:
    return weight.sign().to(torch.int8), weight.abs().mean()


@ternarize.mistake("no clip", says="nothing was clipped")
def ternary_unclipped(weight: Tensor) -> Pair:
    scale = weight.abs().mean()
    return (weight / (scale + 1e-12)).round().to(torch.int8), scale


@ternarize.mistake("largest for mean", says="the largest magnitude was taken")
def ternary_largest(weight: Tensor) -> Pair:
    return thirds(weight, weight.abs().max()), weight.abs().max()


@ternarize.mistake("mean without abs", says="the signs were not removed")
def ternary_signed(weight: Tensor) -> Pair:
    return thirds(weight, weight.mean()), weight.mean()


@ternarize.mistake("root mean square", says="the root of the mean square")
def ternary_rms(weight: Tensor) -> Pair:
    scale = weight.square().mean().sqrt()
    return thirds(weight, scale), scale


@ternarize.mistake("a scale for each row", says="should be one number")
def ternary_rows(weight: Tensor) -> Pair:
    scale = weight.abs().mean(dim=1, keepdim=True)
    return thirds(weight, scale), scale


@ternarize.mistake("cut off", says="fractions were cut off")
def ternary_cast(weight: Tensor) -> Pair:
    scale = weight.abs().mean()
    return (weight / (scale + 1e-12)).clamp(-1, 1).to(torch.int8), scale


@ternarize.mistake("floats back", says="should have torch.int8")
def ternary_float(weight: Tensor) -> Pair:
    return thirds(weight, weight.abs().mean()).float(), weight.abs().mean()


@ternarize.mistake("swapped", says="`q` should come first")
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
    return weight + b @ a


@merge.mistake("alpha alone", says="alpha was not divided by the rank")
def merge_alpha(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight + alpha * (b @ a)


@merge.mistake("rank over alpha", says="alpha and rank are swapped")
def merge_swapped(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight + len(a) / alpha * (b @ a)


@merge.mistake("rslora", says="rsLoRA")
def merge_root(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight + alpha / math.sqrt(len(a)) * (b @ a)


@merge.mistake("weight missing", says="the weight is missing")
def merge_update(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return alpha / len(a) * (b @ a)


@merge.mistake("subtracted", says="the update was subtracted")
def merge_minus(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight - alpha / len(a) * (b @ a)


@merge.mistake("turned", says="raised RuntimeError")
def merge_turned(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight + alpha / len(a) * (a @ b)


@merge.mistake("in place", says="in place")
def merge_in_place(weight: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return weight.add_(alpha / len(a) * (b @ a))


# ----------------------------------------------------------------------- qat.lost_part

lost_part = Answers("qat.lost_part")


def grid(x: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (x / scale).round().clamp(qmin, qmax) * scale


@lost_part.second
def lost_in_squares(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> float:
    total = (weight + update).double()
    levels = torch.arange(qmin, qmax + 1) * scale.double()[..., None]  # [out, 1, levels]
    error = (total[..., None] - levels).abs().amin(dim=-1)
    return math.sqrt(error.square().sum() / update.double().square().sum())


@lost_part.mistake("compared with the old weight", says="compared with the old weight")
def lost_old(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (grid(weight + update, scale, qmin, qmax) - weight).norm() / update.norm()


@lost_part.mistake("update rounded alone", says="rounded by itself")
def lost_alone(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    return (grid(update, scale, qmin, qmax) - update).norm() / update.norm()


@lost_part.mistake("relative to the sum", says="the size of the sum")
def lost_of_sum(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    total = weight + update
    return (grid(total, scale, qmin, qmax) - total).norm() / total.norm()


@lost_part.mistake("not relative", says="not divided by the size of the update")
def lost_absolute(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    total = weight + update
    return (grid(total, scale, qmin, qmax) - total).norm()


@lost_part.mistake("squared", says="the squared error came back")
def lost_squared(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> float:
    return lost_in_squares(weight, update, scale, qmin, qmax) ** 2


@lost_part.mistake("what was kept", says="return what was lost")
def lost_kept(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> float:
    return 1 - lost_in_squares(weight, update, scale, qmin, qmax)


@lost_part.mistake("no clip", says="nothing was clipped")
def lost_unclipped(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    total = weight + update
    return ((total / scale).round() * scale - total).norm() / update.norm()


@lost_part.mistake("floor", says="rounded down (floor)")
def lost_floor(weight: Tensor, update: Tensor, scale: Tensor, qmin: int, qmax: int) -> Tensor:
    total = weight + update
    kept = (total / scale).floor().clamp(qmin, qmax) * scale
    return (kept - total).norm() / update.norm()
