"""Wrong answers to the exercises of lesson 02: right ones with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import torch
import torch.nn.functional as F

from tests.lessons.attacks import with_options

Tensor = torch.Tensor


def same(value):
    return value


# ----------------------------------------------------------------------- measuring.perplexity


def perplexity(
    logits, tokens, *, read=same, at=slice(None, -1), of=slice(1, None), log_p=None,
    losses=same, mean=torch.mean, exp=torch.exp, give=Tensor.item,
):  # fmt: skip
    """Give the perplexity; the options are what an attack changes.

    read: what becomes of the logits; at, of: positions of logits and tokens; log_p: of logits;
    losses: what becomes of them, [n, seq_len - 1]; mean, exp, give: the last steps.
    """
    log_p = log_p or (lambda z: z.log_softmax(-1))
    found = -log_p(read(logits))[:, at].gather(2, tokens[:, of, None])[..., 0]
    return give(exp(mean(losses(found))))


def joined(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1)[:-1], tokens.flatten()[1:]).exp()


PERPLEXITY = with_options(
    perplexity,
    {
        "no shift": {"at": slice(None), "of": slice(None)},
        "the wrong way": {"at": slice(1, None), "of": slice(None, -1)},
        "first position left out": {"at": slice(1, -1), "of": slice(2, None)},
        "last position left out": {"losses": lambda x: x[:, : max(1, x.shape[1] - 1)]},
        "first window": {"losses": lambda x: x[:1]},
        "last window left out": {"losses": lambda x: x[: max(1, len(x) - 1)]},
        "8 windows": {"losses": lambda x: x[:8]},
        "16 positions": {"losses": lambda x: x[:, :16]},
        "mean of windows": {"mean": lambda x: x.mean(1), "give": lambda x: x.mean().item()},
        "mean of exp": {"mean": same, "give": lambda x: x.mean().item()},
        "median": {"mean": torch.median},
        "sum": {"mean": torch.sum},
        "seq_len": {"mean": lambda x: x.sum() / (x.numel() + len(x))},
        "one loss too many": {"mean": lambda x: x.sum() / (x.numel() + 1)},
        "one loss too few": {"mean": lambda x: x.sum() / max(1, x.numel() - 1)},
        "bits": {"exp": lambda x: torch.exp(x / math.log(2))},
        "2 to the loss": {"exp": torch.exp2},
        "expm1": {"exp": torch.expm1},
        "the loss": {"exp": same},
        "upside down": {"exp": lambda x: torch.exp(-x)},
        "softmax twice": {"read": lambda z: z.softmax(-1)},
        "logits as they are": {"log_p": same},
        "softmax over positions": {"log_p": lambda z: z.log_softmax(1)},
        "softmax over windows": {"log_p": lambda z: z.log_softmax(0)},
        "log of softmax": {"log_p": lambda z: z.softmax(-1).log()},
        "1e-12 more": {"log_p": lambda z: (z.softmax(-1) + 1e-12).log()},
        "p from 1e-30": {"log_p": lambda z: z.softmax(-1).clamp(min=1e-30).log()},
        "exp by hand": {"log_p": lambda z: z - z.exp().sum(-1, keepdim=True).log()},
        "temperature 1.001": {"read": lambda z: z / 1.001},
        "logits to 100": {"read": lambda z: z.clamp(-100, 100)},
        "float16": {"read": lambda z: z.half().float()},
        "bfloat16": {"read": lambda z: z.bfloat16().float()},
        "losses to 20": {"losses": lambda x: x.clamp(max=20)},
        "losses from 0.001": {"losses": lambda x: x.clamp(min=1e-3)},
        "hopeless tokens left out": {"mean": lambda x: x[x < 50].mean()},
        "magnitudes of logits": {"read": torch.abs},
        "2 at least": {"give": lambda x: max(x.item(), 2.0)},
        "1,000 at most": {"give": lambda x: min(x.item(), 1e3)},
        "three digits": {"give": lambda x: round(x.item(), 3)},
        "0.01 % off": {"give": lambda x: 1.0001 * x.item()},
        "whole": {"give": lambda x: int(x.item())},
        "a string": {"give": lambda x: str(x.item())},
        "one element": {"give": lambda x: x[None]},
        "a list": {"give": lambda x: [x.item()]},
    },
) | {
    "windows joined": joined,
    "logits in place": lambda z, tokens: perplexity(z.sub_(z.amax(-1, keepdim=True)), tokens),
    "tokens in place": lambda z, tokens: perplexity(z, tokens.sub_(1).add_(1).clamp_(min=1)),
}

# ------------------------------------------------------------------------------- measuring.kl


def kl(
    reference, compressed, *, p_of=None, q_of=None, term=None, total=lambda x: x.sum(-1),
    mean=torch.mean, read=same, give=Tensor.item,
):  # fmt: skip
    """Give KL; the options are what an attack changes.

    p_of, q_of: log-probabilities of logits; term: what is added up, of both; total, mean, give: the
    last steps; read: what becomes of the logits.
    """
    p_of = p_of or (lambda z: z.log_softmax(-1))
    q_of, term = q_of or p_of, term or (lambda p, q: p.exp() * (p - q))
    return give(mean(total(term(p_of(read(reference)), q_of(read(compressed))))))


def propped(more: float) -> dict:
    return {"p_of": lambda z: (z.softmax(-1) + more).log()}


KL = with_options(
    kl,
    {
        "weighed by q": {"term": lambda p, q: q.exp() * (p - q)},
        "reverse": {"term": lambda p, q: q.exp() * (q - p)},
        "negative": {"term": lambda p, q: p.exp() * (q - p)},
        "magnitudes": {"term": lambda p, q: p.exp() * (p - q).abs()},
        "both ways": {"term": lambda p, q: (p.exp() - q.exp()) * (p - q) / 2},
        "cross-entropy": {"term": lambda p, q: -p.exp() * q},
        "entropy": {"term": lambda p, q: -p.exp() * p},
        "squares": {"term": lambda p, q: p.exp() * (p - q) ** 2 / 2},
        "not weighed": {"term": lambda p, q: p - q},
        "only where p is larger": {"term": lambda p, q: p.exp() * (p - q).clamp(min=0)},
        "differences to 20": {"term": lambda p, q: p.exp() * (p - q).clamp(-20, 20)},
        "likely words": {"term": lambda p, q: p.exp() * (p - q) * (p > -7)},
        "bits": {"term": lambda p, q: p.exp() * (p - q) / math.log(2)},
        "mean over words": {"total": lambda x: x.mean(-1)},
        "largest word": {"total": lambda x: x.amax(-1)},
        "last word left out": {"total": lambda x: x[..., :-1].sum(-1)},
        "first word left out": {"total": lambda x: x[..., 1:].sum(-1)},
        "100 words": {"total": lambda x: x[..., :100].sum(-1)},
        "sum": {"mean": torch.sum},
        "by windows": {"mean": lambda x: x.sum() / len(x)},
        "by positions of one": {"mean": lambda x: x.sum() / x.shape[1]},
        "median": {"mean": torch.median},
        "first window": {"mean": lambda x: x[0].mean()},
        "last position left out": {"mean": lambda x: x[:, : max(1, x.shape[1] - 1)].mean()},
        "first position left out": {"mean": lambda x: x[:, min(1, x.shape[1] - 1) :].mean()},
        "8 positions": {"mean": lambda x: x[:, :8].mean()},
        "one position too many": {"mean": lambda x: x.sum() / (x.numel() + 1)},
        "softmax twice": {"read": lambda z: z.softmax(-1)},
        "softmax over positions": {"p_of": lambda z: z.log_softmax(1)},
        "softmax over windows": {"p_of": lambda z: z.log_softmax(0)},
        "logits for log q": {"q_of": same},
        "logits for both": {"p_of": same},
        "log of softmax": {"p_of": lambda z: z.softmax(-1).log()},
        "log of softmax for q": {"q_of": lambda z: z.softmax(-1).log()},
        "q from 1e-30": {"q_of": lambda z: z.softmax(-1).clamp(min=1e-30).log()},
        "1e-10 more": propped(1e-10),
        "1e-20 more": propped(1e-20),
        "exp by hand": {"p_of": lambda z: z - z.exp().sum(-1, keepdim=True).log()},
        "temperature 1.01": {"read": lambda z: z / 1.01},
        "logits from -50": {"read": lambda z: z.clamp(min=-50)},
        "bfloat16": {"read": lambda z: z.bfloat16().float()},
        "0.001 at least": {"give": lambda x: max(x.item(), 1e-3)},
        "3 at most": {"give": lambda x: min(x.item(), 3.0)},
        "three digits": {"give": lambda x: round(x.item(), 3)},
        "1e-5 more": {"give": lambda x: x.item() + 1e-5},
        "0.1 % off": {"give": lambda x: 1.001 * x.item()},
        "root": {"give": lambda x: x.clamp(min=0).sqrt().item()},
        "one element": {"give": lambda x: x[None]},
    },
) | {
    "models swapped": lambda p, q: kl(q, p),
    "in place": lambda p, q: kl(p.sub_(p.amax(-1, keepdim=True)), q),
}

# ------------------------------------------------------------------ measuring.wilson_interval


def wilson(
    successes, n, confidence, *, z=lambda c: NormalDist().inv_cdf((1 + c) / 2), first=2, second=4,
    power=2, p_of=lambda k, n: k / n, spread_of=same, scale_of=lambda z, n: 1 + z * z / n,
    give=lambda low, high: (low, high),
):  # fmt: skip
    """Give Wilson's interval; the options are what an attack changes."""
    z, p = z(confidence), p_of(successes, n)
    middle = p + z * z / (first * n)
    spread = z * spread_of(p * (1 - p) / n + z * z / (second * n**power)) ** 0.5
    scale = scale_of(z, n)
    return give((middle - spread) / scale, (middle + spread) / scale)


