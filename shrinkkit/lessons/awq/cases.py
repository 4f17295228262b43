"""Draw the inputs of lesson 06's judges, so that there is one right answer and float32 finds it.

A search has one best candidate, half a percent ahead of the next, and no value that is rounded lies
within a thousandth of a step of a tie. Nor is an error so small beside the products that it is left
of that float32 measures it badly, which happens at 8 bits. What does not fit is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkkit.checks.inputs import random_weight
from shrinkkit.lessons.awq import truths
from shrinkkit.lessons.awq.truths import Array, uneven_inputs

AHEAD = 1.005
FROM_TIES = 1e-3
FELT = 2e-3  # the root of the least error, as a share of the products' magnitudes
Ratio = tuple[Array, Array, list[float], int]  # x, weight, ratios, bits
Clip = tuple[Array, Array, int, list[float]]  # x, weight, bits, shrinks


def is_alone(errors: Array) -> bool:
    """Tell whether the least of some errors is well below the next."""
    least, *more = np.sort(errors)
    return not more or more[0] > AHEAD * least


def is_clear(steps: Array, qmax: int) -> bool:
    """Tell whether numbers, counted in steps, keep away from the middle between two integers.

    Those beyond qmax are clamped, wherever they are.
    """
    steps = steps[np.abs(steps) <= qmax]
    return bool((np.abs(steps - np.floor(steps) - 0.5) > FROM_TIES).all())


def is_settled_ratio(x: Array, weight: Array, ratios: Sequence[float], bits: int) -> bool:
    """Tell whether one ratio is the best and no rounding is near a tie."""
    qmax = 2 ** (bits - 1) - 1
    for ratio in ratios:
        scaled = weight.astype(np.float64) * truths.scale_of(truths.mean_sizes([x]), ratio)
        if not is_clear(scaled / np.abs(scaled).max(axis=1, keepdims=True) * qmax, qmax):
            return False
    errors = truths.ratio_errors(x, weight, ratios, bits)
    return is_alone(errors) and bool(np.sqrt(errors.min()) > FELT * size_of_products(x, weight))


def size_of_products(x: Array, weight: Array) -> float:
    """Return how large outputs are without signs: the root of what their error would be."""
    products = np.abs(x).astype(np.float64) @ np.abs(weight).astype(np.float64).T
    return float(np.sqrt((products**2).sum(axis=1).mean()))


def is_settled_clip(x: Array, weight: Array, bits: int, shrinks: Sequence[float]) -> bool:
    """Tell whether one limit is the best for each row, and no rounding is near a tie."""
    qmax = 2 ** (bits - 1) - 1
    live = weight[np.abs(weight).max(axis=1) > 0].astype(np.float64)
    largest = np.abs(live).max(axis=1, keepdims=True)
    if not all(is_clear(live / (shrink * largest) * qmax, qmax) for shrink in shrinks):
        return False
    return all(is_alone(row) for row in truths.row_errors(x, live, bits, shrinks))


def ratio_case(
    seed: int | np.random.Generator,
    shape: tuple[int, int, int],
    bits: int,
    ratios: list[float],
    dead: Sequence[int] = (),
    sizes: tuple[float, float] = (1.0, 1.0),
    spread: float = 12.0,
    holes: float = 0.0,
) -> Ratio:
    """Draw a search over ratios.

    shape: tokens, outputs, inputs. dead: inputs that are always zero. sizes: of inputs and weights.
    holes: the share of inputs that are zero here and there.
    """
    rng = np.random.default_rng(seed)
    n_tokens, out, n = shape
    while True:
        x = uneven_inputs(rng, n_tokens, n, spread) * np.float32(sizes[0])
        if holes:
            x[rng.random(x.shape) < holes] = 0
        x[:, list(dead)] = 0
        weight = random_weight(rng, out, n, sizes[1])
        weight[:, list(dead)] *= 30  # so that what they count as is felt
        if is_settled_ratio(x, weight, ratios, bits):
            return x, weight, ratios, bits


def clip_case(
    seed: int | np.random.Generator,
    shape: tuple[int, int, int],
    bits: int,
    shrinks: list[float],
    zeros: Sequence[int] = (),
    sizes: tuple[float, float] = (1.0, 1.0),
    offset: float = 0.0,
) -> Clip:
    """Draw a search over limits; zeros: rows of zeros; offset: added to the inputs.

    Rows are drawn one by one until each has one best limit.
    """
    rng = np.random.default_rng(seed)
    n_tokens, out, n = shape
    x = (uneven_inputs(rng, n_tokens, n) + np.float32(offset)) * np.float32(sizes[0])
    rows: list[Array] = []
    while len(rows) < out:
        row = random_weight(rng, 1, n, sizes[1])
        if len(rows) in zeros:
            row = np.zeros_like(row)
        if is_settled_clip(x, row, bits, shrinks):
            rows.append(row)
    return x, np.concatenate(rows), bits, shrinks
