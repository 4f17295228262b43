"""Right answers to the exercises of lesson 06, and wrong ones spelled unlike the check's own."""

from __future__ import annotations

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor


def rows_of(batches: list[Tensor]) -> Tensor:
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches])


# ------------------------------------------------------------------ awq.channel_importance

channel_importance = Answers("awq.channel_importance")


@channel_importance.second
def importance_of_all_rows(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).abs().mean(dim=0)


@channel_importance.mistake("rms", says="the root of the mean square")
def importance_rms(batches: list[Tensor]) -> Tensor:
    rows = rows_of(batches)
    return torch.linalg.vector_norm(rows, dim=0) / len(rows) ** 0.5


@channel_importance.mistake("last batch", says="only the last batch was used")
def importance_last(batches: list[Tensor]) -> Tensor:
    for batch in batches:
        found = importance_of_all_rows([batch])
    return found


@channel_importance.mistake("zeros left out", says="zeros were left out of the mean")
def importance_where_used(batches: list[Tensor]) -> Tensor:
    channels = [[v for v in column if v != 0] for column in rows_of(batches).T.abs().tolist()]
    return torch.tensor([sum(found) / max(1, len(found)) for found in channels])


@channel_importance.mistake("batches popped", says="a list: it had 3 elements, and has 0")
def importance_popped(batches: list[Tensor]) -> Tensor:
    return importance_of_all_rows([batches.pop() for _ in range(len(batches))])


@channel_importance.mistake(
    "magnitudes in place", says="in place (a list: its element 0 is another one now)"
)
def importance_in_place(batches: list[Tensor]) -> Tensor:
    return importance_of_all_rows([batch.abs_() for batch in batches])


# ---------------------------------------------------------------------- awq.scale_and_fold

scale_and_fold = Answers("awq.scale_and_fold")


def logs_of(importance: Tensor, ratio: float) -> Tensor:
    live = importance[importance > 0]
    return ratio * torch.where(importance > 0, importance, live.min()).double().log()


def fold_logs(norm: Tensor, weights: list[Tensor], logs: Tensor):
    stretch = torch.diag(logs.exp())
    return (
        logs.exp(),
        norm.double() * (-logs).exp(),
        [weight.double() @ stretch for weight in weights],
    )


