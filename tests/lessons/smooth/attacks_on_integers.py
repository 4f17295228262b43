"""Wrong answers to the first two exercises of lesson 04: right ones with one thing changed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import linear

from tests.lessons.attacks import with_options

Tensor = torch.Tensor


def same(value):
    return value


# ------------------------------------------------------------------ smooth.quantize_tokens


def largest(x: Tensor) -> Tensor:
    return x.abs().amax(dim=1, keepdim=True)


def tokens(
    x, *, top=largest, n=127, late=same, dead=1.0, by=torch.round, last=same, q=same, step=same
):
    """Round tokens; the options are what an attack changes.

    top, n: step = top / n; late: what becomes of it; dead: where it is 0; by: rounding; last:
    before the cast; q, step: what becomes of the results.
    """
    steps = late(top(x) / n)
    steps = torch.where(steps != 0, steps, dead)
    return q(last(by(x / steps)).clamp(-128, 127).to(torch.int8)), step(steps)


def zero_by_zero(x: Tensor, put_in: Callable):
    step = largest(x) / 127
    return put_in(x / step), torch.where(step > 0, step, 1.0)


def into_int8(value: Tensor) -> Tensor:
    q = torch.zeros(value.shape, dtype=torch.int8)
    q[:] = value.round()
    return q


def first_tokens(n: int) -> Callable:
    return lambda x: torch.cat([largest(x[:n]), largest(x[n:]).mean().expand(len(x[n:]), 1)])


TOKENS = with_options(
    tokens,
    {
        "128": {"n": 128},
        "126": {"n": 126},
        "127.5": {"n": 127.5},
        "255": {"n": 255},
        "7": {"n": 7},
        "no abs": {"top": lambda x: x.amax(dim=1, keepdim=True)},
        "smallest": {"top": lambda x: x.amin(dim=1, keepdim=True).abs()},
        "half the range": {
            "top": lambda x: (x.amax(1, keepdim=True) - x.amin(1, keepdim=True)) / 2
        },
        "one step": {"top": lambda x: x.abs().max().expand(len(x), 1)},
        "per channel": {"top": lambda x: x.abs().amax(dim=0, keepdim=True)},
        "mean": {"top": lambda x: x.abs().mean(dim=1, keepdim=True)},
        "norm": {"top": lambda x: x.norm(dim=1, keepdim=True)},
        "first channel left out": {
            "top": lambda x: largest(x[:, 1:]) if x.shape[1] > 1 else largest(x)
        },
        "last channel left out": {
            "top": lambda x: largest(x[:, :-1]) if x.shape[1] > 1 else largest(x)
        },
        "first 16 channels": {"top": lambda x: largest(x[:, :16])},
        "first 2 tokens": {"top": first_tokens(2)},
        "step 1e-12 at least": {"late": lambda s: torch.where(s > 0, s.clamp(min=1e-12), s)},
        "step 1e-8 at least": {"late": lambda s: torch.where(s > 0, s.clamp(min=1e-8), s)},
        "step 1e-5 at least": {"late": lambda s: s.clamp(min=1e-5)},
        "step 10 at most": {"late": lambda s: s.clamp(max=10)},
        "1e-8 more": {"late": lambda s: s + 1e-8},
        "1e-12 more": {"late": lambda s: s + 1e-12},
        "below 1e-7 is dead": {"late": lambda s: torch.where(s > 1e-7, s, 0)},
        "below 1e-10 is dead": {"late": lambda s: torch.where(s > 1e-10, s, 0)},
        "float16 step": {"late": lambda s: s.half().float()},
        "bfloat16 step": {"late": lambda s: s.bfloat16().float()},
        "step a power of two": {"late": lambda s: torch.exp2(s.log2().ceil())},
        "dead is 0.1": {"dead": 0.1},
        "dead is 1 / 127": {"dead": 1 / 127},
        "dead is 1e-8": {"dead": 1e-8},
        "down": {"by": torch.floor},
        "up": {"by": torch.ceil},
        "cut": {"by": torch.trunc},
        "rounded at 0.48": {"by": lambda v: (v + 0.52).floor()},
        "rounded at 0.52": {"by": lambda v: (v + 0.48).floor()},
        "126 at most": {"last": lambda q: q.clamp(-126, 126)},
        "-126 at least": {"last": lambda q: q.clamp(min=-126)},
        "only positive": {"last": lambda q: q.clamp(min=0)},
        "q in int16": {"q": lambda q: q.short()},
        "q in uint8": {"q": lambda q: q.to(torch.uint8)},
        "q in float": {"q": Tensor.float},
        "q turned": {"q": Tensor.T},
        "step squeezed": {"step": lambda s: s[:, 0]},
        "step for each value": {"step": lambda s: s.repeat(1, 3)},
        "step upside down": {"step": lambda s: 1 / s},
        "step 0.01 % off": {"step": lambda s: 1.0001 * s},
        "step in float16": {"step": Tensor.half},
        "step in integers": {"step": Tensor.int},
    },
) | {
    "0 / 0 cast": lambda x: zero_by_zero(x, lambda v: v.round().to(torch.int8)),
    "0 / 0 by char()": lambda x: zero_by_zero(x, lambda v: v.round().char()),
    "0 / 0 by int32": lambda x: zero_by_zero(x, lambda v: v.round().int().clamp(-127, 127).char()),
    "0 / 0 written into int8": lambda x: zero_by_zero(x, into_int8),
    "in place": lambda x: tokens(x.mul_(1.0000001)),
    "only the step": lambda x: tokens(x)[1],
    "swapped": lambda x: tokens(x)[::-1],
    "a dict": lambda x: dict(zip("qs", tokens(x), strict=True)),
}

# ---------------------------------------------------------------------- smooth.int8_matmul


def total(xq: Tensor, wq: Tensor) -> Tensor:
    return xq.int() @ wq.int().T


def product(xq, step, wq, scale, *, of=total, by=torch.mul, y=same, x=same, w=same, s=same, z=same):
    """Multiply; the options are what an attack changes: the sum, the scales, one of the inputs."""
    return y(by(by(of(x(xq), w(wq)), s(step)), z(scale).T))


def part_of(columns: slice) -> Callable:
    return lambda xq, wq: total(xq[:, columns], wq[:, columns])


PRODUCT = with_options(
    product,
    {
        "int8": {"of": lambda x, w: (x[:, None] * w).sum(2, dtype=torch.int8)},
        "int8 products": {"of": lambda x, w: (x[:, None] * w).sum(2)},
        "int8 product, then wide": {"of": lambda x, w: x @ w.T},
        "int16": {"of": lambda x, w: x.short() @ w.short().T},
        "float16": {"of": lambda x, w: (x.half() @ w.half().T).float()},
        "bfloat16": {"of": lambda x, w: (x.bfloat16() @ w.bfloat16().T).float()},
        "float32": {"of": lambda x, w: x.float() @ w.float().T},
        "float32, linear": {"of": lambda x, w: linear(x.float(), w.float())},
        "float32, einsum": {"of": lambda x, w: torch.einsum("tj,oj->to", x.float(), w.float())},
        "float32, mean": {"of": lambda x, w: (x.float() @ w.float().T) / x.shape[1] * x.shape[1]},
        "saturated at 2**15": {"of": lambda x, w: total(x, w).clamp(-(2**15), 2**15 - 1)},
        "saturated at 2**20": {"of": lambda x, w: total(x, w).clamp(-(2**20), 2**20)},
        "magnitudes": {"of": lambda x, w: total(x.abs(), w.abs())},
        "one magnitude": {"of": lambda x, w: total(x.short().abs(), w)},
        "first column left out": {"of": part_of(slice(1, None))},
        "last column left out": {"of": lambda x, w: total(x[:, :-1], w[:, :-1])},
        "64 columns": {"of": part_of(slice(64))},
        "4,096 columns": {"of": part_of(slice(4096))},
        "mean": {"of": lambda x, w: total(x, w) / x.shape[1]},
        "one more": {"of": lambda x, w: total(x, w) + 1},
        "0.05 of one more": {"of": lambda x, w: total(x, w) + 0.05},
        "negative": {"of": lambda x, w: -total(x, w)},
        "divided": {"by": torch.div},
        "added": {"by": torch.add},
        "x + 1": {"x": lambda x: x + 1},
        "unsigned x": {"x": lambda x: x.to(torch.uint8)},
        "unsigned w": {"w": lambda w: w.to(torch.uint8)},
        "x clamped": {"x": lambda x: x.clamp(-126, 126)},
        "no step": {"s": torch.ones_like},
        "no scale": {"z": torch.ones_like},
        "mean step": {"s": lambda s: s.mean().expand_as(s)},
        "mean scale": {"z": lambda z: z.mean().expand_as(z)},
        "first step": {"s": lambda s: s[:1].expand_as(s)},
        "step squared": {"s": torch.square},
        "root of the scale": {"z": torch.sqrt},
        "float16 step": {"s": lambda s: s.half().float()},
        "bfloat16 scale": {"z": lambda z: z.bfloat16().float()},
        "1e-4 at least": {"s": lambda s: s.clamp(min=1e-4)},
        "scale 1e-3 at least": {"z": lambda z: z.clamp(min=1e-3)},
        "scale 1 at most": {"z": lambda z: z.clamp(max=1)},
        "y turned": {"y": Tensor.T},
        "y rounded": {"y": torch.round},
        "y in float16": {"y": Tensor.half},
        "y in bfloat16": {"y": Tensor.bfloat16},
        "y in int32": {"y": Tensor.int},
        "y 0.01 % off": {"y": lambda y: y * 1.0001},
        "y clamped": {"y": lambda y: y.clamp(-1e4, 1e4)},
        "y flat": {"y": torch.flatten},
    },
) | {
    "no integers": lambda x, s, w, z: (x * s) @ (w * z).T,
    "half of the scales first": lambda x, s, w, z: ((x * s) @ w.float().T) * z.T,
    "scales rounded": lambda x, s, w, z: product(x, s.round(), w, z.round()),
    "scales swapped": lambda x, s, w, z: (
        product(x, z, w, s) if len(s) == len(z) else product(x, s, w, z)
    ),
    "scale on rows": lambda x, s, w, z: total(x, w) * s * (z if len(s) == len(z) else z.T),
    "in place": lambda x, s, w, z: product(x, s.mul_(2), w, z) / 2,
}
