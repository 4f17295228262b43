"""The usual wrong answers to the exercises of lesson 07, each with what to tell its author.

Most are the right answer with one thing changed: a helper has the right one and takes what stands
in the place of a part of it. Where the helper's call says all, it is a lambda: w is the weight
[out, in], s the scale of its rows [out, 1], g a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shrinkkit.checks.mistakes import Mistakes

FAKE_QUANTIZE = Mistakes()
STEP_GRADIENT = Mistakes()
TERNARIZE = Mistakes()
MERGE = Mistakes()
LOST_PART = Mistakes()


def rounded(x: Tensor, scale: Tensor, qmin: float, qmax: float, rounding=torch.round) -> Tensor:
    """Round to the grid."""
    return rounding(x / scale).clamp(qmin, qmax) * scale


def in_int8(v: Tensor) -> Tensor:
    """Round in int8, where what lies outside of -128 to 127 becomes another number."""
    return v.round().to(torch.int8).to(v.dtype)


# ------------------------------------------------------------------- qat.fake_quantize


def at_end(v: Tensor, qmin: int, qmax: int) -> Tensor:
    return (v == qmin) | (v == qmax)


def straight(weight, scale, qmin, qmax, *, forward=None, backward=None) -> Tensor:
    """Round, and let the gradient of what lies inside the range pass.

    forward: the value that comes out instead. backward(gradient, inside): what passes instead.
    """
    v = weight / scale
    through = v.clamp(qmin, qmax) * scale
    if backward is not None:
        through = weight * 1
        through.register_hook(lambda gradient: backward(gradient, (v >= qmin) & (v <= qmax)))
    value = rounded(weight, scale, qmin, qmax) if forward is None else forward
    return through + (value - through).detach()


FAKE_QUANTIZE.add(
    "nothing was clipped: keep the steps between qmin and qmax",
    lambda w, s, *ends: straight(w, s, *ends, forward=(w / s).round() * s),
)
FAKE_QUANTIZE.add(
    "values were rounded down (floor), not to the nearest",
    lambda w, s, *ends: straight(w, s, *ends, forward=rounded(w, s, *ends, torch.floor)),
)
FAKE_QUANTIZE.add(
    "nothing was rounded: the forward pass uses the rounded weight",
    lambda w, s, *ends: (w / s).clamp(*ends) * s,
)
FAKE_QUANTIZE.add(
    "the integers came back: multiply them by the scale",
    lambda w, s, *ends: straight(w, s, *ends, forward=(w / s).round().clamp(*ends)),
)
FAKE_QUANTIZE.add(
    "the weight came back as it was", lambda w, s, *ends: straight(w, s, *ends, forward=w)
)
FAKE_QUANTIZE.add(
    "the weight was multiplied by the scale, not divided",
    lambda w, s, *ends: straight(w, s, *ends, forward=(w * s).round().clamp(*ends) * s),
)
FAKE_QUANTIZE.add(
    "the real weight was clipped to qmin and qmax, which are steps: divide by the scale first",
    lambda w, s, *ends: straight(w, s, *ends, forward=(w.clamp(*ends) / s).round() * s),
)
FAKE_QUANTIZE.add(
    "the real weight was clipped to qmin and qmax, which are steps, and its gradient stops there: "
    "divide by the scale before you clip",
    lambda w, s, *ends: straight(w, s, *ends, backward=lambda g, inside: g * (w == w.clamp(*ends))),
)
FAKE_QUANTIZE.add(
    "steps were cast to int8, which holds -128 to 127, and turned into others: stay in floats",
    lambda w, s, *ends: straight(w, s, *ends, forward=rounded(w, s, *ends, in_int8)),
)
FAKE_QUANTIZE.add(
    "a small scale was raised (`clamp(min=...)`, `+ 1e-8`): it is never 0, so divide by it as it "
    "is",
    lambda w, s, *ends: straight(w, s, *ends, forward=rounded(w, s.clamp(min=1e-5), *ends)),
)
FAKE_QUANTIZE.add(
    "a grid of -qmax to qmax was taken: it goes from qmin",
    lambda w, s, qmin, qmax: straight(w, s, qmin, qmax, forward=rounded(w, s, -qmax, qmax)),
)
FAKE_QUANTIZE.add(
    "no gradient passes: round() stops it. Add `(rounded - value).detach()` to the value",
    lambda w, s, *ends: rounded(w, s, *ends),
)
FAKE_QUANTIZE.add(
    "the gradient passes outside the range, too: clip first, and let round be skipped after that",
    lambda *case: straight(*case, backward=lambda g, inside: g),
)
FAKE_QUANTIZE.add(
    "the gradient passes where it should stop and stops where it should pass",
    lambda *case: straight(*case, backward=lambda g, inside: g * ~inside),
)


@FAKE_QUANTIZE(
    "the range was judged by the rounded value: weights up to half a step outside still learn"
)
def half_a_step(weight, scale, *ends):
    q = (weight / scale).round()
    return straight(weight, scale, *ends, backward=lambda g, inside: g * (q == q.clamp(*ends)))


FAKE_QUANTIZE.add(
    "the gradient stops at the ends of the range themselves: weight / scale == qmax and == qmin "
    "lie inside (`<=`, not `<`)",
    lambda w, s, *ends: straight(
        w, s, *ends, backward=lambda g, inside: g * inside * ~at_end(w / s, *ends)
    ),
)
FAKE_QUANTIZE.add(
    "half of the gradient passes at the ends of the range, where `minimum` and `maximum` share it: "
    "take `clamp`, or a mask with `<=`",
    lambda w, s, *ends: straight(
        w, s, *ends, backward=lambda g, inside: g * inside * (1 - 0.5 * at_end(w / s, *ends))
    ),
)
FAKE_QUANTIZE.add(
    "the gradient was multiplied by the scale",
    lambda w, s, *ends: straight(w, s, *ends, backward=lambda g, inside: g * inside * s),
)
FAKE_QUANTIZE.add(
    "the gradient was divided by the scale",
    lambda w, s, *ends: straight(w, s, *ends, backward=lambda g, inside: g * inside / s),
)
FAKE_QUANTIZE.add(
    "the incoming gradient was not used: multiply by it",
    lambda *case: straight(*case, backward=lambda g, inside: inside.to(g.dtype)),
)

# ------------------------------------------------------------------- qat.step_gradient


def step(
    weight, scale, qmin, qmax, gradient, *, inside=None, outside=None, over=None, within=None
) -> Tensor:
    """Add up LSQ's parts, row by row.

    inside, outside: functions of v and the weight. over: what divides the sum, of n and qmax.
    within: what counts as inside, of v and the ends.
    """
    v, n = weight / scale, weight.shape[1]
    ends = v.round().clamp(qmin, qmax)
    parts = torch.where(
        within(v, qmin, qmax) if within else (v >= qmin) & (v <= qmax),
        inside(v, weight) if inside else v.round() - v,
        outside(v, weight) if outside else ends,
    )
    return (parts * gradient).sum(dim=1, keepdim=True) / (over or root)(n, qmax)


def root(n: int, qmax: int) -> float:
    return math.sqrt(n * qmax)


STEP_GRADIENT.add(
    "the sign inside is turned: it is round(v) - v",
    lambda *case: step(*case, inside=lambda v, w: v - v.round()),
)
STEP_GRADIENT.add(
    "what lies outside was left out: it adds qmin or qmax",
    lambda *case: step(*case, outside=lambda v, w: 0.0),
)
STEP_GRADIENT.add(
    "what lies outside adds the weight itself: it adds qmin or qmax",
    lambda *case: step(*case, outside=lambda v, w: v),
)
STEP_GRADIENT.add(
    "the ends of the range count as outside, as in the paper: here v == qmin and v == qmax lie "
    "inside (`<=`, not `<`), and give round(v) - v = 0",
    lambda *case: step(*case, within=lambda v, qmin, qmax: (v > qmin) & (v < qmax)),
)
STEP_GRADIENT.add(
    "the range was judged by the rounded value: what lies up to half a step outside adds qmin or "
    "qmax",
    lambda *case: step(*case, within=lambda v, *ends: v.round() == v.round().clamp(*ends)),
)
STEP_GRADIENT.add(
    "round(v) - v was taken outside, too: there it is qmin or qmax alone",
    lambda *case: step(*case, outside=lambda v, w: v.round() - v),
)
STEP_GRADIENT.add(
    "- v was kept outside: there it is qmin or qmax alone",
    lambda w, s, qmin, qmax, g: step(
        w, s, qmin, qmax, g, outside=lambda v, w: v.round().clamp(qmin, qmax) - v
    ),
)
STEP_GRADIENT.add(
    "values were rounded down (floor), not to the nearest",
    lambda *case: step(*case, inside=lambda v, w: v.floor() - v),
)
STEP_GRADIENT.add(
    "-qmax took the place of qmin",
    lambda w, s, qmin, qmax, g: step(w, s, qmin, qmax, g, outside=lambda v, w: v.sign() * qmax),
)
STEP_GRADIENT.add(
    "a small scale was raised (`clamp(min=...)`, `+ 1e-8`): it is never 0, so divide by it as it "
    "is",
    lambda w, s, *rest: step(w, s.clamp(min=1e-5), *rest),
)
STEP_GRADIENT.add(
    "round(v) is there, and - v is missing",
    lambda *case: step(*case, inside=lambda v, w: v.round()),
)
STEP_GRADIENT.add(
    "weight took the place of weight / scale",
    lambda *case: step(*case, inside=lambda v, w: v.round() - w),
)
STEP_GRADIENT.add(
    "the sum was not divided by sqrt(n * qmax)", lambda *case: step(*case, over=lambda n, qmax: 1)
)
STEP_GRADIENT.add(
    "the sum was divided by sqrt(n): qmax belongs under the root, too",
    lambda *case: step(*case, over=lambda n, qmax: math.sqrt(n)),
)
STEP_GRADIENT.add(
    "the sum was divided by n * qmax: take the root",
    lambda *case: step(*case, over=lambda n, qmax: n * qmax),
)
STEP_GRADIENT.add(
    "n counts all weights: it is those that share the scale, a row",
    lambda w, *rest: step(w, *rest, over=lambda n, qmax: root(w.numel(), qmax)),
)
STEP_GRADIENT.add(
    "the sum was multiplied by sqrt(n * qmax)",
    lambda *case: step(*case, over=lambda n, qmax: 1 / root(n, qmax)),
)
STEP_GRADIENT.add(
    "the incoming gradient was not used: multiply each weight's part by its own",
    lambda w, s, qmin, qmax, g: step(w, s, qmin, qmax, torch.ones_like(g)),
)
STEP_GRADIENT.add(
    "all rows were added up: each row has a scale of its own",
    lambda w, s, *rest: torch.full_like(s, step(w, s, *rest).sum()),
)
STEP_GRADIENT.add("keepdim=True is missing where you add up", lambda *case: step(*case)[:, 0])
STEP_GRADIENT.add("the mean was taken: add up", lambda w, *rest: step(w, *rest) / w.shape[1])

# ----------------------------------------------------------------------- qat.ternarize


def ternary(
    weight, *, mean=lambda m: m.mean(), rounding=torch.round, top=1, over=None, scale=None
) -> tuple[Tensor, Tensor]:
    """Return q and the scale.

    mean: what the scale is, of the magnitudes. over: what divides instead, of the scale. scale:
    what comes back as the scale instead.
    """
    found = mean(weight.abs())
    v = weight / (found.masked_fill(found == 0, 1.0) if over is None else over(found))
    q = rounding(v).clamp(-top, top).to(torch.int8)
    return q, found if scale is None else scale(found)


# These fail late, and look like others there: so they come first.
TERNARIZE.add(
    "zeros were left out of the mean: it is of all weights",
    lambda w: ternary(w, mean=lambda m: m.sum() / (m > 0).sum().clamp(min=1)),
)
TERNARIZE.add(
    "what was added to the scale, or the least that it may be, is too large for tiny weights: only "
    "a scale of exactly 0 needs a stand-in",
    lambda w: ternary(w, over=lambda s: s.clamp(min=1e-5)),
)
TERNARIZE.add(
    "0 was divided by 0, and what a cast to int8 makes of NaN differs from machine to machine: "
    "put something in the place of a scale of 0 before you divide",
    lambda w: ternary(w, over=lambda s: s),
)
TERNARIZE.add("nothing was clipped: -1, 0 and 1 are the only levels", lambda w: ternary(w, top=127))
TERNARIZE.add(
    "this is the sign: what is small becomes 0", lambda w: ternary(w, rounding=torch.sign)
)
TERNARIZE.add(
    "values were rounded down (floor), not to the nearest",
    lambda w: ternary(w, rounding=torch.floor),
)
TERNARIZE.add("fractions were cut off, not rounded", lambda w: ternary(w, rounding=torch.trunc))
TERNARIZE.add(
    "the largest magnitude took the place of the mean", lambda w: ternary(w, mean=torch.max)
)
TERNARIZE.add(
    "the signs were not removed: take abs() before the mean",
    lambda w: ternary(w, mean=lambda m: w.mean()),
)
TERNARIZE.add(
    "magnitudes were added up, not averaged", lambda w: ternary(w, mean=lambda m: m.sum())
)
TERNARIZE.add(
    "the root of the mean square was taken: take the mean magnitude",
    lambda w: ternary(w, mean=lambda m: m.square().mean().sqrt()),
)
TERNARIZE.add(
    "the standard deviation was taken: take the mean magnitude",
    lambda w: ternary(w, mean=lambda m: w.std()),
)
TERNARIZE.add(
    "the median was taken: take the mean", lambda w: ternary(w, mean=lambda m: m.quantile(0.5))
)
TERNARIZE.add(
    "each row has a mean of its own: there is one scale for the whole weight",
    lambda w: ternary(w, over=lambda s: w.abs().mean(dim=1, keepdim=True).clamp(min=1e-12)),
)
TERNARIZE.add(
    "the scale came with the integers: return q alone, and the scale beside it",
    lambda w: (ternary(w)[0] * w.abs().mean(), w.abs().mean()),
)
TERNARIZE.add(
    "it is upside down: a scale is what 1 is worth", lambda w: ternary(w, scale=lambda s: 1 / s)
)
TERNARIZE.add(
    "the scale came back with what was added to it: add it where you divide, and return the mean",
    lambda w: ternary(w, scale=lambda s: s + 1e-8),
)

# --------------------------------------------------------------------------- qat.merge

MERGE.add(
    "an alpha of 0 was replaced: it is a number like any other",
    lambda w, a, b, alpha: w + (alpha or len(a)) / len(a) * (b @ a),
)
MERGE.add("the product was not scaled: alpha / rank is missing", lambda w, a, b, alpha: w + b @ a)
MERGE.add("alpha was not divided by the rank", lambda w, a, b, alpha: w + alpha * (b @ a))
MERGE.add(
    "the product was divided by the rank, and alpha is missing",
    lambda w, a, b, alpha: w + b @ a / len(a),
)
MERGE.add(
    "alpha and rank are swapped: the factor is alpha / rank",
    lambda w, a, b, alpha: w + len(a) / alpha * (b @ a),
)
MERGE.add(
    "alpha was divided by sqrt(rank): that is rsLoRA",
    lambda w, a, b, alpha: w + alpha / math.sqrt(len(a)) * (b @ a),
)
MERGE.add(
    "alpha / rank was rounded down (`//`): it is a fraction",
    lambda w, a, b, alpha: w + alpha // len(a) * (b @ a),
)
MERGE.add(
    "alpha was divided by the number of features: the rank is that of a's rows",
    lambda w, a, b, alpha: w + alpha / a.shape[1] * (b @ a),
)
MERGE.add("the weight is missing: add it", lambda w, a, b, alpha: alpha / len(a) * (b @ a))
MERGE.add("the update was subtracted", lambda w, a, b, alpha: w - alpha / len(a) * (b @ a))
MERGE.add("the update was added twice", lambda w, a, b, alpha: w + 2 * alpha / len(a) * (b @ a))
MERGE.add(
    "the update is turned: b @ a, not its transpose",
    lambda w, a, b, alpha: w + alpha / len(a) * (b @ a).T,  # fits a square weight alone
)

# ----------------------------------------------------------------------- qat.lost_part


def lost(weight: Tensor, update: Tensor, *grid, rounding=torch.round) -> Tensor:
    total = weight + update
    return (rounded(total, *grid, rounding) - total).norm() / update.norm()


LOST_PART.add(
    "the rounded sum was compared with the old weight: the truth is weight + update",
    lambda w, u, *grid: (rounded(w + u, *grid) - w).norm() / u.norm(),
)
LOST_PART.add(
    "the update was rounded by itself: add first, then round",
    lambda w, u, *grid: lost(torch.zeros_like(w), u, *grid),
)
LOST_PART.add(
    "the error was divided by the size of the sum, not of the update",
    lambda w, u, *grid: lost(w, u, *grid) * u.norm() / (w + u).norm(),
)
LOST_PART.add(
    "the error was divided by the size of the weight, not of the update",
    lambda w, u, *grid: lost(w, u, *grid) * u.norm() / w.norm(),
)
LOST_PART.add(
    "the error was not divided by the size of the update",
    lambda w, u, *grid: lost(w, u, *grid) * u.norm(),
)
LOST_PART.add("the squared error came back: take its root", lambda *case: lost(*case) ** 2)
LOST_PART.add("this is the part that was kept: return what was lost", lambda *case: 1 - lost(*case))
LOST_PART.add(
    "nothing was clipped: the grid ends at qmin and qmax",
    lambda w, u, s, qmin, qmax: lost(w, u, s, -math.inf, math.inf),
)
LOST_PART.add(
    "values were rounded down (floor), not to the nearest",
    lambda *case: lost(*case, rounding=torch.floor),
)
LOST_PART.add(
    "steps were cast to int8, which holds -128 to 127, and turned into others: stay in floats",
    lambda *case: lost(*case, rounding=in_int8),
)
LOST_PART.add(
    "a small scale was raised (`clamp(min=...)`, `+ 1e-8`): it is never 0, so divide by it as it "
    "is",
    lambda w, u, s, *ends: lost(w, u, s.clamp(min=1e-5), *ends),
)
LOST_PART.add(
    "something was added to the size of the update, or it was given a least one: divide by it as "
    "it is",
    lambda w, u, *grid: lost(w, u, *grid) * u.norm() / (u.norm() + 1e-8),
)
LOST_PART.add(
    "the mean of magnitudes was taken: the size is the root of the sum of squares",
    lambda w, u, *grid: (rounded(w + u, *grid) - w - u).abs().mean() / u.abs().mean(),
)
LOST_PART.add(
    "each row was divided by itself, and the parts averaged: there is one norm of the whole matrix",
    lambda w, u, *grid: (
        (rounded(w + u, *grid) - w - u).norm(dim=1) / u.norm(dim=1).clamp(min=1e-30)
    ).mean(),
)