@scale_and_fold.second
def fold_in_logarithms(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    logs = logs_of(importance, ratio)
    return fold_logs(norm, weights, logs - (logs.max() + logs.min()) / 2)


@scale_and_fold.mistake("divided by the largest", says="divided by its largest entry")
def fold_by_largest(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    logs = logs_of(importance, ratio)
    return fold_logs(norm, weights, logs - logs.max())


@scale_and_fold.mistake("weights divided", says="it makes up for the division of x")
def fold_weights_divided(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s, smaller, _ = fold_in_logarithms(norm, weights, importance, ratio)
    return s, smaller, [torch.linalg.solve(torch.diag(s), w.double().T).T for w in weights]


@scale_and_fold.mistake(
    "weights in place", says="in place (a list: its element 0 is another one now)"
)
def fold_in_place(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s, smaller, _ = fold_in_logarithms(norm, weights, importance, ratio)
    return s, smaller, [weight.mul_(s) for weight in weights]


@scale_and_fold.mistake("norm first", says="it is the norm's new weight: s comes first")
def fold_norm_first(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s, smaller, changed = fold_in_logarithms(norm, weights, importance, ratio)
    return smaller, s, changed


@scale_and_fold.mistake("small is unused", says="a small importance was called unused")
def fold_small_unused(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    used = torch.where(importance > 1e-3, importance, 0)
    if not used.any():
        used = importance
    return fold_in_logarithms(norm, weights, used, ratio)


@scale_and_fold.mistake("a generator of weights", says="The third result should be a list")
def fold_generator(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s, smaller, changed = fold_in_logarithms(norm, weights, importance, ratio)
    return s, smaller, (weight for weight in changed)


@scale_and_fold.mistake("one reader", says="and 3 were given")
def fold_one_reader(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return fold_in_logarithms(norm, weights[:1], importance, ratio)


# ------------------------------------------------------------------------ awq.search_ratio

search_ratio = Answers("awq.search_ratio")


def rtn(weight: Tensor, bits: int) -> Tensor:
    return clipped(weight, largest(weight), bits)


def searched(x: Tensor, weight: Tensor, ratios: list[float], off_of) -> tuple[Tensor, Tensor]:
    """Search by the Hessian h: an output error is the trace of off h offᵀ."""
    h = x.double().T @ x.double() / len(x)
    errors = []
    for ratio in ratios:
        logs = logs_of(x.abs().mean(dim=0), ratio)
        off = off_of((logs - (logs.max() + logs.min()) / 2).exp().float()).double()
        errors.append(torch.trace(off @ h @ off.T).float())
    return torch.tensor(ratios[errors.index(min(errors))]), torch.stack(errors)


@search_ratio.second
def search_by_the_hessian(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, weight, ratios, lambda s: rtn(weight * s, bits) / s - weight)


@search_ratio.mistake("not scaled back", says="not divided by s again")
def search_not_back(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, weight, ratios, lambda s: rtn(weight * s, bits) - weight)


@search_ratio.mistake("worst", says="the ratio with the largest error")
def search_worst(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    errors = search_by_the_hessian(x, weight, ratios, bits)[1]
    return max(zip(errors.tolist(), ratios, strict=True))[1], errors


@search_ratio.mistake("index", says="the place of the best ratio")
def search_index(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    errors = search_by_the_hessian(x, weight, ratios, bits)[1]
    return errors.argmin(), errors


@search_ratio.mistake("swapped", says="The two results are swapped")
def search_swapped(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return search_by_the_hessian(x, weight, ratios, bits)[::-1]


@search_ratio.mistake("best alone", says="Two results should come back")
def search_best_alone(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return search_by_the_hessian(x, weight, ratios, bits)[0]


@search_ratio.mistake("0 never wins", says="ratio 0 could not win")
def search_above_zero(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    errors = search_by_the_hessian(x, weight, ratios, bits)[1]
    lost = [e + 1e30 * (ratio == 0) for e, ratio in zip(errors.tolist(), ratios, strict=True)]
    return ratios[lost.index(min(lost))], errors


@search_ratio.mistake("greedy", says="stopped at the first ratio that was worse")
def search_greedily(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    errors = search_by_the_hessian(x, weight, ratios, bits)[1]
    best = 0
    for place, error in enumerate(errors):
        if error > errors[best]:
            break
        best = place
    return ratios[best], errors


@search_ratio.mistake("unused channels", says="an unused channel got s = 0")
def search_without_lift(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    errors = []
    for ratio in ratios:
        s = x.abs().mean(dim=0).pow(ratio)
        s = s / torch.sqrt(s.amax() * s.amin())
        off = x @ (rtn(weight * s, bits) / s - weight).T
        errors.append(off.norm() ** 2 / len(x))
    return search_by_the_hessian(x, weight, ratios, bits)[0], torch.stack(errors)


# ------------------------------------------------------------------------- awq.search_clip

search_clip = Answers("awq.search_clip")


def largest(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1, keepdim=True)


def clipped(weight: Tensor, limit: Tensor, bits: int) -> Tensor:
    qmax = 2 ** (bits - 1) - 1
    step = limit / qmax
    return step * (weight / step).round().clamp(-qmax, qmax)


@search_clip.second
def clip_row_by_row(x: Tensor, weight: Tensor, bits: int, shrinks: list[float], choose=min):
    chosen = []
    for row in weight.split(1):
        limits = [shrink * largest(row) for shrink in shrinks]
        chosen.append(choose(limits, key=lambda m: (x @ (clipped(row, m, bits) - row).T).norm()))
    return torch.cat(chosen)


@search_clip.mistake("error of weights", says="the error of the weights was looked at")
def clip_by_weights(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(torch.eye(weight.shape[1]), weight, bits, shrinks)


@search_clip.mistake("worst", says="the shrink with the largest error")
def clip_worst(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(x, weight, bits, shrinks, choose=max)


@search_clip.mistake("the last never tried", says="the last shrink was never tried")
def clip_without_the_last(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(x, weight, bits, shrinks[:-1] if len(shrinks) > 1 else shrinks)


@search_clip.mistake("against the clipped", says="the clipped weight was the measure")
def clip_against_the_clipped(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    chosen = []
    for row in weight.split(1):
        limits = [shrink * largest(row) for shrink in shrinks]
        off = [clipped(row, m, bits) - torch.minimum(torch.maximum(row, -m), m) for m in limits]
        errors = [(x @ each.T).norm().item() for each in off]
        chosen.append(limits[errors.index(min(errors))])
    return torch.cat(chosen)
