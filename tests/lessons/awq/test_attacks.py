"""Right answers with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, an axis, an edge, a dtype
or a bound, and some try to answer without the calculation. `attacks_search.py` has those of the
exercises that search.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.lessons.attacks import ON_BATCHES, assert_refused, by_rows, each, rows_of, with_options
from tests.lessons.awq.attacks_search import (
    CLIP,
    RATIO,
    centred,
    no,
    powers,
    scale_of,
    search_clip,
    search_ratio,
)

Tensor = torch.Tensor
Batches = list[Tensor]


def gather(batches: Batches, *, pick=no, rows=rows_of, of=Tensor.abs, n=no, end=no) -> Tensor:
    """Add up |x|, and divide; the options are what an attack changes."""
    x = torch.cat([rows(batch) for batch in pick(batches)])
    return end(of(x).sum(0) / n(len(x)))


def where_used(x: Tensor) -> Tensor:
    return x.abs().sum(0) / (x != 0).sum(0).clamp(min=1) * len(x) / len(x)


IMPORTANCE = {
    **ON_BATCHES,
    "centred": by_rows(lambda x: x - x.mean(0) if len(x) > 1 else x),
    "signs kept": {"of": no},
    "squares": {"of": Tensor.square},
    "roots": {"of": lambda x: x.abs().sqrt()},
    "smooth magnitudes": {"of": lambda x: (x.square() + 1e-6).sqrt()},
    "magnitudes of integers": {"of": lambda x: x.round().abs()},
    "mean where used": {"of": lambda x: (where_used(x) * len(x))[None]},
    "median": {"of": lambda x: (x.abs().median(0).values * len(x))[None]},
    "standard deviation": {"of": lambda x: (x.std(0, correction=0) * len(x))[None]},
    "root of the mean square": {"of": lambda x: (x.square().mean(0).sqrt() * len(x))[None]},
    "largest": {"of": lambda x: (x.abs().amax(0) * len(x))[None]},
    "magnitude of the mean": {"of": lambda x: (x.mean(0).abs() * len(x))[None]},
    "0.1 % off": {"end": lambda i: 1.001 * i},
    "+ 1e-6": {"end": lambda i: i + 1e-6},
    "+ 1e-10": {"end": lambda i: i + 1e-10},
    "at least 1e-5": {"end": lambda i: i.clamp(min=1e-5)},
    "dead inputs at 1": {"end": lambda i: i + (i == 0)},
    "last input forgotten": {"end": lambda i: torch.nn.functional.pad(i[:-1], (0, 1))},
    "over the largest": {"end": lambda i: i / i.max()},
    "over the sum": {"end": lambda i: i / i.sum()},
    "sorted": {"end": lambda i: i.sort().values},
    "a row": {"end": lambda i: i[None]},
    "one number": {"end": Tensor.mean},
    "integers": {"end": lambda i: i.round().int()},
    "a list": {"end": Tensor.tolist},
}


def fold(
    norm, weights, importance, ratio, *, s_of=scale_of, given=no, norm_by=lambda n, s: n / s,
    by=lambda w, s: w * s, end=no, **how,
):  # fmt: skip
    """Fold a scale. given: the s that comes back."""
    s = s_of(importance, ratio, **how)
    return end((given(s), norm_by(norm, s), [by(weight, s) for weight in weights]))


def centre(by: Callable) -> dict:
    return {"centre": lambda s: s / by(s)}


def some(change: Callable, *places: int) -> dict:
    """Change some of the new weights: those at these places."""

    def end(found: tuple) -> tuple:
        s, norm, weights = found
        here = {place % len(weights) for place in places}
        return s, norm, [change(w, s) if i in here else w for i, w in enumerate(weights)]

    return {"end": end}


def weights_as(change: Callable) -> dict:
    return {"end": lambda found: (*found[:2], change(found[2]))}


FOLD = {
    "not centred": {"centre": no},
    "by the largest": centre(Tensor.max),
    "by the smallest": centre(Tensor.min),
    "by the mean": centre(Tensor.mean),
    "by the geometric mean": centre(lambda s: s.log().mean().exp()),
    "by the median": centre(Tensor.median),
    "by the product": centre(lambda s: s.max() * s.min()),
    "by the middle": centre(lambda s: (s.max() + s.min()) / 2),
    "by the norm": centre(Tensor.norm),
    "by the first and the last": centre(lambda s: (s[0] * s[-1]).sqrt()),
    "+ 1e-4 below": centre(lambda s: (s.max() * s.min()).sqrt() + 1e-4),
    "importance at least 1e-3": {"used": lambda i: i.clamp(min=1e-3)},
    "importance at least 1e-5": {"used": lambda i: i.clamp(min=1e-5)},
    "importance + 1e-8": {"used": lambda i: i + 1e-8},
    "importance at most 1,000": {"used": lambda i: i.clamp(max=1e3)},
    "importance over its mean": {"used": lambda i: i / i.mean(), "centre": no},
    "centred first": {"used": centred, "centre": no},
    "s within 100": {"centre": lambda s: centred(s).clamp(0.01, 100)},
    "s at least 1e-4": {"centre": lambda s: centred(s).clamp(min=1e-4)},
    "unused below 1e-3": {"live": lambda i: i > 1e-3},
    "unused below 1e-6": {"live": lambda i: i > 1e-6},
    "unused at 1": {"fill": lambda used: torch.tensor(1.0)},
    "unused at 1e-4": {"fill": lambda used: torch.tensor(1e-4)},
    "unused as the most used": {"fill": Tensor.max},
    "unused as the mean": {"fill": Tensor.mean},
    "unused as the median": {"fill": Tensor.median},
    "unused a little less": {"fill": lambda used: 0.99 * used.min()},
    "unused not lifted": {"live": lambda i: i > -1},
    "unused at s = 1": {"s_of": lambda i, r: torch.where(i > 0, scale_of(i, r), 1)},
    "centred without the unused": {
        "s_of": lambda i, r: centred(powers(i, r)) if (i > 0).all() else powers(i, r)
    },
    "ratio halved": {"at": lambda r: r / 2},
    "ratio at most 0.9": {"at": lambda r: min(r, 0.9)},
    "ratio at least 0.1": {"at": lambda r: max(r, 0.1)},
    "ratio of 0.5": {"at": lambda r: 0.5},
    "1 - ratio": {"at": lambda r: 1 - r},
    "ratio + 0.001": {"at": lambda r: r + 1e-3},
    "upside down": {"at": lambda r: -r},
    "s 0.1 % off": {"given": lambda s: 1.001 * s},
    "1 / s": {"given": lambda s: 1 / s},
    "s a column": {"given": lambda s: s[:, None]},
    "s in float16": {"given": Tensor.half},
    "norm times s": {"norm_by": lambda n, s: n * s},
    "norm left": {"norm_by": lambda n, s: n},
    "norm minus s": {"norm_by": lambda n, s: n - s},
    "norm over s + 1e-4": {"norm_by": lambda n, s: n / (s + 1e-4)},
    "norm positive": {"norm_by": lambda n, s: (n / s).abs()},
    "norm at least 1e-3": {"norm_by": lambda n, s: (n / s).clamp(min=1e-3)},
    "norm twice": {"norm_by": lambda n, s: n / s / s},
    "norm of 1": {"norm_by": lambda n, s: 1 / s},
    "rows where they fit": {"by": lambda w, s: w * s[:, None] if len(w) == len(s) else w * s},
    "weights over s": {"by": lambda w, s: w / s},
    "weights rounded": {"by": lambda w, s: (w * s * 1e3).round() / 1e3},
    "weights clamped": {"by": lambda w, s: (w * s).clamp(-100, 100)},
    "weights in float16": {"by": lambda w, s: (w * s).half()},
    "the last weight is left": some(lambda w, s: w / s, -1),
    "the first weight is left": some(lambda w, s: w / s, 0),
    "the second weight is left": some(lambda w, s: w / s, 1),
    "two weights alone": some(lambda w, s: w / s, *range(2, 9)),
    "four weights alone": some(lambda w, s: w / s, *range(4, 9)),
    "the last weight at 0": some(lambda w, s: 0 * w, -1),
    "weights turned": weights_as(lambda weights: weights[::-1] if len(weights) > 1 else [0]),
    "one weight": weights_as(lambda weights: weights[:1]),
    "one more": weights_as(lambda weights: [*weights, weights[0]]),
    "joined": weights_as(torch.cat),
    "a dict": weights_as(lambda weights: dict(enumerate(weights))),
    "a generator": weights_as(iter),
    "norm first": {"end": lambda found: (found[1], found[0], found[2])},
    "weights first": {"end": lambda found: (found[2], found[0], found[1])},
    "two results": {"end": lambda found: found[:2]},
    "five results": {"end": lambda found: (*found[:2], *found[2])},
    "a list of tensors for s": {"end": lambda found: (found[0].tolist(), *found[1:])},
}


ATTACKS = {
    "awq.channel_importance": with_options(gather, IMPORTANCE),
    "awq.scale_and_fold": with_options(fold, FOLD),
    "awq.search_ratio": with_options(search_ratio, RATIO),
    "awq.search_clip": with_options(search_clip, CLIP),
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)
