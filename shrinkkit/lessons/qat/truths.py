"""Draw the inputs of lesson 07's exercises, and work out what is right.

Everything here is numpy. Truths are in float64, one weight at a time, from the definitions and
without the package. Gradients come from the definitions of the papers, not from autograd.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
# weight, scale, qmin, qmax, incoming gradient
GridCase = tuple[Array, Array, int, int, Array]
# weight, a, b, alpha
LoraCase = tuple[Array, Array, Array, float]
# A weight on its grid, an update, scale, qmin, qmax
LostCase = tuple[Array, Array, Array, int, int]


def sizes(rng: np.random.Generator, n: int, low: float = -6, high: float = 4) -> Array:
    """Return n sizes [n, 1], evenly from 10**low to 10**high, in any order; 10**low alone for 1."""
    return 10.0 ** rng.permutation(np.linspace(low, high, n))[:, None]


def powers_of_two(numbers: Array) -> Array:
    """Return the nearest powers of two: quotients by them are exact."""
    return 2.0 ** np.round(np.log2(numbers))


def steps_of(
    rng: np.random.Generator, rows: int, columns: int, qmin: int, qmax: int, exact: Array
) -> Array:
    """Draw weights in steps of their scale, [rows, columns] float64, away from ties and ends.

    Each row has some beside the ends and some far out. exact: rows that also get the ends
    themselves, and 0.
    """
    away = rng.choice([-1, 1], (rows, columns)) * rng.uniform(0.05, 0.47, (rows, columns))
    v = rng.integers(qmin - 1, qmax + 2, (rows, columns)) + away
    beside = [qmin - 0.3, qmin + 0.3, qmax - 0.3, qmax + 0.3, qmax + 1.2, -3000.25, 3000.25]
    for row in range(rows):
        special = np.array([qmin, qmax, 0.0, *beside] if exact[row] else beside)
        n = min(len(special), (columns + 1) // 2)
        v[row, rng.permutation(columns)[:n]] = rng.permutation(special)[:n]
    return v


def ternary_steps(
    rng: np.random.Generator, rows: int, columns: int, zero: tuple = (), negative: float = 0.5
) -> Array:
    """Draw weights in steps of their mean magnitude, [rows, columns] float64.

    A third of them lies just below or above half a step, and none nearer to it. zero: a place that
    holds zeros, an index. negative: the share of negative ones.
    """
    v = rng.exponential(size=(rows, columns)) + 0.05
    if zero:
        v[zero] = 0.0
    flat = v.reshape(-1)  # a view
    places = rng.permutation(np.flatnonzero(flat))
    near, rest = np.split(places, [len(places) // 3])
    flat[near] = np.resize([0.53, 0.47], len(near))
    flat[rest] *= (flat.size - flat[near].sum()) / flat[rest].sum()
    flat[rest[np.abs(flat[rest] - 0.5) < 0.05]] = 0.4
    flat[rest[flat[rest].argmax()]] += flat.size - flat.sum()  # so that the mean is 1
    return np.where(rng.random(v.shape) < negative, -v, v)


def grid_case(seed: int | np.random.Generator, *grid: int, low: float, high: float) -> GridCase:
    """Draw a weight whose rows have scales from 10**low to 10**high, and a gradient.

    Every other scale is a power of two, and some of its weights lie exactly at the ends.
    """
    rng = np.random.default_rng(seed)
    rows, columns, qmin, qmax = grid
    scale = sizes(rng, rows, low, high)
    scale[::2] = powers_of_two(scale[::2])
    scale = scale.astype(np.float32)
    v = steps_of(rng, rows, columns, qmin, qmax, exact=np.arange(rows) % 2 == 0)
    gradient = rng.standard_normal((rows, columns)) * sizes(rng, rows, low, high)
    if rows > 4:
        v[1], gradient[3] = 0.0, 0.0
    return (v * scale).astype(np.float32), scale, qmin, qmax, gradient.astype(np.float32)


def lora_case(
    seed: int | np.random.Generator, *shape: float, low: float, high: float, dead: bool = False
) -> LoraCase:
    """Draw a weight whose rows have sizes from 10**low to 10**high, and an adapter of such rows.

    dead: b is all zero, as before training.
    """
    rng = np.random.default_rng(seed)
    rows, columns, rank, alpha = shape
    size = sizes(rng, rows, low, high)
    weight = rng.standard_normal((rows, columns)) * size
    a = rng.standard_normal((rank, columns)) * rng.uniform(0.3, 2, (rank, 1))
    b = rng.standard_normal((rows, rank)) * size * (not dead)
    return *(part.astype(np.float32) for part in (weight, a, b)), alpha


def lost_case(
    seed: int | np.random.Generator, *grid: int, reach: int, low: float, high: float
) -> LostCase:
    """Draw a weight on its grid, and an update.

    reach: updates go so many steps far, and a fraction; 0: none reaches another level; -1: all are
    whole steps, and few go beyond the grid. low, high: scales are 10**low to 10**high.
    """
    rng = np.random.default_rng(seed)
    rows, columns, qmin, qmax = grid
    scale = sizes(rng, rows, low, high)
    base = rng.integers(qmin, qmax + 1, (rows, columns))
    far = rng.integers(-abs(reach), abs(reach) + 1, base.shape)
    if reach < 0:
        scale = powers_of_two(scale)
        far = np.clip(base + far, qmin, qmax) - base
        base[0, 0], far[0, 0] = qmin, 1
    else:
        far = far + rng.choice([-1, 1], base.shape) * rng.uniform(0.05, 0.47, base.shape)
    if rows > 3:
        far[2] = 0.0
    return *((x * scale).astype(np.float32) for x in (base, far, np.ones((rows, 1)))), qmin, qmax


def on_grid(v: float, qmin: int, qmax: int) -> int:
    """Return the nearest integer of the grid."""
    return max(qmin, min(qmax, round(v)))


def rounded(weight: Array, scale: Array, qmin: int, qmax: int) -> Array:
    """Return scale * clip(round(weight / scale)), [out, in] float64."""
    y = np.zeros(weight.shape)
    for o, row in enumerate(weight.astype(np.float64)):
        s = float(scale[o, 0])
        y[o] = [s * on_grid(w / s, qmin, qmax) for w in row]
    return y


def passed(weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array) -> Array:
    """Return the straight-through gradient of the weight: what came in, inside the range only."""
    v = weight.astype(np.float64) / scale.astype(np.float64)
    return np.where((v >= qmin) & (v <= qmax), gradient.astype(np.float64), 0.0)


def step_parts(weight: Array, scale: Array, qmin: int, qmax: int) -> Array:
    """Return LSQ's d rounded / d scale of each weight, [out, in] float64.

    The ends of the range count as inside, where equation 3 of the paper counts them as outside.
    """
    parts = np.zeros(weight.shape)
    for o, row in enumerate(weight.astype(np.float64)):
        for j, w in enumerate(row):
            v = w / float(scale[o, 0])
            parts[o, j] = qmin if v < qmin else qmax if v > qmax else round(v) - v
    return parts


def step_gradient(weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array) -> Array:
    """Return LSQ's gradient of each row's scale, [out, 1], gradient scale included."""
    parts = step_parts(weight, scale, qmin, qmax) * gradient.astype(np.float64)
    return parts.sum(axis=1, keepdims=True) / math.sqrt(weight.shape[1] * qmax)


def step_size(weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array) -> Array:
    """Return how large the numbers are that step_gradient adds up, [out, 1]."""
    steps = np.clip(weight.astype(np.float64) / scale, qmin, qmax)
    parts = (np.abs(steps) + 1) * np.abs(gradient.astype(np.float64))
    return parts.sum(axis=1, keepdims=True) / math.sqrt(weight.shape[1] * qmax)


def ternary(weight: Array) -> tuple[Array, float]:
    """Return q [out, in] int8 and the scale: the mean magnitude of all weights."""
    values = [abs(w) for w in weight.astype(np.float64).flatten()]
    scale = sum(values) / len(values)
    q = np.zeros(weight.shape, dtype=np.int8)
    if scale:
        for place, w in np.ndenumerate(weight.astype(np.float64)):
            q[place] = on_grid(w / scale, -1, 1)
    return q, scale


def merged(weight: Array, a: Array, b: Array, alpha: float) -> Array:
    """Return weight + alpha / rank * b a, [out, in] float64, product by product."""
    rank = a.shape[0]
    total = weight.astype(np.float64)
    for r in range(rank):
        total = total + alpha / rank * np.outer(b[:, r].astype(np.float64), a[r].astype(np.float64))
    return total


def lost_part(weight: Array, update: Array, scale: Array, qmin: int, qmax: int) -> float:
    """Return |rounded(weight + update) - (weight + update)| / |update|."""
    total = weight.astype(np.float64) + update.astype(np.float64)
    error = rounded(total, scale, qmin, qmax) - total
    return float(np.linalg.norm(error) / np.linalg.norm(update.astype(np.float64)))


def merge_size(weight: Array, a: Array, b: Array, alpha: float) -> Array:
    """Return how large the numbers are that a merged weight adds up, [out, in]."""
    return merged(*map(np.abs, (weight, a, b)), alpha)


def lost_size(weight: Array, update: Array) -> float:
    """Return how large the sums are that lost_part rounds, as a part of the update's size."""
    total = np.abs(weight.astype(np.float64)) + np.abs(update)
    return float(np.linalg.norm(total) / np.linalg.norm(update.astype(np.float64)))
