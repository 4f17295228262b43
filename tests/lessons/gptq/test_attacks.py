"""Right answers with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, an axis, an edge, a dtype
or a bound, and some try to answer without the calculation. `attacks_columns.py` has those of the
exercises that round.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.lessons.attacks import ON_BATCHES, assert_refused, by_rows, each, rows_of, with_options
from tests.lessons.gptq.attacks_columns import ACT_ORDER, COLUMNS, act_order, columns, factor, no

Tensor = torch.Tensor
Batches = list[Tensor]


def gather(batches: Batches, *, pick=no, rows=rows_of, n=no, by=2.0, end=no) -> Tensor:
    """Add up x xᵀ; the options are what an attack changes."""
    x = torch.cat([rows(batch) for batch in pick(batches)])
    return end(by * x.T @ x / n(len(x)))


def all_but_16(hessian: Tensor) -> Tensor:
    kept = torch.arange(len(hessian)) // 16
    return hessian * (kept[:, None] == kept)


HESSIAN = {
    **ON_BATCHES,
    "2 is 1.998": {"by": 1.998},
    "2 is 4": {"by": 4.0},
    "texts added": {"rows": lambda b: b.sum(0) if b.ndim == 3 else b},
    "magnitudes": by_rows(Tensor.abs),
    "8 bits": by_rows(lambda x: (x * 127 / x.abs().max()).round() * x.abs().max() / 127),
    "centred in each batch": by_rows(lambda x: x - x.mean(0) if len(x) > 1 else x),
    "0.1 % off": {"end": lambda h: 1.001 * h},
    "+ 1e-6": {"end": lambda h: h + 1e-6 * torch.eye(len(h))},
    "+ 1e-10": {"end": lambda h: h + 1e-10 * torch.eye(len(h))},
    "a little damped": {"end": lambda h: h + 0.001 * h.diagonal().mean() * torch.eye(len(h))},
    "dead inputs at 1": {"end": lambda h: h + (h.diagonal() == 0).float().diag()},
    "upper half": {"end": Tensor.triu},
    "lower half": {"end": Tensor.tril},
    "blocks of 16": {"end": all_but_16},
    "last input forgotten": {"end": lambda h: torch.nn.functional.pad(h[:-1, :-1], (0, 1, 0, 1))},
    "positive": {"end": Tensor.relu},
    "small entries lost": {"end": lambda h: h * (h.abs() > 1e-6)},
    "integers": {"end": lambda h: h.round().int()},
    "a list": {"end": Tensor.tolist},
    "numpy": {"end": Tensor.numpy},
    "correlation": {"end": lambda h: h / (h.diagonal().outer(h.diagonal())).sqrt().clamp(1e-20)},
    "sparse": {"end": Tensor.to_sparse},
}


def surgery(w: Tensor, inverse: Tensor, p: int, q: float, *, off=no, move=None, cost=None, end=no):
    """Set one weight; the options are what an attack changes."""
    here = off(w[p] - q)
    moved = w - here / inverse[p, p] * inverse[:, p] if move is None else move(w, inverse, p, q)
    lost = here**2 / (2 * inverse[p, p]) if cost is None else cost(w, inverse, p, q)
    return end((moved, lost))


def changed(change: Callable) -> dict:
    return {"end": lambda found: (change(found[0]), found[1])}


def costs(change: Callable) -> dict:
    return {"end": lambda found: (found[0], change(found[1]))}


def pushed(w: Tensor, inverse: Tensor, p: int, q: float, *, row=None, at=no) -> Tensor:
    """Move the weights: row in the place of inverse[p], over the entry at p."""
    row = inverse[p] if row is None else row
    return w - (w[p] - q) / at(inverse[p, p]) * row


def exactly(w: Tensor, inverse: Tensor, p: int, q: float, *, only: Callable) -> Tensor:
    """Move some of the others alone, and set weight p."""
    here = only(torch.arange(len(w)), p)
    found = torch.where(here, pushed(w, inverse, p, q), w)
    found[p] = q
    return found


def moves(**how) -> dict:
    return {"move": lambda *case: pushed(*case, **how)}


def only(where: Callable) -> dict:
    return {"move": lambda *case: exactly(*case, only=where)}


def priced(price: Callable) -> dict:
    return {"cost": lambda w, inverse, p, q: price(w[p], q, inverse, p)}


COMPENSATE = {
    "q rounded": {"off": lambda off: off.round()},
    "at most 1": {"off": lambda off: off.clamp(-1, 1)},
    "at most 100": {"off": lambda off: off.clamp(-100, 100)},
    "a small error is none": {"off": lambda off: off * (off.abs() > 1e-4)},
    "error + 1e-8": {"off": lambda off: off + 1e-8},
    "magnitude of the error": {"off": Tensor.abs},
    "0.1 % off": {"off": lambda off: 1.001 * off},
    "diagonal + 1e-3": moves(at=lambda d: d + 1e-3),
    "diagonal + 1e-8": moves(at=lambda d: d + 1e-8),
    "diagonal at least 1e-3": moves(at=lambda d: d.clamp(min=1e-3)),
    "twice the diagonal": moves(at=lambda d: 2 * d),
    "diagonal squared": moves(at=Tensor.square),
    "the right ones alone": only(lambda j, p: j > p),
    "the left ones alone": only(lambda j, p: j < p),
    "the next one alone": only(lambda j, p: j == p + 1),
    "the neighbours alone": only(lambda j, p: (j - p).abs() == 1),
    "16 to the right": only(lambda j, p: (j - p).abs() <= 16),
    "the first stays": only(lambda j, p: j > 0),
    "the last stays": only(lambda j, p: j < len(j) - 1),
    "the first column": {"move": lambda w, v, p, q: pushed(w, v, p, q, row=v[0])},
    "magnitudes of the column": {"move": lambda w, v, p, q: pushed(w, v, p, q, row=v[p].abs())},
    "weight p stays": {
        "move": lambda w, v, p, q: pushed(w, v, p, q).index_fill(0, torch.tensor(p), w[p].item())
    },
    "weight p at 0": {
        "move": lambda w, v, p, q: pushed(w, v, p, q).index_fill(0, torch.tensor(p), 0)
    },
    "by the Hessian": {
        "move": lambda w, v, p, q: pushed(w, torch.linalg.inv(v.double()).float(), p, q)
    },
    "without p": changed(lambda x: x[1:]),
    "a column": changed(lambda x: x[:, None]),
    "a row": changed(lambda x: x[None]),
    "a list of numbers": changed(Tensor.tolist),
    "0.02": changed(lambda x: x + 1e-5),
    "float16": changed(lambda x: x.half()),
    "clamped": changed(lambda x: x.clamp(-100, 100)),
    "integers": changed(lambda x: x.round()),
    "no half": costs(lambda c: 2 * c),
    "a quarter": costs(lambda c: c / 2),
    "the cost 0.1 % off": costs(lambda c: 1.001 * c),
    "the root of the cost": costs(lambda c: c.sqrt()),
    "the cost + 1e-8": costs(lambda c: c + 1e-8),
    "the cost + 1e-12": costs(lambda c: c + 1e-12),
    "the cost below 0": costs(lambda c: -c),
    "the cost of shape [1]": costs(lambda c: c[None]),
    "no cost": costs(lambda c: torch.zeros(())),
    "a cost for each weight": costs(lambda c: c.repeat(3)),
    "the cost as text": costs(str),
    "the cost with all of the diagonal": priced(lambda w, q, v, p: (w - q) ** 2 / 2 / v.trace()),
    "the cost over the square": priced(lambda w, q, v, p: (w - q) ** 2 / 2 / v[p, p] ** 2),
    "the cost with the first diagonal": priced(lambda w, q, v, p: (w - q) ** 2 / 2 / v[0, 0]),
    "the cost of q": priced(lambda w, q, v, p: torch.tensor(q**2 / 2 / v[p, p].item())),
    "squares apart": priced(lambda w, q, v, p: (w**2 - q**2) / 2 / v[p, p]),
    "magnitude, not square": priced(lambda w, q, v, p: (w - q).abs() / 2 / v[p, p]),
    "swapped": {"end": lambda found: found[::-1]},
    "three results": {"end": lambda found: (*found, 0.0)},
    "a dict": {"end": lambda found: dict(zip("ab", found, strict=True))},
    "a generator": {"end": iter},
}


def kept_dead(d: Tensor, h: Tensor) -> Tensor:
    return d == d.min()


UPPER = {
    "dead below 1e-3": {"dead": lambda d: d < 1e-3},
    "dead below 1e-6": {"dead": lambda d: d < 1e-6},
    "dead below 1e-10": {"dead": lambda d: d < 1e-10},
    "dead by the mean": {"dead": lambda d: d < 1e-5 * d.mean()},
    "none dead": {"dead": lambda d: d < 0},
    "the first dead alone": {"dead": lambda d: (d == 0) & ((d == 0).cumsum(0) < 2)},
    "the last never dead": {"dead": lambda d: (d == 0) & (torch.arange(len(d)) < len(d) - 1)},
    "the first never dead": {"dead": lambda d: (d == 0) & (torch.arange(len(d)) > 0)},
    "dead at 0.99": {"fill": 0.99},
    "dead at 1e-6": {"fill": 1e-6},
    "dead at the mean": {"fill": lambda mean: mean},
    "mean of all": {"mean": lambda d, dead: d.mean()},
    "mean with the 1": {"mean": lambda d, dead: torch.where(dead, 1, d).mean()},
    "median": {"mean": lambda d, dead: d[~dead].median()},
    "largest": {"mean": lambda d, dead: d.max()},
    "smallest": {"mean": lambda d, dead: d[~dead].min()},
    "sum": {"mean": lambda d, dead: d[~dead].sum()},
    "first": {"mean": lambda d, dead: d[~dead][0]},
    "root mean square": {"mean": lambda d, dead: d[~dead].square().mean().sqrt()},
    "mean, but 1e-6 at least": {"mean": lambda d, dead: d[~dead].mean().clamp(min=1e-6)},
    "mean, but 1 at least": {"mean": lambda d, dead: d[~dead].mean().clamp(min=1)},
    "damping + 1e-3": {"share": lambda a: a + 1e-3},
    "damping at least 0.01": {"share": lambda a: max(a, 0.01)},
    "damping at most 0.5": {"share": lambda a: min(a, 0.5)},
    "damping 1 % off": {"share": lambda a: 1.01 * a},
    "damping squared": {"share": lambda a: a * a},
    "always 0.01": {"share": lambda a: 0.01},
    "always 0.1": {"share": lambda a: 0.1},
    "dead not damped": {"where": lambda d: d > 0},
    "the last not damped": {"where": lambda d: torch.arange(len(d)) < len(d) - 1},
    "the first alone is damped": {"where": lambda d: torch.arange(len(d)) == 0},
    "1e-6 more": {"more": 1e-6},
    "1e-10 more": {"more": 1e-10},
    "0.1 % off": {"end": lambda u: 1.001 * u},
    "lower": {"end": Tensor.mT.fget if hasattr(Tensor.mT, "fget") else lambda u: u.mT},
    "negative": {"end": lambda u: -u},
    "one row negative": {"end": lambda u: torch.cat([-u[:1], u[1:]])},
    "unit diagonal": {"end": lambda u: u / u.diagonal()[:, None]},
    "diagonal alone": {"end": lambda u: u.diagonal().diag()},
    "symmetric": {"end": lambda u: u + u.mT - u.diagonal().diag()},
    "squared": {"end": lambda u: u.mT @ u},
    "the other product": {"end": lambda u: u @ u.mT},
    "positive": {"end": Tensor.abs},
    "blocks of 16": {"end": all_but_16},
    "16 off the diagonal": {"end": lambda u: u.tril(16)},
    "small entries lost": {"end": lambda u: u * (u.abs() > 1e-3)},
    "float16": {"end": Tensor.half},
    "full below": {"end": lambda u: u + 0.01 * torch.ones_like(u).tril(-1)},
    "a tuple": {"end": lambda u: (u, 0)},
    "inverse of the lower factor, turned": {
        "root": lambda h: torch.linalg.inv(torch.linalg.cholesky(h)).mT
    },
    "factor of H": {"root": lambda h: torch.linalg.cholesky(h, upper=True)},
    "inverse of the factor of H": {
        "root": lambda h: torch.linalg.inv(torch.linalg.cholesky(h, upper=True)).mT
    },
    "root of the inverse of the diagonal": {"root": lambda h: h.diagonal().rsqrt().diag()},
    "reversed": {
        "root": lambda h: torch.linalg.cholesky(torch.linalg.inv(h).flip(0, 1)).flip(0, 1).mT
    },
}


ATTACKS = {
    "gptq.hessian": with_options(gather, HESSIAN),
    "gptq.compensate": with_options(surgery, COMPENSATE),
    "gptq.upper_factor": with_options(factor, UPPER),
    "gptq.quantize_columns": with_options(columns, COLUMNS),
    "gptq.act_order": with_options(act_order, ACT_ORDER),
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)
