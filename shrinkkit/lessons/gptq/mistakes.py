"""Work out what the usual mistakes of lesson 05's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shrinkkit.lessons.gptq.truths import (
    Array,
    at_each_weight,
    best_answer,
    column_by_column,
    damped,
    factor_of_inverse,
    hessian_of,
    output_error,
)


def hessian_mistakes(batches: Sequence[Array]) -> dict[str, Array]:
    """Name mistakes in the Hessian of a stream of batches."""
    right = hessian_of(batches)
    flat = [b.reshape(-1, b.shape[-1]).astype(np.float64) for b in batches]
    n = sum(len(rows) for rows in flat)
    rows = np.concatenate(flat)
    return {
        "each batch was averaged, and then the batches: a short one counts as much as a long one. "
        "Add up all rows, divide once": np.mean([hessian_of([b]) for b in batches], axis=0),
        "the factor 2 is missing: H = 2/n * sum": right / 2,
        "the sum was not divided by n, the number of rows": right * n,
        "the sum was divided by the number of batches; n counts the rows (tokens) of all of them": (
            right * n / len(batches)
        ),
        "n counts the first dimension of each batch; in [texts, tokens, in_features] every token "
        "is a row": right * n / sum(len(b) for b in batches),
        "only the last batch was used": hessian_of(batches[-1:]),
        "only the first batch was used": hessian_of(batches[:1]),
        "the mean was subtracted first: this is a covariance": (
            2 / n * (rows - rows.mean(0)).T @ (rows - rows.mean(0))
        ),
        "only the diagonal is there: how inputs go together is off it": np.diag(right.diagonal()),
    }


def compensate_mistakes(w: Array, hessian: Array, p: int, q: float) -> dict[str, Array]:
    """Name mistakes in the answer of the other weights to a change of weight p."""
    right, inverse = best_answer(w, hessian, p, q), np.linalg.inv(hessian)
    w64, off = w.astype(np.float64), float(w[p]) - q
    alone = w64.copy()
    alone[p] = q

    def moved(by: Array) -> Array:
        changed = w64 + by
        changed[p] = q
        return changed

    return {
        "only weight p changed: the others have to answer": alone,
        "the others moved the wrong way: -(w[p] - q) / inverse[p, p] * inverse[:, p] is the move": (
            moved(w64 - right)
        ),
        "the division by inverse[p, p] is missing": moved(-off * inverse[p]),
        "it was divided by the root of inverse[p, p]": moved(
            -off * inverse[p] / np.sqrt(inverse[p, p])
        ),
        "each weight was divided by its own inverse[j, j]: divide all by inverse[p, p]": moved(
            -off * inverse[p] / inverse.diagonal()
        ),
        "the move came back, not the weights: add it to w": right - w64,
        "q was left out: the weight was removed, not set to q": moved(
            -float(w[p]) * inverse[p] / inverse[p, p]
        ),
    }


def cost_mistakes(w: Array, hessian: Array, p: int, q: float) -> dict[str, float]:
    """Name mistakes in what the change costs, given that the weights are right."""
    right = output_error(w, best_answer(w, hessian, p, q), hessian)
    inverse, off = np.linalg.inv(hessian), float(w[p]) - q
    return {
        "the factor 1/2 is missing": 2 * right,
        "it was multiplied by inverse[p, p]: divide": off**2 * inverse[p, p] / 2,
        "it was divided by the root of inverse[p, p]": off**2 / np.sqrt(inverse[p, p]) / 2,
        "w[p] - q was not squared": off / inverse[p, p] / 2,
        "it is what the change costs if the others stay: hessian[p, p] is not 1 / inverse[p, p]":
            off**2 * hessian[p, p] / 2,
        "w[p] was squared, not w[p] - q": float(w[p]) ** 2 / inverse[p, p] / 2,
    }  # fmt: skip


def factor_mistakes(hessian: Array, damping: float) -> dict[str, Array]:
    """Name mistakes in the upper factor of the inverse of a damped Hessian."""
    h = hessian.astype(np.float64)
    right_h = damped(h, damping)
    right, inverse = factor_of_inverse(right_h), np.linalg.inv(right_h)
    diagonal, eye = h.diagonal(), np.eye(len(h))
    dead = diagonal == 0
    filled = h.copy()
    filled[dead, dead] = 1.0
    live_mean = diagonal[~dead].mean()
    found = {
        "the lower factor came back: ask for upper=True": right.T,
        "H itself was factored, not its inverse": np.linalg.cholesky(right_h).T,
        "the inverse came back, not its factor": inverse,
        "the damping was added as it is: it is a fraction of the mean of the diagonal": (
            factor_of_inverse(filled + damping * eye)
        ),
        "the damping was added to every entry: it belongs to the diagonal": (
            factor_of_inverse(filled + damping * live_mean)
        ),
        "the diagonal was multiplied by 1 + damping: add the same number to every entry": (
            factor_of_inverse(filled + damping * np.diag(filled.diagonal()))
        ),
        "the damping is missing": factor_of_inverse(filled),
    }
    if dead.any():
        found |= {
            "a dead input was left at 0: give it a 1 on the diagonal first": factor_of_inverse(
                h + damping * live_mean * eye
            ),
            "the mean of the diagonal was taken over dead inputs, too": factor_of_inverse(
                filled + damping * diagonal.mean() * eye
            ),
            "the mean of the diagonal was taken after the dead inputs got their 1": (
                factor_of_inverse(filled + damping * filled.diagonal().mean() * eye)
            ),
        }
    return found


def _loop(
    weight: Array,
    upper: Array,
    scale: Array,
    qmax: int,
    *,
    divided: bool = True,
    sign: float = -1.0,
    in_steps: bool = False,
    clamp: bool = True,
    rounding=np.round,
    neighbour: bool = False,
) -> Array:
    """GPTQ's loop with things left out."""
    now, scale = weight.astype(np.float64).copy(), scale.astype(np.float64)
    q = np.zeros(weight.shape)
    for i in range(weight.shape[1]):
        column = now[:, i]
        steps = rounding(column / scale[:, i])
        q[:, i] = np.clip(steps, -qmax, qmax) if clamp else steps
        error = column - q[:, i] * (1 if in_steps else scale[:, i])
        error = error / (upper[i, i] if divided else 1.0)
        last = i + 2 if neighbour else weight.shape[1]
        now[:, i + 1 : last] += sign * np.outer(error, upper[i, i + 1 : last])
    return q


