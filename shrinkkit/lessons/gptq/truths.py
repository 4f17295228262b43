"""Work out the truths of lesson 05's exercises.

Everything here is numpy in float64 and follows the definitions, not the algorithm: what the free
weights should become is least squares with a fresh `solve`, one column after the other, where GPTQ
reads everything off one Cholesky factor. That the two agree is the lesson.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def related_inputs(seed: int | np.random.Generator, n_tokens: int, in_features: int) -> Array:
    """Draw inputs [n_tokens, in_features] float32 that go together and have different sizes."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((in_features, in_features)) + 1.5 * np.eye(in_features)
    sizes = rng.permutation(np.linspace(0.4, 2.0, in_features))
    return (rng.standard_normal((n_tokens, in_features)) @ mix * sizes).astype(np.float32)


def hessian_like(rng: np.random.Generator, diagonal: Array) -> Array:
    """Draw the Hessian [in, in] float32 of inputs that go together, with a given diagonal.

    It is easily inverted, but for zeros on the diagonal, which are dead inputs, and for their
    sizes.
    """
    n = len(diagonal)
    x = related_inputs(rng, 3 * n, n).astype(np.float64)
    drawn = damped(x.T @ x, 0.05)
    sizes = np.sqrt(diagonal / drawn.diagonal())
    return (drawn * np.outer(sizes, sizes)).astype(np.float32)


def hessian_of(batches: Sequence[Array]) -> Array:
    """Return 2/n * sum of x xᵀ over the rows of all batches, one row at a time."""
    in_features = batches[0].shape[-1]
    total, n = np.zeros((in_features, in_features)), 0
    for batch in batches:
        for x in batch.reshape(-1, in_features).astype(np.float64):
            total += np.outer(x, x)
            n += 1
    return 2 * total / n


def output_error(weight: Array, changed: Array, hessian: Array) -> float:
    """Return 1/2 (w - q) H (w - q)ᵀ of one row."""
    off = weight.astype(np.float64) - changed
    return float(off @ hessian @ off) / 2


def best_answer(w: Array, hessian: Array, p: int, q: float) -> Array:
    """Return w with weight p set to q and all others where least squares wants them."""
    w, free = w.astype(np.float64), [j for j in range(len(w)) if j != p]
    answer = w.copy()
    answer[p] = q
    pull = hessian[np.ix_(free, [p])][:, 0] * (w[p] - q)
    answer[free] += np.linalg.solve(hessian[np.ix_(free, free)], pull)
    return answer


def compensate(w: Array, inverse: Array, p: int, q: float) -> tuple[Array, float]:
    """Return the best answer, and the output error that it leaves."""
    hessian = np.linalg.inv(inverse.astype(np.float64))
    answer = best_answer(w, hessian, p, q)
    return answer, output_error(w, answer, hessian)


def damped(hessian: Array, damping: float) -> Array:
    """Return the Hessian with 1 for dead inputs, and damping times the live mean added."""
    hessian = hessian.astype(np.float64).copy()
    diagonal = hessian.diagonal().copy()
    dead = diagonal == 0
    hessian[dead, dead] = 1.0
    return hessian + damping * diagonal[~dead].mean() * np.eye(len(hessian))


def factor_of_inverse(hessian: Array) -> Array:
    """Return U: row p is the first row of the inverse of what is left from p on, over its root."""
    upper = np.zeros_like(hessian, dtype=np.float64)
    for p in range(len(hessian)):
        row = np.linalg.inv(hessian[p:, p:])[0]
        upper[p, p:] = row / np.sqrt(row[0])
    return upper


def upper_factor(hessian: Array, damping: float) -> Array:
    """Damp a Hessian, and return the factor of its inverse."""
    return factor_of_inverse(damped(hessian, damping))


def quick_factor(hessian: Array) -> Array:
    """Return the same factor by Cholesky, for inputs: no truth rests on it."""
    return np.linalg.cholesky(np.linalg.inv(hessian.astype(np.float64))).T


