"""Right and wrong answers to the exercises of lesson 04."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from tests.lessons.gates import Answers

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]


def safe(step: Tensor) -> Tensor:
    return step.masked_fill(step == 0, 1.0)


def rounded(x: Tensor, step: Tensor) -> Tensor:
    return (x / step).round().clamp(-127, 127).to(torch.int8)


def tops(x: Tensor) -> Tensor:
    return x.abs().amax(dim=1, keepdim=True)


# ------------------------------------------------------------------ smooth.quantize_tokens

quantize_tokens = Answers("smooth.quantize_tokens")


@quantize_tokens.second
def tokens_one_by_one(x: Tensor) -> Pair:
    q, steps = torch.zeros(x.shape, dtype=torch.int8), []
    for t, token in enumerate(x.tolist()):
        step = max(map(abs, token)) / 127 or 1.0
        q[t] = torch.tensor([round(value / step) for value in token])
        steps.append([step])
    return q, torch.tensor(steps)


@quantize_tokens.mistake("one step for all tokens", says="all tokens share one step")
def tokens_per_tensor(x: Tensor) -> Pair:
    step = (x.abs().max() / 127).expand(len(x), 1)
    return rounded(x, step), step


@quantize_tokens.mistake("one step a channel", says="each channel has a step")
def tokens_per_channel(x: Tensor) -> Pair:
    step = safe(x.abs().amax(dim=0, keepdim=True) / 127)
    return rounded(x, step), step


@quantize_tokens.mistake("128 for 127", says="divided by 128")
def tokens_128(x: Tensor) -> Pair:
    step = safe(tops(x) / 128)
    return rounded(x, step), step


@quantize_tokens.mistake("255 steps", says="divided by 255")
def tokens_255(x: Tensor) -> Pair:
    step = safe(tops(x) / 255)
    return rounded(x, step), step


@quantize_tokens.mistake("largest value", says="take abs() first")
def tokens_no_abs(x: Tensor) -> Pair:
    step = safe(x.amax(dim=1, keepdim=True) / 127)
    return rounded(x, step), step


@quantize_tokens.mistake("step upside down", says="upside down")
def tokens_upside_down(x: Tensor) -> Pair:
    factor = 127 / safe(tops(x))
    return (x * factor).round().to(torch.int8), factor


@quantize_tokens.mistake("no keepdim", says="keepdim=True is missing")
def tokens_flat(x: Tensor) -> Pair:
    q, step = tokens_one_by_one(x)
    return q, step[:, 0]


@quantize_tokens.mistake("step 0 for a token of zeros", says="a token of zeros has a step of zero")
def tokens_zero(x: Tensor) -> Pair:
    step = tops(x) / 127
    return torch.nan_to_num(x / step).round().to(torch.int8), step


@quantize_tokens.mistake("a cast for round", says="fractions were cut off")
def tokens_cast(x: Tensor) -> Pair:
    step = safe(tops(x) / 127)
    return (x / step).to(torch.int8), step


@quantize_tokens.mistake("floor for round", says="rounded down (floor)")
def tokens_floor(x: Tensor) -> Pair:
    step = safe(tops(x) / 127)
    return (x / step).floor().to(torch.int8), step


@quantize_tokens.mistake("floats that hold integers", says="should have torch.int8")
def tokens_float(x: Tensor) -> Pair:
    q, step = tokens_one_by_one(x)
    return q.float(), step


@quantize_tokens.mistake("results swapped", says="swapped")
def tokens_swapped(x: Tensor) -> Pair:
    return tokens_one_by_one(x)[::-1]


@quantize_tokens.mistake("only q", says="2 results should come back")
def tokens_q_only(x: Tensor) -> Tensor:
    return tokens_one_by_one(x)[0]


# ---------------------------------------------------------------------- smooth.int8_matmul

int8_matmul = Answers("smooth.int8_matmul")


def widened(xq: Tensor, wq: Tensor) -> Tensor:
    return (xq.int() @ wq.int().T).float()


@int8_matmul.second
def matmul_of_real_numbers(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return linear(xq.double() * step, wq.double() * scale).float()


@int8_matmul.mistake("sum in int8", says="which has no number beyond 127")
def matmul_int8(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return (xq[:, None] * wq[None]).sum(dim=2, dtype=torch.int8) * step * scale.T


@int8_matmul.mistake("scale forgotten", says="the weights' scale is missing")
def matmul_no_scale(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(xq, wq) * step


@int8_matmul.mistake("step forgotten", says="the tokens' step is missing")
def matmul_no_step(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(xq, wq) * scale.T


@int8_matmul.mistake("integers returned", says="the integers came back")
def matmul_integers(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(xq, wq)


@int8_matmul.mistake("divided by the scales", says="divided by the scales")
def matmul_divided(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(xq, wq) / step / scale.T


@int8_matmul.mistake("scale not turned", says="raised RuntimeError")
def matmul_scale_not_turned(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(xq, wq) * step * scale


@int8_matmul.mistake("y turned", says="y is turned")
def matmul_turned(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return widened(wq, xq) * scale * step.T


@int8_matmul.mistake("scale as a row where it happens to fit", says="turn it, [out, 1] to [1, out]")
def matmul_scale_on_rows(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    fits = len(xq) == len(wq)
    return widened(xq, wq) * step * (scale if fits else scale.T)


# ------------------------------------------------------------------ smooth.smoothing_scale

smoothing_scale = Answers("smooth.smoothing_scale")


def shared(x_max: Tensor, w_max: Tensor, alpha: float) -> Tensor:
    s = x_max**alpha / w_max ** (1 - alpha)
    return torch.where((x_max > 0) & (w_max > 0), s, 1.0)


def columns(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=0)


@smoothing_scale.second
def scale_of_stacked_rows(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    rows = torch.cat(weights)  # the readers, one below the other, are one tall weight
    s = []
    for j in range(x.shape[1]):
        x_max, w_max = x[:, j].abs().max().item(), rows[:, j].abs().max().item()
        s.append(x_max**alpha * w_max ** (alpha - 1) if x_max and w_max else 1.0)
    return torch.tensor(s)


@smoothing_scale.mistake("first weight only", says="only the first weight was looked at")
def scale_first(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return shared(columns(x), columns(weights[0]), alpha)


@smoothing_scale.mistake("last weight only", says="only the last weight was looked at")
def scale_last(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    for weight in weights:
        w_max = columns(weight)
    return shared(columns(x), w_max, alpha)


@smoothing_scale.mistake("mean over the weights", says="maxima were averaged")
def scale_mean(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return shared(columns(x), torch.stack([columns(w) for w in weights]).mean(dim=0), alpha)


@smoothing_scale.mistake("alpha swapped", says="alpha and 1 - alpha are swapped")
def scale_swapped(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return shared(columns(x), columns(torch.cat(weights)), 1 - alpha)


@smoothing_scale.mistake("product of powers", says="the two powers were multiplied")
def scale_product(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    x_max, w_max = columns(x), columns(torch.cat(weights))
    return torch.where((x_max > 0) & (w_max > 0), x_max**alpha * w_max ** (1 - alpha), 1.0)


@smoothing_scale.mistake("upside down", says="it is upside down")
def scale_upside_down(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return 1 / shared(columns(x), columns(torch.cat(weights)), alpha)


@smoothing_scale.mistake("no abs", says="take abs() first")
def scale_no_abs(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    x_max, w_max = x.amax(dim=0).clamp(min=0), torch.cat(weights).amax(dim=0)
    return shared(x_max, w_max, alpha)


@smoothing_scale.mistake("maximum over rows", says="has shape")
def scale_rows(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return x.abs().amax(dim=1) ** alpha / torch.cat(weights).abs().max() ** (1 - alpha)


@smoothing_scale.mistake("means for maxima", says="means of magnitudes")
def scale_means(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    w_mean = torch.stack([w.abs().mean(dim=0) for w in weights]).amax(dim=0)
    return shared(x.abs().mean(dim=0), w_mean, alpha)


@smoothing_scale.mistake("one maximum for all columns of x", says="for all channels of x")
def scale_one_x(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    w_max = columns(torch.cat(weights))
    return shared(x.abs().max().expand(len(w_max)), w_max, alpha)


@smoothing_scale.mistake("dead channels", says="a dead channel")
def scale_dead(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return columns(x) ** alpha / columns(torch.cat(weights)) ** (1 - alpha)


# ----------------------------------------------------------------------------- smooth.fold

fold = Answers("smooth.fold")
Folded = tuple[Tensor, Tensor, list[Tensor]]


@fold.second
def fold_by_diagonals(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    inverse = torch.diag(1 / s)
    return norm @ inverse, bias @ inverse, [weight @ torch.diag(s) for weight in weights]


@fold.mistake("norm multiplied", says="what makes it is divided")
def fold_multiplied(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm * s, bias * s, [w * s for w in weights]


@fold.mistake("norm left", says="it makes x, and x is to be divided by s")
def fold_norm_left(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm.clone(), bias / s, [w * s for w in weights]


@fold.mistake("bias left", says="the bias is divided too")
def fold_bias_left(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias.clone(), [w * s for w in weights]


@fold.mistake("first reader only", says="every reader of x has to make up for s")
def fold_first(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [weights[0] * s, *weights[1:]]


@fold.mistake("weights divided", says="it makes up for the division of x")
def fold_divided(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [w / s for w in weights]


@fold.mistake("rows of a square weight", says="its rows were multiplied")
def fold_rows(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [w * s[:, None] if len(w) == len(s) else w * s for w in weights]


@fold.mistake("divided once a reader", says="it was done twice")
def fold_each_time(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    scaled = []
    for weight in weights:
        norm, bias = norm / s, bias / s
        scaled.append(weight * s)
    return norm, bias, scaled


@fold.mistake("weights changed in place", says="in place")
def fold_in_place(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [w.mul_(s) for w in weights]


@fold.mistake("one weight back", says="return one for each")
def fold_stacked(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [torch.cat(weights) * s]


@fold.mistake("no bias back", says="3 results should come back")
def fold_two(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> tuple:
    return norm / s, [w * s for w in weights]


# -------------------------------------------------------------------- smooth.output_errors

output_errors = Answers("smooth.output_errors")


def on_grid(rows: Tensor) -> Tensor:
    step = tops(rows) / 127
    return (rows / step).round() * step


def scales_of(x: Tensor, weight: Tensor, alphas: list[float]) -> list[Tensor]:
    return [columns(x) ** a / columns(weight) ** (1 - a) for a in alphas]


def relative(rows: list[Tensor], y: Tensor) -> Tensor:
    return torch.stack([(row - y).norm() / y.norm() for row in rows])


@output_errors.second
def errors_all_at_once(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    a = torch.tensor(alphas, dtype=torch.float64)[:, None]
    s = (columns(x).double() ** a / columns(weight).double() ** (1 - a))[:, None]  # [n, 1, in]
    xs, ws = x.double() / s, weight.double() * s
    x_step, w_step = (t.abs().amax(dim=2, keepdim=True) / 127 for t in (xs, ws))
    y = (xs / x_step).round().matmul((ws / w_step).round().transpose(1, 2)) * x_step
    error = y * w_step.transpose(1, 2) - x.double() @ weight.double().T
    return error.flatten(1).norm(dim=1) / (x.double() @ weight.double().T).norm()


@output_errors.mistake("weight not rounded", says="only the activations were rounded")
def errors_x_only(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    scales = scales_of(x, weight, alphas)
    return relative([on_grid(x / s) @ (weight * s).T for s in scales], x @ weight.T)


@output_errors.mistake("activations not rounded", says="only the weight was rounded")
def errors_w_only(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    scales = scales_of(x, weight, alphas)
    return relative([(x / s) @ on_grid(weight * s).T for s in scales], x @ weight.T)


@output_errors.mistake("weight not multiplied", says="the weight was not multiplied by s")
def errors_unscaled(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    scales = scales_of(x, weight, alphas)
    return relative([on_grid(x / s) @ on_grid(weight).T for s in scales], x @ weight.T)


@output_errors.mistake("nothing smoothed", says="nothing was smoothed")
def errors_unsmoothed(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return relative([on_grid(x) @ on_grid(weight).T] * len(alphas), x @ weight.T)


@output_errors.mistake("one step for all tokens", says="x has one step for all tokens")
def errors_per_tensor(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    def one_step(x: Tensor) -> Tensor:
        step = x.abs().max() / 127
        return (x / step).round() * step

    scales = scales_of(x, weight, alphas)
    return relative([one_step(x / s) @ on_grid(weight * s).T for s in scales], x @ weight.T)


@output_errors.mistake("alpha swapped", says="alpha and 1 - alpha are swapped")
def errors_swapped(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, [1 - a for a in alphas])


@output_errors.mistake("squared error", says="the squared error came back")
def errors_squared(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, alphas) ** 2


@output_errors.mistake("absolute error", says="not divided by the size of y")
def errors_absolute(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, alphas) * (x @ weight.T).norm()


@output_errors.mistake("a list of numbers", says="should be a torch tensor")
def errors_list(x: Tensor, weight: Tensor, alphas: list[float]) -> list[float]:
    return errors_all_at_once(x, weight, alphas).tolist()
