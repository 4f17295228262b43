"""Work out what the usual mistakes of lesson 06's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkkit.lessons.awq.truths import (
    Array,
    mean_sizes,
    output_error,
    ratio_errors,
    round_row,
    round_rows,
    row_errors,
    scale_of,
)


def importance_mistakes(batches: Sequence[Array]) -> dict[str, Array]:
    """Name mistakes in the size of each channel."""
    flat = [b.reshape(-1, b.shape[-1]).astype(np.float64) for b in batches]
    rows, right = np.concatenate(flat), mean_sizes(batches)
    return {
        "each batch was averaged, and then the batches: a short one counts as much as a long one. "
        "Add up all rows, divide once": np.mean([np.abs(b).mean(axis=0) for b in flat], axis=0),
        "signs cancelled: take abs() before the mean": rows.mean(axis=0),
        "abs() came after the mean: signs cancelled before": np.abs(rows.mean(axis=0)),
        "the largest magnitude was taken: SmoothQuant wants that, AWQ the mean": (
            np.abs(rows).max(axis=0)
        ),
        "the root of the mean square was taken, not the mean of |x|": np.sqrt(
            (rows**2).mean(axis=0)
        ),
        "the sum was not divided by the number of rows": right * len(rows),
        "the sum was divided by the number of batches; count the rows (tokens) of all of them": (
            right * len(rows) / len(batches)
        ),
        "the sum was divided by the first dimension of each batch; in [texts, tokens, in_features] "
        "every token is a row": right * len(rows) / sum(len(b) for b in batches),
        "only the last batch was used": mean_sizes(batches[-1:]),
        "only the first batch was used": mean_sizes(batches[:1]),
        "the mean was taken over all channels: each has its own": np.full(
            right.shape, right.mean()
        ),
    }


def scale_mistakes(
    norm_weight: Array, weights: Sequence[Array], importance: Array, ratio: float
) -> dict[str, Array]:
    """Name mistakes in AWQ's scale."""
    right = scale_of(importance, ratio)
    live = importance[importance > 0].astype(np.float64)
    filled = np.where(importance > 0, importance.astype(np.float64), live.min())
    plain = filled**ratio
    columns = np.abs(np.concatenate(weights).astype(np.float64)).mean(axis=0)
    with np.errstate(all="ignore"):
        dead = importance.astype(np.float64) ** ratio
        dead_normal = dead / np.sqrt(dead.max() * dead.min())
    return {
        "it was not normalised: divide by the root of (largest * smallest)": plain,
        "it was divided by its largest entry: divide by the root of (largest * smallest)": (
            plain / plain.max()
        ),
        "it was divided by its mean: divide by the root of (largest * smallest)": (
            plain / plain.mean()
        ),
        "it was divided by largest * smallest: take the root of that": plain
        / (plain.max() * plain.min()),
        "the ratio was not used": scale_of(importance, 1.0),
        "it is upside down: the weights are multiplied by s, so large inputs need a large s": (
            1 / right
        ),
        "importance was multiplied by the ratio: the ratio is an exponent": filled * ratio,
        "the columns' sizes in the weights were used: AWQ looks at the activations": scale_of(
            columns, ratio
        ),
        "an unused channel got s = 0, or divided by zero: let it count like the least used one": (
            dead_normal
        ),
        "an unused channel got s = 0: let it count like the least used one. And the normalisation "
        "is missing": dead,
    }


def fold_mistakes(
    norm_weight: Array, weights: Sequence[Array], s: Array
) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """Name mistakes in folding s into a norm and its readers: of its weight, of each weight."""
    of_norm = {
        "it was multiplied by s: it makes x, and x has to become smaller by s": norm_weight * s,
        "it was left as it is: x has to be divided by s somewhere": norm_weight,
        "it was divided by s once for each reader: once for all of them": (
            norm_weight / s ** len(weights)
        ),
    }
    of_weights = []
    for w in weights:
        found = {
            "it was divided by s: it makes up for the division of x, so multiply": w / s,
            "it was left as it is: every reader of x has to make up for s": w,
        }
        if w.shape[0] == w.shape[1]:
            found["its rows were multiplied: s belongs to the columns"] = w * s[:, None]
        of_weights.append(found)
    return of_norm, of_weights


