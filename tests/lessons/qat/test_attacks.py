"""Answers about gradients with one thing changed are refused, and right ones in other words pass.

Beside the mistakes that a learner is told about, these vary a constant, an edge, a mask, an axis or
a bound. w is the weight [out, in], s the scale of its rows [out, 1], g a gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import hardtanh

from shrinkkit.checks import check
from tests.lessons.attacks import assert_refused, each, with_options

Tensor = torch.Tensor


def no(value):
    return value


def within(v: Tensor, low: int, high: int) -> Tensor:
    return (v >= low) & (v <= high)


class Passing(torch.autograd.Function):
    """Return a value, and pass to the weight what a function makes of the gradient."""

    @staticmethod
    def forward(ctx, weight: Tensor, value: Tensor, backward: Callable) -> Tensor:
        ctx.made = backward
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.made(gradient), None, None


def fake(w, s, low, high, *, scale=no, by=torch.round, ends=None, q=no, y=no, inside=within, g=no):
    """Round; the options are what an attack changes."""
    with torch.no_grad():
        v = w / scale(s)
        steps = q(by(v).clamp(*((low, high) if ends is None else ends(low, high))))
        value = y(steps * scale(s))
        mask = inside(v, low, high)
    return Passing.apply(w, value, lambda gradient: g(gradient * mask))


def but(place, value: float) -> Callable:
    """Put a number, or what was there times it, at one place of a tensor."""

    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        x[place] *= value
        return x

    return changed


SCALES = {
    "scale 1e-5 at least": lambda s: s.clamp(min=1e-5),
    "scale 1e-2 at least": lambda s: s.clamp(min=1e-2),
    "scale 1 at least": lambda s: s.clamp(min=1),
    "scale 10 at most": lambda s: s.clamp(max=10),
    "scale + 1e-8": lambda s: s + 1e-8,
    "scale + 1e-5": lambda s: s + 1e-5,
    "scale in float16": lambda s: s.half().float(),
    "scale in bfloat16": lambda s: s.bfloat16().float(),
    "the first scale for all": lambda s: s[:1],
    "the mean scale for all": lambda s: s.mean(),
    "the largest scale for all": lambda s: s.max(),
}
ROUNDED = {
    "up": torch.ceil,
    "towards 0": torch.trunc,
    "at 0.45": lambda v: (v + 0.55).floor(),
    "at 0.55": lambda v: (v + 0.45).floor(),
    "in int8": lambda v: v.round().to(torch.int8),
    "away from 0": lambda v: v.sign() * v.abs().ceil(),
}
ENDS = {
    "qmax left out": lambda low, high: (low, high - 1),
    "qmin left out": lambda low, high: (low + 1, high),
    "qmax + 1": lambda low, high: (low, high + 1),
    "qmin - 1": lambda low, high: (low - 1, high),
    "-qmax to qmax": lambda low, high: (-high, high),
    "qmin to -qmin": lambda low, high: (low, max(-low, 1)),
    "4 bits at most": lambda low, high: (max(low, -8), min(high, 7)),
    "7 bits at most": lambda low, high: (max(low, -64), min(high, 63)),
    "-1 to 1": lambda low, high: (-1, 1),
    "no upper end": lambda low, high: (low, None),
    "no lower end": lambda low, high: (None, high),
}
MASKS = {
    "both ends outside": lambda v, low, high: (v > low) & (v < high),
    "qmax outside": lambda v, low, high: (v >= low) & (v < high),
    "qmin outside": lambda v, low, high: (v > low) & (v <= high),
    "|v| <= qmax": lambda v, low, high: v.abs() <= high,
    "|v| <= -qmin": lambda v, low, high: v.abs() <= -low,
    "half a step more": lambda v, low, high: within(v, low - 0.5, high + 0.5),
    "half a step less": lambda v, low, high: within(v, low + 0.5, high - 0.5),
    "qmax + 1": lambda v, low, high: within(v, low, high + 1),
    "the upper end alone": lambda v, low, high: v <= high,
    "the lower end alone": lambda v, low, high: v >= low,
    "0 outside": lambda v, low, high: within(v, low, high) & (v != 0),
    "1 % leaks": lambda v, low, high: within(v, low, high).float().clamp(min=0.01),
    "a whole row stops": lambda v, low, high: within(v, low, high).all(1, keepdim=True),
    "a whole row passes": lambda v, low, high: within(v, low, high).any(1, keepdim=True),
    "a whole column stops": lambda v, low, high: within(v, low, high).all(0, keepdim=True),
}
FAKE = (
    {name: {"scale": scale} for name, scale in SCALES.items()}
    | {f"rounded {name}": {"by": by} for name, by in ROUNDED.items()}
    | {f"clipped: {name}": {"ends": ends} for name, ends in ENDS.items()}
    | {f"mask: {name}": {"inside": inside} for name, inside in MASKS.items()}
    | {
        "clipped, then int8": {"q": lambda q: q.to(torch.int8)},
        "value 0.01 % off": {"y": lambda y: y * 1.0001},
        "value in float16": {"y": lambda y: y.half().float()},
        "value in bfloat16": {"y": lambda y: y.bfloat16()},
        "value without sign": {"y": torch.abs},
        "first column wrong": {"y": but((slice(None), 0), 1.5)},
        "last column wrong": {"y": but((slice(None), -1), 1.5)},
        "last row wrong": {"y": but(-1, 1.5)},
        "columns beyond 16 wrong": {"y": but((slice(None), slice(16, None)), 1.5)},
        "value turned": {"y": lambda y: y.T},
        "gradient 0.1 % off": {"g": lambda g: g * 0.999},
        "gradient turned round": {"g": lambda g: -g},
        "gradient cut at 1": {"g": lambda g: g.clamp(-1, 1)},
        "gradient's sign": {"g": torch.sign},
        "gradient in bfloat16": {"g": lambda g: g.bfloat16().float()},
        "gradient + 1e-6": {"g": lambda g: g + 1e-6},
        "gradient's mean": {"g": lambda g: g.mean().expand_as(g)},
        "gradient divided by n": {"g": lambda g: g / g.shape[1]},
        "first gradient alone": {"g": lambda g: g[:1].expand_as(g)},
        "last column has no gradient": {"g": but((slice(None), -1), 0)},
        "tiny gradients dropped": {"g": lambda g: g * (g.abs() > 1e-5)},
    }
)


def root(n: int, low: int, high: int) -> float:
    return (n * high) ** 0.5


def step(
    w, s, low, high, g, *, scale=no, by=torch.round, ends=None, inside=within, over=root, **more
):
    """Add up LSQ's parts; `more`: what an attack makes of the parts, the gradient or the sum."""
    v = w / scale(s)
    q = by(v).clamp(*((low, high) if ends is None else ends(low, high)))
    parts = more.get("parts", no)(torch.where(inside(v, low, high), by(v) - v, q))
    total = more.get("add", lambda x: x.sum(1, keepdim=True))(parts * more.get("g", no)(g))
    return more.get("total", no)(total / over(w.shape[1], low, high))


