"""Work out what the usual mistakes of lesson 04's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkkit.lessons.smooth.truths import Array, output_error, product, share_out, tokens_to_int8


def step_mistakes(x: Array) -> dict[str, Array]:
    """Name mistakes in the step of each token."""
    _, step = tokens_to_int8(x)
    x = x.astype(np.float64)
    whole = np.abs(x).max()
    dead = np.abs(x).max(axis=1, keepdims=True) == 0
    largest = x.max(axis=1, keepdims=True)
    return {
        "all tokens share one step: take the maximum of each token, over dim=1": np.where(
            True, np.full(step.shape, whole / 127 if whole else 1.0), step
        ),
        "each channel has a step: a scale of channel j cannot leave the sum over j; take the "
        "maximum over dim=1": np.abs(x).max(axis=0, keepdims=True) / 127,
        "the largest magnitude was divided by 128: qmax is 127": np.where(
            dead, 1.0, step * 127 / 128
        ),
        "the largest magnitude was divided by 255, the steps of the whole range: a symmetric grid "
        "has 127 on each side": np.where(dead, 1.0, step * 127 / 255),
        "the step comes from the largest value, not the largest magnitude: take abs() first": (
            np.where(dead, 1.0, largest / 127)
        ),
        "it is upside down (127 / max): a step is what one integer is worth": np.where(
            dead, 1.0, 1 / step
        ),
        "the largest magnitude came back: divide it by 127": np.where(dead, 1.0, step * 127),
        "keepdim=True is missing where you take the maximum": step[:, 0],
        "a token of zeros has a step of zero: give it step 1": np.where(dead, 0.0, step),
    }


def token_mistakes(x: Array) -> dict[str, Array]:
    """Name mistakes in the integers of each token, given that its steps are right."""
    q, step = tokens_to_int8(x)
    steps = x.astype(np.float64) / step
    return {
        "values were rounded down (floor), not to the nearest": np.floor(steps),
        "fractions were cut off (a cast to int does that), not rounded": np.trunc(steps),
        "real values came back: return the integers": step * q,
        "x was multiplied by the step, not divided": np.round(x * step),
    }


def product_mistakes(xq: Array, step: Array, wq: Array, scale: Array) -> dict[str, Array]:
    """Name mistakes in an integer product with both scales."""
    ones_x, ones_w = np.ones_like(step), np.ones_like(scale)
    wrapped = (xq.astype(np.int64) @ wq.T.astype(np.int64) + 128) % 256 - 128
    right = product(xq, step, wq, scale)
    mistakes = {
        "the sum was made in int8, which has no number beyond 127 and goes on from -128: widen xq "
        "and wq to int32 first": wrapped * step * scale.T,
        "the weights' scale is missing: y = step * scale * sum": product(xq, step, wq, ones_w),
        "the tokens' step is missing: y = step * scale * sum": product(xq, ones_x, wq, scale),
        "both scales are missing: the integers came back": product(xq, ones_x, wq, ones_w),
        "the sum was divided by the scales: multiply": product(xq, 1 / step, wq, 1 / scale),
        "y is turned: a row belongs to a token, a column to an output": right.T,
        "scales were rounded or cut to integers: multiply in floating point": np.zeros_like(right),
        "the products were averaged, not added up": right / xq.shape[1],
    }
    if len(step) == len(scale):
        swapped = product(xq, scale, wq, step)
        mistakes["the two scales are swapped: `step` belongs to rows of y, `scale` to columns"] = (
            swapped
        )
        mistakes["scale multiplies the rows of y: turn it, [out, 1] to [1, out]"] = product(
            xq, step * scale, wq, ones_w
        )
    return mistakes


def scale_mistakes(x: Array, weights: Sequence[Array], alpha: float) -> dict[str, Array]:
    """Name mistakes in SmoothQuant's s over several readers."""
    x_max = np.abs(x.astype(np.float64)).max(axis=0)
    tops = np.stack([np.abs(w.astype(np.float64)).max(axis=0) for w in weights])
    w_max = tops.max(axis=0)

    def shared(x_max: Array, w_max: Array, alpha: float = alpha) -> Array:
        with np.errstate(all="ignore"):
            s = x_max**alpha / w_max ** (1 - alpha)
            return np.where((x_max > 0) & (w_max > 0), s, 1.0)

    with np.errstate(all="ignore"):
        dead = x_max**alpha / w_max ** (1 - alpha)
        signed = shared(x.max(axis=0).clip(0), np.stack([w.max(axis=0) for w in weights]).max(0))
        multiplied = np.where((x_max > 0) & (w_max > 0), x_max**alpha * w_max ** (1 - alpha), 1.0)
    return {
        "only the first weight was looked at: all readers share s, so take the maximum over every "
        "one of them": shared(x_max, tops[0]),
        "only the last weight was looked at: take the maximum over every reader": shared(
            x_max, tops[-1]
        ),
        "the readers' maxima were averaged: take the largest": shared(x_max, tops.mean(axis=0)),
        "the readers' maxima were added up: take the largest": shared(x_max, tops.sum(axis=0)),
        "the smallest of the readers' maxima was taken: take the largest": shared(
            x_max, tops.min(axis=0)
        ),
        "alpha and 1 - alpha are swapped: alpha is the exponent of the activations": shared(
            x_max, w_max, 1 - alpha
        ),
        "the two powers were multiplied: divide": multiplied,
        "it is upside down: s is what x is divided by": 1 / shared(x_max, w_max),
        "one maximum was taken for all channels of the weights: take it of each column": shared(
            x_max, np.full_like(w_max, w_max.max())
        ),
        "one maximum was taken for all channels of x: take it of each column": shared(
            np.full_like(x_max, x_max.max()), w_max
        ),
        "the largest value was taken, not the largest magnitude: take abs() first": signed,
        "means of magnitudes were taken, not maxima": shared(
            np.abs(x).mean(axis=0), np.stack([np.abs(w).mean(axis=0) for w in weights]).max(axis=0)
        ),
        "alpha was not used: this is max|x|": shared(x_max, w_max, 1.0),
        "a dead channel was divided by zero or got s = 0: give it s = 1": dead,
    }


