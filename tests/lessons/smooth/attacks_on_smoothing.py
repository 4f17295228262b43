"""Wrong answers to the other exercises of lesson 04: right ones with one thing changed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.lessons.attacks import with_options
from tests.lessons.smooth.attacks_on_integers import same, tokens

Tensor = torch.Tensor


# ------------------------------------------------------------------ smooth.smoothing_scale


def formula(x: Tensor, w: Tensor, alpha: float) -> Tensor:
    return x**alpha / w ** (1 - alpha)


def scale(
    x, weights, alpha, *, x_top=lambda x: x.abs().amax(0), w_top=lambda w: w.abs().amax(0),
    of_all=lambda tops: torch.stack(tops).amax(0), readers=same, ratio=formula,
    alive=lambda x, w: (x > 0) & (w > 0), dead=1.0, exponent=same, s=same,
):  # fmt: skip
    """Share out sizes; the options are what an attack changes.

    x_top, w_top: the size of a channel; of_all, readers: how readers are joined, and which; ratio:
    the formula, with an exponent made of alpha; alive, dead: which channels are, and s elsewhere.
    """
    x_max, w_max = x_top(x), of_all([w_top(w) for w in readers(weights)])
    found = ratio(x_max, w_max, exponent(alpha))
    return s(torch.where(alive(x_max, w_max), found, dead))


def by_any_reader(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    least = torch.stack([w.abs().amax(dim=0) for w in weights]).amin(dim=0)
    return torch.where(least > 0, scale(x, weights, alpha), 1.0)


SCALE = with_options(
    scale,
    {
        "no abs of x": {"x_top": lambda x: x.amax(0)},
        "no abs of w": {"w_top": lambda w: w.amax(0)},
        "abs after the maximum": {"x_top": lambda x: x.amax(0).abs()},
        "smallest of x": {"x_top": lambda x: x.abs().amin(0)},
        "mean of x": {"x_top": lambda x: x.abs().mean(0)},
        "norm of w": {"w_top": lambda w: w.norm(dim=0)},
        "rms of x": {"x_top": lambda x: x.square().mean(0).sqrt()},
        "first token left out": {"x_top": lambda x: x[-len(x) + 1 :].abs().amax(0)},
        "last token left out": {"x_top": lambda x: x[: max(1, len(x) - 1)].abs().amax(0)},
        "last row left out": {"w_top": lambda w: w[: max(1, len(w) - 1)].abs().amax(0)},
        "4 rows": {"w_top": lambda w: w[:4].abs().amax(0)},
        "one maximum of x": {"x_top": lambda x: x.abs().max().expand(x.shape[1])},
        "one maximum of w": {"w_top": lambda w: w.abs().max().expand(w.shape[1])},
        "first reader": {"readers": lambda weights: weights[:1]},
        "last reader": {"readers": lambda weights: weights[-1:]},
        "two readers": {"readers": lambda weights: weights[:2]},
        "three readers": {"readers": lambda weights: weights[:3]},
        "least": {"of_all": lambda tops: torch.stack(tops).amin(0)},
        "mean": {"of_all": lambda tops: torch.stack(tops).mean(0)},
        "median": {"of_all": lambda tops: torch.stack(tops).median(0).values},
        "sum": {"of_all": sum},
        "product": {"ratio": lambda x, w, a: x**a * w ** (1 - a)},
        "upside down": {"ratio": lambda x, w, a: 1 / formula(x, w, a)},
        "ratio to alpha": {"ratio": lambda x, w, a: (x / w) ** a},
        "w to alpha": {"ratio": lambda x, w, a: x**a / w**a},
        "no w": {"ratio": lambda x, w, a: x**a},
        "no x": {"ratio": lambda x, w, a: 1 / w ** (1 - a)},
        "1 - alpha": {"exponent": lambda a: 1 - a},
        "alpha is 0.5": {"exponent": lambda a: 0.5},
        "alpha up to 0.99": {"exponent": lambda a: min(a, 0.99)},
        "alpha from 0.01": {"exponent": lambda a: max(a, 0.01)},
        "dead is 0": {"dead": 0.0},
        "dead is 1e-5": {"dead": 1e-5},
        "dead only if both": {"alive": lambda x, w: (x > 0) | (w > 0)},
        "dead only in x": {"alive": lambda x, w: x > 0},
        "dead only in w": {"alive": lambda x, w: w > 0},
        "nothing is dead": {"alive": lambda x, w: x >= 0},
        "all dead if one is": {"alive": lambda x, w: ((x > 0) & (w > 0)).all().expand_as(x)},
        "small is dead": {"alive": lambda x, w: (x > 0.05) & (w > 0.05)},
        "below 1e-5 is dead": {"alive": lambda x, w: (x > 1e-5) & (w > 1e-5)},
        "x below 1e-5 is dead": {"alive": lambda x, w: (x > 1e-5) & (w > 0)},
        "x from 1e-5": {"x_top": lambda x: x.abs().amax(0).clamp(min=1e-5)},
        "w from 1e-5": {"w_top": lambda w: w.abs().amax(0).clamp(min=1e-5)},
        "w and 1e-8": {"w_top": lambda w: w.abs().amax(0) + 1e-8, "alive": lambda x, w: x > 0},
        "0.01 to 100": {"s": lambda s: s.clamp(1e-2, 1e2)},
        "1e-5 at least": {"s": lambda s: s.clamp(min=1e-5)},
        "1e4 at most": {"s": lambda s: s.clamp(max=1e4)},
        "1 on average": {"s": lambda s: s / s.mean()},
        "divided by its extremes": {"s": lambda s: s / (s.max() * s.min()).sqrt()},
        "float16": {"s": Tensor.half},
        "bfloat16": {"s": Tensor.bfloat16},
        "0.01 % off": {"s": lambda s: s * 1.0001},
        "a list": {"s": Tensor.tolist},
        "a row": {"s": lambda s: s[None]},
    },
) | {
    "dead in any reader": by_any_reader,
    "dead by s alone": lambda *case: scale(
        *case, alive=lambda x, w: x >= 0, s=lambda s: s.where((s != 0) & s.isfinite(), 1.0)
    ),
    "ones, weights destroyed": lambda x, weights, alpha: (
        [w.zero_() for w in weights] and torch.ones(x.shape[1])
    ),
    "weights popped": lambda x, weights, alpha: scale(x, [weights.pop(0), *weights], alpha),
}

# ----------------------------------------------------------------------------- smooth.fold


def fold(
    norm,
    bias,
    weights,
    s,
    *,
    n=torch.div,
    b=torch.div,
    w=torch.mul,
    size=same,
    give=tuple,
    many=list,
):
    """Fold s; the options are what an attack changes: each of the three, s, and what comes back."""
    s = size(s)
    return give((n(norm, s), b(bias, s), many([w(weight, s) for weight in weights])))


def left(value, s):
    return value


def all_but(place: int) -> Callable:
    """Fold into every reader but one."""

    def answer(norm, bias, weights, s):
        new = [weight * s for weight in weights]
        new[place] = weights[place]
        return norm / s, bias / s, new

    return answer


FOLD = with_options(
    fold,
    {
        "norm left": {"n": left},
        "bias left": {"b": left},
        "weights left": {"w": left},
        "norm multiplied": {"n": torch.mul},
        "bias multiplied": {"b": torch.mul},
        "weights divided": {"w": torch.div},
        "all the other way": {"n": torch.mul, "b": torch.mul, "w": torch.div},
        "norm twice": {"n": lambda x, s: x / s / s},
        "weights twice": {"w": lambda x, s: x * s * s},
        "bias by the root": {"b": lambda x, s: x / s.sqrt()},
        "s subtracted": {"n": torch.sub},
        "s added": {"w": torch.add},
        "bias dropped": {"b": lambda x, s: torch.zeros_like(x)},
        "magnitudes": {"n": lambda x, s: x.abs() / s},
        "norm moved by 1": {"n": lambda x, s: (1 + x) / s - 1},
        "rows of square weights": {"w": lambda w, s: (w.T * s).T if len(w) == len(s) else w * s},
        "one s for all": {"size": lambda s: s.mean().expand_as(s)},
        "s from 0.01": {"size": lambda s: s.clamp(min=1e-2)},
        "s from 1e-3": {"size": lambda s: s.clamp(min=1e-3)},
        "s to 1e3": {"size": lambda s: s.clamp(max=1e3)},
        "s and 1e-8": {"n": lambda x, s: x / (s + 1e-6)},
        "s in float16": {"size": lambda s: s.half().float()},
        "s in bfloat16": {"size": lambda s: s.bfloat16().float()},
        "s turned round": {"size": lambda s: s.flip(0)},
        "first channel left": {"size": lambda s: torch.cat([torch.ones(1), s[1:]])},
        "last channel left": {"size": lambda s: torch.cat([s[:-1], torch.ones(1)])},
        "16 channels": {"size": lambda s: torch.cat([s[:16], torch.ones_like(s[16:])])},
        "0 becomes tiny": {"n": lambda x, s: torch.where(x == 0, 1e-5, x / s)},
        "float16 weights": {"w": lambda w, s: (w * s).half()},
        "norm in bfloat16": {"n": lambda x, s: (x / s).bfloat16()},
        "0.01 % off": {"w": lambda w, s: 1.0001 * w * s},
        "one weight": {"many": lambda weights: weights[:1]},
        "weights reversed": {"many": lambda weights: weights[::-1]},
        "weights stacked": {"many": torch.cat},
        "weights in a generator": {"many": iter},
        "weights by number": {"many": lambda weights: dict(enumerate(weights))},
        "weights as one tensor": {"many": lambda weights: weights[0]},
        "three weights": {"many": lambda weights: weights[:3]},
        "norm and bias swapped": {"give": lambda three: (three[1], three[0], three[2])},
        "weights first": {"give": lambda three: three[::-1]},
        "no bias": {"give": lambda three: (three[0], three[2])},
        "a flat tuple": {"give": lambda three: (*three[:2], *three[2])},
        "a generator": {"give": iter},
        "norm as a row": {"give": lambda three: (three[0][None], *three[1:])},
        "norm in place": {"n": lambda x, s: x.div_(s)},
        "weights in place": {"w": lambda w, s: w.mul_(s)},
    },
) | {
    "first reader left": all_but(0),
    "last reader left": all_but(-1),
    "list popped": lambda norm, bias, weights, s: fold(norm, bias, [weights.pop(0), *weights], s),
    "list changed": lambda norm, bias, weights, s: (
        norm / s, bias / s, weights.__setitem__(slice(None), [w * s for w in weights]) or weights
    ),
}  # fmt: skip

# -------------------------------------------------------------------- smooth.output_errors


def there_and_back(rows: Tensor, *, how: dict) -> Tensor:
    q, step = tokens(rows, **how)
    return q * step


def apart(got: Tensor, y: Tensor) -> Tensor:
    return (got - y).norm() / y.norm()


def errors(
    x, weight, alphas, *, x_how=None, w_how=None, s_how=None, s=same, ws=torch.mul, xs=torch.div,
    by=apart, y_of=None, give=torch.stack, order=same,
):  # fmt: skip
    """Measure errors; the options are what an attack changes.

    x_how, w_how: of `tokens`; s_how: of `scale`; s, ws, xs: the smoothing; by: the error; y_of:
    the truth by smoothed x and weight; order, give: the alphas and the results.
    """
    found = []
    for alpha in order(alphas):
        size = s(scale(x, [weight], alpha, **(s_how or {})))
        small, large = xs(x, size), ws(weight, size)
        y = y_of(small, large) if y_of else x @ weight.T
        rounded_x = small if x_how == "no" else there_and_back(small, how=x_how or {})
        rounded_w = large if w_how == "no" else there_and_back(large, how=w_how or {})
        found.append(by(rounded_x @ rounded_w.T, y))
    return give(found)


ERRORS = with_options(
    errors,
    {
        "x not rounded": {"x_how": "no"},
        "weight not rounded": {"w_how": "no"},
        "nothing rounded": {"x_how": "no", "w_how": "no"},
        "x by 128": {"x_how": {"n": 128}},
        "weight by 128": {"w_how": {"n": 128}},
        "4 bits": {"x_how": {"n": 7}, "w_how": {"n": 7}},
        "x down": {"x_how": {"by": torch.floor}},
        "weight cut": {"w_how": {"by": torch.trunc}},
        "one step for x": {"x_how": {"top": lambda x: x.abs().max().expand(len(x), 1)}},
        "one step for the weight": {"w_how": {"top": lambda x: x.abs().max().expand(len(x), 1)}},
        "x by channel": {"x_how": {"top": lambda x: x.abs().amax(0, keepdim=True)}},
        "no abs in the step": {"x_how": {"top": lambda x: x.amax(1, keepdim=True)}},
        "step 0.01 at least": {"x_how": {"late": lambda s: s.clamp(min=1e-2)}},
        "step 1e-5 at least": {"w_how": {"late": lambda s: s.clamp(min=1e-5)}},
        "dead channels as they come": {"s_how": {"alive": lambda x, w: x >= 0}},
        "dead is 0": {"s_how": {"dead": 0.0}},
        "s from 0.01 to 100": {"s": lambda s: s.clamp(1e-2, 1e2)},
        "no smoothing": {"s": torch.ones_like},
        "1 - alpha": {"s_how": {"exponent": lambda a: 1 - a}},
        "alpha is 0.5": {"s_how": {"exponent": lambda a: 0.5}},
        "alpha up to 0.95": {"s_how": {"exponent": lambda a: min(a, 0.95)}},
        "s by means": {"s_how": {"x_top": lambda x: x.abs().mean(0)}},
        "s without abs": {"s_how": {"w_top": lambda w: w.amax(0)}},
        "s of the weight left out": {"s_how": {"ratio": lambda x, w, a: x**a}},
        "s upside down": {"s": lambda s: 1 / s},
        "weight not smoothed": {"ws": left},
        "x not smoothed": {"xs": left},
        "weight divided": {"ws": torch.div},
        "y of the smoothed x": {"y_of": lambda xs, ws: xs @ ws.T * 1.01},
        "y of the rounded": {"y_of": lambda xs, ws: there_and_back(xs, how={}) @ ws.T},
        "squared": {"by": lambda got, y: apart(got, y) ** 2},
        "not divided": {"by": lambda got, y: (got - y).norm()},
        "by the rounded": {"by": lambda got, y: (got - y).norm() / got.norm()},
        "mean of magnitudes": {"by": lambda got, y: (got - y).abs().mean() / y.abs().mean()},
        "mean of squares": {"by": lambda got, y: (got - y).square().mean().sqrt()},
        "largest": {"by": lambda got, y: (got - y).abs().max() / y.abs().max()},
        "mean of tokens": {"by": lambda got, y: torch.stack([*map(apart, got, y)]).nanmean()},
        "norms subtracted": {"by": lambda got, y: (got.norm() - y.norm()).abs() / y.norm()},
        "without the first token": {"by": lambda got, y: apart(got[1:], y[1:])},
        "0.09 % off": {"by": lambda got, y: 1.0009 * apart(got, y)},
        "1e-5 more": {"by": lambda got, y: apart(got, y) + 1e-5},
        "in percent": {"by": lambda got, y: 100 * apart(got, y)},
        "bfloat16": {"give": lambda found: torch.stack(found).bfloat16()},
        "a list": {"give": list},
        "a column": {"give": lambda found: torch.stack(found)[:, None]},
        "the best": {"give": min},
        "the mean": {"give": lambda found: torch.stack(found).mean()},
        "sorted": {"give": lambda found: torch.stack(found).sort().values},
        "alphas sorted": {"order": sorted},
        "alphas reversed": {"order": lambda alphas: alphas[::-1]},
        "first alpha": {"order": lambda alphas: alphas[:1]},
        "last alpha left out": {"order": lambda alphas: alphas[:-1] or alphas},
        "alphas emptied": {"order": lambda alphas: [alphas.pop(0) for _ in range(len(alphas))]},
    },
)  # fmt: skip