def columns_mistakes(
    weight: Array, hessian: Array, upper: Array, scale: Array, qmax: int
) -> dict[str, Array]:
    """Name mistakes in the loop over columns."""
    given = (weight, upper, scale, qmax)
    q, _ = column_by_column(weight, hessian, scale, qmax)
    from_right, _ = column_by_column(
        weight, hessian, scale, qmax, order=range(weight.shape[1] - 1, -1, -1)
    )
    found = {
        "no error was passed on, or columns were rounded as they were given and not as the errors "
        "before left them: this is plain rounding": _loop(*given, sign=0.0),
        "the error was not divided by upper[i, i]": _loop(*given, divided=False),
        "the error was added to the columns on the right: subtract it": _loop(*given, sign=1.0),
        "the error is that of w - q without the scale: what counts is w - scale * q": _loop(
            *given, in_steps=True
        ),
        "the integers were not clamped to -qmax and qmax": _loop(*given, clamp=False),
        "values were rounded down (floor), not to the nearest": _loop(*given, rounding=np.floor),
        "only the next column got the error: it goes to every column on the right": _loop(
            *given, neighbour=True
        ),
        "columns were settled from right to left": from_right,
        "real weights came back: return the integers": q * scale,
    }
    # some of these happen to be right on an input where nothing is clamped
    return {says: value for says, value in found.items() if not np.array_equal(value, q)}


def order_mistakes(
    weight: Array, hessian: Array, scale: Array, qmax: int, group_size: int
) -> dict[str, Array]:
    """Name mistakes in settling the largest inputs first, with groups that stay where they are.

    hessian: damped already.
    """
    order = np.argsort(-hessian.diagonal(), kind="stable")
    back = np.argsort(order)
    wide = at_each_weight(scale, group_size, weight.shape[1])
    right, _ = column_by_column(weight, hessian, wide, qmax, order)
    by_place = np.empty_like(wide)
    by_place[:, order] = wide  # scales that were not reordered: column i of the new order
    found = {
        "the columns came back in the order in which they were settled: put them back": (
            right[:, order]
        ),
        "the columns were put back with `order` itself; q[:, order] undoes nothing. Write into "
        "q[:, order] = ..., or use order.argsort()": right[:, order][:, order],
        "the smallest inputs went first: descending=True": column_by_column(
            weight, hessian, wide, qmax, order[::-1]
        )[0],
        "columns were settled from left to right: the order is that of the Hessian's diagonal": (
            column_by_column(weight, hessian, wide, qmax)[0]
        ),
        "the scales were not reordered with the columns: each weight keeps its own group's scale": (
            column_by_column(weight, hessian, by_place, qmax, order)[0]
        ),
        "the Hessian was not reordered with the columns": column_by_column(
            weight[:, order], hessian, wide[:, order], qmax
        )[0][:, back],
        "no error was passed on: this is plain rounding": np.clip(
            np.round(weight / wide.astype(np.float64)), -qmax, qmax
        ),
    }
    return {says: value for says, value in found.items() if not np.array_equal(value, right)}
