"""Right answers to lesson 06's exercises, written in other ways, pass for several seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shrinkkit.checks import check
from tests.lessons.attacks import each, rows_of
from tests.lessons.awq.attacks_search import (
    largest_number,
    rounded,
    scale_of,
    search_clip,
    search_ratio,
)
from tests.lessons.awq.test_attacks import fold, gather

Tensor = torch.Tensor


def running_mean(batches: list[Tensor]) -> Tensor:
    found, n = torch.zeros(batches[0].shape[-1]), 0
    for batch in batches:
        x = batch.flatten(0, -2)
        n += len(x)
        found += (x.abs().mean(dim=0) - found) * len(x) / n
    return found


def one_by_one(batches: list[Tensor]) -> Tensor:
    tokens = [token for batch in batches for token in rows_of(batch)]
    return sum(token.abs() for token in tokens) / len(tokens)


def lifted(importance: Tensor, ratio: float) -> Tensor:
    """Work out s in float64, each end by its own power."""
    used = importance.double().clone()
    used[used == 0] = used[used > 0].min()
    return (used**ratio / (used.max() ** ratio * used.min() ** ratio) ** 0.5).float()


def powers_of_quotients(importance: Tensor, ratio: float) -> Tensor:
    least = importance[importance > 0].min()
    used = torch.maximum(importance, least)
    return (used / (used.max() * used.min()).sqrt()) ** ratio


def ratio_by_hand(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    """Compare outputs, not errors of weights: in float64, one ratio after another."""
    x, weight = x.double(), weight.double()
    best, errors = None, []
    for ratio in ratios:
        s = scale_of(x.abs().mean(dim=0), ratio)
        out = (x / s) @ rounded(weight * s, largest_number(bits)).T
        errors.append(((out - x @ weight.T) ** 2).sum() / len(x))
        if best is None or errors[-1] < min(errors[:-1]):
            best = ratio
    return [best, torch.stack(errors)]


def clip_with_the_best_kept(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    """Keep the best limit of each row so far; a row of zeros keeps the first."""
    at = weight.abs().amax(1, keepdim=True)
    limits, least = torch.zeros_like(at), torch.full_like(at, torch.inf)
    for shrink in shrinks:
        off = rounded(weight, largest_number(bits), limit=shrink * at) - weight
        error = (x @ off.T).square().sum(0)[:, None]
        limits = torch.where(error < least, shrink * at, limits)
        least = torch.minimum(error, least)
    return limits


def clip_in_float64(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return search_clip(x.double(), weight.double(), bits, shrinks)


def answer(build: Callable, **how) -> Callable:
    return lambda *case: build(*case, **how)


RIGHT = {
    "awq.channel_importance": {
        "one mean": gather,
        "running mean": running_mean,
        "one by one": one_by_one,
        "float64": answer(gather, end=Tensor.double),
    },
    "awq.scale_and_fold": {
        "in a line": fold,
        "float64 inside": answer(fold, s_of=lifted),
        "powers of quotients": answer(fold, s_of=powers_of_quotients),
        "a tuple of weights": answer(fold, end=lambda found: (*found[:2], tuple(found[2]))),
        "a list of results": answer(fold, end=list),
        "in place on its own": answer(fold, by=lambda w, s: w.clone().mul_(s)),
    },
    "awq.search_ratio": {
        "in a line": search_ratio,
        "by hand": ratio_by_hand,
        "best as a tensor": answer(search_ratio, best=lambda r, e: torch.tensor(r)[e.argmin()]),
        "s in float64": answer(search_ratio, s_of=lifted),
        "errors in float64": answer(search_ratio, errors_end=Tensor.double),
    },
    "awq.search_clip": {
        "in a line": search_clip,
        "the best kept": clip_with_the_best_kept,
        "float64": clip_in_float64,
        "sums": answer(search_clip, total=lambda off: off.square().sum(0)),
        "norms": answer(search_clip, total=lambda off: off.norm(dim=0)),
    },
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_passes(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
