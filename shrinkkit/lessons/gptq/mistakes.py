"""The usual wrong answers to lesson 05's exercises.

Where an exercise returns two results, a mistake gets one of them wrong, and explains it alone.
"""

from __future__ import annotations

from typing import Any

import torch

from shrinkkit.checks.mistakes import Mistakes

Tensor = torch.Tensor
Batches = list[Tensor]

HESSIAN = Mistakes()


def _rows(batches: Batches) -> Tensor:
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches]).double()


def _hessian(batches: Batches, n: int | None = None) -> Tensor:
    x = _rows(batches)
    return 2 * x.T @ x / (n or len(x))


@HESSIAN(
    "each batch was averaged, and then the batches: a short one counts as much as a long one. "
    "Add up all rows, divide once"
)
def mean_of_means(batches: Batches) -> Tensor:
    return torch.stack([_hessian([batch]) for batch in batches]).mean(dim=0)


@HESSIAN("the factor 2 is missing: H = 2/n * sum")
def no_two(batches: Batches) -> Tensor:
    return _hessian(batches) / 2


@HESSIAN("the sum was not divided by n, the number of rows")
def a_sum(batches: Batches) -> Tensor:
    return _hessian(batches, n=1)


@HESSIAN("the sum was divided by the number of batches; n counts the rows (tokens) of all of them")
def batches_counted(batches: Batches) -> Tensor:
    return _hessian(batches, n=len(batches))


@HESSIAN(
    "n counts the first dimension of each batch; in [texts, tokens, in_features] every token "
    "is a row"
)
def texts_counted(batches: Batches) -> Tensor:
    return _hessian(batches, n=sum(map(len, batches)))


@HESSIAN("only the last batch was used")
def last_batch(batches: Batches) -> Tensor:
    return _hessian(batches[-1:])


@HESSIAN("only the first batch was used")
def first_batch(batches: Batches) -> Tensor:
    return _hessian(batches[:1])


@HESSIAN("the mean was subtracted first: this is a covariance")
def covariance(batches: Batches) -> Tensor:
    x = _rows(batches)
    return _hessian([x - x.mean(dim=0)])


@HESSIAN("only the diagonal is there: how inputs go together is off it")
def diagonal_alone(batches: Batches) -> Tensor:
    return _hessian(batches).diagonal().diag()


HESSIAN.add(
    "tokens of zeros were left out: they count as well, n is the number of all rows",
    lambda batches: _hessian(batches, n=int((_rows(batches) != 0).any(dim=1).sum())),
)
HESSIAN.add(
    "small numbers were lost, or a constant was added: no threshold, no epsilon",
    lambda batches: _hessian([_rows(batches) * (_rows(batches).abs() > 1e-4)]),
)


COMPENSATE = Mistakes()


def _surgery(
    w: Tensor, inverse: Tensor, p: int, q: float, *, move: Any = None, cost: Any = None
) -> tuple[Tensor, Tensor]:
    """Set weight p to q and move the others; what is not given is right."""
    off = w[p] - q
    changed = w + (-off / inverse[p, p] * inverse[p] if move is None else move)
    changed[p] = q
    return changed, off**2 / inverse[p, p] / 2 if cost is None else cost


@COMPENSATE("only weight p changed: the others have to answer")
def others_stay(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=0)


@COMPENSATE(
    "the others moved the wrong way: -(w[p] - q) / inverse[p, p] * inverse[:, p] is the move"
)
def wrong_way(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=(w[p] - q) / inverse[p, p] * inverse[p])


@COMPENSATE("the division by inverse[p, p] is missing")
def move_undivided(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=(q - w[p]) * inverse[p])


@COMPENSATE("it was divided by the root of inverse[p, p]")  # the move, or the cost, or both
def divided_by_the_root(w, inverse, p, q):
    off, root = w[p] - q, inverse[p, p].sqrt()
    return _surgery(w, inverse, p, q, move=-off / root * inverse[p], cost=off**2 / root / 2)


@COMPENSATE("each weight was divided by its own inverse[j, j]: divide all by inverse[p, p]")
def each_by_its_own(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=(q - w[p]) * inverse[p] / inverse.diagonal())


@COMPENSATE("the move came back, not the weights: add it to w")
def move_alone(w, inverse, p, q):
    changed, cost = _surgery(w, inverse, p, q)
    return changed - w, cost


@COMPENSATE("q was left out: the weight was removed, not set to q")
def removed(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=-w[p] / inverse[p, p] * inverse[p])


