"""Work out what the usual mistakes of lesson 07's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

import math

import numpy as np

from shrinkkit.lessons.qat import truths
from shrinkkit.lessons.qat.truths import Array


def _steps(weight: Array, scale: Array) -> Array:
    return weight.astype(np.float64) / scale.astype(np.float64)


def forward_mistakes(weight: Array, scale: Array, qmin: int, qmax: int) -> dict[str, Array]:
    """Name mistakes in the rounded weight."""
    v, s = _steps(weight, scale), scale.astype(np.float64)
    return {
        "nothing was clipped: keep the steps between qmin and qmax": np.round(v) * s,
        "values were rounded down (floor), not to the nearest": np.floor(v).clip(qmin, qmax) * s,
        "nothing was rounded: the forward pass uses the rounded weight": v.clip(qmin, qmax) * s,
        "the integers came back: multiply them by the scale": np.round(v).clip(qmin, qmax),
        "the weight came back as it was": v * s,
        "the weight was multiplied by the scale, not divided": (
            np.round(weight * s).clip(qmin, qmax) * s
        ),
        "the real weight was clipped to qmin and qmax, which are steps: divide by the scale "
        "first": np.round(weight.astype(np.float64).clip(qmin, qmax) / s) * s,
    }


def backward_mistakes(
    weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array
) -> dict[str, Array]:
    """Name mistakes in the gradient of the weight, given that the forward pass is right."""
    v, g, s = _steps(weight, scale), gradient.astype(np.float64), scale.astype(np.float64)
    inside = (v >= qmin) & (v <= qmax)
    loose = (np.round(v) >= qmin) & (np.round(v) <= qmax)
    return {
        "no gradient passes: round() stops it. Add `(rounded - value).detach()` to the value": (
            np.zeros(weight.shape)
        ),
        "the gradient passes outside the range, too: clip first, and let round be skipped after "
        "that": g,
        "the gradient passes where it should stop and stops where it should pass": g * ~inside,
        "the range was judged by the rounded value: weights up to half a step outside still "
        "learn": g * loose,
        "the gradient was multiplied by the scale": g * inside * s,
        "the gradient was divided by the scale": g * inside / s,
        "the incoming gradient was not used: multiply by it": inside.astype(float),
    }


def step_mistakes(
    weight: Array, scale: Array, qmin: int, qmax: int, gradient: Array
) -> dict[str, Array]:
    """Name mistakes in LSQ's gradient of the scale."""
    v, g = _steps(weight, scale), gradient.astype(np.float64)
    n = weight.shape[1]
    inside = (v > qmin) & (v < qmax)
    ends, root = np.where(v <= qmin, qmin, qmax), math.sqrt(n * qmax)
    parts = truths.step_parts(weight, scale, qmin, qmax)

    def added(parts: Array, by: float = root) -> Array:
        return (parts * g).sum(axis=1, keepdims=True) / by

    return {
        "the sign inside is turned: it is round(v) - v": added(np.where(inside, -parts, parts)),
        "what lies outside was left out: it adds qmin or qmax": added(np.where(inside, parts, 0.0)),
        "what lies outside adds the weight itself: it adds qmin or qmax": added(
            np.where(inside, parts, v)
        ),
        "round(v) is there, and - v is missing": added(np.where(inside, np.round(v), ends)),
        "weight took the place of weight / scale": added(
            np.where(inside, np.round(v) - weight, ends)
        ),
        "the sum was not divided by sqrt(n * qmax)": added(parts, 1.0),
        "the sum was divided by sqrt(n): qmax belongs under the root, too": added(
            parts, math.sqrt(n)
        ),
        "the sum was divided by n * qmax: take the root": added(parts, n * qmax),
        "n counts all weights: it is those that share the scale, a row": added(
            parts, math.sqrt(weight.size * qmax)
        ),
        "the sum was multiplied by sqrt(n * qmax)": added(parts, 1 / root),
        "the incoming gradient was not used: multiply each weight's part by its own": (
            parts.sum(axis=1, keepdims=True) / root
        ),
        "all rows were added up: each row has a scale of its own": np.full(
            (len(weight), 1), added(parts).sum()
        ),
        "keepdim=True is missing where you add up": added(parts)[:, 0],
        "the mean was taken: add up": added(parts) / n,
    }


