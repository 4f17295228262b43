"""Right answers to the exercises of lesson 05, and wrong ones spelled unlike the check's own."""

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


@hessian.mistake("last batch", says="only the last batch was used")
def hessian_last(batches: list[Tensor]) -> Tensor:
    for batch in batches:
        found = hessian_of_all_rows([batch])
    return found


@hessian.mistake("covariance", says="the mean was subtracted first")
def hessian_covariance(batches: list[Tensor]) -> Tensor:
    return 2 * torch.cov(rows_of(batches).T, correction=0)


@hessian.mistake("x turned", says="has shape")
def hessian_turned(batches: list[Tensor]) -> Tensor:
    x = rows_of(batches)
    return 2 * x @ x.T / len(x)


@hessian.mistake(
    "batches scaled in place", says="in place (a list: its element 0 is another one now)"
)
def hessian_in_place(batches: list[Tensor]) -> Tensor:
    answer = hessian_of_all_rows(batches)
    batches[0].mul_(2)
    return answer


@hessian.mistake("batches popped", says="a list: it had 3 elements, and has 0")
def hessian_popped(batches: list[Tensor]) -> Tensor:
    parts = []
    while batches:
        parts.append(batches.pop())
    return hessian_of_all_rows(parts)


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


@compensate.mistake("weight removed", says="q was left out")
def compensate_removed(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = compensate_by_least_squares(w, inverse, p, 0.0)[0]
    changed[p] = q
    return changed, compensate_by_least_squares(w, inverse, p, q)[1]


@compensate.mistake("cost without the answer", says="what the change costs if the others stay")
def compensate_cost_alone(w: Tensor, inverse: Tensor, p: int, q: float):
    off = torch.zeros_like(w)
    off[p] = w[p] - q
    cost = off @ torch.linalg.solve(inverse, off) / 2
    return compensate_by_least_squares(w, inverse, p, q)[0], cost.item()


@compensate.mistake("cost by the root", says="divided by the root of inverse[p, p]")
def compensate_cost_by_root(w: Tensor, inverse: Tensor, p: int, q: float):
    changed, cost = compensate_by_least_squares(w, inverse, p, q)
    return changed, cost * inverse[p, p].item() ** 0.5


@compensate.mistake("results swapped", says="swapped")
def compensate_swapped(w: Tensor, inverse: Tensor, p: int, q: float):
    return compensate_by_least_squares(w, inverse, p, q)[::-1]


@compensate.mistake("cost of shape [1]", says="should be one number, but float64 [1]")
def compensate_cost_of_one(w: Tensor, inverse: Tensor, p: int, q: float):
    changed, cost = compensate_by_least_squares(w, inverse, p, q)
    return changed, torch.tensor([cost], dtype=torch.float64)


@compensate.mistake("weights only", says="Two results should come back")
def compensate_weights_only(w: Tensor, inverse: Tensor, p: int, q: float):
    return compensate_by_least_squares(w, inverse, p, q)[0]


# ----------------------------------------------------------------------- gptq.upper_factor

upper_factor = Answers("gptq.upper_factor")


def damp(hessian: Tensor, damping: float) -> Tensor:
    dead = hessian.diagonal() == 0
    mean = hessian.diagonal()[~dead].mean()
    return hessian + torch.diag(dead.to(hessian.dtype)) + damping * mean * torch.eye(len(hessian))


@upper_factor.second
def factor_without_inverting(hessian: Tensor, damping: float) -> Tensor:
    """With J the reversal, J H J = L Lᵀ gives H = (J L J)(J L J)ᵀ, and U is (J L J)⁻¹."""
    damped = damp(hessian.double(), damping)
    lower = torch.linalg.cholesky(damped.flip(0, 1))
    return torch.linalg.inv(lower.flip(0, 1))


@upper_factor.mistake("cholesky without upper=True", says="the lower factor")
def factor_plain_cholesky(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(damp(hessian, damping)))


@upper_factor.mistake("negative", says="its diagonal is negative")
def factor_negative(hessian: Tensor, damping: float) -> Tensor:
    return -factor_without_inverting(hessian, damping)


@upper_factor.mistake("no damping", says="the damping is missing")
def factor_undamped(hessian: Tensor, damping: float) -> Tensor:
    return factor_without_inverting(hessian, 0.0)


@upper_factor.mistake("hessian changed", says="changed its argument 1 in place")
def factor_in_place(hessian: Tensor, damping: float) -> Tensor:
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    return factor_without_inverting(hessian, 0.0)


# ------------------------------------------------------------------- gptq.quantize_columns

quantize_columns = Answers("gptq.quantize_columns")


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


def columns_by_pairs(now: Tensor, upper: Tensor, scale: Tensor, qmax: int, given: Tensor) -> Tensor:
    """Take the error of each column of `given` from each column of `now` on its right."""
    q = torch.zeros(now.shape, dtype=torch.int8)
    for i, step in enumerate(scale.T):
        q[:, i] = (given[:, i] / step).round().clamp(-qmax, qmax)
        for j in range(i + 1, now.shape[1]):
            now[:, j] -= (given[:, i] - step * q[:, i]) / upper[i, i] * upper[i, j]
    return q


@quantize_columns.mistake("stale columns", says="columns were rounded as they were given")
def columns_stale(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return columns_by_pairs(weight.clone(), upper, scale, qmax, given=weight)


@quantize_columns.mistake("column for row", says="`upper[i + 1:, i]` was read")
def columns_of_upper(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    now = weight.clone()
    return columns_by_pairs(now, upper.T, scale, qmax, given=now)  # below the diagonal: nothing


@quantize_columns.mistake("not divided", says="the error was not divided by upper[i, i]")
def columns_undivided(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    """The columns from i on, all at once: what column i itself becomes is not read again."""
    now, columns = weight.double(), []
    for row, step in zip(upper, scale.T, strict=True):
        i = len(columns)
        columns.append((now[:, i] / step).round().clip(-qmax, qmax))
        now = now - torch.einsum("o,j->oj", now[:, i] - columns[i] * step, row)
    return torch.stack(columns, dim=1).to(torch.int8)


@quantize_columns.mistake("floats that hold integers", says="should have torch.int8")
def columns_float(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return columns_by_fresh_inverses(weight, upper, scale, qmax).float()


@quantize_columns.mistake("weight changed", says="changed its argument 1 in place")
def columns_in_place(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    weight[:, -1] += 1
    return columns_by_fresh_inverses(weight, upper, scale, qmax)


@quantize_columns.mistake("one step a row", says="each row has one step")
def columns_one_step(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return columns_by_fresh_inverses(weight, upper, scale[:, 0:1].repeat(1, len(upper)), qmax)


@quantize_columns.mistake("steps of small weights", says="small steps were raised")
def columns_least_step(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    least = torch.full_like(scale, 1e-3)
    return columns_by_fresh_inverses(weight, upper, torch.maximum(scale, least), qmax)


# -------------------------------------------------------------------------- gptq.act_order

act_order = Answers("gptq.act_order")


@act_order.second
def order_by_choosing(weight, hessian, scale, qmax, group_size, damping, choose=max) -> Tensor:
    """No permutation: the next column is chosen, the Hessian of those left is inverted again."""
    h = damp(hessian.double(), damping)
    now, q = weight.double().clone(), torch.zeros(weight.shape, dtype=torch.int8)
    left = list(range(weight.shape[1]))
    while left:
        j = choose(left, key=lambda column: hessian[column, column].item())
        step = scale[:, j // group_size].double()
        q[:, j] = (now[:, j] / step).round().clamp(-qmax, qmax).to(torch.int8)
        inverse = torch.linalg.inv(h[left][:, left])
        row = inverse[left.index(j)]
        now[:, left] -= torch.outer((now[:, j] - step * q[:, j]) / row[left.index(j)], row)
        left.remove(j)
    return q


@act_order.mistake("ascending", says="the smallest inputs went first")
def order_ascending(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    return order_by_choosing(weight, hessian, scale, qmax, group_size, damping, choose=min)


@act_order.mistake("plain rounding", says="this is plain rounding")
def order_rounding(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    groups = zip(weight.split(group_size, dim=1), scale.split(1, dim=1), strict=True)
    q = torch.cat([(group / step).round() for group, step in groups], dim=1)
    return q.clamp(-qmax, qmax).to(torch.int8)


@act_order.mistake("scale not widened", says="raised RuntimeError")
def order_narrow_scale(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    return (weight / scale).round().clamp(-qmax, qmax).to(torch.int8)


@act_order.mistake("groups guessed", says="all groups were made equally wide")
def order_groups_guessed(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    guessed = -(-weight.shape[1] // scale.shape[1])
    return order_by_choosing(weight, hessian, scale, qmax, guessed, damping)
