"""Work out the truths of lesson 04's exercises.

Everything here is numpy in float64, one token, one channel or one product at a time, from the
definitions and without the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def spiky_tokens(seed: int, n_tokens: int, in_features: int, factor: float = 30.0) -> Array:
    """Draw activations [n_tokens, in_features] float32 with one channel that is far larger."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_tokens, in_features)) * rng.uniform(0.3, 3.0, (n_tokens, 1))
    x[:, rng.integers(in_features)] *= factor
    return x.astype(np.float32)


def weights_of(seed: int, out_features: Sequence[int], in_features: int) -> list[Array]:
    """Draw weights [out, in] float32, whose columns have different sizes in each of them."""
    rng = np.random.default_rng(seed)
    sizes = [rng.uniform(0.05, 1.5, (1, in_features)) for _ in out_features]
    drawn = [rng.standard_normal((out, in_features)) for out in out_features]
    return [(w * size).astype(np.float32) for w, size in zip(drawn, sizes, strict=True)]


# ---------------------------------------------------------------- integers


def tokens_to_int8(x: Array) -> tuple[Array, Array]:
    """Return q [n_tokens, in] int8 and step [n_tokens, 1] float64; a token of zeros has step 1."""
    q, step = np.zeros(x.shape, dtype=np.int8), np.ones((len(x), 1))
    for t, token in enumerate(x.astype(np.float64)):
        top = max(abs(value) for value in token)
        if top:
            step[t] = top / 127
            q[t] = [round(value * 127 / top) for value in token]
    return q, step


def product(xq: Array, step: Array, wq: Array, scale: Array) -> Array:
    """Return step * scale * sum of xq * wq, [n_tokens, out] float64, by Python's own integers."""
    y = np.zeros((len(xq), len(wq)))
    for t in range(len(xq)):
        for o in range(len(wq)):
            pairs = zip(xq[t].tolist(), wq[o].tolist(), strict=True)
            y[t, o] = float(step[t, 0]) * float(scale[o, 0]) * sum(a * b for a, b in pairs)
    return y


# ---------------------------------------------------------------- smoothing


def share_out(x: Array, weights: Sequence[Array], alpha: float) -> Array:
    """Return s [in] float64: max|x_j|**alpha / max|W_j|**(1 - alpha), 1 for a dead channel."""
    s = np.ones(x.shape[1])
    for j in range(x.shape[1]):
        x_max = float(np.abs(x[:, j]).max())
        w_max = max(float(np.abs(w[:, j]).max()) for w in weights)
        if x_max and w_max:
            s[j] = x_max**alpha / w_max ** (1 - alpha)
    return s


def output_error(x: Array, weight: Array, s: Array) -> float:
    """Return |y_rounded - y| / |y| of one layer, rounded after smoothing by s."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    xq, step = tokens_to_int8(x / s)
    wq, scale = tokens_to_int8(weight * s)  # a row of the weight is rounded just like a token
    y = x @ weight.T
    return float(np.linalg.norm((step * xq) @ (scale * wq).T - y) / np.linalg.norm(y))
