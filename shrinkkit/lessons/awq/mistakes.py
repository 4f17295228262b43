"""The usual wrong answers to lesson 06's exercises.

Where an exercise returns several results, a mistake gets one of them wrong, and explains it alone.
"""

from __future__ import annotations

import torch

from shrinkkit.checks.mistakes import Mistakes

Tensor = torch.Tensor
Batches = list[Tensor]

CHANNEL_IMPORTANCE = Mistakes()


def _rows(batches: Batches) -> Tensor:
    return torch.cat([batch.reshape(-1, batch.shape[-1]) for batch in batches])


def _mean(batches: Batches) -> Tensor:
    return _rows(batches).abs().mean(dim=0)


@CHANNEL_IMPORTANCE(
    "each batch was averaged, and then the batches: a short one counts as much as a long one. "
    "Add up all rows, divide once"
)
def mean_of_means(batches: Batches) -> Tensor:
    return torch.stack([_mean([batch]) for batch in batches]).mean(dim=0)


@CHANNEL_IMPORTANCE("signs cancelled: take abs() before the mean")
def signed(batches: Batches) -> Tensor:
    return _rows(batches).mean(dim=0)


@CHANNEL_IMPORTANCE("abs() came after the mean: signs cancelled before")
def abs_too_late(batches: Batches) -> Tensor:
    return _rows(batches).mean(dim=0).abs()


@CHANNEL_IMPORTANCE("the largest magnitude was taken: SmoothQuant wants that, AWQ the mean")
def maximum(batches: Batches) -> Tensor:
    return _rows(batches).abs().amax(dim=0)


@CHANNEL_IMPORTANCE("the root of the mean square was taken, not the mean of |x|")
def root_mean_square(batches: Batches) -> Tensor:
    return _rows(batches).square().mean(dim=0).sqrt()


@CHANNEL_IMPORTANCE("the sum was not divided by the number of rows")
def a_sum(batches: Batches) -> Tensor:
    return _rows(batches).abs().sum(dim=0)


@CHANNEL_IMPORTANCE(
    "the sum was divided by the number of batches; count the rows (tokens) of all of them"
)
def batches_counted(batches: Batches) -> Tensor:
    return a_sum(batches) / len(batches)


@CHANNEL_IMPORTANCE(
    "the sum was divided by the first dimension of each batch; in [texts, tokens, in_features] "
    "every token is a row"
)
def texts_counted(batches: Batches) -> Tensor:
    return a_sum(batches) / sum(map(len, batches))


@CHANNEL_IMPORTANCE("only the last batch was used")
def last_batch(batches: Batches) -> Tensor:
    return _mean(batches[-1:])


@CHANNEL_IMPORTANCE("only the first batch was used")
def first_batch(batches: Batches) -> Tensor:
    return _mean(batches[:1])


@CHANNEL_IMPORTANCE("the mean was taken over all channels: each has its own")
def one_for_all(batches: Batches) -> Tensor:
    return torch.full_like(_mean(batches), _mean(batches).mean())


CHANNEL_IMPORTANCE.add(
    "zeros were left out of the mean: a token in which a channel is 0 counts as well",
    lambda batches: _rows(batches).abs().sum(dim=0) / (_rows(batches) != 0).sum(dim=0).clamp(min=1),
)
CHANNEL_IMPORTANCE.add(
    "tokens of zeros were left out: every token counts the same",
    lambda batches: _mean([_rows(batches)[(_rows(batches) != 0).any(dim=1)]]),
)

SCALE_AND_FOLD = Mistakes()


def _powers(importance: Tensor, ratio: float) -> Tensor:
    return importance.clamp(min=importance[importance > 0].min()) ** ratio


def _scale(importance: Tensor, ratio: float) -> Tensor:
    return _centred(_powers(importance, ratio))


def _centred(s: Tensor) -> Tensor:
    return s / (s.max() * s.min()).sqrt()


def _folded(norm, weights, importance, ratio, s=None):
    """Return the s given with what the right one leads to."""
    right = _scale(importance, ratio)
    return right if s is None else s, norm / right, [weight * right for weight in weights]


@SCALE_AND_FOLD("it was not normalised: divide by the root of (largest * smallest)")
def not_normalised(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _powers(importance, ratio))


@SCALE_AND_FOLD("it was divided by its largest entry: divide by the root of (largest * smallest)")
def divided_by_the_largest(norm, weights, importance, ratio):
    s = _powers(importance, ratio)
    return _folded(norm, weights, importance, ratio, s / s.max())


@SCALE_AND_FOLD("it was divided by its mean: divide by the root of (largest * smallest)")
def divided_by_the_mean(norm, weights, importance, ratio):
    s = _powers(importance, ratio)
    return _folded(norm, weights, importance, ratio, s / s.mean())


