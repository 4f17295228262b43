"""Answers about ternary weights and adapters with one thing changed are refused; others pass.

They vary a constant, an axis, an edge, a bound or a dtype. w is the weight [out, in], u an update
of it, s the scale of its rows [out, 1], a and b an adapter's two parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from shrinkkit.checks import check
from tests.lessons.attacks import assert_refused, each, with_options
from tests.lessons.qat.test_attacks import ENDS, ROUNDED, SCALES, but, no

Tensor = torch.Tensor


def safe(scale: Tensor) -> Tensor:
    return scale.masked_fill(scale == 0, 1.0)


def ternary(w, *, mean=lambda m: m.mean(), over=safe, by=torch.round, q=no, scale=no, low=-1):
    """Round to three levels; the options are what an attack changes."""
    found = mean(w.abs())
    steps = by(w / over(found)).clamp(low, 1)
    return q(steps.to(torch.int8)), scale(found)


def unless(zero: Callable) -> Callable:
    """Round, but give zeros where a condition calls the whole weight one of zeros."""
    return lambda w: (
        (torch.zeros_like(w, dtype=torch.int8), w.new_zeros(())) if zero(w) else ternary(w)
    )


TERNARY = (
    {f"rounded {name}": {"by": by} for name, by in ROUNDED.items() if name != "in int8"}
    | {f"+ {eps:g}": {"over": lambda s, eps=eps: s + eps} for eps in (1e-7, 1e-6, 1e-5, 1e-3)}
    | {
        f"{eps:g} at least": {"over": lambda s, eps=eps: s.clamp(min=eps)}
        for eps in (1e-5, 1e-4, 1e-2, 1)
    }
    | {
        "100 at most": {"over": lambda s: safe(s.clamp(max=100))},
        "0 / 0 cast": {"over": no},
        "unsafe where small": {"over": lambda s: torch.where(s > 1e-5, s, 1)},
        "scale for zeros 1": {"scale": safe},
        "scale + 1e-8": {"scale": lambda s: s + 1e-8},
        "scale + 1e-12": {"scale": lambda s: s + 1e-12},
        "scale 0.1 % off": {"scale": lambda s: s * 1.001},
        "scale in bfloat16": {"scale": lambda s: s.bfloat16()},
        "scale, rounded": {"scale": lambda s: round(float(s), 4)},
        "scale as an int": {"scale": lambda s: int(s)},
        "scale [1, 1]": {"scale": lambda s: s[None, None]},
        "scale [1]": {"scale": lambda s: s[None]},
        "scale as a list": {"scale": lambda s: [float(s)]},
        "scale as words": {"scale": lambda s: str(float(s))},
        "scale a row": {"mean": lambda m: m.mean(1, keepdim=True), "scale": lambda s: s.mean()},
        "scale a column": {"mean": lambda m: m.mean(0, keepdim=True), "scale": lambda s: s.mean()},
        "median": {"mean": lambda m: m.median()},
        "middle": {"mean": lambda m: (m.max() + m.min()) / 2},
        "zeros left out": {"mean": lambda m: m.sum() / (m > 0).sum().clamp(min=1)},
        "n - 1": {"mean": lambda m: m.sum() / max(m.numel() - 1, 1)},
        "n + 1": {"mean": lambda m: m.sum() / (m.numel() + 1)},
        "n = out": {"mean": lambda m: m.sum() / m.shape[0]},
        "n = in": {"mean": lambda m: m.sum() / m.shape[1]},
        "first row's mean": {"mean": lambda m: m[0].mean()},
        "last column left out": {"mean": lambda m: m[:, : max(1, m.shape[1] - 1)].mean()},
        "100 weights alone": {"mean": lambda m: m.flatten()[:100].mean()},
        "geometric": {"mean": lambda m: (m + 1e-30).log().mean().exp()},
        "in whole numbers": {"mean": lambda m: m.round().mean()},
        "largest left out": {"mean": lambda m: (m.sum() - m.max()) / max(m.numel() - 1, 1)},
        "threshold 0.7": {"by": lambda v: v.sign() * (v.abs() > 0.7)},
        "threshold 0.45": {"by": lambda v: v.sign() * (v.abs() > 0.45)},
        "0 and 1 alone": {"low": 0},
        "-2 to 1": {"low": -2},
        "q in int32": {"q": Tensor.int},
        "q in int64": {"q": Tensor.long},
        "q in uint8": {"q": Tensor.byte},
        "q turned round": {"q": lambda q: -q},
        "q turned": {"q": lambda q: q.T},
        "q flat": {"q": Tensor.flatten},
        "q without sign": {"q": torch.abs},
        "last row 0": {"q": but(-1, 0)},
        "last column 0": {"q": but((slice(None), -1), 0)},
        "columns beyond 16 are 0": {"q": but((slice(None), slice(16, None)), 0)},
    }
)
WEIGHTS_OF_ZEROS = {
    "tiny called zero": unless(lambda w: w.abs().max() < 1e-4),
    "a sum of 0 called zero": unless(lambda w: w.sum().abs() < 1e-6 * w.abs().max()),
    "one zero row, all zero": unless(lambda w: bool((w == 0).all(1).any())),
    "a first 0 called zero": unless(lambda w: w[0, 0] == 0),
    "one column called zero": unless(lambda w: w.shape[1] == 1),
}


def merged(w, a, b, alpha, *, factor=None, product=None, sum=no, rank=None):
    """Add an adapter; the options are what an attack changes."""
    r = len(a) if rank is None else rank(a, b)
    factor = alpha / r if factor is None else factor(alpha, r)
    return sum(w + factor * (b @ a if product is None else product(a, b)))


MERGED = {
    f"alpha / {number}": {"factor": lambda alpha, r, number=number: alpha / number}
    for number in (1, 2, 4, 8, 16)
} | {
    "whole factor": {"factor": lambda alpha, r: alpha // r},
    "whole alpha": {"factor": lambda alpha, r: int(alpha) / r},
    "alpha 1 at least": {"factor": lambda alpha, r: max(alpha, 1) / r},
    "alpha rank where 0": {"factor": lambda alpha, r: (alpha or r) / r},
    "alpha 100 at most": {"factor": lambda alpha, r: min(alpha, 100) / r},
    "factor 1 at most": {"factor": lambda alpha, r: min(alpha / r, 1)},
    "factor 1 at least": {"factor": lambda alpha, r: max(alpha / r, 1)},
    "alpha - rank": {"factor": lambda alpha, r: alpha - r},
    "alpha * rank": {"factor": lambda alpha, r: alpha * r},
    "alpha / rank ** 2": {"factor": lambda alpha, r: alpha / r**2},
    "sqrt(alpha / rank)": {"factor": lambda alpha, r: (alpha / r) ** 0.5},
    "sqrt(alpha) / rank": {"factor": lambda alpha, r: alpha**0.5 / r},
    "alpha / sqrt(rank)": {"factor": lambda alpha, r: alpha / r**0.5},
    "alpha / (rank + 1)": {"factor": lambda alpha, r: alpha / (r + 1)},
    "factor, two digits": {"factor": lambda alpha, r: round(alpha / r, 2)},
    "rank from a's columns": {"rank": lambda a, b: a.shape[1]},
    "rank from b's rows": {"rank": lambda a, b: b.shape[0]},
    "rank, the smallest side": {"rank": lambda a, b: min(*a.shape, *b.shape)},
    "rank, the largest side": {"rank": lambda a, b: max(b.shape)},
    "rank 4 at most": {"rank": lambda a, b: min(len(a), 4)},
    "rank 2 at least": {"rank": lambda a, b: max(len(a), 2)},
    "first part alone": {"product": lambda a, b: b[:, :1] @ a[:1]},
    "last part dropped": {"product": lambda a, b: b[:, :-1] @ a[:-1]},
    "8 parts alone": {"product": lambda a, b: b[:, :8] @ a[:8]},
    "turned where square": {"product": lambda a, b: a.T @ b.T if a.shape[1] == len(b) else b @ a},
    "a @ b where it fits": {
        "product": lambda a, b: a @ b if a.shape == b.shape == a.T.shape else b @ a
    },
    "magnitudes": {"product": lambda a, b: b.abs() @ a.abs()},
    "in bfloat16": {"product": lambda a, b: (b.bfloat16() @ a.bfloat16()).float()},
    "in float16": {"product": lambda a, b: (b.half() @ a.half()).float()},
    "tiny dropped": {"product": lambda a, b: (b @ a) * ((b @ a).abs() > 1e-5)},
    "cut at 1e3": {"product": lambda a, b: (b @ a).clamp(-1e3, 1e3)},
    "parts the wrong way": {"product": lambda a, b: b.flip(1) @ a},
    "0.1 % off": {"sum": lambda x: x * 1.001},
    "1e-3 more": {"sum": lambda x: x + 1e-3},
    "1e-6 more": {"sum": lambda x: x + 1e-6},
    "bfloat16 comes back": {"sum": Tensor.bfloat16},
    "last row wrong": {"sum": but(-1, 1.5)},
    "last column wrong": {"sum": but((slice(None), -1), 1.5)},
    "turned": {"sum": lambda x: x.T},
    "flat": {"sum": Tensor.flatten},
    "a pair": {"sum": lambda x: (x, None)},
    "whole numbers": {"sum": lambda x: x.round().int()},
}


def lost(w, u, s, low, high, *, scale=no, by=torch.round, ends=None, size=None, **more):
    """Measure what is lost; the options are what an attack changes."""
    size = size or (lambda x: x.norm())
    total = more.get("sum", torch.add)(w, u)
    q = by(total / scale(s)).clamp(*((low, high) if ends is None else ends(low, high)))
    error = more.get("error", no)(q * scale(s) - total)
    return more.get("part", no)(size(error) / more.get("over", size)(u))


LOST = (
    {name: {"scale": scale} for name, scale in SCALES.items()}
    | {f"rounded {name}": {"by": by} for name, by in ROUNDED.items()}
    | {f"clipped: {name}": {"ends": ends} for name, ends in ENDS.items()}
    | {
        "largest error": {"size": lambda x: x.abs().max()},
        "mean magnitude": {"size": lambda x: x.abs().mean()},
        "sum of magnitudes": {"size": lambda x: x.abs().sum()},
        "sum": {"size": lambda x: x.sum()},
        "spread": {"size": lambda x: x.std(correction=0)},
        "spectral norm": {"size": lambda x: torch.linalg.matrix_norm(x, 2)},
        "norms of rows, added": {"size": lambda x: x.norm(dim=1).sum()},
        "norms of rows, averaged": {"part": no, "size": lambda x: x.norm(dim=1).mean()},
        "norms of columns": {"size": lambda x: x.norm(dim=0).sum()},
        "first row": {"size": lambda x: x[0].norm()},
        "last column dropped": {"size": lambda x: x[:, : max(1, x.shape[1] - 1)].norm()},
        "16 columns alone": {"size": lambda x: x[:, :16].norm()},
        "in bfloat16": {"size": lambda x: x.bfloat16().norm()},
        "over mean": {"over": lambda u: u.square().mean().sqrt()},
        "over + 1e-8": {"over": lambda u: u.norm() + 1e-8},
        "over + 1e-5": {"over": lambda u: u.norm() + 1e-5},
        "over, 1 at least": {"over": lambda u: u.norm().clamp(min=1)},
        "over, 1e-5 at least": {"over": lambda u: u.norm().clamp(min=1e-5)},
        "in percent": {"part": lambda p: 100 * p},
        "two digits": {"part": lambda p: round(float(p), 2)},
        "four digits": {"part": lambda p: round(float(p), 4)},
        "1 where something is lost": {"part": lambda p: (p > 1e-3).float()},
        "0.1 % off": {"part": lambda p: p * 1.001},
        "+ 1e-3": {"part": lambda p: p + 1e-3},
        "root": {"part": lambda p: p.sqrt()},
        "a vector": {"part": lambda p: p[None]},
        "words": {"part": lambda p: f"{float(p):.3f}"},
        "bfloat16 sum": {"sum": lambda w, u: (w + u).bfloat16().float()},
        "the difference": {"sum": lambda w, u: w - u},
        "error of clipping alone": {"error": lambda e: e * (e.abs() > 0.5 * e.abs().max())},
        "error without the largest": {"error": lambda e: e * (e.abs() < e.abs().max())},
        "error in whole 1e-3": {"error": lambda e: (e * 1e3).round() / 1e3},
    }
)
ATTACKS = {
    "qat.ternarize": with_options(ternary, TERNARY)
    | WEIGHTS_OF_ZEROS
    | {
        "one result": lambda w: ternary(w)[0],
        "three results": lambda w: (*ternary(w), 0),
        "a dict": lambda w: dict(zip("qs", ternary(w), strict=True)),
        "half the mean": lambda w: (ternary(w, mean=lambda m: m.mean() / 2)[0], w.abs().mean()),
        "twice the mean": lambda w: (ternary(w, mean=lambda m: m.mean() * 2)[0], w.abs().mean()),
    },
    "qat.merge": with_options(merged, MERGED)
    | {
        "weight in place": lambda w, a, b, alpha: w.addmm_(b, a, alpha=alpha / len(a)),
        "b in place": lambda w, a, b, alpha: w + b.mul_(alpha / len(a)) @ a,
        "weight where alpha is 1": lambda w, *case: w if case[2] == 1 else merged(w, *case),
        "weight where b is large": lambda w, a, b, x: merged(w, a, b, x) if b.max() < 1e3 else w,
    },
    "qat.lost_part": with_options(lost, LOST)
    | {
        "in place": lambda w, u, *grid: lost(w.sub_(0.5), u, *grid),
        "nothing lost": lambda *case: 0.0,
        "all lost": lambda *case: 1.0,
        "per row, averaged": lambda w, u, s, low, high: torch.stack(
            [lost(*(x[i : i + 1] for x in (w, u, s)), low, high) for i in range(len(w))]
        ).mean(),
        "weight + update is on the grid": lambda w, u, s, low, high: lost(
            s * (w / s).round(), s * (u / s).round(), s, low, high
        ),
    },
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def by_thresholds(w: Tensor) -> list:
    """Compare magnitudes with half the mean; a list and a Python number do as well."""
    scale = w.double().abs().mean().item()
    return [((w > scale / 2).int() - (w < -scale / 2).int()).to(torch.int8), scale]


def cast_and_corrected(w: Tensor) -> tuple[Tensor, Tensor]:
    """Cast 0 / 0, and put zeros in its place afterwards."""
    scale = w.abs().mean()
    q = (w / scale).round().clamp(-1, 1).to(torch.int8)
    return torch.where(scale > 0, q, 0), scale


def not_a_number_is_zero(w: Tensor) -> tuple[Tensor, np.float64]:
    scale = w.abs().mean()
    q = (w / scale).nan_to_num(0).round().clamp(-1, 1).char()
    return q, np.float64(scale.item())


def as_the_paper(w: Tensor) -> tuple[Tensor, Tensor]:
    return ternary(w, over=lambda s: s + 1e-8)


def by_products(w: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    out = w.double().clone()
    for a_r, b_r in zip(a.double(), b.double().T, strict=True):
        out += alpha / len(a) * torch.outer(b_r, a_r)
    return out


def by_addmm(w: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return torch.addmm(w, b, a, alpha=alpha / b.shape[1])


def by_einsum(w: Tensor, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return w + torch.einsum("ri,or->oi", a * (alpha / len(a)), b)


def by_levels(w, u, s, low, high) -> float:
    """Look for the nearest of all levels."""
    total = w.double() + u.double()
    levels = torch.arange(low, high + 1) * s.double()[..., None]
    error = (total[..., None] - levels).abs().amin(dim=-1)
    return math.sqrt(error.square().sum() / u.double().square().sum())


def capped(*case) -> Tensor:
    """No sum is farther from the grid than from the weight, which lies on it."""
    return lost(*case).clamp(max=1)


def in_numpy(w, u, s, low, high) -> np.floating:
    w, u, s = (x.numpy() for x in (w, u, s))
    error = np.clip(np.round((w + u) / s), low, high) * s - (w + u)
    return np.linalg.norm(error) / np.linalg.norm(u)


RIGHT = [
    ("qat.ternarize", f)
    for f in (ternary, by_thresholds, cast_and_corrected, not_a_number_is_zero, as_the_paper)
]
RIGHT += [("qat.merge", f) for f in (merged, by_products, by_addmm, by_einsum)]
RIGHT += [("qat.lost_part", f) for f in (lost, by_levels, capped, in_numpy)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_answer_is_not(name: str, answer: Callable, seed: int) -> None:
    check(name, answer, seed=seed)