def ternary_mistakes(weight: Array) -> tuple[dict[str, Array], dict[str, float]]:
    """Name mistakes in ternary integers, and in their scale."""
    w = weight.astype(np.float64)
    _, scale = truths.ternary(weight)
    v = w / (scale or 1.0)
    top = np.abs(w).max() or 1.0
    integers = {
        "nothing was clipped: -1, 0 and 1 are the only levels": np.round(v),
        "this is the sign: what is small becomes 0": np.sign(w),
        "values were rounded down (floor), not to the nearest": np.floor(v).clip(-1, 1),
        "fractions were cut off, not rounded": np.trunc(v).clip(-1, 1),
        "the largest magnitude took the place of the mean": np.round(w / top).clip(-1, 1),
        "each row has a mean of its own: there is one scale for the whole weight": np.round(
            w / np.maximum(np.abs(w).mean(axis=1, keepdims=True), 1e-12)
        ).clip(-1, 1),
        "the scale came with the integers: return q alone, and the scale beside it": scale
        * np.round(v).clip(-1, 1),
    }
    scales = {
        "the largest magnitude was taken: take the mean": float(np.abs(w).max()),
        "the signs were not removed: take abs() before the mean": float(w.mean()),
        "magnitudes were added up, not averaged": float(np.abs(w).sum()),
        "the root of the mean square was taken: take the mean magnitude": float(
            np.sqrt((w**2).mean())
        ),
        "the median was taken: take the mean": float(np.median(np.abs(w))),
        "it is upside down: a scale is what 1 is worth": 1 / scale if scale else 0.0,
    }
    return integers, scales


def merge_mistakes(weight: Array, a: Array, b: Array, alpha: float) -> dict[str, Array]:
    """Name mistakes in merging an adapter."""
    w, a, b = (x.astype(np.float64) for x in (weight, a, b))
    rank = a.shape[0]
    product = b @ a
    mistakes = {
        "the product was not scaled: alpha / rank is missing": w + product,
        "alpha was not divided by the rank": w + alpha * product,
        "the product was divided by the rank, and alpha is missing": w + product / rank,
        "alpha and rank are swapped: the factor is alpha / rank": w + rank / alpha * product,
        "alpha was divided by sqrt(rank): that is rsLoRA": w + alpha / math.sqrt(rank) * product,
        "the weight is missing: add it": alpha / rank * product,
        "the update was subtracted": w - alpha / rank * product,
        "the update was added twice": w + 2 * alpha / rank * product,
    }
    if w.shape[0] == w.shape[1]:
        mistakes["the update is turned: b @ a, not its transpose"] = w + alpha / rank * product.T
    return mistakes


def lost_mistakes(
    weight: Array, update: Array, scale: Array, qmin: int, qmax: int
) -> dict[str, float]:
    """Name mistakes in how much of an update is lost."""
    w, u, s = (x.astype(np.float64) for x in (weight, update, scale))
    total, right = w + u, truths.lost_part(weight, update, scale, qmin, qmax)
    kept = truths.rounded(total, scale, qmin, qmax)
    size = np.linalg.norm(u)
    unclipped = np.round(total / s) * s
    return {
        "the rounded sum was compared with the old weight: the truth is weight + update": float(
            np.linalg.norm(kept - w) / size
        ),
        "the update was rounded by itself: add first, then round": float(
            np.linalg.norm(truths.rounded(u, scale, qmin, qmax) - u) / size
        ),
        "the error was divided by the size of the sum, not of the update": float(
            np.linalg.norm(kept - total) / np.linalg.norm(total)
        ),
        "the error was not divided by the size of the update": right * float(size),
        "the squared error came back: take its root": right**2,
        "this is the part that was kept: return what was lost": 1 - right,
        "nothing was clipped: the grid ends at qmin and qmax": float(
            np.linalg.norm(unclipped - total) / size
        ),
        "values were rounded down (floor), not to the nearest": float(
            np.linalg.norm(np.floor(total / s).clip(qmin, qmax) * s - total) / size
        ),
    }
