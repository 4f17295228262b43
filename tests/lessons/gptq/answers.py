"""Right and wrong answers to the exercises of lesson 05."""

from __future__ import annotations

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor


def rows_of(batches: list[Tensor]) -> Tensor:
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches])


# ---------------------------------------------------------------------------- gptq.hessian

hessian = Answers("gptq.hessian")


@hessian.second
def hessian_of_all_rows(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches).double()
    return torch.einsum("ti,tj->ij", x, x) * 2 / len(x)


@hessian.mistake("mean of batch means", says="each batch was averaged, and then the batches")
def hessian_mean_of_means(batches: list[Tensor]) -> Tensor:
    return torch.stack([hessian_of_all_rows([batch]) for batch in batches]).mean(dim=0)


@hessian.mistake("no 2", says="the factor 2 is missing")
def hessian_no_two(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return x.T @ x / len(x)


@hessian.mistake("a sum", says="not divided by n")
def hessian_sum(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return 2 * x.T @ x


@hessian.mistake("number of batches", says="divided by the number of batches")
def hessian_batches(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return 2 * x.T @ x / len(batches)


@hessian.mistake("texts for tokens", says="every token is a row")
def hessian_texts(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return 2 * x.T @ x / sum(len(batch) for batch in batches)


@hessian.mistake("last batch", says="only the last batch was used")
def hessian_last(batches: list[Tensor]) -> Tensor:
    for batch in batches:
        found = hessian_of_all_rows([batch])
    return found


@hessian.mistake("covariance", says="the mean was subtracted first")
def hessian_covariance(batches: list[Tensor]) -> Tensor:
    return 2 * torch.cov(rows_of(batches).T, correction=0)


@hessian.mistake("diagonal alone", says="only the diagonal is there")
def hessian_diagonal(batches: list[Tensor]) -> Tensor:
    return hessian_of_all_rows(batches).diagonal().diag()


@hessian.mistake("x turned", says="has shape")
def hessian_turned(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return 2 * x @ x.T / len(x)


@hessian.mistake("batches scaled in place", says="was changed in place")
def hessian_in_place(batches: list[Tensor]) -> Tensor:
    answer = hessian_of_all_rows(batches)
    batches[0].mul_(2)
    return answer


# ------------------------------------------------------------------------- gptq.compensate

compensate = Answers("gptq.compensate")


@compensate.second
def compensate_by_least_squares(w: Tensor, inverse: Tensor, p: int, q: float):
    h = torch.linalg.inv(inverse.double())
    free = [j for j in range(len(w)) if j != p]
    changed = w.double().clone()
    changed[p] = q
    changed[free] += torch.linalg.solve(h[free][:, free], h[free, p] * (w[p].item() - q))
    off = w.double() - changed
    return changed, (off @ h @ off / 2).item()


def step(w: Tensor, inverse: Tensor, p: int, q: float) -> tuple[Tensor, Tensor]:
    off = w[p] - q
    return w - off / inverse[p, p] * inverse[:, p], off**2 / (2 * inverse[p, p])


@compensate.mistake("only p", says="only weight p changed")
def compensate_alone(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w.clone()
    changed[p] = q
    return changed, step(w, inverse, p, q)[1]


@compensate.mistake("wrong sign", says="the others moved the wrong way")
def compensate_sign(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w + (w[p] - q) / inverse[p, p] * inverse[:, p]
    changed[p] = q
    return changed, step(w, inverse, p, q)[1]


@compensate.mistake("not divided", says="the division by inverse[p, p] is missing")
def compensate_undivided(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w - (w[p] - q) * inverse[:, p]
    changed[p] = q
    return changed, step(w, inverse, p, q)[1]


@compensate.mistake("each by its own", says="divided by its own inverse[j, j]")
def compensate_own(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w - (w[p] - q) * inverse[:, p] / inverse.diagonal()
    changed[p] = q
    return changed, step(w, inverse, p, q)[1]


@compensate.mistake("the move alone", says="the move came back")
def compensate_move(w: Tensor, inverse: Tensor, p: int, q: float):
    changed, cost = step(w, inverse, p, q)
    return changed - w, cost


@compensate.mistake("weight removed", says="q was left out")
def compensate_removed(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w - w[p] / inverse[p, p] * inverse[:, p]
    changed[p] = q
    return changed, step(w, inverse, p, q)[1]


@compensate.mistake("no half", says="the factor 1/2 is missing")
def compensate_no_half(w: Tensor, inverse: Tensor, p: int, q: float):
    changed, cost = step(w, inverse, p, q)
    return changed, 2 * cost


@compensate.mistake("cost multiplied", says="multiplied by inverse[p, p]: divide")
def compensate_cost_multiplied(w: Tensor, inverse: Tensor, p: int, q: float):
    return step(w, inverse, p, q)[0], (w[p] - q) ** 2 * inverse[p, p] / 2


@compensate.mistake("cost without the answer", says="what the change costs if the others stay")
def compensate_cost_alone(w: Tensor, inverse: Tensor, p: int, q: float):
    h = torch.linalg.inv(inverse)
    return step(w, inverse, p, q)[0], (w[p] - q) ** 2 * h[p, p] / 2


@compensate.mistake("results swapped", says="swapped")
def compensate_swapped(w: Tensor, inverse: Tensor, p: int, q: float):
    return step(w, inverse, p, q)[::-1]


@compensate.mistake("weights only", says="2 results should come back")
def compensate_weights_only(w: Tensor, inverse: Tensor, p: int, q: float):
    return step(w, inverse, p, q)[0]


# ----------------------------------------------------------------------- gptq.upper_factor

upper_factor = Answers("gptq.upper_factor")


def damp(hessian: Tensor, damping: float) -> Tensor:
    dead = hessian.diagonal() == 0
    mean = hessian.diagonal()[~dead].mean()
    return hessian + torch.diag(dead.to(hessian.dtype)) + damping * mean * torch.eye(len(hessian))


def factor(damped: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)


def repaired(hessian: Tensor) -> Tensor:
    return hessian + torch.diag((hessian.diagonal() == 0).to(hessian.dtype))


@upper_factor.second
def factor_without_inverting(hessian: Tensor, damping: float) -> Tensor:
    """With J the reversal, J H J = L Lᵀ gives H = (J L J)(J L J)ᵀ, and U is (J L J)⁻¹."""
    damped = damp(hessian.double(), damping)
    lower = torch.linalg.cholesky(damped.flip(0, 1))
    return torch.linalg.inv(lower.flip(0, 1))


@upper_factor.mistake("lower", says="the lower factor came back")
def factor_lower(hessian: Tensor, damping: float) -> Tensor:
    return factor(damp(hessian, damping)).T


@upper_factor.mistake("cholesky without upper=True", says="the lower factor")
def factor_plain_cholesky(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(damp(hessian, damping)))


@upper_factor.mistake("H factored", says="H itself was factored")
def factor_of_h(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.cholesky(damp(hessian, damping), upper=True)


@upper_factor.mistake("the inverse", says="the inverse came back, not its factor")
def factor_inverse(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.inv(damp(hessian, damping))


@upper_factor.mistake("absolute damping", says="it is a fraction of the mean")
def factor_absolute(hessian: Tensor, damping: float) -> Tensor:
    return factor(repaired(hessian) + damping * torch.eye(len(hessian)))


@upper_factor.mistake("damping everywhere", says="added to every entry")
def factor_everywhere(hessian: Tensor, damping: float) -> Tensor:
    live = hessian.diagonal()[hessian.diagonal() > 0]
    return factor(repaired(hessian) + damping * live.mean())


@upper_factor.mistake("no damping", says="the damping is missing")
def factor_undamped(hessian: Tensor, damping: float) -> Tensor:
    return factor(repaired(hessian))


@upper_factor.mistake("diagonal stretched", says="multiplied by 1 + damping")
def factor_stretched(hessian: Tensor, damping: float) -> Tensor:
    h = repaired(hessian)
    return factor(h + damping * h.diagonal().diag())


@upper_factor.mistake("dead inputs left", says="a dead input was left at 0")
def factor_dead_left(hessian: Tensor, damping: float) -> Tensor:
    live = hessian.diagonal()[hessian.diagonal() > 0]
    return factor(hessian + damping * live.mean() * torch.eye(len(hessian)))


@upper_factor.mistake("mean over the dead", says="taken over dead inputs, too")
def factor_dead_mean(hessian: Tensor, damping: float) -> Tensor:
    mean = hessian.diagonal().mean()
    return factor(repaired(hessian) + damping * mean * torch.eye(len(hessian)))


@upper_factor.mistake("hessian changed", says="changed its argument 1 in place")
def factor_in_place(hessian: Tensor, damping: float) -> Tensor:
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    return factor(hessian)


# ------------------------------------------------------------------- gptq.quantize_columns

quantize_columns = Answers("gptq.quantize_columns")


def loop(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int, **how) -> Tensor:
    """The loop, with a piece left out or changed."""
    now, q = weight.clone(), torch.zeros_like(weight)
    for i in range(weight.shape[1]):
        column = (weight if how.get("stale") else now)[:, i]
        steps = how.get("rounding", torch.round)(column / scale[:, i])
        q[:, i] = steps if how.get("free") else steps.clamp(-qmax, qmax)
        real = q[:, i] if how.get("unscaled") else q[:, i] * scale[:, i]
        error = (column - real) / (1 if how.get("undivided") else upper[i, i])
        for j in range(i + 1, min(weight.shape[1], i + how.get("reach", 99) + 1)):
            now[:, j] += how.get("sign", -1) * error * upper[i, j]
    return q.to(torch.int8)


@quantize_columns.second
def columns_by_fresh_inverses(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    """The slow way: the Hessian that is left is inverted again after each column."""
    hessian = torch.linalg.inv(upper.double().T @ upper.double())
    now, columns = weight.double(), []
    for i in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[i:, i:])
        q = (now[:, 0] / scale[:, i]).round().clip(-qmax, qmax)
        off = (now[:, 0] - q * scale[:, i]) / inverse[0, 0]
        now = (now - off[:, None] * inverse[0])[:, 1:]
        columns.append(q)
    return torch.stack(columns, dim=1).to(torch.int8)


@quantize_columns.mistake("no propagation", says="this is plain rounding")
def columns_rounded(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return (weight / scale).round().clamp(-qmax, qmax).to(torch.int8)


@quantize_columns.mistake("not divided", says="the error was not divided by upper[i, i]")
def columns_undivided(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, undivided=True)


@quantize_columns.mistake("error added", says="subtract it")
def columns_added(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, sign=1)


@quantize_columns.mistake("stale columns", says="columns were rounded as they were given")
def columns_stale(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, stale=True)


@quantize_columns.mistake("scale left out", says="what counts is w - scale * q")
def columns_unscaled(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, unscaled=True)


@quantize_columns.mistake("no clamp", says="not clamped to -qmax and qmax")
def columns_free(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, free=True)


@quantize_columns.mistake("floor", says="rounded down (floor)")
def columns_floor(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, rounding=torch.floor)


@quantize_columns.mistake("only the neighbour", says="only the next column got the error")
def columns_neighbour(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax, reach=1)


@quantize_columns.mistake("column for row", says="this is plain rounding")
def columns_of_upper(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper.T, scale, qmax)  # below the diagonal there is nothing


@quantize_columns.mistake("real weights", says="real weights came back")
def columns_real(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax) * scale


@quantize_columns.mistake("floats that hold integers", says="should have torch.int8")
def columns_float(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return loop(weight, upper, scale, qmax).float()


@quantize_columns.mistake("weight changed", says="changed its argument 1 in place")
def columns_in_place(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    weight[:, -1] += 1
    return loop(weight, upper, scale, qmax)


# -------------------------------------------------------------------------- gptq.act_order

act_order = Answers("gptq.act_order")


def wide(scale: Tensor, group_size: int, columns: int) -> Tensor:
    return scale.repeat_interleave(group_size, dim=1)[:, :columns]


def ordered(weight, hessian, scale, qmax, order, damping) -> Tensor:
    """Settle columns in an order; scale [out, in]. They come back in that order."""
    upper = factor(damp(hessian, damping)[order][:, order])
    return loop(weight[:, order], upper, scale[:, order], qmax)


@act_order.second
def order_by_choosing_the_next(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    """No permutation: the next column is chosen, the Hessian of those left is inverted again."""
    h = damp(hessian.double(), damping)
    now, q = weight.double().clone(), torch.zeros(weight.shape, dtype=torch.int8)
    left = list(range(weight.shape[1]))
    while left:
        j = max(left, key=lambda column: hessian[column, column].item())
        step = scale[:, j // group_size].double()
        q[:, j] = (now[:, j] / step).round().clamp(-qmax, qmax).to(torch.int8)
        inverse = torch.linalg.inv(h[left][:, left])
        row = inverse[left.index(j)]
        now[:, left] -= torch.outer((now[:, j] - step * q[:, j]) / row[left.index(j)], row)
        left.remove(j)
    return q


def descending(hessian: Tensor) -> Tensor:
    return hessian.diagonal().argsort(descending=True)


def back(q: Tensor, order: Tensor) -> Tensor:
    return q[:, order.argsort()]


@act_order.mistake("not put back", says="the columns came back in the order")
def order_not_back(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    full = wide(scale, group_size, weight.shape[1])
    return ordered(weight, hessian, full, qmax, descending(hessian), damping)


@act_order.mistake("put back with order", says="q[:, order] undoes nothing")
def order_twice(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    order = descending(hessian)
    full = wide(scale, group_size, weight.shape[1])
    return ordered(weight, hessian, full, qmax, order, damping)[:, order]


@act_order.mistake("ascending", says="the smallest inputs went first")
def order_ascending(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    order = hessian.diagonal().argsort()
    full = wide(scale, group_size, weight.shape[1])
    return back(ordered(weight, hessian, full, qmax, order, damping), order)


@act_order.mistake("left to right", says="columns were settled from left to right")
def order_none(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    full = wide(scale, group_size, weight.shape[1])
    return ordered(weight, hessian, full, qmax, torch.arange(len(hessian)), damping)


@act_order.mistake("scales stay", says="the scales were not reordered")
def order_scales_stay(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    order = descending(hessian)
    full = wide(scale, group_size, weight.shape[1])
    upper = factor(damp(hessian, damping)[order][:, order])
    return back(loop(weight[:, order], upper, full, qmax), order)


@act_order.mistake("hessian stays", says="the Hessian was not reordered")
def order_hessian_stays(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    order = descending(hessian)
    full = wide(scale, group_size, weight.shape[1])
    upper = factor(damp(hessian, damping))
    return back(loop(weight[:, order], upper, full[:, order], qmax), order)


@act_order.mistake("plain rounding", says="this is plain rounding")
def order_rounding(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    full = wide(scale, group_size, weight.shape[1])
    return columns_rounded(weight, hessian, full, qmax)


@act_order.mistake("scale not widened", says="raised RuntimeError")
def order_narrow_scale(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    return columns_rounded(weight, hessian, scale[:, :2].repeat(1, 1), qmax) + weight[:, :2]