KEPT = ("1 % leaks", "0 outside")  # for the scale, these are no masks, or right
STEP = (
    {name: {"scale": scale} for name, scale in SCALES.items()}
    | {f"rounded {name}": {"by": by} for name, by in ROUNDED.items() if name != "in int8"}
    | {f"clipped: {name}": {"ends": ends} for name, ends in ENDS.items()}
    | {f"mask: {name}": {"inside": inside} for name, inside in MASKS.items() if name not in KEPT}
    | {
        "sqrt(n * -qmin)": {"over": lambda n, low, high: (n * max(-low, 1)) ** 0.5},
        "sqrt(n * (qmax + 1))": {"over": lambda n, low, high: (n * (high + 1)) ** 0.5},
        "sqrt(n * levels)": {"over": lambda n, low, high: (n * (high - low)) ** 0.5},
        "sqrt((n - 1) * qmax)": {"over": lambda n, low, high: (max(n - 1, 1) * high) ** 0.5},
        "sqrt(n) * qmax": {"over": lambda n, low, high: n**0.5 * high},
        "n * sqrt(qmax)": {"over": lambda n, low, high: n * high**0.5},
        "sqrt(n + qmax)": {"over": lambda n, low, high: (n + high) ** 0.5},
        "sqrt(qmax)": {"over": lambda n, low, high: high**0.5},
        "whole root": {"over": lambda *case: max(1, int(root(*case)))},
        "root + 1e-3": {"over": lambda *case: root(*case) + 1e-3},
        "0.1 % off": {"total": lambda t: t * 1.001},
        "cut at 1": {"total": lambda t: t.clamp(-1, 1)},
        "tiny dropped": {"total": lambda t: t * (t.abs() > 1e-5)},
        "shape [out]": {"total": lambda t: t[:, 0]},
        "shape [1, out]": {"total": lambda t: t.T},
        "bfloat16": {"total": Tensor.bfloat16},
        "last row 0": {"total": but(-1, 0)},
        "first row for all": {"total": lambda t: t[:1].expand_as(t).clone()},
        "without a sign": {"total": torch.abs},
        "added along columns": {"add": lambda x: x.sum(0, keepdim=True)},
        "the largest part": {"add": lambda x: x.amax(1, keepdim=True)},
        "first column dropped": {"add": lambda x: x[:, 1:].sum(1, keepdim=True)},
        "last column dropped": {"add": lambda x: x[:, :-1].sum(1, keepdim=True)},
        "16 columns alone": {"add": lambda x: x[:, :16].sum(1, keepdim=True)},
        "magnitudes added": {"add": lambda x: x.abs().sum(1, keepdim=True)},
        "gradient without sign": {"g": torch.abs},
        "gradient's sign": {"g": torch.sign},
        "gradient turned": {"g": lambda g: -g},
        "parts without sign": {"parts": torch.abs},
        "parts cut at 1": {"parts": lambda x: x.clamp(-1, 1)},
        "parts' sign": {"parts": torch.sign},
        "parts in int8": {"parts": lambda x: x.to(torch.int8)},
    }
)


