"""Right answers to lesson 05's exercises, written in other ways, pass for several seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shrinkkit.checks import check
from tests.lessons.attacks import each, rows_of
from tests.lessons.gptq.attacks_columns import act_order, columns, factor, largest_first
from tests.lessons.gptq.test_attacks import gather, surgery

Tensor = torch.Tensor


def running_mean(batches: list[Tensor]) -> Tensor:
    found, n = torch.zeros(batches[0].shape[-1], batches[0].shape[-1]), 0
    for batch in batches:
        x = batch.flatten(0, -2)
        found *= n / (n + len(x))
        n += len(x)
        x = x * (2 / n) ** 0.5
        found.addmm_(x.T, x)
    return found


def one_by_one(batches: list[Tensor]) -> Tensor:
    tokens = [token for batch in batches for token in rows_of(batch)]
    return 2 * sum(torch.outer(x, x) for x in tokens) / len(tokens)


def set_exactly(w: Tensor, inverse: Tensor, p: int, q: float):
    changed = w.clone()
    changed -= inverse[p] * ((w[p] - q) / inverse[p, p])
    changed[p] = q
    return [changed, (0.5 * (w[p] - q) ** 2 / inverse[p, p]).item()]


def by_the_hessian(w: Tensor, inverse: Tensor, p: int, q: float):
    changed, _ = surgery(w, inverse, p, q)
    off = (w - changed).double()
    return changed, off @ torch.linalg.solve(inverse.double(), off) / 2


def by_inv(hessian: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)


def lower_turned(hessian: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian))).mT


def by_reversal(hessian: Tensor) -> Tensor:
    lower = torch.linalg.cholesky(hessian.flip(0, 1)).flip(0, 1)
    return torch.linalg.solve_triangular(lower, torch.eye(len(lower)), upper=True)


def by_qr(hessian: Tensor) -> Tensor:
    root = torch.linalg.inv(torch.linalg.cholesky(hessian))
    upper = torch.linalg.qr(root).R
    return upper * upper.diagonal().sign()[:, None]


def float64(hessian: Tensor) -> Tensor:
    return by_inv(hessian.double())


def lazily(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int, block: int = 4) -> Tensor:
    """As GPTQ's own code does it: columns beyond a block answer when it is done."""
    now, q = weight.clone(), torch.zeros(weight.shape, dtype=torch.int8)
    n = weight.shape[1]
    for start in range(0, n, block):
        end = min(start + block, n)
        errors = torch.zeros(len(weight), end - start)
        for i in range(start, end):
            q[:, i] = torch.clamp(torch.round(now[:, i] / scale[:, i]), -qmax, qmax)
            errors[:, i - start] = (now[:, i] - q[:, i] * scale[:, i]) / upper[i, i]
            now[:, i:end] -= errors[:, i - start, None] * upper[i, i:end]
        now[:, end:] -= errors @ upper[start:end, end:]
    return q


def row_by_row(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return torch.cat(
        [columns(w, upper, s, qmax) for w, s in zip(weight.split(1), scale.split(1), strict=True)]
    )


def normed(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return columns(weight, upper / upper.diagonal()[:, None], scale, qmax, over=lambda u, i: 1.0)


def in_float64(weight: Tensor, upper: Tensor, scale: Tensor, qmax: int) -> Tensor:
    return columns(weight.double(), upper.double(), scale.double(), qmax)


def by_sorted(hessian: Tensor) -> Tensor:
    sizes = hessian.diagonal().tolist()
    return torch.tensor(sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True))


def written_back(q: Tensor, order: Tensor) -> Tensor:
    found = torch.zeros_like(q)
    found[:, order] = q
    return found


def damped_first(weight, hessian, scale, qmax, group_size, damping) -> Tensor:
    """Order by the damped diagonal: dead inputs go elsewhere, which changes nothing."""
    d = hessian.diagonal()
    h = hessian + torch.diag((d == 0) + damping * d[d > 0].mean())
    return act_order(weight, h, scale, qmax, group_size, 0.0)


def wide_by_index(scale: Tensor, group_size: int, n: int) -> Tensor:
    return scale[:, [j // group_size for j in range(n)]]


def answer(build: Callable, **how) -> Callable:
    return lambda *case: build(*case, **how)


RIGHT = {
    "gptq.hessian": {
        "one product": gather,
        "float64": answer(gather, end=Tensor.double),
        "running mean": running_mean,
        "one by one": one_by_one,
    },
    "gptq.compensate": {
        "in a line": surgery,
        "set exactly": set_exactly,
        "by the Hessian": by_the_hessian,
    },
    "gptq.upper_factor": {
        root.__name__: answer(factor, root=root)
        for root in (by_inv, lower_turned, by_reversal, by_qr, float64)
    },
    "gptq.quantize_columns": {
        "lazily": lazily,
        "blocks of 128": answer(lazily, block=128),
        "row by row": row_by_row,
        "upper over its diagonal": normed,
        "float64": in_float64,
        "half to the right": answer(columns, by=lambda v: (v + 0.5).floor()),
    },
    "gptq.act_order": {
        "argsort": act_order,
        "sorted": answer(act_order, order=by_sorted, back=written_back),
        "stable": answer(act_order, order=lambda h: torch.sort(-h.diagonal(), stable=True).indices),
        "dead inputs elsewhere": damped_first,
        "steps by index": answer(act_order, wide=wide_by_index, order=largest_first),
        "factor by inv": answer(act_order, damp={"root": by_inv}),
        "factor in float64": answer(act_order, damp={"root": lambda h: float64(h).float()}),
    },
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_passes(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
