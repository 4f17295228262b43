"""Right and wrong answers to the exercises of lesson 06."""

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


@channel_importance.mistake("mean of batch means", says="each batch was averaged")
def importance_mean_of_means(batches: list[Tensor]) -> Tensor:
    return torch.stack([importance_of_all_rows([batch]) for batch in batches]).mean(dim=0)


@channel_importance.mistake("no abs", says="signs cancelled: take abs()")
def importance_signed(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).mean(dim=0)


@channel_importance.mistake("abs too late", says="abs() came after the mean")
def importance_late_abs(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).mean(dim=0).abs()


@channel_importance.mistake("maximum", says="the largest magnitude was taken")
def importance_max(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).abs().amax(dim=0)


@channel_importance.mistake("rms", says="the root of the mean square")
def importance_rms(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).pow(2).mean(dim=0).sqrt()


@channel_importance.mistake("sum", says="the sum was not divided")
def importance_sum(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).abs().sum(dim=0)


@channel_importance.mistake("number of batches", says="divided by the number of batches")
def importance_batches(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).abs().sum(dim=0) / len(batches)


@channel_importance.mistake("texts for tokens", says="every token is a row")
def importance_texts(batches: list[Tensor]) -> Tensor:
    return rows_of(batches).abs().sum(dim=0) / sum(len(batch) for batch in batches)


@channel_importance.mistake("last batch", says="only the last batch was used")
def importance_last(batches: list[Tensor]) -> Tensor:
    return importance_of_all_rows(batches[-1:])


@channel_importance.mistake("one for all", says="each has its own")
def importance_one(batches: list[Tensor]) -> Tensor:
    rows = rows_of(batches)
    return rows.abs().mean().expand(rows.shape[1])


# ---------------------------------------------------------------------- awq.scale_and_fold

scale_and_fold = Answers("awq.scale_and_fold")


def filled(importance: Tensor) -> Tensor:
    return importance.clamp(min=importance[importance > 0].min().item())


def scale_of(importance: Tensor, ratio: float) -> Tensor:
    s = filled(importance) ** ratio
    return s / (s.max() * s.min()).sqrt()


def folded(norm: Tensor, weights: list[Tensor], s: Tensor):
    return s, norm / s, [weight * s for weight in weights]