@COMPENSATE("the factor 1/2 is missing")
def no_half(w, inverse, p, q):
    return _surgery(w, inverse, p, q, cost=(w[p] - q) ** 2 / inverse[p, p])


@COMPENSATE("it was multiplied by inverse[p, p]: divide")
def cost_multiplied(w, inverse, p, q):
    return _surgery(w, inverse, p, q, cost=(w[p] - q) ** 2 * inverse[p, p] / 2)


@COMPENSATE("w[p] - q was not squared")
def not_squared(w, inverse, p, q):
    return _surgery(w, inverse, p, q, cost=(w[p] - q) / inverse[p, p] / 2)


@COMPENSATE(
    "it is what the change costs if the others stay: hessian[p, p] is not 1 / inverse[p, p]"
)
def cost_if_others_stay(w, inverse, p, q):
    hessian = torch.linalg.inv(inverse)
    return _surgery(w, inverse, p, q, cost=(w[p] - q) ** 2 * hessian[p, p] / 2)


@COMPENSATE("w[p] was squared, not w[p] - q")
def weight_squared(w, inverse, p, q):
    return _surgery(w, inverse, p, q, cost=w[p] ** 2 / inverse[p, p] / 2)


@COMPENSATE("only the weights after p answered: those before it are free, too")
def right_alone(w, inverse, p, q):
    return _surgery(w, inverse, p, q, move=(q - w[p]) / inverse[p, p] * inverse.triu()[p])


COMPENSATE.add(
    "inverse[p, p] was raised (`clamp(min=...)`, `+ 1e-8`): divide by it as it is",
    lambda w, inverse, p, q: _surgery(w, inverse + 1e-3 * torch.eye(len(w)), p, q),
)


UPPER_FACTOR = Mistakes()


def _live_mean(hessian: Tensor) -> Tensor:
    return hessian.diagonal()[hessian.diagonal() > 0].mean()


def _eye(hessian: Tensor) -> Tensor:
    return torch.eye(len(hessian), dtype=torch.float64)


def _damped(hessian: Tensor, added: Tensor | float) -> Tensor:
    """Give dead inputs a 1, and add the same to every entry of the diagonal."""
    dead = hessian.diagonal() == 0
    return hessian.double() + (dead + added).diag()


def _rightly_damped(hessian: Tensor, damping: float) -> Tensor:
    return _damped(hessian, damping * _live_mean(hessian))


def _factor(damped: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)


def _root_inverse(damped: Tensor) -> Tensor:
    return torch.linalg.inv(torch.linalg.cholesky(damped))


@UPPER_FACTOR("the lower factor came back: ask for upper=True")
def lower(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_rightly_damped(hessian, damping)).T