@SCALE_AND_FOLD("it was divided by largest * smallest: take the root of that")
def no_root(norm, weights, importance, ratio):
    s = _powers(importance, ratio)
    return _folded(norm, weights, importance, ratio, s / (s.max() * s.min()))


@SCALE_AND_FOLD("the ratio was not used")
def ratio_unused(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _scale(importance, 1.0))


@SCALE_AND_FOLD(
    "it is upside down: the weights are multiplied by s, so large inputs need a large s"
)
def upside_down(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _scale(importance, -ratio))


@SCALE_AND_FOLD("importance was multiplied by the ratio: the ratio is an exponent")
def ratio_multiplied(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _powers(importance, 1.0) * ratio)


@SCALE_AND_FOLD("the columns' sizes in the weights were used: AWQ looks at the activations")
def scale_of_weights(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _scale(_mean(weights), ratio))


@SCALE_AND_FOLD(
    "an unused channel got s = 0, or divided by zero: let it count like the least used one"
)
def unused_at_zero(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, _centred(importance**ratio))


@SCALE_AND_FOLD(
    "an unused channel got s = 0: let it count like the least used one. And the normalisation "
    "is missing"
)
def unused_at_zero_and_not_normalised(norm, weights, importance, ratio):
    return _folded(norm, weights, importance, ratio, importance**ratio)


@SCALE_AND_FOLD("it was multiplied by s: it makes x, and x has to become smaller by s")
def norm_multiplied(norm, weights, importance, ratio):
    s, _, changed = _folded(norm, weights, importance, ratio)
    return s, norm * s, changed


@SCALE_AND_FOLD("it was left as it is: x has to be divided by s somewhere")
def norm_left(norm, weights, importance, ratio):
    s, _, changed = _folded(norm, weights, importance, ratio)
    return s, norm, changed


@SCALE_AND_FOLD("it was divided by s once for each reader: once for all of them")
def norm_divided_for_each_reader(norm, weights, importance, ratio):
    s, _, changed = _folded(norm, weights, importance, ratio)
    return s, norm / s ** len(weights), changed


@SCALE_AND_FOLD("it was divided by s: it makes up for the division of x, so multiply")
def weights_divided(norm, weights, importance, ratio):
    s, smaller, _ = _folded(norm, weights, importance, ratio)
    return s, smaller, [weight / s for weight in weights]


@SCALE_AND_FOLD("it was left as it is: every reader of x has to make up for s")
def weights_left(norm, weights, importance, ratio):
    s, smaller, _ = _folded(norm, weights, importance, ratio)
    return s, smaller, weights


@SCALE_AND_FOLD("its rows were multiplied: s belongs to the columns")
def rows_multiplied(norm, weights, importance, ratio):
    s, smaller, _ = _folded(norm, weights, importance, ratio)
    return s, smaller, [w * s[:, None] if len(w) == len(s) else w * s for w in weights]


SCALE_AND_FOLD.add(
    "it is the norm's new weight: s comes first, `return s, norm_weight, weights`",
    lambda *case: (_folded(*case)[1], _folded(*case)[0], _folded(*case)[2]),
)
SCALE_AND_FOLD.add(
    "a small importance was called unused, or raised (`clamp(min=...)`): unused is exactly 0",
    lambda norm, weights, importance, ratio: _folded(
        norm, weights, importance.clamp(min=importance[importance > 1e-3].min()), ratio
    ),
)


SEARCH_RATIO = Mistakes()


def _rounded(weight: Tensor, bits: int, limit: Tensor | None = None) -> Tensor:
    """Round each row to a grid that reaches to its limit [out, 1], or its largest magnitude."""
    qmax = 2 ** (bits - 1) - 1
    step = (_largest(weight) if limit is None else limit) / qmax
    return step * (weight / step).round().clamp(-qmax, qmax)


def _largest(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1, keepdim=True)


def _first_rise(errors: Tensor) -> int:
    """Return the place of the last error before one that is larger."""
    rises = (errors[1:] > errors[:-1]).nonzero()
    return int(rises[0]) if len(rises) else len(errors) - 1


def _searched(x, weight, ratios, bits, off=None, sizes=None, scale=_scale):
    """Return the best ratio and the errors; off: how far a scale s leaves the weight off."""

    def errors(off, sizes, scale) -> Tensor:
        outs = [x @ off(scale(sizes, ratio)).T for ratio in ratios]
        return torch.stack([out.square().sum(dim=1).mean() for out in outs])

    def right(s: Tensor) -> Tensor:
        return _rounded(weight * s, bits) / s - weight

    best = ratios[errors(right, _mean([x]), _scale).argmin()]
    return best, errors(off or right, _mean([x]) if sizes is None else sizes, scale)