def ratio_mistakes(x: Array, weight: Array, ratios: Sequence[float], bits: int) -> dict[str, Array]:
    """Name mistakes in the output error at each ratio."""
    x64, w64 = x.astype(np.float64), weight.astype(np.float64)
    right, importance = ratio_errors(x, weight, ratios, bits), mean_sizes([x])
    scales = [scale_of(importance, ratio) for ratio in ratios]
    rounded = [round_rows(w64 * s, bits) for s in scales]
    columns = np.abs(w64).mean(axis=0)
    of_weights = [scale_of(columns, ratio) for ratio in ratios]
    n_tokens, n_out = len(x), len(weight)
    return {
        "the rounded weight was not divided by s again: without that it is another layer": np.array(
            [output_error(x, weight, r) for r in rounded]
        ),
        "the weight was divided by s before rounding: multiply": np.array(
            [output_error(x, weight, round_rows(w64 / s, bits) * s) for s in scales]
        ),
        "the error of the weights was measured, not that of the outputs on x": np.array(
            [((r / s - w64) ** 2).sum() for r, s in zip(rounded, scales, strict=True)]
        ),
        "the mean error of the weights was measured, not that of the outputs on x": np.array(
            [((r / s - w64) ** 2).mean() for r, s in zip(rounded, scales, strict=True)]
        ),
        "the importance came from the weights, not from x": np.array(
            [output_error(x, weight, round_rows(w64 * s, bits) / s) for s in of_weights]
        ),
        "nothing was scaled: every ratio gives the same": np.full(len(ratios), right[0])
        if ratios[0] == 0
        else np.full(len(ratios), output_error(x, weight, round_rows(weight, bits))),
        "the mean was taken over outputs, too: sum over the outputs, mean over the tokens": (
            right / n_out
        ),
        "the sum was taken over the tokens, too: sum over the outputs, mean over the tokens": (
            right * n_tokens
        ),
        "the root was taken: the error is squared": np.sqrt(right),
        "x was divided by s, but the scaled, rounded weight was compared with the scaled weight on "
        "the old x": np.array(
            [((x64 @ (r - w64 * s).T) ** 2).sum(1).mean()
             for r, s in zip(rounded, scales, strict=True)]
        ),
    }  # fmt: skip


def clip_mistakes(x: Array, weight: Array, bits: int, shrinks: Sequence[float]) -> dict[str, Array]:
    """Name mistakes in the limit of each row."""
    w64, grid = weight.astype(np.float64), np.asarray(shrinks)
    errors, largest = row_errors(x, weight, bits, shrinks), np.abs(w64).max(axis=1)
    own = errors.argmin(axis=1)
    qmax = 2 ** (bits - 1) - 1

    def limits(picked: Array) -> Array:
        return (grid[picked] * largest)[:, None]

    weight_errors, unclipped, kept_step = (np.zeros_like(errors) for _ in range(3))
    for o, row in enumerate(w64):
        for k, shrink in enumerate(shrinks):
            limit = shrink * largest[o]
            weight_errors[o, k] = ((round_row(row, bits, limit) - row) ** 2).sum()
            step = limit / qmax
            off = x.astype(np.float64) @ (step * np.round(row / step) - row)
            unclipped[o, k] = (off**2).mean()
            clipped = round_row(np.clip(row, -limit, limit), bits, largest[o])
            kept_step[o, k] = ((x.astype(np.float64) @ (clipped - row)) ** 2).mean()
    return {
        "one shrink was chosen for all rows: each row has its own": limits(
            np.full(len(weight), errors.sum(axis=0).argmin())
        ),
        "the error of the weights was looked at, not that of the outputs on x": limits(
            weight_errors.argmin(axis=1)
        ),
        "nothing was clipped: integers beyond qmax do not exist, clamp them": limits(
            unclipped.argmin(axis=1)
        ),
        "the weight was clipped but the step stayed: the step is limit / qmax": limits(
            kept_step.argmin(axis=1)
        ),
        "the shrink with the largest error was chosen": limits(errors.argmax(axis=1)),
        "the shrinks came back: multiply by the row's largest magnitude": grid[own][:, None],
        "the steps came back: the limit is qmax steps": limits(own) / qmax,
        "nothing was searched: these are the largest magnitudes": largest[:, None],
        "keepdim is missing: the limits are [out_features, 1]": limits(own)[:, 0],
    }