ATTACKS = {
    "qat.fake_quantize": with_options(fake, FAKE)
    | {
        "v from a product": lambda w, s, *ends: fake(w * s * s, s, *ends),
        "a new leaf": lambda *case: fake(*case).detach().requires_grad_(),
        "a parameter": lambda *case: torch.nn.Parameter(fake(*case).detach()),
        "a pair": lambda *case: (fake(*case), None),
        "graph to the scale alone": lambda w, s, *ends: (
            (w / s).round().clamp(*ends).detach() * s.requires_grad_()
        ),
        "hardtanh": lambda w, s, low, high: (
            s * ((c := hardtanh(w / s, low, high)) + (c.round() - c).detach())
        ),
        "half a gradient at the ends": lambda w, s, low, high: (
            (c := torch.minimum(torch.maximum(w, low * s), high * s))
            + ((c / s).round() * s - c).detach()
        ),
        "a backward of its own": lambda w, s, *ends: (fake(w, s, *ends).sum().backward(), w * 1)[1],
        "the gradient twice": lambda *case: (y := fake(*case)) + (fake(*case) - y.detach()),
    },
    "qat.step_gradient": with_options(step, STEP)
    | {
        "autograd of hardtanh": lambda *case: by_autograd(*case, clip=hardtanh),
        "a number": lambda *case: float(step(*case).sum()),
        "a list": lambda *case: step(*case).tolist(),
        "with numpy": lambda *case: step(*case).numpy(),
    },
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def by_autograd(w, s, low, high, g, *, clip=torch.clamp) -> Tensor:
    scale = s.clone().requires_grad_()
    clipped = clip(w / scale, low, high)
    y = (clipped + (clipped.round() - clipped).detach()) * scale
    return torch.autograd.grad(y, scale, g)[0] / root(w.shape[1], low, high)


def between(w, s, low, high) -> Tensor:
    """Clip the weight to the range's ends, not the steps to theirs."""
    clipped = torch.clamp(w, low * s, high * s)
    v = clipped / s
    return clipped + (v.round() * s - clipped).detach()


def by_where(w, s, low, high) -> Tensor:
    through = torch.where(within(w / s, low, high), w, w.detach())
    return through + ((w / s).round().clamp(low, high) * s - through).detach()


def by_hook(w, s, low, high) -> Tensor:
    through = w * 1
    through.register_hook(lambda g: g * within(w / s, low, high))
    return through + ((w / s).round().clamp(low, high) * s - through).detach()


def in_float64(w, s, low, high) -> Tensor:
    return fake(w.double(), s.double(), low, high)


def by_steps(w, s, low, high, g) -> Tensor:
    """Count what rounding adds, weight by weight."""
    total = torch.zeros(len(w), 1, dtype=torch.float64)
    for place, v in enumerate((w.double() / s.double()).flatten().tolist()):
        part = low if v < low else high if v > high else round(v) - v
        total[place // w.shape[1]] += part * g.flatten()[place].item()
    return total / root(w.shape[1], low, high)


RIGHT = [("qat.fake_quantize", f) for f in (fake, between, by_where, by_hook, in_float64)]
RIGHT += [("qat.step_gradient", f) for f in (step, by_autograd, by_steps)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_answer_is_not(name: str, answer: Callable, seed: int) -> None:
    check(name, answer, seed=seed)
