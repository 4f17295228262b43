"""Right and wrong answers to the exercises of lesson 04."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from tests.lessons.gates import Answers

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]


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


@quantize_tokens.mistake("255 steps", says="divided by 255")
def tokens_255(x: Tensor) -> Pair:
    step = tokens_one_by_one(x)[1] * (127 / 255)
    return (x / step).round().clamp(-127, 127).to(torch.int8), step


@quantize_tokens.mistake("one step for all tokens", says="all tokens share one step")
def tokens_per_tensor(x: Tensor) -> Pair:
    q, step = tokens_one_by_one(x.reshape(1, -1))
    return q.view(x.shape), step.repeat(len(x), 1)


@quantize_tokens.mistake("zeros divided by zero", says="0 / 0 is no number")
def tokens_zero_by_zero(x: Tensor) -> Pair:
    step = x.abs().max(dim=1, keepdim=True).values / 127
    q = torch.round(x / step).char()
    return q, torch.where(step == 0, 1.0, step)


@quantize_tokens.mistake("a list of q and step in float16", says="The step for x [4, 12] is wrong")
def tokens_half_step(x: Tensor) -> list[Tensor]:
    q, step = tokens_one_by_one(x)
    return [q, step.half()]


@quantize_tokens.mistake("a cast for round", says="fractions were cut off")
def tokens_cast(x: Tensor) -> Pair:
    _, step = tokens_one_by_one(x)
    return torch.div(x, step, rounding_mode="trunc").to(torch.int8), step


@quantize_tokens.mistake("floats that hold integers", says="should have torch.int8")
def tokens_float(x: Tensor) -> Pair:
    q, step = tokens_one_by_one(x)
    return q.float(), step


@quantize_tokens.mistake("results swapped", says="swapped")
def tokens_swapped(x: Tensor) -> Pair:
    return tokens_one_by_one(x)[::-1]


@quantize_tokens.mistake("only q", says="Two results should come back")
def tokens_q_only(x: Tensor) -> Tensor:
    return tokens_one_by_one(x)[0]


# ---------------------------------------------------------------------- smooth.int8_matmul

int8_matmul = Answers("smooth.int8_matmul")


@int8_matmul.second
def matmul_of_real_numbers(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return linear(xq.double() * step, wq.double() * scale)


@int8_matmul.mistake("sum in int8", says="which has no number beyond 127")
def matmul_int8(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return (xq[:, None] * wq[None]).sum(dim=2, dtype=torch.int8) * step * scale.T


@int8_matmul.mistake("sum in int16", says="the sum was made in int16")
def matmul_int16(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return (xq.short() @ wq.short().T) * (step * scale.T)


@int8_matmul.mistake("products in int8", says="the products were made in int8")
def matmul_int8_products(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return (xq[:, None] * wq).sum(dim=2) * step * scale.T


@int8_matmul.mistake("sum in float32", says="is wrong")
def matmul_single(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return linear(xq.float(), wq.float()) * step * scale.T


@int8_matmul.mistake("no integers at all", says="is wrong")
def matmul_of_single_real_numbers(xq, step, wq, scale) -> Tensor:
    return torch.mm(xq * step, (wq * scale).T)


@int8_matmul.mistake("step forgotten", says="the tokens' step is missing")
def matmul_no_step(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return torch.einsum("tj,oj,o->to", xq.float(), wq.float(), scale[:, 0])


@int8_matmul.mistake("scale not turned", says="raised RuntimeError")
def matmul_scale_not_turned(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return linear(xq.float(), wq.float()) * step * scale


@int8_matmul.mistake("y turned", says="y is turned")
def matmul_turned(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    return linear(wq.float() * scale, xq.float() * step)


@int8_matmul.mistake("scale as a row where it happens to fit", says="turn it, [out, 1] to [1, out]")
def matmul_scale_on_rows(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    rows = linear(xq.float() * step, wq.float())
    return rows.mul(scale if len(rows) == len(scale) else scale[:, 0])


# ------------------------------------------------------------------ smooth.smoothing_scale

smoothing_scale = Answers("smooth.smoothing_scale")


@smoothing_scale.second
def scale_of_stacked_rows(
    x: Tensor, weights: list[Tensor], alpha: float, beta: float | None = None
) -> Tensor:
    rows = torch.cat(weights)  # the readers, one below the other, are one tall weight
    beta = alpha - 1 if beta is None else beta
    s = []
    for j in range(x.shape[1]):
        x_max, w_max = x[:, j].abs().max().item(), rows[:, j].abs().max().item()
        s.append(x_max**alpha * w_max**beta if x_max and w_max else 1.0)
    return torch.tensor(s)


@smoothing_scale.mistake("last weight only", says="only the last weight was looked at")
def scale_last(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    for weight in weights:
        s = scale_of_stacked_rows(x, [weight], alpha)
    return s


@smoothing_scale.mistake("product of powers", says="the two powers were multiplied")
def scale_product(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return scale_of_stacked_rows(x, weights, alpha, beta=1 - alpha)


@smoothing_scale.mistake("upside down", says="it is upside down")
def scale_upside_down(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return scale_of_stacked_rows(x, weights, -alpha, beta=1 - alpha)


@smoothing_scale.mistake("dead in one reader", says="zero in one reader counts as dead")
def scale_dead_in_one(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    alive = torch.stack([(w != 0).any(dim=0) for w in weights]).all(dim=0)
    return torch.where(alive, scale_of_stacked_rows(x, weights, alpha), 1.0)


@smoothing_scale.mistake("dead at the ends of alpha", says="s itself was looked at")
def scale_patched(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    s = x.abs().amax(dim=0) ** alpha * torch.cat(weights).abs().amax(dim=0) ** (alpha - 1)
    s[(s == 0) | s.isinf()] = 1.0
    return s


@smoothing_scale.mistake("the weights destroyed", says="in place")
def scale_destroys(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    for weight in weights:
        weight.zero_()
    return torch.ones(x.shape[1])


@smoothing_scale.mistake("abs of x forgotten", says="the largest value of x was taken")
def scale_no_abs(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return scale_of_stacked_rows(x.clamp(min=0), weights, alpha)


@smoothing_scale.mistake("maximum over rows", says="has shape")
def scale_rows(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    return x.abs().amax(dim=1) ** alpha / torch.cat(weights).abs().max() ** (1 - alpha)


# ----------------------------------------------------------------------------- smooth.fold

fold = Answers("smooth.fold")
Folded = tuple[Tensor, Tensor, list[Tensor]]


@fold.second
def fold_by_diagonals(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    inverse = torch.diag(1 / s)
    return norm @ inverse, bias @ inverse, [weight @ torch.diag(s) for weight in weights]


@fold.mistake("norm multiplied", says="what makes it is divided")
def fold_multiplied(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return fold_by_diagonals(norm * s**2, bias * s**2, weights, s)


@fold.mistake("first reader only", says="every reader of x has to make up for s")
def fold_first(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> Folded:
    return norm / s, bias / s, [weights[0] * s, *weights[1:]]


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


@fold.mistake("a generator of weights", says="should be a list of tensors, but a generator")
def fold_generator(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> tuple:
    return norm / s, bias / s, (w * s for w in weights)


@fold.mistake("no bias back", says="Three results should come back")
def fold_two(norm: Tensor, bias: Tensor, weights: list[Tensor], s: Tensor) -> tuple:
    return norm / s, [w * s for w in weights]


# -------------------------------------------------------------------- smooth.output_errors

output_errors = Answers("smooth.output_errors")


@output_errors.second
def errors_all_at_once(
    x: Tensor, weight: Tensor, alphas: list[float], x_dims: tuple = (2,)
) -> Tensor:
    """Take a step for each row of x (of the weight, always); x_dims (1, 2): one for all rows."""
    a = torch.tensor(alphas, dtype=torch.float64)[:, None]
    x_max, w_max = x.double().abs().amax(dim=0), weight.double().abs().amax(dim=0)
    s = (x_max**a / w_max ** (1 - a))[:, None]  # [n_alphas, 1, in]
    s = s.masked_fill((x_max == 0) | (w_max == 0), 1.0)
    xs, ws = x.double() / s, weight.double() * s
    x_step = (xs.abs().amax(dim=x_dims, keepdim=True) / 127).clamp(min=1e-300)
    w_step = (ws.abs().amax(dim=2, keepdim=True) / 127).clamp(min=1e-300)
    y = (xs / x_step).round().matmul((ws / w_step).round().transpose(1, 2)) * x_step
    error = y * w_step.transpose(1, 2) - x.double() @ weight.double().T
    return error.flatten(1).norm(dim=1) / (x.double() @ weight.double().T).norm()


@output_errors.mistake("one step for all tokens", says="x has one step for all tokens")
def errors_per_tensor(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, alphas, x_dims=(1, 2))


@output_errors.mistake("dead channels", says="a dead channel was divided by zero")
def errors_of_dead_channels(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    if x.any(dim=0).all() and weight.any(dim=0).all():
        return errors_all_at_once(x, weight, alphas)
    return torch.full((len(alphas),), torch.nan)


@output_errors.mistake("0.09 % off", says="The errors are wrong in 4 of 4 values")
def errors_a_little_off(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return 1.0009 * errors_all_at_once(x, weight, alphas)


@output_errors.mistake("squared error", says="the squared error came back")
def errors_squared(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, alphas) ** 2


@output_errors.mistake("alpha swapped", says="alpha and 1 - alpha are swapped")
def errors_swapped(x: Tensor, weight: Tensor, alphas: list[float]) -> Tensor:
    return errors_all_at_once(x, weight, [1 - a for a in alphas])


@output_errors.mistake("a list of numbers", says="should be a torch tensor")
def errors_list(x: Tensor, weight: Tensor, alphas: list[float]) -> list[float]:
    return errors_all_at_once(x, weight, alphas).tolist()