@SEARCH_RATIO("the rounded weight was not divided by s again: without that it is another layer")
def not_scaled_back(x, weight, ratios, bits):
    return _searched(x, weight, ratios, bits, lambda s: _rounded(weight * s, bits) - weight)


@SEARCH_RATIO("the weight was divided by s before rounding: multiply")
def divided_before_rounding(x, weight, ratios, bits):
    return _searched(x, weight, ratios, bits, lambda s: _rounded(weight / s, bits) * s - weight)


@SEARCH_RATIO("the error of the weights was measured, not that of the outputs on x")
def error_of_weights(x, weight, ratios, bits):
    each = torch.eye(weight.shape[1])
    _, errors = _searched(each, weight, ratios, bits, sizes=_mean([x]))
    return _searched(x, weight, ratios, bits)[0], errors * len(each)


@SEARCH_RATIO("the mean error of the weights was measured, not that of the outputs on x")
def mean_error_of_weights(x, weight, ratios, bits):
    best, errors = error_of_weights(x, weight, ratios, bits)
    return best, errors / weight.numel()


@SEARCH_RATIO("the importance came from the weights, not from x")
def importance_of_weights(x, weight, ratios, bits):
    return _searched(x, weight, ratios, bits, sizes=_mean([weight]))


@SEARCH_RATIO("nothing was scaled: every ratio gives the same")
def nothing_scaled(x, weight, ratios, bits):
    return _searched(x, weight, ratios, bits, lambda s: _rounded(weight, bits) - weight)


@SEARCH_RATIO("the mean was taken over outputs, too: sum over the outputs, mean over the tokens")
def mean_over_outputs(x, weight, ratios, bits):
    best, errors = _searched(x, weight, ratios, bits)
    return best, errors / len(weight)


@SEARCH_RATIO("the sum was taken over the tokens, too: sum over the outputs, mean over the tokens")
def sum_over_tokens(x, weight, ratios, bits):
    best, errors = _searched(x, weight, ratios, bits)
    return best, errors * len(x)


@SEARCH_RATIO("the root was taken: the error is squared")
def root_taken(x, weight, ratios, bits):
    best, errors = _searched(x, weight, ratios, bits)
    return best, errors.sqrt()


@SEARCH_RATIO(
    "x was divided by s, but the scaled, rounded weight was compared with the scaled weight on "
    "the old x"
)
def compared_on_the_old_x(x, weight, ratios, bits):
    return _searched(x, weight, ratios, bits, lambda s: _rounded(weight * s, bits) - weight * s)


SEARCH_RATIO.add(
    "an unused channel got s = 0, and was divided by it: let it count like the least used one",
    lambda x, weight, ratios, bits: _searched(
        x, weight, ratios, bits, scale=lambda sizes, ratio: _centred(sizes**ratio)
    ),
)
SEARCH_RATIO.add(
    "the importance was the root of the mean square, not the mean of |x|",
    lambda x, *rest: _searched(x, *rest, sizes=x.square().mean(dim=0).sqrt()),
)


@SEARCH_RATIO("it is the place of the best ratio in the list, not the ratio")
def place_of_the_best(x, weight, ratios, bits):
    best, errors = _searched(x, weight, ratios, bits)
    return ratios.index(best), errors


@SEARCH_RATIO("the ratio with the largest error was chosen")
def worst_ratio(x, weight, ratios, bits):
    _, errors = _searched(x, weight, ratios, bits)
    return ratios[errors.argmax()], errors


@SEARCH_RATIO("ratio 0 could not win: it is plain rounding, and may be the best")
def zero_never_wins(x, weight, ratios, bits):
    errors = _searched(x, weight, ratios, bits)[1]
    return min(zip(ratios, errors, strict=True), key=lambda pair: (pair[0] == 0, pair[1]))[
        0
    ], errors


@SEARCH_RATIO("the search stopped at the first ratio that was worse: look at all of them")
def stopped_early(x, weight, ratios, bits):
    errors = _searched(x, weight, ratios, bits)[1]
    return ratios[_first_rise(errors)], errors


@SEARCH_RATIO("the last ratio was never tried")
def last_ratio_left_out(x, weight, ratios, bits):
    errors = _searched(x, weight, ratios, bits)[1]
    return ratios[errors[:-1].argmin() if len(errors) > 1 else 0], errors


@SEARCH_RATIO("the first ratio was never tried")
def first_ratio_left_out(x, weight, ratios, bits):
    errors = _searched(x, weight, ratios, bits)[1]
    return ratios[errors[1:].argmin() + 1 if len(errors) > 1 else 0], errors


@SEARCH_RATIO("the least error came back, not its ratio")
def least_error(x, weight, ratios, bits):
    _, errors = _searched(x, weight, ratios, bits)
    return errors.min(), errors


SEARCH_CLIP = Mistakes()


