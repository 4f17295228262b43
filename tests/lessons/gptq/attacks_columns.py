"""Attacks on lesson 05's exercises that round: the loop, with what stands in the place of a part.

`factor` and `columns` have the right answer; their options are what an attack changes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor


def no(value):
    return value


def inverse_root(hessian: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(hessian)), upper=True)


def factor(
    hessian: Tensor, damping: float, *, dead=lambda d: d == 0, fill=1.0, share=no, more=0.0,
    mean=lambda d, dead: d[~dead].mean(), where=lambda d: d >= 0, root=inverse_root, end=no,
) -> Tensor:  # fmt: skip
    """Damp a Hessian and factor its inverse.

    fill: what a dead input gets, a number or a function of the mean.
    """
    d = hessian.diagonal()
    gone, level = dead(d), mean(d, d == 0)
    fill = fill(level) if callable(fill) else fill
    added = gone * fill + where(d) * share(damping) * level + more
    return end(root(hessian + added.diag()))


def columns(
    weight: Tensor, upper: Tensor, scale: Tensor, qmax: int, *, step=lambda s, i: s[:, i],
    by=torch.round, low=lambda n: -n, high=no, cast=no, error=None, over=lambda u, i: u[i, i],
    row=lambda u, i: u[i, i + 1 :], onto=None, at_most=None, start=0, first=no, end=no,
) -> Tensor:  # fmt: skip
    """Round one column after another.

    step: of a column. low, high: the clamp. cast: of the integers, before the clamp. error: of the
    column, its steps and its integers. over: what it is divided by. onto: which columns answer,
    [in] bool of the place. start: the first column that passes its error on. first: of the weight.
    """
    now, q = first(weight.clone()), torch.zeros_like(weight)
    for i in range(weight.shape[1]):
        s = step(scale, i)
        q[:, i] = cast(by(now[:, i] / s)).clamp(low(qmax), high(qmax))
        off = now[:, i] - s * q[:, i] if error is None else error(now[:, i], s, q[:, i])
        off = off if at_most is None else at_most(off, s)
        push = torch.outer(off / over(upper, i), row(upper, i))
        if onto is not None:
            push = push * onto(torch.arange(i + 1, weight.shape[1]), i)
        if i >= start:
            now[:, i + 1 :] -= push
    return end(q.to(torch.int8))


def block(n: int) -> dict:
    return {"onto": lambda j, i: j // n == i // n}


def near(n: int) -> dict:
    return {"onto": lambda j, i: j - i <= n}


def group_step(n: int) -> dict:
    return {"step": lambda s, i: s[:, i // n * n]}


COLUMNS = {
    "blocks of 8": block(8),
    "blocks of 16": block(16),
    "blocks of 32": block(32),
    "blocks of 64": block(64),
    "blocks of 128": block(128),
    "two columns answer": near(2),
    "eight columns answer": near(8),
    "32 columns answer": near(32),
    "the last column does not answer": {"onto": lambda j, i: j < j.max()},
    "the next column does not answer": {"onto": lambda j, i: j > i + 1},
    "the first keeps its error": {"start": 1},
    "step of the row": {"step": lambda s, i: s[:, 0]},
    "largest step of the row": {"step": lambda s, i: s.amax(1)},
    "mean step of the row": {"step": lambda s, i: s.mean(1)},
    "step of the next column": {"step": lambda s, i: s[:, min(i + 1, s.shape[1] - 1)]},
    "step of the column before": {"step": lambda s, i: s[:, max(i - 1, 0)]},
    "step of the first row": {"step": lambda s, i: s[:1, i].expand(len(s))},
    "steps in groups of 2": group_step(2),
    "steps in groups of 4": group_step(4),
    "steps in groups of 16": group_step(16),
    "step at least 1e-2": {"step": lambda s, i: s[:, i].clamp(min=1e-2)},
    "step at least 1e-6": {"step": lambda s, i: s[:, i].clamp(min=1e-6)},
    "step + 1e-8": {"step": lambda s, i: s[:, i] + 1e-8},
    "step in float16": {"step": lambda s, i: s[:, i].half().float()},
    "-qmax - 1": {"low": lambda n: -n - 1},
    "qmax - 1": {"high": lambda n: n - 1},
    "one more": {"high": lambda n: min(127, n + 1)},
    "7 at most": {"low": lambda n: -min(n, 7), "high": lambda n: min(n, 7)},
    "31 at most": {"low": lambda n: -min(n, 31), "high": lambda n: min(n, 31)},
    "0 at least": {"low": lambda n: 0},
    "no clamp, int8": {"cast": lambda v: v.to(torch.int8).float()},
    "no clamp below": {"low": lambda n: -128},
    "rounded up": {"by": torch.ceil},
    "cut": {"by": torch.trunc},
    "rounded at 0.45": {"by": lambda v: (v + 0.55).floor()},
    "rounded away from 0 at 0.45": {"by": lambda v: v.sign() * (v.abs() + 0.55).floor()},
    "0.1 % larger": {"by": lambda v: (1.01 * v).round()},
    "error from what is not clamped": {"error": lambda v, s, q: v - s * (v / s).round()},
    "error in steps": {"error": lambda v, s, q: v / s - q},
    "magnitude of the error": {"error": lambda v, s, q: (v - s * q).abs()},
    "error added": {"error": lambda v, s, q: s * q - v},
    "half the error": {"error": lambda v, s, q: (v - s * q) / 2},
    "5 % more error": {"error": lambda v, s, q: (v - s * q) * 1.05},
    "error of half a step at most": {"at_most": lambda e, s: e.clamp(-s / 2, s / 2)},
    "error of 1 at most": {"at_most": lambda e, s: e.clamp(-1, 1)},
    "small errors lost": {"at_most": lambda e, s: e * (e.abs() > 1e-4)},
    "mean error of the rows": {"at_most": lambda e, s: e.mean().expand(len(e))},
    "not divided": {"over": lambda u, i: 1.0},
    "divided by the square": {"over": lambda u, i: u[i, i] ** 2},
    "divided by the first": {"over": lambda u, i: u[0, 0]},
    "divided by the row's sum": {"over": lambda u, i: u[i].sum()},
    "+ 1e-3": {"over": lambda u, i: u[i, i] + 1e-3},
    "the first row of upper": {"row": lambda u, i: u[0, i + 1 :]},
    "a column of upper": {"row": lambda u, i: u[i + 1 :, i]},
    "magnitudes of upper": {"row": lambda u, i: u[i, i + 1 :].abs()},
    "the diagonal of upper": {"row": lambda u, i: u.diagonal()[i + 1 :]},
    "the row of the inverse": {
        "row": lambda u, i: (u.mT @ u)[i, i + 1 :],
        "over": lambda u, i: (u.mT @ u)[i, i],
    },
    "the row of the Hessian": {
        "row": lambda u, i: torch.linalg.inv(u.mT @ u)[i, i + 1 :],
        "over": lambda u, i: -torch.linalg.inv(u.mT @ u)[i, i],
    },
    "rounded before": {"first": torch.round},
    "clamped before": {"first": lambda w: w.clamp(-100, 100)},
    "int32": {"end": Tensor.int},
    "uint8": {"end": lambda q: q.to(torch.uint8)},
    "turned": {"end": lambda q: q.flip(1)},
    "the last column at 0": {"end": lambda q: torch.cat([q[:, :-1], 0 * q[:, -1:]], dim=1)},
    "rows and columns": {"end": lambda q: q.mT},
    "tuple": {"end": lambda q: (q,)},
}


def widened(scale: Tensor, group_size: int, n: int) -> Tensor:
    return scale.repeat_interleave(group_size, dim=1)[:, :n]


def largest_first(hessian: Tensor) -> Tensor:
    return hessian.diagonal().argsort(descending=True)


def act_order(
    weight: Tensor, hessian: Tensor, scale: Tensor, qmax: int, group_size: int, damping: float, *,
    order=largest_first, wide=widened, damp=None, loop=None, sort=lambda h, o: h[o][:, o],
    steps=lambda s, o: s[:, o], back=None,
) -> Tensor:  # fmt: skip
    """Round with the largest inputs first.

    damp, loop: the options of `factor` and `columns`. sort: the Hessian. back: put columns back.
    """
    o = order(hessian)
    s = steps(wide(scale, group_size, weight.shape[1]), o)
    q = columns(weight[:, o], factor(sort(hessian, o), damping, **(damp or {})), s, qmax,
                **(loop or {}))  # fmt: skip
    return q[:, o.argsort()] if back is None else back(q, o)


def by(size: Callable, *, descending: bool = True) -> dict:
    return {"order": lambda h: size(h).argsort(descending=descending)}


def groups(size: Callable) -> dict:
    """Take another group_size: a function of it, of n and of how many groups there are."""

    def wide(scale: Tensor, group_size: int, n: int) -> Tensor:
        other = size(group_size, n, scale.shape[1])
        place = (torch.arange(n) // other).clamp(max=scale.shape[1] - 1)
        return scale[:, place]

    return {"wide": wide}


def damps(**how) -> dict:
    return {"damp": how}


def loops(**how) -> dict:
    return {"loop": how}


ACT_ORDER = {
    "smallest first": by(torch.diagonal, descending=False),
    "left to right": by(lambda h: -torch.arange(len(h)), descending=True),
    "right to left": by(lambda h: torch.arange(len(h))),
    "by the sum of the row": by(lambda h: h.sum(1)),
    "by the norm of the row": by(lambda h: h.norm(dim=1)),
    "by the inverse": by(lambda h: -torch.linalg.pinv(h.double()).diagonal()),
    "by the logarithm, rounded": by(lambda h: h.diagonal().log2().round()),
    "by thousandths": by(lambda h: (h.diagonal() * 1000).round()),
    "the largest alone goes first": by(
        lambda h: torch.where(h.diagonal() == h.diagonal().max(), 1, -torch.arange(len(h)))
    ),
    "in blocks of 16": by(lambda h: h.diagonal() / h.diagonal().max() - torch.arange(len(h)) // 16),
    "the last stays last": by(
        lambda h: h.diagonal() - (torch.arange(len(h)) == len(h) - 1) * 2 * h.diagonal().max()
    ),
    "the first stays first": by(
        lambda h: h.diagonal() + (torch.arange(len(h)) == 0) * 2 * h.diagonal().max()
    ),
    "groups of equal size": groups(lambda g, n, m: -(-n // m)),
    "groups of equal size, rounded down": groups(lambda g, n, m: max(1, n // m)),
    "groups of 4": groups(lambda g, n, m: 4),
    "one column more": groups(lambda g, n, m: g + 1),
    "one column fewer": groups(lambda g, n, m: max(1, g - 1)),
    "one group": groups(lambda g, n, m: n),
    "groups from the end": {"wide": lambda s, g, n: widened(s.flip(1), g, n).flip(1)},
    "group in the settled order": {"steps": lambda s, o: s},
    "the short group takes the one before": {
        "wide": lambda s, g, n: widened(
            torch.cat([s[:, :-1], s[:, -2:-1]], 1) if n % g and s.shape[1] > 1 else s, g, n
        )
    },
    "groups turned": {"wide": lambda s, g, n: s.repeat(1, g)[:, :n]},
    "the Hessian's rows alone": {
        "sort": lambda h, o: (h[o] + h[o].mT) / 2 + h.trace() * torch.eye(len(h))
    },
    "the diagonal of the Hessian": {"sort": lambda h, o: h.diagonal()[o].diag()},
    "order itself puts back": {"back": lambda q, o: q[:, o]},
    "not put back": {"back": lambda q, o: q},
    "turned back": {"back": lambda q, o: q.flip(1)},
    "float": {"back": lambda q, o: q[:, o.argsort()].float()},
    "int16": {"back": lambda q, o: q[:, o.argsort()].short()},
    "mean of all": damps(mean=lambda d, dead: d.mean()),
    "mean with the 1": damps(mean=lambda d, dead: torch.where(dead, 1, d).mean()),
    "largest": damps(mean=lambda d, dead: d.max()),
    "smallest": damps(mean=lambda d, dead: d[~dead].min()),
    "damping as it is": damps(mean=lambda d, dead: 1.0),
    "mean, but 1 at least": damps(mean=lambda d, dead: d[~dead].mean().clamp(min=1)),
    "not damped": damps(share=lambda a: 1e-6),
    "damping of 0.01": damps(share=lambda a: 0.01),
    "damping of 0.01 at least": damps(share=lambda a: max(a, 0.01)),
    "damping of 0.3 at most": damps(share=lambda a: min(a, 0.3)),
    "twice the damping": damps(share=lambda a: 2 * a),
    "half the damping": damps(share=lambda a: a / 2),
    "the last not damped": damps(where=lambda d: torch.arange(len(d)) < len(d) - 1),
    "1e-6 more": damps(more=1e-6),
    "dead below 1e-6": damps(dead=lambda d: d < 1e-6),
    "none dead": damps(dead=lambda d: d < 0),
    "blocks of 8": loops(**block(8)),
    "blocks of 16": loops(**block(16)),
    "blocks of 32": loops(**block(32)),
    "next alone": loops(**near(1)),
    "plain rounding": loops(onto=lambda j, i: j < 0),
    "error added": loops(error=lambda v, s, q: s * q - v),
    "error from what is not clamped": loops(error=lambda v, s, q: v - s * (v / s).round()),
    "7 at most": loops(low=lambda n: -min(n, 7), high=lambda n: min(n, 7)),
    "-qmax - 1": loops(low=lambda n: -n - 1),
    "rounded down": loops(by=torch.floor),
    "int8 before the clamp": loops(cast=lambda v: v.to(torch.int8).float()),
    "step at least 1e-6": loops(step=lambda s, i: s[:, i].clamp(min=1e-6)),
    "step of the row": loops(step=lambda s, i: s[:, 0]),
}