def fold_mistakes(
    norm_weight: Array, norm_bias: Array, weights: Sequence[Array], s: Array
) -> list[dict[str, Array]]:
    """Name mistakes in folding s into a norm and its readers: of its weight, bias, each weight."""
    twice = "it was done twice: once for all readers together is enough"
    ones = "it was multiplied by s: x becomes smaller, so what makes it is divided"
    of_norm = {
        ones: norm_weight * s,
        "it was left as it is: it makes x, and x is to be divided by s": norm_weight,
        twice: norm_weight / s / s,
        "it was divided by the square root of s": norm_weight / np.sqrt(s),
    }
    of_bias = {
        ones: norm_bias * s,
        "it was left as it is: x = normed * weight + bias, so the bias is divided too": norm_bias,
        twice: norm_bias / s / s,
    }
    of_weights = [
        {
            "it was divided by s: it makes up for the division of x, so multiply": w / s,
            "it was left as it is: every reader of x has to make up for s": w,
            "it was multiplied by s more than once": w * s * s,
        }
        for w in weights
    ]
    for of_weight, w in zip(of_weights, weights, strict=True):
        if w.shape[0] == w.shape[1]:
            of_weight[
                "its rows were multiplied: s belongs to the columns, one an input channel"
            ] = w * s[:, None]
    return [of_norm, of_bias, *of_weights]


def error_mistakes(x: Array, weight: Array, alphas: Sequence[float]) -> dict[str, Array]:
    """Name mistakes in the output error at each alpha."""
    scales = [share_out(x, [weight], alpha) for alpha in alphas]
    right = np.array([output_error(x, weight, s) for s in scales])
    x64, w64 = x.astype(np.float64), weight.astype(np.float64)
    y = x64 @ w64.T
    size = np.linalg.norm(y)

    def one_step(x: Array) -> Array:
        step = np.abs(x).max() / 127
        return np.round(x / step) * step

    def rows(w: Array) -> Array:
        q, step = tokens_to_int8(w)
        return step * q

    unscaled = [np.linalg.norm(rows(x64 / s) @ rows(w64).T - y) / size for s in scales]
    per_tensor = [np.linalg.norm(one_step(x64 / s) @ rows(w64 * s).T - y) / size for s in scales]
    moved = [
        np.linalg.norm(rows(x64 / s) @ rows(w64 * s).T - (x64 / s) @ w64.T)
        / np.linalg.norm((x64 / s) @ w64.T)
        for s in scales
    ]
    return {
        "only the activations were rounded: round the smoothed weight, too": np.array(
            [output_error(x, weight, s, round_w=False) for s in scales]
        ),
        "only the weight was rounded: round the smoothed activations, too": np.array(
            [output_error(x, weight, s, round_x=False) for s in scales]
        ),
        "the weight was not multiplied by s": np.array(unscaled),
        "x has one step for all tokens: each token has its own": np.array(per_tensor),
        "the error was compared with the output of the smoothed x and the old weight: the truth is "
        "x @ weight.T": np.array(moved),
        "nothing was smoothed: every alpha gives the same": np.full(
            len(alphas), output_error(x, weight, np.ones(x.shape[1]))
        ),
        "nothing was rounded: smoothing alone changes nothing": np.zeros(len(alphas)),
        "alphas are in the wrong order": right[::-1],
        "alpha and 1 - alpha are swapped": np.array(
            [output_error(x, weight, share_out(x, [weight], 1 - a)) for a in alphas]
        ),
        "the squared error came back: take its root, |y_rounded - y| / |y|": right**2,
        "the error was not divided by the size of y": right * size,
    }
