"""Check the exercises of lesson 06: which channels matter, and what AWQ does for them.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Where a search picks one of several candidates, the inputs keep the best well apart
from the second best (the tests measure it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import random_weight, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.awq import mistakes, truths
from shrinkkit.lessons.awq.truths import Array, uneven_inputs

# Closed during every check.
OWN = ("shrinkkit.quant.grids.affine", "shrinkkit.quant.ptq.awq", "shrinkkit.surgery.invariance")
RATIOS = [0.0, 0.25, 0.5, 0.75, 1.0]
SHRINKS = [1.0, 0.9, 0.8, 0.7, 0.6]


def batch_cases() -> Iterator[list[Array]]:
    """Yield batches: of different sizes, one alone, with a texts dimension, with an offset."""
    yield [uneven_inputs(1, 7, 5), uneven_inputs(2, 2, 5), uneven_inputs(3, 12, 5)]
    yield [uneven_inputs(4, 9, 6)]
    yield [uneven_inputs(5, 12, 4).reshape(3, 4, 4), uneven_inputs(6, 5, 4).reshape(1, 5, 4)]
    yield [uneven_inputs(7, 6, 3) + 2.0, uneven_inputs(8, 1, 3)]


def judge_channel_importance(channel_importance: Attempt) -> None:
    """Check the size of each channel over a stream of batches."""
    for batches in batch_cases():
        close(
            channel_importance([tensor(batch) for batch in batches]),
            tensor(truths.mean_sizes(batches)),
            f"the importance over batches {[list(b.shape) for b in batches]}",
            "Mean of |x| of each channel, over all rows of all batches.",
        )


def fold_cases() -> Iterator[tuple[Array, list[Array], Array, float]]:
    """Yield norm weight, weights, importance, ratio: unused channels, square readers, one, 0."""
    rng = np.random.default_rng(21)
    for n, outs, ratio, unused in [
        (8, (3, 8, 2), 0.25, (1, 6)),  # first: it tells most mistakes apart
        (6, (6, 3), 0.5, ()),
        (5, (4,), 0.8, ()),
        (4, (4, 4), 0.0, ()),
    ]:
        importance = rng.permutation(np.geomspace(0.1, 9.0, n)).astype(np.float32)
        importance[list(unused)] = 0.0
        weights = [random_weight(30 + n + i, out, n) for i, out in enumerate(outs)]
        yield rng.uniform(0.3, 2.0, n).astype(np.float32), weights, importance, ratio


def judge_scale_and_fold(scale_and_fold: Attempt) -> None:
    """Check AWQ's scale for one ratio, and that it is folded away."""
    for norm, weights, importance, ratio in fold_cases():
        given = [tensor(w) for w in weights]
        got = scale_and_fold(tensor(norm), given, tensor(importance), ratio)
        _several(got, (torch.Tensor, torch.Tensor, list), "return s, norm_weight, weights")
        s = truths.scale_of(importance, ratio)
        close(
            got[0],
            tensor(s),
            f"the scale at ratio {ratio:g}",
            "s = importance ** ratio, divided by sqrt(s.max() * s.min()).",
        )
        must(
            len(got[2]) == len(weights),
            f"{len(got[2])} weights came back, and {len(weights)} were given: one each.",
        )
        close(got[1], tensor(norm / s), "the norm's weight", "norm_weight / s.")
        for number, w in enumerate(weights):
            name = f"weight {number + 1} of {len(weights)}"
            close(got[2][number], tensor(w * s), name, "weight * s.")


def ratio_cases() -> Iterator[tuple[Array, Array, list[float], int]]:
    """Yield x, weight, ratios, bits; the best is neither first nor last in most of them."""
    for seed, n_tokens, out, n, bits, ratios in [
        (58, 40, 6, 12, 3, RATIOS),
        (46, 25, 4, 9, 4, [0.0, 0.3, 0.6, 0.9]),
        (43, 30, 1, 16, 3, RATIOS),
        (47, 20, 5, 8, 4, [0.0, 0.4]),
    ]:
        yield uneven_inputs(seed, n_tokens, n), random_weight(seed, out, n), ratios, bits
    flat = np.random.default_rng(45).choice([-1.0, 1.0], (16, 6)).astype(np.float32)
    yield flat, random_weight(45, 3, 6), [0.0], 3  # all channels alike: nothing to gain


def judge_search_ratio(search_ratio: Attempt) -> None:
    """Check the search over ratios: all errors, and the best ratio."""
    for x, weight, ratios, bits in ratio_cases():
        got = search_ratio(tensor(x), tensor(weight), ratios, bits)
        must(
            isinstance(got, tuple) and len(got) == 2,
            "2 results should come back, in this order: `return best, errors`.",
        )
        swapped = isinstance(got[0], torch.Tensor) and got[0].ndim == 1
        must(not swapped, "The two results are swapped: `return best, errors`.")
        errors = truths.ratio_errors(x, weight, ratios, bits)
        close(
            got[1],
            tensor(errors),
            f"the errors at ratios {ratios}",
            "For each ratio: s, then round_rows(weight * s, bits) / s, then the squared distance "
            "of the outputs from x @ weight.T, summed over outputs, averaged over tokens.",
            rtol=1e-3,
        )
        best = ratios[int(errors.argmin())]
        close(got[0], best, f"the best of the ratios {ratios}", "The ratio with the least error.")


def clip_cases() -> Iterator[tuple[Array, Array, int, list[float]]]:
    """Yield x, weight, bits, shrinks: rows that want different limits."""
    for seed, n_tokens, out, n, bits in [
        (141, 40, 8, 20, 3),
        (71, 30, 6, 16, 4),
        (53, 50, 1, 24, 2),
    ]:
        yield uneven_inputs(seed, n_tokens, n), random_weight(seed, out, n), bits, SHRINKS


def judge_search_clip(search_clip: Attempt) -> None:
    """Check the limit of each row, chosen by the error of its output."""
    for x, weight, bits, shrinks in clip_cases():
        close(
            search_clip(tensor(x), tensor(weight), bits, shrinks),
            tensor(truths.best_limits(x, weight, bits, shrinks)),
            f"the limits of a weight {list(weight.shape)} at {bits} bits",
            "For each row and each shrink: limit = shrink * max|row|, step = limit / qmax, round, "
            "clamp to qmax; keep the limit with the least squared error of x @ row.",
        )


def _several(got: Any, types: tuple[type, ...], call: str) -> None:
    """Ask for several results, each of its type."""
    must(
        isinstance(got, tuple)
        and len(got) == len(types)
        and all(isinstance(part, kind) for part, kind in zip(got, types, strict=True)),
        f"{len(types)} results should come back, in this order: `{call}` (the last one a list).",
    )


EXERCISES = {
    "awq.channel_importance": Exercise(judge_channel_importance, OWN, mistakes.CHANNEL_IMPORTANCE),
    "awq.scale_and_fold": Exercise(judge_scale_and_fold, OWN, mistakes.SCALE_AND_FOLD),
    "awq.search_ratio": Exercise(judge_search_ratio, OWN, mistakes.SEARCH_RATIO),
    "awq.search_clip": Exercise(judge_search_clip, OWN, mistakes.SEARCH_CLIP),
}