@scale_and_fold.second
def fold_in_logarithms(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    logs = ratio * filled(importance).double().log()
    logs = logs - (logs.max() + logs.min()) / 2
    stretch = torch.diag(logs.exp())
    return (
        logs.exp(),
        norm.double() * (-logs).exp(),
        [weight.double() @ stretch for weight in weights],
    )


@scale_and_fold.mistake("not normalised", says="it was not normalised")
def fold_unnormalised(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return folded(norm, weights, filled(importance) ** ratio)


@scale_and_fold.mistake("divided by the largest", says="divided by its largest entry")
def fold_by_largest(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = filled(importance) ** ratio
    return folded(norm, weights, s / s.max())


@scale_and_fold.mistake("no root", says="take the root of that")
def fold_no_root(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = filled(importance) ** ratio
    return folded(norm, weights, s / (s.max() * s.min()))


@scale_and_fold.mistake("ratio unused", says="the ratio was not used")
def fold_no_ratio(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return folded(norm, weights, scale_of(importance, 1.0))


@scale_and_fold.mistake("upside down", says="it is upside down")
def fold_upside_down(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return folded(norm, weights, 1 / scale_of(importance, ratio))


@scale_and_fold.mistake("scale by weights", says="AWQ looks at the activations")
def fold_by_weights(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return folded(norm, weights, scale_of(torch.cat(weights).abs().mean(dim=0), ratio))


@scale_and_fold.mistake("unused channels", says="an unused channel got s = 0")
def fold_dead(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = importance**ratio
    return folded(norm, weights, s / (s.max() * s.min()).sqrt())


@scale_and_fold.mistake("norm multiplied", says="x has to become smaller by s")
def fold_norm_multiplied(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = scale_of(importance, ratio)
    return s, norm * s, [weight * s for weight in weights]


@scale_and_fold.mistake("norm left", says="x has to be divided by s somewhere")
def fold_norm_left(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = scale_of(importance, ratio)
    return s, norm, [weight * s for weight in weights]


@scale_and_fold.mistake("weights divided", says="it makes up for the division of x")
def fold_weights_divided(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = scale_of(importance, ratio)
    return s, norm / s, [weight / s for weight in weights]


@scale_and_fold.mistake("rows for columns", says="its rows were multiplied")
def fold_rows(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = scale_of(importance, ratio)
    square = [w * s[:, None] if w.shape[0] == w.shape[1] else w * s for w in weights]
    return s, norm / s, square


@scale_and_fold.mistake("weights in place", says="changed in place")
def fold_in_place(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    s = scale_of(importance, ratio)
    return s, norm / s, [weight.mul_(s) for weight in weights]


@scale_and_fold.mistake("one reader", says="and 2 were given")
def fold_one_reader(norm: Tensor, weights: list[Tensor], importance: Tensor, ratio: float):
    return folded(norm, weights[:1], scale_of(importance, ratio))


# ------------------------------------------------------------------------ awq.search_ratio

search_ratio = Answers("awq.search_ratio")


def rtn(weight: Tensor, bits: int) -> Tensor:
    qmax = 2 ** (bits - 1) - 1
    step = weight.abs().amax(dim=1, keepdim=True) / qmax
    return step * (weight / step).round().clamp(-qmax, qmax)


def searched(x: Tensor, ratios: list[float], error_of) -> tuple[float, Tensor]:
    """Search with an error function of s."""
    errors = torch.stack([error_of(scale_of(x.abs().mean(dim=0), ratio)) for ratio in ratios])
    return ratios[errors.argmin()], errors


def squared(off: Tensor) -> Tensor:
    return off.pow(2).sum(dim=1).mean()


@search_ratio.second
def search_by_the_hessian(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    h = x.double().T @ x.double() / len(x)

    def error(s: Tensor) -> Tensor:
        off = (rtn(weight * s, bits) / s - weight).double()
        return torch.trace(off @ h @ off.T)

    best, errors = searched(x, ratios, error)
    return torch.tensor(best), errors.float()


@search_ratio.mistake("not scaled back", says="not divided by s again")
def search_not_back(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, ratios, lambda s: squared(x @ (rtn(weight * s, bits) - weight).T))


@search_ratio.mistake("divided before rounding", says="divided by s before rounding")
def search_divided(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, ratios, lambda s: squared(x @ (rtn(weight / s, bits) * s - weight).T))


@search_ratio.mistake("error of weights", says="the error of the weights was measured")
def search_weights(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, ratios, lambda s: (rtn(weight * s, bits) / s - weight).pow(2).sum())


@search_ratio.mistake("importance of weights", says="the importance came from the weights")
def search_importance(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    scales = [scale_of(weight.abs().mean(dim=0), ratio) for ratio in ratios]
    errors = [squared(x @ (rtn(weight * s, bits) / s - weight).T) for s in scales]
    return ratios[torch.stack(errors).argmin()], torch.stack(errors)


def right(x: Tensor, weight: Tensor, ratios: list[float], bits: int) -> tuple[float, Tensor]:
    return searched(x, ratios, lambda s: squared(x @ (rtn(weight * s, bits) / s - weight).T))


@search_ratio.mistake("nothing scaled", says="nothing was scaled")
def search_nothing(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return searched(x, ratios, lambda s: squared(x @ (rtn(weight, bits) - weight).T))


@search_ratio.mistake("mean over all", says="the mean was taken over outputs, too")
def search_mean(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    best, errors = right(x, weight, ratios, bits)
    return best, errors / len(weight)


@search_ratio.mistake("norm", says="the root was taken")
def search_root(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    best, errors = right(x, weight, ratios, bits)
    return best, errors.sqrt()


@search_ratio.mistake("index", says="the place of the best ratio")
def search_index(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    _, errors = right(x, weight, ratios, bits)
    return errors.argmin(), errors


@search_ratio.mistake("worst", says="the ratio with the largest error")
def search_worst(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    _, errors = right(x, weight, ratios, bits)
    return ratios[errors.argmax()], errors


@search_ratio.mistake("swapped", says="The two results are swapped")
def search_swapped(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return right(x, weight, ratios, bits)[::-1]


@search_ratio.mistake("best alone", says="2 results should come back")
def search_best_alone(x: Tensor, weight: Tensor, ratios: list[float], bits: int):
    return right(x, weight, ratios, bits)[0]


# ------------------------------------------------------------------------- awq.search_clip

search_clip = Answers("awq.search_clip")


def largest(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1, keepdim=True)


def clipped(weight: Tensor, limit: Tensor, bits: int) -> Tensor:
    qmax = 2 ** (bits - 1) - 1
    step = limit / qmax
    return step * (weight / step).round().clamp(-qmax, qmax)


@search_clip.second
def clip_row_by_row(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    chosen = []
    for row in weight.split(1):
        limits = [shrink * largest(row) for shrink in shrinks]
        chosen.append(min(limits, key=lambda m: (x @ (clipped(row, m, bits) - row).T).norm()))
    return torch.cat(chosen)


def errors_of(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    """Errors [n_shrinks, out]."""
    return torch.stack(
        [
            (x @ (clipped(weight, shrink * largest(weight), bits) - weight).T).pow(2).mean(dim=0)
            for shrink in shrinks
        ]
    )


def picked(weight: Tensor, best: Tensor, shrinks: list[float]) -> Tensor:
    return torch.tensor(shrinks)[best][:, None] * largest(weight)


@search_clip.mistake("one for all rows", says="one shrink was chosen for all rows")
def clip_all_alike(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    best = errors_of(x, weight, bits, shrinks).sum(dim=1).argmin()
    return shrinks[best] * largest(weight)


@search_clip.mistake("error of weights", says="the error of the weights was looked at")
def clip_by_weights(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(torch.eye(weight.shape[1]), weight, bits, shrinks)


@search_clip.mistake("no clamp", says="nothing was clipped")
def clip_unclamped(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    errors = []
    for shrink in shrinks:
        step = shrink * largest(weight) / (2 ** (bits - 1) - 1)
        errors.append((x @ (step * (weight / step).round() - weight).T).pow(2).mean(dim=0))
    return picked(weight, torch.stack(errors).argmin(dim=0), shrinks)


@search_clip.mistake("the step stays", says="but the step stayed")
def clip_step_stays(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    errors = []
    for shrink in shrinks:
        limit = shrink * largest(weight)
        rounded = clipped(weight.clamp(-limit, limit), largest(weight), bits)
        errors.append((x @ (rounded - weight).T).pow(2).mean(dim=0))
    return picked(weight, torch.stack(errors).argmin(dim=0), shrinks)


@search_clip.mistake("worst", says="the shrink with the largest error")
def clip_worst(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    best = errors_of(x, weight, bits, shrinks).argmax(dim=0)
    return picked(weight, best, shrinks)


@search_clip.mistake("shrinks", says="the shrinks came back")
def clip_shrinks(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(x, weight, bits, shrinks) / largest(weight)


@search_clip.mistake("steps", says="the steps came back")
def clip_steps(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(x, weight, bits, shrinks) / (2 ** (bits - 1) - 1)


@search_clip.mistake("no search", says="nothing was searched")
def clip_nothing(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return largest(weight)


@search_clip.mistake("flat", says="keepdim is missing")
def clip_flat(x: Tensor, weight: Tensor, bits: int, shrinks: list[float]) -> Tensor:
    return clip_row_by_row(x, weight, bits, shrinks)[:, 0]
