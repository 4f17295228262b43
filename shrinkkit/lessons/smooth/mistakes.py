"""The usual mistakes in lesson 04's exercises: activations as integers, and SmoothQuant.

For each exercise there is what is right, with options to go wrong in, and then a table: what to
tell a learner, and the function that does it, in the order in which answers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from shrinkkit.checks.mistakes import Mistakes

Pair = tuple[Tensor, Tensor]
Change = Callable[..., Tensor]


# ------------------------------------------------------------------ smooth.quantize_tokens


def tokens(
    x: Tensor,
    *,
    top: Tensor | None = None,
    qmax: float = 127,
    dead: float = 1.0,
    whole: Callable[[Tensor], Tensor] = torch.round,
    raised: Change = lambda step: step,
) -> Pair:
    """Round tokens to int8.

    top: magnitudes to divide by qmax (None: each token's largest). dead: the step of a token of
    zeros. raised: what becomes of the other steps.
    """
    top = x.abs().amax(dim=1, keepdim=True) if top is None else top
    step = raised(top / qmax).masked_fill(top == 0, dead)
    return whole(x / step).clamp(-127, 127).to(torch.int8), step


def upside_down(x: Tensor) -> Pair:
    q, step = tokens(x)
    return q, 1 / step


def flat(x: Tensor) -> Pair:
    q, step = tokens(x)
    return q, step[:, 0]


def real_values(x: Tensor) -> Pair:
    q, step = tokens(x)
    return q * step, step


def cast_of_nan(x: Tensor) -> Pair:
    q = (x / (x.abs().amax(dim=1, keepdim=True) / 127)).round().to(torch.int8)
    return q, tokens(x)[1]


def multiplied(x: Tensor) -> Pair:
    _, step = tokens(x)
    return (x * step).round().clamp(-127, 127).to(torch.int8), step


QUANTIZE_TOKENS = Mistakes()
for says, wrong in {
    "a token of zeros was divided by a step of 0: 0 / 0 is no number, and what a cast to int8 "
    "makes of it differs from machine to machine. Put in the step of 1 before you divide": (
        cast_of_nan
    ),
    "all tokens share one step: take the maximum of each token, over dim=1": (
        lambda x: tokens(x, top=x.abs().max().expand(len(x), 1))
    ),
    "each channel has a step: a scale of channel j cannot leave the sum over j; take the maximum "
    "over dim=1": lambda x: tokens(x, top=x.abs().amax(dim=0, keepdim=True)),
    "the largest magnitude was divided by 128: qmax is 127": lambda x: tokens(x, qmax=128),
    "the largest magnitude was divided by 255, the steps of the whole range: a symmetric grid has "
    "127 on each side": lambda x: tokens(x, qmax=255),
    "the step comes from the largest value, not the largest magnitude: take abs() first": (
        lambda x: tokens(x, top=x.amax(dim=1, keepdim=True))
    ),
    "it is upside down (127 / max): a step is what one integer is worth": upside_down,
    "the largest magnitude came back: divide it by 127": lambda x: tokens(x, qmax=1),
    "keepdim=True is missing where you take the maximum": flat,
    "a token of zeros has a step of zero: give it step 1": (
        lambda x: (tokens(x)[0], tokens(x, dead=0.0)[1])
    ),
    **{
        f"small steps were raised to {least:g} (`clamp(min=...)`): only a token of zeros gets "
        "another step, and that is 1": lambda x, least=least: tokens(
            x, raised=lambda s: s.clamp(min=least)
        )
        for least in (1e-8, 1e-6, 1e-5, 1e-4, 1e-3)
    },
    **{
        f"{more:g} was added to the steps, and small ones are lost: only a token of zeros gets "
        "another step, and that is 1": (
            lambda x, more=more: tokens(x, raised=lambda s: s + more, dead=more)
        )
        for more in (1e-8, 1e-6, 1e-5)
    },
    "values were rounded down (floor), not to the nearest": lambda x: tokens(x, whole=torch.floor),
    "fractions were cut off (a cast to int does that), not rounded": (
        lambda x: tokens(x, whole=torch.trunc)
    ),
    "real values came back: return the integers": real_values,
    "x was multiplied by the step, not divided": multiplied,
}.items():
    QUANTIZE_TOKENS.add(says, wrong)


# ---------------------------------------------------------------------- smooth.int8_matmul


def sums(xq: Tensor, wq: Tensor) -> Tensor:
    """Return sum_j xq[t, j] * wq[o, j], [n_tokens, out] float64."""
    return xq.double() @ wq.double().T


def wrapped(total: Tensor, bits: int) -> Tensor:
    """Return what is left of whole numbers in an integer of so many bits."""
    return (total + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def products_in_int8(xq: Tensor, step: Tensor, wq: Tensor, scale: Tensor) -> Tensor:
    rows = [wrapped(xq.double() * row, 8).sum(dim=1) for row in wq.double()]
    return torch.stack(rows, dim=1) * step * scale.T


INT8_MATMUL = Mistakes()
for says, wrong in {
    "the sum was made in int8, which has no number beyond 127 and goes on from -128: widen xq and "
    "wq to int32 first": lambda xq, step, wq, scale: wrapped(sums(xq, wq), 8) * step * scale.T,
    "the products were made in int8, which has no number beyond 127 and goes on from -128: widen "
    "xq and wq to int32 first": products_in_int8,
    "the sum was made in int16, which has no number beyond 32,767: widen xq and wq to int32": (
        lambda xq, step, wq, scale: wrapped(sums(xq, wq), 16) * step * scale.T
    ),
    "the sum was made in float32, which has no odd number beyond 2**24 and rounds: add up integers "
    "(int32)": lambda xq, step, wq, scale: (xq.float() @ wq.float().T) * step * scale.T,
    "step and scale were multiplied in before the sum, and each product was rounded: add up "
    "integers (int32), and multiply the sum": (
        lambda xq, step, wq, scale: (xq * step) @ (wq * scale).T
    ),
    "the weights' scale is missing: y = step * scale * sum": (
        lambda xq, step, wq, scale: sums(xq, wq) * step
    ),
    "the tokens' step is missing: y = step * scale * sum": (
        lambda xq, step, wq, scale: sums(xq, wq) * scale.T
    ),
    "both scales are missing: the integers came back": lambda xq, step, wq, scale: sums(xq, wq),
    "the sum was divided by the scales: multiply": (
        lambda xq, step, wq, scale: sums(xq, wq) / step / scale.T
    ),
    "y is turned: a row belongs to a token, a column to an output": (
        lambda xq, step, wq, scale: (sums(xq, wq) * step * scale.T).T
    ),
    "scales were rounded or cut to integers: multiply in floating point": (
        lambda xq, step, wq, scale: sums(xq, wq) * step.round() * scale.T.round()
    ),
    "the products were averaged, not added up": (
        lambda xq, step, wq, scale: sums(xq, wq) / xq.shape[1] * step * scale.T
    ),
    # These two can only be made where there are as many tokens as outputs.
    "the two scales are swapped: `step` belongs to rows of y, `scale` to columns": (
        lambda xq, step, wq, scale: (
            sums(xq, wq) * (scale * step.T if len(step) == len(scale) else step * scale.T)
        )
    ),
    "scale multiplies the rows of y: turn it, [out, 1] to [1, out]": (
        lambda xq, step, wq, scale: (
            sums(xq, wq) * step * (scale if len(step) == len(scale) else scale.T)
        )
    ),
}.items():
    INT8_MATMUL.add(says, wrong)


# ------------------------------------------------------------------ smooth.smoothing_scale


def share(x_max: Tensor, w_max: Tensor, alpha: float) -> Tensor:
    """Return s = x_max**alpha / w_max**(1 - alpha), and 1 for a dead channel."""
    return torch.where((x_max > 0) & (w_max > 0), x_max**alpha / w_max ** (1 - alpha), 1.0)


def tops(x: Tensor) -> Tensor:
    """Return the largest magnitude of each channel, [in]."""
    return x.abs().amax(dim=0)


def smoothing(
    x: Tensor,
    weights: Sequence[Tensor],
    alpha: float,
    *,
    size: Callable[[Tensor], Tensor] = tops,
    of_all: Callable[[Tensor], Tensor] = lambda sizes: sizes.amax(dim=0),
    join: Callable[[Tensor, Tensor, float], Tensor] = share,
) -> Tensor:
    """Return s [in] for all readers of x.

    size: [in] of x or of a reader; of_all: what to make of all readers' sizes, [n, in]; join:
    what makes s of both sizes and alpha.
    """
    return join(size(x), of_all(torch.stack([size(w) for w in weights])), alpha)


def values(x: Tensor) -> Tensor:
    """Return the largest value of each channel, which may be negative."""
    return x.amax(dim=0)


def alive_only(alive: Callable[[Tensor, Tensor], Tensor], s: Callable = share) -> Callable:
    """Return a smoothing scale that is 1 wherever a channel is not alive, by both sizes."""
    return lambda *given: smoothing(
        *given, join=lambda x, w, alpha: torch.where(alive(x, w), s(x, w, alpha), 1.0)
    )


def bare(x_max: Tensor, w_max: Tensor, alpha: float) -> Tensor:
    """Return s by the formula alone, whatever is dead."""
    return x_max**alpha / w_max ** (1 - alpha)


def patched(*given) -> Tensor:
    s = smoothing(*given, join=bare)
    return torch.where((s == 0) | s.isinf(), 1.0, s)


def smallest_alive(x: Tensor, weights: Sequence[Tensor], alpha: float) -> Tensor:
    least = torch.stack([tops(w) for w in weights]).amin(dim=0)
    return torch.where(least > 0, smoothing(x, weights, alpha), 1.0)


SMOOTHING_SCALE = Mistakes()
for says, wrong in {
    "s itself was looked at for dead channels (0 or infinite), and at alpha 0 or 1 it does not "
    "show them: look at the two maxima": patched,
    "only the first weight was looked at: all readers share s, so take the maximum over every one "
    "of them": lambda *given: smoothing(*given, of_all=lambda sizes: sizes[0]),
    "only the last weight was looked at: take the maximum over every reader": (
        lambda *given: smoothing(*given, of_all=lambda sizes: sizes[-1])
    ),
    "the readers' maxima were averaged: take the largest": (
        lambda *given: smoothing(*given, of_all=lambda sizes: sizes.mean(dim=0))
    ),
    "the readers' maxima were added up: take the largest": (
        lambda *given: smoothing(*given, of_all=lambda sizes: sizes.sum(dim=0))
    ),
    "the smallest of the readers' maxima was taken: take the largest": (
        lambda *given: smoothing(*given, of_all=lambda sizes: sizes.amin(dim=0))
    ),
    "alpha and 1 - alpha are swapped: alpha is the exponent of the activations": (
        lambda x, weights, alpha: smoothing(x, weights, 1 - alpha)
    ),
    "the two powers were multiplied: divide": (
        lambda *given: smoothing(*given, join=lambda x, w, alpha: x**alpha * w ** (1 - alpha))
    ),
    "it is upside down: s is what x is divided by": lambda *given: 1 / smoothing(*given),
    "one maximum was taken for all channels of the weights: take it of each column": (
        lambda *given: smoothing(*given, of_all=lambda sizes: sizes.max().expand(sizes.shape[1]))
    ),
    "one maximum was taken for all channels of x: take it of each column": (
        lambda *given: smoothing(
            *given, join=lambda x, w, alpha: share(x.max().expand(len(x)), w, alpha)
        )
    ),
    "the largest value was taken, not the largest magnitude: take abs() first": (
        lambda *given: smoothing(*given, size=values)
    ),
    "the largest value of x was taken, not the largest magnitude: take abs() of x, too": (
        lambda x, weights, alpha: share(
            values(x), torch.stack([tops(w) for w in weights]).amax(dim=0), alpha
        )
    ),
    "the largest value of the weights was taken, not the largest magnitude: take abs() of them, "
    "too": (
        lambda x, weights, alpha: share(
            tops(x), torch.stack([values(w) for w in weights]).amax(dim=0), alpha
        )
    ),
    "a channel that is zero in one reader counts as dead: it is only where all of them are zero": (
        smallest_alive
    ),
    "a channel that is zero in x alone, or in the weights alone, was not given s = 1": (
        alive_only(lambda x, w: (x > 0) | (w > 0), bare)
    ),
    "means of magnitudes were taken, not maxima": (
        lambda *given: smoothing(*given, size=lambda x: x.abs().mean(dim=0))
    ),
    "alpha was not used: this is max|x|": lambda x, weights, _: smoothing(x, weights, 1.0),
    "a dead channel was divided by zero or got s = 0: give it s = 1": (
        lambda *given: smoothing(*given, join=bare)
    ),
    **{
        f"maxima below {least:g} were taken for dead: only one that is exactly 0 is": (
            alive_only(lambda x, w, least=least: (x > least) & (w > least))
        )
        for least in (1e-2, 1e-3, 1e-5)
    },
    **{
        f"maxima were raised to {least:g} (`clamp(min=...)`): only a channel that is exactly 0 is "
        "another case, and gets s = 1": lambda *given, least=least: smoothing(
            *given, size=lambda x: tops(x).clamp(min=least)
        )
        for least in (1e-5, 1e-4, 1e-3, 1e-2)
    },
    **{
        f"s was kept between {least:g} and {1 / least:g} (`clamp`): it may be as small and "
        "as large as it comes": lambda *given, least=least: smoothing(*given).clamp(
            least, 1 / least
        )
        for least in (1e-2, 1e-3, 1e-5)
    },
}.items():
    SMOOTHING_SCALE.add(says, wrong)


# ----------------------------------------------------------------------------- smooth.fold


def fold(
    norm: Tensor,
    bias: Tensor,
    weights: Sequence[Tensor],
    s: Tensor,
    *,
    of_norm: Change = torch.div,
    of_bias: Change | None = None,
    of_weight: Change = torch.mul,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Fold s; of_norm, of_bias, of_weight: what becomes of each (None: what becomes of norm)."""
    return of_norm(norm, s), (of_bias or of_norm)(bias, s), [of_weight(w, s) for w in weights]


FOLD = Mistakes()
for says, wrong in {
    "it was multiplied by s: x becomes smaller, so what makes it is divided": (
        lambda *given: fold(*given, of_norm=torch.mul)
    ),
    "it was left as it is: it makes x, and x is to be divided by s": (
        lambda *given: fold(*given, of_norm=lambda norm, s: norm, of_bias=torch.div)
    ),
    "it was done twice: once for all readers together is enough": (
        lambda *given: fold(*given, of_norm=lambda norm, s: norm / s / s)
    ),
    "it was divided by the square root of s": (
        lambda *given: fold(*given, of_norm=lambda norm, s: norm / s.sqrt())
    ),
    "weight and bias of the norm are swapped: return norm_weight, norm_bias, weights": (
        lambda norm, bias, weights, s: fold(bias, norm, weights, s)
    ),
    "it was left as it is: x = normed * weight + bias, so the bias is divided too": (
        lambda *given: fold(*given, of_bias=lambda bias, s: bias)
    ),
    "it was divided by s: it makes up for the division of x, so multiply": (
        lambda *given: fold(*given, of_weight=torch.div)
    ),
    "it was left as it is: every reader of x has to make up for s": (
        lambda *given: fold(*given, of_weight=lambda w, s: w)
    ),
    "it was multiplied by s more than once": (
        lambda *given: fold(*given, of_weight=lambda w, s: w * s * s)
    ),
    "its rows were multiplied: s belongs to the columns, one an input channel": (
        lambda *given: fold(
            *given, of_weight=lambda w, s: (w.T * s).T if len(w) == len(s) else w * s
        )
    ),
}.items():
    FOLD.add(says, wrong)


# -------------------------------------------------------------------- smooth.output_errors


def in_steps(rows: Tensor, top: Tensor | None = None) -> Tensor:
    """Round rows to int8 and back; top: magnitude that becomes 127 (None: each row's largest)."""
    step = (rows.abs().amax(dim=1, keepdim=True) if top is None else top) / 127
    step = torch.where(step > 0, step, 1.0)
    return (rows / step).round() * step


def layer(xs: Tensor, ws: Tensor) -> Tensor:
    """Return the output of smoothed x and weight, both rounded."""
    return in_steps(xs) @ in_steps(ws).T


def distances(
    x: Tensor,
    weight: Tensor,
    alphas: Sequence[float],
    output: Callable[[Tensor, Tensor], Tensor] = layer,
    of_smoothed: bool = False,
    join: Callable[[Tensor, Tensor, float], Tensor] = share,
    compared: Callable[[Tensor, Tensor], Tensor] = lambda got, y: (got - y).norm() / y.norm(),
) -> Tensor:
    """Return |output - y| / |y| at each alpha, in float64.

    output: of the smoothed x and weight; of_smoothed: y is of the smoothed x and the old weight;
    join: what makes s; compared: what makes the error.
    """
    found = []
    for alpha in alphas:
        s = smoothing(x, [weight], alpha, join=join).double()
        y = (x / s if of_smoothed else x.double()) @ weight.double().T
        found.append(compared(output(x / s, weight * s), y))
    return torch.stack(found)


OUTPUT_ERRORS = Mistakes()
for says, wrong in {
    "only the activations were rounded: round the smoothed weight, too": (
        lambda *given: distances(*given, lambda xs, ws: in_steps(xs) @ ws.T)
    ),
    "only the weight was rounded: round the smoothed activations, too": (
        lambda *given: distances(*given, lambda xs, ws: xs @ in_steps(ws).T)
    ),
    "the weight was not multiplied by s": (
        lambda x, weight, alphas: distances(
            x, weight, alphas, lambda xs, ws: layer(xs, weight.double())
        )
    ),
    "x has one step for all tokens: each token has its own": (
        lambda *given: distances(
            *given, lambda xs, ws: in_steps(xs, xs.abs().max()) @ in_steps(ws).T
        )
    ),
    "the error was compared with the output of the smoothed x and the old weight: the truth is "
    "x @ weight.T": lambda *given: distances(*given, of_smoothed=True),
    "nothing was smoothed: every alpha gives the same": (
        lambda x, weight, alphas: distances(
            x, weight, alphas, lambda xs, ws: layer(x.double(), weight.double())
        )
    ),
    "nothing was rounded: smoothing alone changes nothing": (
        lambda *given: distances(*given, lambda xs, ws: xs @ ws.T)
    ),
    "alphas are in the wrong order": lambda *given: distances(*given).flip(0),
    "alpha and 1 - alpha are swapped": (
        lambda x, weight, alphas: distances(x, weight, [1 - alpha for alpha in alphas])
    ),
    "the squared error came back: take its root, |y_rounded - y| / |y|": (
        lambda *given: distances(*given) ** 2
    ),
    "the error was not divided by the size of y": (
        lambda x, weight, alphas: distances(x, weight, alphas) * (x @ weight.T).norm()
    ),
    "a dead channel was divided by zero: smoothing_scale gives it s = 1": (
        lambda *given: distances(*given, join=bare)
    ),
    "the error was divided by the size of the rounded output: divide by y.norm()": (
        lambda *given: distances(*given, compared=lambda got, y: (got - y).norm() / got.norm())
    ),
    "the errors of all tokens were averaged: take one norm of the whole difference": (
        lambda *given: distances(
            *given, compared=lambda got, y: ((got - y).norm(dim=1) / y.norm(dim=1)).mean()
        )
    ),
    "magnitudes were averaged: .norm() is the root of the sum of squares": (
        lambda *given: distances(
            *given, compared=lambda got, y: (got - y).abs().mean() / y.abs().mean()
        )
    ),
}.items():
    OUTPUT_ERRORS.add(says, wrong)