@UPPER_FACTOR("H itself was factored, not its inverse")
def not_inverted(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.cholesky(_rightly_damped(hessian, damping), upper=True)


@UPPER_FACTOR("the inverse came back, not its factor")
def not_factored(hessian: Tensor, damping: float) -> Tensor:
    return torch.linalg.inv(_rightly_damped(hessian, damping))


UPPER_FACTOR.add(
    "its diagonal is negative: -U gives the same product, the one with a positive diagonal is "
    "asked for",
    lambda hessian, damping: -_factor(_rightly_damped(hessian, damping)),
)
UPPER_FACTOR.add(
    "the inverse of the lower factor of H came back: it is lower triangular. From it comes the "
    "inverse (torch.cholesky_inverse), which is then factored with upper=True",
    lambda hessian, damping: _root_inverse(_rightly_damped(hessian, damping)),
)
UPPER_FACTOR.add(
    "U @ U.T is the inverse, and U.T @ U should be: the inverse of H's lower factor, turned, is "
    "another matrix",
    lambda hessian, damping: _root_inverse(_rightly_damped(hessian, damping)).T,
)


@UPPER_FACTOR("the damping was added as it is: it is a fraction of the mean of the diagonal")
def added_as_it_is(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_damped(hessian, damping))


@UPPER_FACTOR("the damping was added to every entry: it belongs to the diagonal")
def added_everywhere(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_damped(hessian, 0.0) + damping * _live_mean(hessian))


@UPPER_FACTOR("the diagonal was multiplied by 1 + damping: add the same number to every entry")
def diagonal_stretched(hessian: Tensor, damping: float) -> Tensor:
    filled = _damped(hessian, 0.0)
    return _factor(filled + damping * filled.diagonal().diag())


@UPPER_FACTOR("the damping is missing")
def undamped(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_damped(hessian, 0.0))


@UPPER_FACTOR("a dead input was left at 0: give it a 1 on the diagonal first")
def dead_left(hessian: Tensor, damping: float) -> Tensor:
    return _factor(hessian + damping * _live_mean(hessian) * _eye(hessian))


@UPPER_FACTOR("the mean of the diagonal was taken over dead inputs, too")
def mean_over_the_dead(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_damped(hessian, damping * hessian.diagonal().mean()))


@UPPER_FACTOR("the mean of the diagonal was taken after the dead inputs got their 1")
def mean_too_late(hessian: Tensor, damping: float) -> Tensor:
    return _factor(_damped(hessian, damping * _damped(hessian, 0.0).diagonal().mean()))


@UPPER_FACTOR("a small input was called dead: dead is a diagonal of exactly 0")
def small_called_dead(hessian: Tensor, damping: float) -> Tensor:
    dead = hessian.diagonal() < 1e-6
    filled = hessian.double() + dead.diag()
    return _factor(filled + damping * _live_mean(hessian) * _eye(hessian))


UPPER_FACTOR.add(
    "more than the damping was added to the diagonal (an epsilon, or a least value)",
    lambda hessian, damping: _factor(_rightly_damped(hessian, damping) + 1e-6 * _eye(hessian)),
)


QUANTIZE_COLUMNS = Mistakes()
ACT_ORDER = Mistakes()


def _loop(
    weight, upper, scale, qmax, *, times=-1, rounding=torch.round, clamp=True, error=None,
    block=None,
):  # fmt: skip
    """GPTQ's loop.

    times: the error goes to the right so many times. rounding: what makes integers of the steps.
    clamp: False where it comes with the rounding. error: of a column, its steps and its integers,
    over upper[i, i]. block: the error goes no further than to the end of its block.
    """
    now, q = weight.double(), torch.zeros(weight.shape, dtype=torch.float64)
    n = weight.shape[1]
    for i in range(n):
        v, step = now[:, i], scale[:, i]
        q[:, i] = rounding(v / step)
        if clamp:
            q[:, i] = q[:, i].clamp(-qmax, qmax)
        off = v - step * q[:, i] if error is None else error(v, step, q[:, i])
        end = n if block is None else (i // block + 1) * block
        now[:, i + 1 : end] += times * torch.outer(off / upper[i, i], upper[i, i + 1 : end])
    return q.to(torch.int8)


def _in_loop(says: str, **how) -> None:
    """Register a mistake in the loop, of both exercises that have it."""
    QUANTIZE_COLUMNS.add(says, lambda *case: _loop(*case, **how))
    ACT_ORDER.add(says, lambda *case: _settled(*case, **how))


QUANTIZE_COLUMNS.add(
    "no error was passed on: columns were rounded as they were given and not as the errors before "
    "left them, or `upper[i + 1:, i]` was read, where only zeros stand (row i is "
    "`upper[i, i + 1:]`). This is plain rounding",
    lambda *case: _loop(*case, times=0),
)
ACT_ORDER.add("no error was passed on: this is plain rounding", lambda *c: _settled(*c, times=0))
_in_loop("the error was added to the columns on the right: subtract it", times=1)
_in_loop(
    "the error is that of w - q without the scale: what counts is w - scale * q",
    error=lambda v, step, q: v - q,
)
_in_loop(
    "the error was left in steps, w / scale - q: what counts is w - scale * q",
    error=lambda v, step, q: v / step - q,
)
_in_loop(
    "the error was taken before the clamp: what a clamped weight loses has to be passed on, too",
    error=lambda v, step, q: v - step * (v / step).round(),
)
_in_loop("values were rounded down (floor), not to the nearest", rounding=torch.floor)
_in_loop(
    "int8 came before the clamp: integers beyond 127 turn round there, so clamp first",
    rounding=lambda v: v.round().to(torch.int16).to(torch.int8),
)
_in_loop(
    "the error went no further than to the end of its block of 16: it goes to every column on the "
    "right",
    block=16,
)
QUANTIZE_COLUMNS.add(
    "the integers were not clamped to -qmax and qmax", lambda *case: _loop(*case, clamp=False)
)
QUANTIZE_COLUMNS.add(
    "the error was not divided by upper[i, i]",
    lambda weight, upper, *rest: _loop(weight, upper.clone().fill_diagonal_(1), *rest),
)
QUANTIZE_COLUMNS.add(
    "only the next column got the error: it goes to every column on the right",
    lambda weight, upper, *rest: _loop(weight, upper.tril(1), *rest),
)
QUANTIZE_COLUMNS.add(
    "each row has one step: `scale` has one for each weight, so take column i of it",
    lambda weight, upper, scale, qmax: _loop(weight, upper, scale[:, :1].expand_as(scale), qmax),
)
QUANTIZE_COLUMNS.add(
    "small steps were raised (`clamp(min=...)`, `+ 1e-8`): divide by them as they are",
    lambda weight, upper, scale, qmax: _loop(weight, upper, scale.clamp(min=1e-3), qmax),
)


@QUANTIZE_COLUMNS("columns were settled from right to left")
def right_to_left(weight, upper, scale, qmax):
    inverse = upper.double().T @ upper.double()
    turned = torch.linalg.cholesky(inverse.flip(0, 1), upper=True)
    return _loop(weight.flip(1), turned, scale.flip(1), qmax).flip(1)


@QUANTIZE_COLUMNS("real weights came back: return the integers")
def real_weights(weight, upper, scale, qmax):
    return _loop(weight, upper, scale, qmax) * scale


def _descending(hessian: Tensor) -> Tensor:
    return hessian.diagonal().argsort(descending=True)


def _settled(
    weight, hessian, scale, qmax, group_size, damping, *, order=None, stays="", damp=None,
    wide=None, **how,
):  # fmt: skip
    """Settle columns in an order, and put them back.

    stays: what is not taken along. damp: how. wide: the step of each weight.
    """
    order = _descending(hessian) if order is None else order
    damped = _rightly_damped(hessian, damping) if damp is None else damp(hessian, damping)
    if wide is None:
        wide = scale.repeat_interleave(group_size, dim=1)[:, : weight.shape[1]]
    if stays != "hessian":
        damped = damped[order][:, order]
    if stays != "scale":
        wide = wide[:, order]
    q = _loop(weight[:, order], _factor(damped), wide, qmax, **how)
    return q[:, order.argsort()]


@ACT_ORDER(
    "all groups were made equally wide, or their width was guessed from `scale`: they have "
    "`group_size` columns, and the last has what is left"
)
def equally_wide(weight, hessian, scale, qmax, group_size, damping):
    n = weight.shape[1]
    wide = scale.repeat_interleave(-(-n // scale.shape[1]), dim=1)[:, :n]
    return _settled(weight, hessian, scale, qmax, group_size, damping, wide=wide)


ACT_ORDER.add(
    "the mean of the diagonal was taken over dead inputs, too",
    lambda *case: _settled(*case, damp=lambda h, a: _damped(h, a * h.diagonal().mean())),
)
ACT_ORDER.add(
    "the damping is missing", lambda *case: _settled(*case, damp=lambda h, a: _damped(h, 0))
)
ACT_ORDER.add(
    "the damping was added as it is: it is a fraction of the mean of the diagonal",
    lambda *case: _settled(*case, damp=_damped),
)


@ACT_ORDER("the columns came back in the order in which they were settled: put them back")
def not_put_back(weight, hessian, *rest):
    return _settled(weight, hessian, *rest)[:, _descending(hessian)]


@ACT_ORDER(
    "the columns were put back with `order` itself; q[:, order] undoes nothing. Write into "
    "q[:, order] = ..., or use order.argsort()"
)
def put_back_with_order(weight, hessian, *rest):
    order = _descending(hessian)
    return _settled(weight, hessian, *rest)[:, order][:, order]


@ACT_ORDER("the smallest inputs went first: descending=True")
def ascending(weight, hessian, *rest):
    return _settled(weight, hessian, *rest, order=hessian.diagonal().argsort())


@ACT_ORDER("columns were settled from left to right: the order is that of the Hessian's diagonal")
def left_to_right(weight, hessian, *rest):
    return _settled(weight, hessian, *rest, order=torch.arange(len(hessian)))


@ACT_ORDER(
    "the scales were not reordered with the columns: each weight keeps its own group's scale"
)
def scales_stay(weight, hessian, *rest):
    return _settled(weight, hessian, *rest, stays="scale")


@ACT_ORDER("the Hessian was not reordered with the columns")
def hessian_stays(weight, hessian, *rest):
    return _settled(weight, hessian, *rest, stays="hessian")