def _clip_errors(x, weight, bits, shrinks, rounded=_rounded) -> Tensor:
    """Return the error of each row's output at each shrink, [n_shrinks, out]."""
    limits = [shrink * _largest(weight) for shrink in shrinks]
    outs = [x @ (rounded(weight, bits, limit) - weight).T for limit in limits]
    return torch.stack([out.square().mean(dim=0) for out in outs])


def _picked(weight: Tensor, shrinks: list[float], errors: Tensor) -> Tensor:
    return torch.tensor(shrinks)[errors.argmin(dim=0)][:, None] * _largest(weight)


def _right_limits(x, weight, bits, shrinks) -> Tensor:
    return _picked(weight, shrinks, _clip_errors(x, weight, bits, shrinks))


@SEARCH_CLIP("one shrink was chosen for all rows: each row has its own")
def one_shrink_for_all(x, weight, bits, shrinks):
    errors = _clip_errors(x, weight, bits, shrinks)
    return _picked(weight, shrinks, errors.sum(dim=1, keepdim=True).expand_as(errors))


@SEARCH_CLIP("the error of the weights was looked at, not that of the outputs on x")
def limits_by_weights(x, weight, bits, shrinks):
    return _right_limits(torch.eye(weight.shape[1]), weight, bits, shrinks)


@SEARCH_CLIP("nothing was clipped: integers beyond qmax do not exist, clamp them")
def nothing_clipped(x, weight, bits, shrinks):
    def rounded(weight: Tensor, bits: int, limit: Tensor) -> Tensor:
        step = limit / (2 ** (bits - 1) - 1)
        return step * (weight / step).round()

    return _picked(weight, shrinks, _clip_errors(x, weight, bits, shrinks, rounded))


@SEARCH_CLIP("the weight was clipped but the step stayed: the step is limit / qmax")
def step_stays(x, weight, bits, shrinks):
    def rounded(weight: Tensor, bits: int, limit: Tensor) -> Tensor:
        return _rounded(weight.clamp(-limit, limit), bits, _largest(weight))

    return _picked(weight, shrinks, _clip_errors(x, weight, bits, shrinks, rounded))


@SEARCH_CLIP("the shrink with the largest error was chosen")
def worst_shrink(x, weight, bits, shrinks):
    return _picked(weight, shrinks, -_clip_errors(x, weight, bits, shrinks))


@SEARCH_CLIP("the shrinks came back: multiply by the row's largest magnitude")
def shrinks_alone(x, weight, bits, shrinks):
    return _right_limits(x, weight, bits, shrinks) / _largest(weight)


@SEARCH_CLIP("the steps came back: the limit is qmax steps")
def steps(x, weight, bits, shrinks):
    return _right_limits(x, weight, bits, shrinks) / (2 ** (bits - 1) - 1)


@SEARCH_CLIP("nothing was searched: these are the largest magnitudes")
def nothing_searched(x, weight, bits, shrinks):
    return _largest(weight)


@SEARCH_CLIP("keepdim is missing: the limits are [out_features, 1]")
def no_keepdim(x, weight, bits, shrinks):
    return _right_limits(x, weight, bits, shrinks)[:, 0]


@SEARCH_CLIP("the clipped weight was the measure: the output of the weight itself is")
def against_the_clipped(x, weight, bits, shrinks):
    errors = []
    for limit in [shrink * _largest(weight) for shrink in shrinks]:
        off = _rounded(weight, bits, limit) - weight.clamp(-limit, limit)
        errors.append((x @ off.T).square().mean(dim=0))
    return _picked(weight, shrinks, torch.stack(errors))


@SEARCH_CLIP("the search stopped at the first shrink that was worse: look at all of them")
def clip_stopped_early(x, weight, bits, shrinks):
    errors = _clip_errors(x, weight, bits, shrinks)
    best = torch.tensor([_first_rise(row) for row in errors.T])
    return torch.tensor(shrinks)[best][:, None] * _largest(weight)


SEARCH_CLIP.add(
    "the last shrink was never tried",
    lambda x, weight, bits, shrinks: _right_limits(x, weight, bits, shrinks[:-1] or shrinks),
)
SEARCH_CLIP.add(
    "the first shrink was never tried",
    lambda x, weight, bits, shrinks: _right_limits(x, weight, bits, shrinks[1:] or shrinks),
)
SEARCH_CLIP.add(
    "a small limit was raised, or a constant added: in a row of zeros it is 0",
    lambda *case: _right_limits(*case).clamp(min=1e-3),
)


@SEARCH_CLIP("magnitudes of the output's error were averaged: square it")
def magnitudes(x, weight, bits, shrinks):
    limits = [shrink * _largest(weight) for shrink in shrinks]
    outs = [x @ (_rounded(weight, bits, limit) - weight).T for limit in limits]
    return _picked(weight, shrinks, torch.stack([out.abs().mean(dim=0) for out in outs]))