def z_of(share: float) -> float:
    return NormalDist().inv_cdf(share)


def simple(successes, n, confidence):
    p = successes / n
    spread = z_of((1 + confidence) / 2) * math.sqrt(p * (1 - p) / n)
    return max(0.0, p - spread), min(1.0, p + spread)


TABLE = {0.8: 1.282, 0.9: 1.645, 0.95: 1.96, 0.99: 2.576}
WILSON = with_options(
    wilson,
    {
        "one side": {"z": z_of},
        "1.96": {"z": lambda c: 1.96},
        "2": {"z": lambda c: 2.0},
        "two digits of z": {"z": lambda c: round(z_of((1 + c) / 2), 2)},
        "four digits of z": {"z": lambda c: round(z_of((1 + c) / 2), 4)},
        "a table of z": {"z": lambda c: TABLE.get(c) or z_of((1 + c) / 2)},
        "negative z": {"z": lambda c: z_of((1 - c) / 2)},
        "alpha": {"z": lambda c: z_of(1 - c / 2)},
        "the confidence": {"z": same},
        "z to 3": {"z": lambda c: min(3.0, z_of((1 + c) / 2))},
        "z from 0.5": {"z": lambda c: max(0.5, z_of((1 + c) / 2))},
        "confidence from 0.5": {"z": lambda c: z_of((1 + max(c, 0.5)) / 2)},
        "n in the middle": {"first": 1},
        "4 n in the middle": {"first": 4},
        "middle is p": {"first": math.inf},
        "2 in the root": {"second": 2},
        "8 in the root": {"second": 8},
        "n in the root": {"power": 1},
        "n**3 in the root": {"power": 3},
        "no z in the root": {"second": math.inf},
        "no root": {"spread_of": lambda x: x * x},
        "not divided": {"scale_of": lambda z, n: 1},
        "divided by 1 + z / n": {"scale_of": lambda z, n: 1 + z / n},
        "divided by n + z**2": {"scale_of": lambda z, n: n + z * z},
        "divided by 1 + z**2": {"scale_of": lambda z, n: 1 + z * z},
        "n - 1": {"p_of": lambda k, n: k / max(1, n - 1) if k < n else 1.0},
        "one more": {"p_of": lambda k, n: (k + 1) / (n + 2)},
        "half a success": {"p_of": lambda k, n: (k + 0.5) / (n + 1)},
        "0 and n left out": {"p_of": lambda k, n: min(max(k, 0.5), n - 0.5) / n},
        "percent in": {"p_of": lambda k, n: round(100 * k / n) / 100},
        "whole p": {"p_of": lambda k, n: k // n},
        "percent out": {"give": lambda low, high: (100 * low, 100 * high)},
        "three digits": {"give": lambda low, high: (round(low, 3), round(high, 3))},
        "five digits": {"give": lambda low, high: (round(low, 5), round(high, 5))},
        "0 is 1e-6": {"give": lambda low, high: (max(low, 1e-6), high)},
        "below 1": {"give": lambda low, high: (low, min(high, 0.9999))},
        "swapped": {"give": lambda low, high: (high, low)},
        "low twice": {"give": lambda low, high: (low, low)},
        "middle and spread": {"give": lambda low, high: ((low + high) / 2, (high - low) / 2)},
        "width": {"give": lambda low, high: high - low},
        "a dict": {"give": lambda low, high: {"low": low, "high": high}},
        "a set": {"give": lambda low, high: {low, high, 0.5}},
        "three": {"give": lambda low, high: (low, (low + high) / 2, high)},
        "strings": {"give": lambda low, high: (str(low), str(high))},
        "a row": {"give": lambda low, high: torch.tensor([[low, high]])},
        "a generator": {"give": lambda low, high: iter((low, high))},
    },
) | {
    "simple": simple,
    "simple for many": lambda k, n, c: simple(k, n, c) if n > 50 else wilson(k, n, c),
    "simple from 1,000": lambda k, n, c: simple(k, n, c) if n >= 1000 else wilson(k, n, c),
    "nothing right": lambda k, n, c: wilson(k, n, c) if k else (0.0, 1.0),
    "all right": lambda k, n, c: wilson(k, n, c) if k < n else (1 - 3 / n, 1.0),
    "cached": lambda k, n, c, seen={}: seen.setdefault(n, wilson(k, n, c)),
}

# -------------------------------------------------------------------------- measuring.speedup


def line(place: float) -> Callable:
    return lambda ratios: ratios.quantile(place)


def nearest(place: float, how: str) -> Callable:
    return lambda ratios: ratios.quantile(place, interpolation=how)


MEDIAN, LOWER, UPPER = line(0.5), line(0.25), line(0.75)


def speedup(
    slow, fast, *, by=torch.div, ratios=same, median=MEDIAN, low=LOWER, high=UPPER,
    each=Tensor.item, give=tuple,
):  # fmt: skip
    """Give the speed-up; the options are what an attack changes."""
    found = ratios(by(slow, fast))
    return give(each(part(found)) for part in (median, low, high))


def exclusive(place: float) -> Callable:
    """Return the quantile that puts n values between n + 1 gaps."""

    def quantile(ratios: Tensor) -> Tensor:
        n = len(ratios)
        return ratios.quantile(min(max((place * (n + 1) - 1) / (n - 1), 0.0), 1.0))

    return quantile


def swap(three) -> tuple:
    median, low, high = three
    return median, high, low


def hiccup_free(ratios: Tensor) -> Tensor:
    return ratios[ratios < 3 * ratios.quantile(0.5)]


SPEEDUP = with_options(
    speedup,
    {
        "fast / slow": {"by": lambda slow, fast: fast / slow},
        "difference": {"by": torch.sub},
        "gain": {"by": lambda slow, fast: slow / fast - 1},
        "whole ratios": {"by": torch.floor_divide},
        "percent": {"by": lambda slow, fast: 100 * slow / fast},
        "logarithm": {"by": lambda slow, fast: (slow / fast).log()},
        "sorted apart": {"by": lambda slow, fast: slow.sort().values / fast.sort().values},
        "neighbouring turns": {"by": lambda slow, fast: slow / fast.roll(1)},
        "mean of fast": {"by": lambda slow, fast: slow / fast.mean()},
        "median of slow": {"by": lambda slow, fast: slow.quantile(0.5) / fast},
        "1e-3 more": {"by": lambda slow, fast: slow / (fast + 1e-3)},
        "1e-8 more": {"by": lambda slow, fast: slow / (fast + 1e-8)},
        "fast from 0.01": {"by": lambda slow, fast: slow / fast.clamp(min=1e-2)},
        "float16": {"by": lambda slow, fast: (slow.half() / fast.half()).float()},
        "bfloat16": {"by": lambda slow, fast: (slow / fast).bfloat16().float()},
        "1 at least": {"ratios": lambda x: x.clamp(min=1)},
        "1,000 at most": {"ratios": lambda x: x.clamp(max=1000)},
        "first turn left out": {"ratios": lambda x: x[1:]},
        "last turn left out": {"ratios": lambda x: x[:-1]},
        "extremes left out": {"ratios": lambda x: x.sort().values[1:-1] if len(x) > 2 else x},
        "16 turns": {"ratios": lambda x: x[:16]},
        "hiccups left out": {"ratios": hiccup_free},
        "each ratio once": {"ratios": lambda x: torch.unique((x * 4).round() / 4)},
        "torch.median": {"median": torch.median},
        "upper middle": {"median": nearest(0.5, "higher")},
        "nearest middle": {"median": nearest(0.5, "nearest")},
        "mean": {"median": torch.mean},
        "middle turn": {"median": lambda x: x[len(x) // 2]},
        "geometric mean": {"median": lambda x: x.log().mean().exp()},
        "middle of the quartiles": {"median": lambda x: (line(0.25)(x) + line(0.75)(x)) / 2},
        "lower rank": {"low": nearest(0.25, "lower")},
        "upper rank": {"high": nearest(0.75, "higher")},
        "nearest rank": {"low": nearest(0.25, "nearest"), "high": nearest(0.75, "nearest")},
        "middle of two ranks": {"low": nearest(0.25, "midpoint")},
        "exclusive": {"low": exclusive(0.25), "high": exclusive(0.75)},
        "smallest": {"low": torch.min},
        "largest": {"high": torch.max},
        "a tenth": {"low": line(0.1), "high": line(0.9)},
        "0.26": {"low": line(0.26)},
        "0.74": {"high": line(0.74)},
        "thirds": {"low": line(1 / 3), "high": line(2 / 3)},
        "deviation": {"high": lambda x: x.mean() + x.std()},
        "symmetric": {"high": lambda x: 2 * line(0.5)(x) - line(0.25)(x)},
        "three digits": {"each": lambda x: round(x.item(), 3)},
        "0.01 % off": {"each": lambda x: 1.0001 * x.item()},
        "strings": {"each": lambda x: str(x.item())},
        "one element": {"each": lambda x: x[None]},
        "low and high swapped": {"give": swap},
        "sorted": {"give": sorted},
        "a generator": {"give": iter},
        "a set": {"give": set},
        "two": {"give": lambda three: tuple(three)[:2]},
        "a column": {"give": lambda three: torch.tensor(tuple(three))[:, None]},
    },
) | {
    "ratio of medians": lambda slow, fast: speedup(
        slow, fast, median=lambda x: slow.quantile(0.5) / fast.quantile(0.5)
    ),
    "ratio of means": lambda slow, fast: speedup(
        slow, fast, median=lambda x: slow.mean() / fast.mean()
    ),
    "sorted in place": lambda slow, fast: speedup(slow.copy_(slow.sort().values), fast),
    "in place": lambda slow, fast: speedup(slow.div_(fast), torch.ones_like(fast)),
}
