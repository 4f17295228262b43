"""Work out the truths of lesson 04's exercises.

Everything here is numpy in float64, one token, one channel or one product at a time, from the
definitions and without the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


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


def away_from_ties(x: Array) -> Array:
    """Move values of tokens that lie halfway between two integers a fiftieth of a step down."""
    _, step = tokens_to_int8(x)
    moved = x.astype(np.float64)
    near = np.abs(moved / step % 1 - 0.5) < 0.01
    return (moved - 0.02 * step * near).astype(np.float32)


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


def output_errors(x: Array, weight: Array, alphas: Sequence[float]) -> Array:
    """Return the output error at each alpha, smoothed by the scale of one reader."""
    return np.array([output_error(x, weight, share_out(x, [weight], a)) for a in alphas])


def tie_distance(x: Array, weight: Array, alphas: Sequence[float]) -> float:
    """Return how near to a half a value in steps comes, in what is rounded at any alpha."""
    found = []
    for alpha in alphas:
        s = share_out(x, [weight], alpha)
        for rows in (x / s, weight * s):
            _, step = tokens_to_int8(rows)
            found.append(np.abs(np.abs(rows / step) % 1 - 0.5).min())
    return float(min(found))


def fold(norm: Array, bias: Array, weights: Sequence[Array], s: Array) -> list[Array]:
    """Return norm / s and bias / s [in], then every weight [out, in] * s, channel by channel."""
    folded = [part.astype(np.float64) for part in (norm, bias, *weights)]
    for j, size in enumerate(s.astype(np.float64)):
        for n, part in enumerate(folded):
            part[..., j] *= 1 / size if n < 2 else size
    return folded
