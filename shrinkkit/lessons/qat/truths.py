"""Work out the truths of lesson 07's exercises.

Everything here is numpy in float64, one weight at a time, from the definitions and without the
package. Gradients come from the definitions of the papers, not from autograd.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray


def weight_of(seed: int, out_features: int, in_features: int) -> Array:
    """Draw a weight [out, in] float32 whose rows have different sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.3, 2.0, (out_features, 1))
    return (rng.standard_normal((out_features, in_features)) * sizes).astype(np.float32)


def scale_of(seed: int, out_features: int) -> Array:
    """Draw scales [out, 1] float32 that leave some weights outside a grid of few levels."""
    return np.random.default_rng(seed).uniform(0.2, 0.8, (out_features, 1)).astype(np.float32)


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
    """Return LSQ's d rounded / d scale of each weight, [out, in] float64 (equation 3)."""
    parts = np.zeros(weight.shape)
    for o, row in enumerate(weight.astype(np.float64)):
        for j, w in enumerate(row):
            v = w / float(scale[o, 0])
            parts[o, j] = qmin if v <= qmin else qmax if v >= qmax else round(v) - v
    return parts


def step_gradient(weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array) -> Array:
    """Return LSQ's gradient of each row's scale, [out, 1], gradient scale included."""
    parts = step_parts(weight, scale, qmin, qmax) * gradient.astype(np.float64)
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