def column_by_column(
    weight: Array, hessian: Array, scale: Array, qmax: int, order: Sequence[int] | None = None
) -> tuple[Array, float]:
    """Round columns in an order, each time with least squares over the columns still free.

    weight, scale: [out, in]. order: None for left to right.
    Returns the integers [out, in], in the weight's own column order, and the smallest distance of a
    value that was rounded from a tie between two integers.
    """
    order = list(range(weight.shape[1])) if order is None else list(order)
    now = weight.astype(np.float64).copy()
    q, closest = np.zeros(weight.shape, dtype=np.int64), 0.5
    for place, j in enumerate(order):
        steps = now[:, j] / scale[:, j].astype(np.float64)
        inside = np.abs(steps) < qmax + 1
        if inside.any():
            closest = min(closest, float(np.abs(np.abs(steps[inside]) % 1 - 0.5).min()))
        q[:, j] = np.clip(np.round(steps), -qmax, qmax)
        free = order[place + 1 :]
        if free:
            off = now[:, j] - q[:, j] * scale[:, j].astype(np.float64)
            pull = np.linalg.solve(hessian[np.ix_(free, free)], hessian[free, j])
            now[:, free] += np.outer(off, pull)
    return q, closest


def quantize_columns(weight: Array, hessian: Array, scale: Array, qmax: int) -> Array:
    """Round columns from left to right; return the integers."""
    return column_by_column(weight, hessian.astype(np.float64), scale, qmax)[0]


def largest_first(hessian: Array) -> Array:
    """Return the order of columns by the diagonal, descending."""
    return np.argsort(-hessian.diagonal(), kind="stable")


def act_order(
    weight: Array, hessian: Array, scale: Array, qmax: int, group_size: int, damping: float
) -> Array:
    """Round columns with the largest inputs first; return the integers in the weight's order."""
    wide = at_each_weight(scale, group_size, weight.shape[1])
    order = largest_first(hessian)
    return column_by_column(weight, damped(hessian, damping), wide, qmax, order)[0]


def away_from_ties(
    weight: Array, hessian: Array, scale: Array, qmax: int, order: Sequence[int] | None = None
) -> Array:
    """Move weights that would be rounded near a tie a fiftieth of a step down.

    A weight's own move shifts what stands there when its turn comes, and nothing before.
    """
    order = np.arange(weight.shape[1]) if order is None else np.asarray(order)
    upper = quick_factor(hessian[np.ix_(order, order)])
    now, moved = weight.astype(np.float64), weight.astype(np.float64)
    for place, j in enumerate(order):
        step = scale[:, j].astype(np.float64)
        near = np.abs(now[:, j] / step % 1 - 0.5) < 0.01
        for columns in (now, moved):
            columns[near, j] -= 0.02 * step[near]
        off = now[:, j] - step * np.clip(np.round(now[:, j] / step), -qmax, qmax)
        now[:, order[place + 1 :]] -= np.outer(off / upper[place, place], upper[place, place + 1 :])
    return moved.astype(weight.dtype)


def row_scales(weight: Array, qmax: int) -> Array:
    """Return max|row| / qmax of each row, [out, 1] float32."""
    return (np.abs(weight).max(axis=1, keepdims=True) / qmax).astype(np.float32)


def group_scales(weight: Array, qmax: int, group_size: int) -> Array:
    """Return max|group| / qmax of each group of neighbouring columns, [out, n_groups] float32."""
    parts = [weight[:, i : i + group_size] for i in range(0, weight.shape[1], group_size)]
    return np.concatenate([row_scales(part, qmax) for part in parts], axis=1)


def at_each_weight(per_group: Array, group_size: int, in_features: int) -> Array:
    """Repeat one value a group for each of its columns: [out, n_groups] -> [out, in]."""
    return np.repeat(per_group, group_size, axis=1)[:, :in_features]
