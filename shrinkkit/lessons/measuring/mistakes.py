"""The usual wrong answers to the exercises of lesson 02: perplexity, KL, an interval, a speed-up.

For each exercise there is the right answer, with options to go wrong in, and then a table: what to
tell a learner, and the function that does it, in the order in which answers are compared. All is
float64 but for the mistakes that come from what float32 cannot hold.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from shrinkkit.checks.mistakes import Mistakes


def log_softmax(logits: Tensor, dim: int = -1) -> Tensor:
    return logits.double().log_softmax(dim)


def log_of_softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=-1).log()


# ------------------------------------------------------------------------ measuring.perplexity

ALL, EARLIER, LATER = slice(None), slice(None, -1), slice(1, None)


def losses(
    logits: Tensor, tokens: Tensor, *, log_p: Callable = log_softmax, at=EARLIER, of=LATER
) -> Tensor:
    """Return -log p [n, k, 1] of the tokens `of`, by the logits `at`."""
    return -log_p(logits)[:, at].gather(2, tokens[:, of, None])


def perplexity(*case: Tensor, **how) -> Tensor:
    return losses(*case, **how).mean().exp()


def scrambled(logits: Tensor) -> Tensor:
    """Return log p [n, seq_len - 1, vocabulary] of logits that were reshaped, not transposed."""
    n_samples, positions, vocabulary = logits[:, :-1].shape
    reshaped = logits[:, :-1].reshape(n_samples, vocabulary, positions)
    return log_softmax(reshaped.transpose(1, 2))


def propped(epsilon: float) -> Callable:
    """Return a perplexity from log(p + epsilon)."""
    return lambda *case: perplexity(*case, log_p=lambda z: (z.double().softmax(-1) + epsilon).log())


UNSHIFTED = (
    "nothing was shifted: the logits at position t predict the token at t + 1, so that "
    "logits[:, :-1] belong to tokens[:, 1:]"
)
PERPLEXITY = Mistakes()
for says, wrong in {
    "the mean loss came back: take exp of it": lambda *case: losses(*case).mean(),
    "the sign of the loss is turned: it is minus log p": lambda *case: 1 / perplexity(*case),
    UNSHIFTED: lambda *case: perplexity(*case, at=ALL, of=ALL),
    f"{UNSHIFTED} (the first position was left out of both)": (
        lambda *case: perplexity(*case, at=LATER, of=LATER)
    ),
    f"{UNSHIFTED} (the last position was left out of both)": (
        lambda *case: perplexity(*case, at=EARLIER, of=EARLIER)
    ),
    "the shift goes the wrong way: logits[:, :-1] belong to tokens[:, 1:]": (
        lambda *case: perplexity(*case, at=LATER, of=EARLIER)
    ),
    "windows were joined before the shift, so that the last position of one predicts the "
    "first token of the next": (
        lambda logits, tokens: perplexity(logits.flatten(0, 1)[None], tokens.flatten()[None])
    ),
    "each window's perplexity was computed and these were averaged: average the losses of "
    "all tokens, then take exp once": lambda *case: losses(*case).mean(dim=1).exp().mean(),
    "exp was taken of every token's loss and these were averaged: average first": (
        lambda *case: losses(*case).exp().mean()
    ),
    "probabilities were averaged, not their logarithms": (
        lambda *case: 1 / (-losses(*case)).exp().mean()
    ),
    "2 was raised to a loss in nats: with natural logarithms it is exp": (
        lambda *case: 2 ** losses(*case).mean()
    ),
    "exp was taken of a loss in bits (log2): use the natural logarithm": (
        lambda *case: (losses(*case).mean() / math.log(2)).exp()
    ),
    "losses were added up, not averaged": lambda *case: losses(*case).sum().exp(),
    "the sum was divided by all n * seq_len tokens: the first of each window is not predicted, "
    "so seq_len - 1 of a window count": (
        lambda *case: (losses(*case).sum() / case[1].numel()).exp()
    ),
    "the sum was divided by the number of windows: divide by the number of predicted tokens": (
        lambda *case: (losses(*case).sum() / len(case[1])).exp()
    ),
    "logits were used as if they were log p: log_softmax is missing": (
        lambda *case: perplexity(*case, log_p=Tensor.double)
    ),
    "softmax was applied twice: cross_entropy wants the logits themselves": (
        lambda logits, tokens: perplexity(logits.softmax(-1), tokens)
    ),
    "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
    "dimension": lambda *case: perplexity(*case, log_p=lambda logits: log_softmax(logits, 1)),
    "reshape or view made room for cross_entropy: that scrambles the logits. Swap dimensions "
    "with transpose, or flatten windows and positions into one": (
        lambda *case: perplexity(*case, log_p=scrambled, at=ALL)
    ),
    "a probability was rounded to 0 before the logarithm, which is then minus infinity: "
    "log_softmax takes both steps at once and stays exact": (
        lambda *case: perplexity(*case, log_p=log_of_softmax)
    ),
    **{
        f"{epsilon:g} was added to p before the logarithm, to keep it above zero: log_softmax "
        "needs no such prop and stays exact": propped(epsilon)
        for epsilon in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
    },
}.items():
    PERPLEXITY.add(says, wrong)


# -------------------------------------------------------------------------------- measuring.kl


def weighed(p: Tensor, difference: Tensor) -> Tensor:
    """Return the sum of p * difference over the vocabulary, its mean over all positions."""
    return (p * difference).sum(dim=-1).mean()


def kl(reference, compressed, *, log_p: Callable = log_softmax, log_q: Callable | None = None):
    """Return KL; log_p, log_q: what makes logits log-probabilities (None: as log_p)."""
    log_p, log_q = log_p(reference), (log_q or log_p)(compressed)
    return weighed(log_p.exp(), log_p - log_q)


def jensen_shannon(reference: Tensor, compressed: Tensor) -> Tensor:
    log_p, log_q = log_softmax(reference), log_softmax(compressed)
    log_mixture = torch.logaddexp(log_p, log_q) - math.log(2)
    return sum(weighed(part.exp(), part - log_mixture) for part in (log_p, log_q)) / 2


KL = Mistakes()
for says, wrong in {
    "the two models are swapped: the reference's probabilities weigh the sum, and the "
    "compressed model's stand below it": lambda reference, compressed: kl(compressed, reference),
    "the sign is turned: it is the sum of p * (log p - log q)": lambda *case: -kl(*case),
    "the sign is turned, and the two models are swapped": (
        lambda reference, compressed: -kl(compressed, reference)
    ),
    "everything was averaged, the vocabulary too (reduction='mean' does that): sum over the "
    "vocabulary, then average over positions": lambda *case: kl(*case) / case[0].shape[2],
    "the sum was divided by the number of windows only (reduction='batchmean' does that with "
    "three dimensions): divide by the number of positions": (
        lambda *case: kl(*case) * case[0].shape[1]
    ),
    "positions were added up: take their mean": lambda *case: kl(*case) * case[0][..., 0].numel(),
    "the logarithm is to base 2, so these are bits: nats come from the natural one": (
        lambda *case: kl(*case) / math.log(2)
    ),
    "this is the cross-entropy, the sum of -p * log q: KL also has p * log p": (
        lambda reference, compressed: weighed(reference.softmax(-1), -log_softmax(compressed))
    ),
    "logits were subtracted, not log-probabilities: p * (log p - log q) needs log_softmax of "
    "both": lambda reference, compressed: weighed(reference.softmax(-1), reference - compressed),
    "the compressed model's logits were used as if they were log-probabilities: "
    "log_softmax is missing": lambda *case: kl(*case, log_q=Tensor.double),
    "probabilities stand where F.kl_div wants log-probabilities: its first argument is log q": (
        lambda *case: kl(*case, log_q=lambda logits: logits.softmax(-1))
    ),
    "softmax was applied twice": lambda *case: kl(*(logits.softmax(-1) for logits in case)),
    "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
    "dimension": lambda *case: kl(*case, log_p=lambda logits: log_softmax(logits, 1)),
    "this is the mean of both directions: only KL(reference || compressed) is asked for": (
        lambda *case: (kl(*case) + kl(*case[::-1])) / 2
    ),
    "this is the Jensen-Shannon divergence, which compares both with their average": (
        jensen_shannon
    ),
    "this is the sum of |p - q|, without a logarithm": (
        lambda reference, compressed: weighed(
            torch.ones(()), (reference.softmax(-1) - compressed.softmax(-1)).abs()
        )
    ),
    # Infinite where q is 0, before the one that is no number where p is, and infinite there.
    "a probability was rounded to 0 before the logarithm: use log_softmax, which takes both "
    "steps at once": lambda *case: kl(*case, log_q=log_of_softmax),
    "a probability was rounded to 0 before the logarithm, and 0 times infinity is not a "
    "number: use log_softmax, which takes both steps at once": (
        lambda *case: kl(*case, log_p=log_of_softmax)
    ),
    "F.kl_div took a logarithm of log-probabilities: tell it log_target=True, or give it "
    "p itself": lambda reference, compressed: F.kl_div(
        log_softmax(compressed), log_softmax(reference), reduction="batchmean"
    ),
}.items():
    KL.add(says, wrong)


# ------------------------------------------------------------------- measuring.wilson_interval

Interval = tuple[float, float]


def z_of(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def interval(
    successes: int,
    n: int,
    confidence: float,
    *,
    z: Callable[[float], float] = z_of,
    first: float = 2.0,
    second: float = 4.0,
    power: int = 2,
    root: float = 0.5,
    times: float | None = None,
    middle_divided: bool = True,
    spread_divided: bool = True,
    give: Callable = lambda middle, spread: (middle - spread, middle + spread),
) -> Interval:
    """Return Wilson's interval: middle ± spread, both divided by 1 + z² / n.

    middle = p + z² / (first·n); spread = times·(p·(1 - p) / n + z² / (second·n**power))**root, and
    times None is z.
    """
    z, p = z(confidence), successes / n
    middle = p + z * z / (first * n)
    spread = (times or z) * (p * (1 - p) / n + z * z / (second * n**power)) ** root
    divisor = 1 + z * z / n
    return give(
        middle / divisor if middle_divided else middle,
        spread / divisor if spread_divided else spread,
    )


def simple(*case) -> Interval:
    return interval(
        *case, first=math.inf, second=math.inf, middle_divided=False, spread_divided=False
    )


def agresti_coull(successes: int, n: int, confidence: float) -> Interval:
    z = z_of(confidence)
    p = (successes + z * z / 2) / (n + z * z)
    spread = z * math.sqrt(p * (1 - p) / (n + z * z))
    return p - spread, p + spread


SIMPLE = (
    "this is p ± z * sqrt(p * (1 - p) / n), the simple interval: Wilson's has z**2 terms and "
    "cannot leave 0 to 1"
)
UNPULLED = "the middle is p: it is pulled towards one half, to p + z**2 / (2 * n)"
WILSON_INTERVAL = Mistakes()
for says, wrong in {
    SIMPLE: simple,
    f"{SIMPLE} (cutting it off does not help)": (
        lambda *case: [min(max(end, 0.0), 1.0) for end in simple(*case)]
    ),
    "z leaves 1 - confidence on one side: half of it lies on each side, so that z = "
    "inv_cdf((1 + confidence) / 2)": lambda *case: interval(*case, z=NormalDist().inv_cdf),
    "z is 1.96 whatever the confidence: compute it from `confidence`": (
        lambda *case: interval(*case, z=lambda confidence: 1.96)
    ),
    "the confidence itself was used as z": (
        lambda *case: interval(*case, z=lambda confidence: confidence)
    ),
    "z comes from inv_cdf(1 - confidence / 2): that is meant for alpha = 1 - confidence": (
        lambda *case: interval(*case, z=lambda alpha: z_of(1 - alpha))
    ),
    "the ends are swapped: return low, high (a z below 0 swaps them as well)": (
        lambda *case: interval(*case)[::-1]
    ),
    "the division by 1 + z**2 / n is missing": (
        lambda *case: interval(*case, middle_divided=False, spread_divided=False)
    ),
    "only the middle was divided by 1 + z**2 / n: the spread is, too": (
        lambda *case: interval(*case, spread_divided=False)
    ),
    "only the spread was divided by 1 + z**2 / n: the middle is, too": (
        lambda *case: interval(*case, middle_divided=False)
    ),
    f"{UNPULLED} before the division": lambda *case: interval(*case, first=math.inf),
    f"{UNPULLED}, and divided by 1 + z**2 / n": (
        lambda *case: interval(*case, first=math.inf, middle_divided=False)
    ),
    "the middle is p + z**2 / n: it should be p + z**2 / (2 * n)": (
        lambda *case: interval(*case, first=1.0)
    ),
    "the root holds z**2 / (4 * n): it should be z**2 / (4 * n**2)": (
        lambda *case: interval(*case, power=1)
    ),
    "the root holds z**2 / (2 * n**2) or so: it should be z**2 / (4 * n**2)": (
        lambda *case: interval(*case, second=2.0)
    ),
    "the root is missing: z * sqrt(...)": lambda *case: interval(*case, root=1.0),
    "the root was not multiplied by z": lambda *case: interval(*case, times=1.0),
    "middle and spread came back: return middle - spread and middle + spread": (
        lambda *case: interval(*case, give=lambda *parts: parts)
    ),
    "the ends are percentages: rates from 0 to 1 are asked for": (
        lambda *case: [100 * end for end in interval(*case)]
    ),
    "this is the interval of Agresti and Coull, which is a little wider": agresti_coull,
}.items():
    WILSON_INTERVAL.add(says, wrong)


# --------------------------------------------------------------------------- measuring.speedup


def summary(ratios: Tensor, *shares: float, **how) -> list[Tensor]:
    """Return quantiles: median, lower and upper quartile, unless other shares are given."""
    return [ratios.quantile(share, **how) for share in shares or (0.5, 0.25, 0.75)]


def center(median: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Return a speed-up whose quartiles are right."""
    return lambda slow, fast: [median(slow, fast), *summary(slow / fast)[1:]]


def sides(limits: Callable[[Tensor], list[Tensor]]) -> Callable:
    """Return a speed-up whose median is right; limits: of the ratios."""
    return lambda slow, fast: [(slow / fast).quantile(0.5), *limits(slow / fast)]


def deviation(ratios: Tensor, middle: Tensor) -> list[Tensor]:
    spread = ratios.std(correction=min(1, len(ratios) - 1))
    return [middle - spread, middle + spread]


STRAIGHT = "between two values a quartile lies on a straight line, as in torch.quantile"
SPEEDUP = Mistakes()
for says, wrong in {
    "this is the ratio of the two medians: divide turn by turn first, and take the median of "
    "the ratios": center(lambda slow, fast: slow.quantile(0.5) / fast.quantile(0.5)),
    "this is the ratio of the two means (or sums), which one hiccup moves: take the median of "
    "the ratios": center(lambda slow, fast: slow.mean() / fast.mean()),
    "this is the mean of the ratios, which one hiccup moves: take their median": center(
        lambda slow, fast: (slow / fast).mean()
    ),
    "this is the ratio of the two fastest calls: take the median of the ratios": center(
        lambda slow, fast: slow.min() / fast.min()
    ),
    "it is upside down (fast / slow): a speed-up of 2 means that the slow one takes twice as "
    "long": lambda slow, fast: summary(fast / slow),
    "torch.median was used, which returns the lower of the two middle values of an even "
    "number: the median lies halfway between them, as torch.quantile(ratios, 0.5) has it": center(
        lambda slow, fast: (slow / fast).median()
    ),
    "the upper of the two middle values came back: the median lies halfway between them": center(
        lambda slow, fast: (slow / fast).quantile(0.5, interpolation="higher")
    ),
    "the two were sorted each for itself, which tears the turns apart: divide first, then sort": (
        lambda slow, fast: summary(slow.sort().values / fast.sort().values)
    ),
    "1 was subtracted: a ratio is asked for, not a gain": (
        lambda slow, fast: summary(slow / fast - 1)
    ),
    "times were subtracted: divide them": lambda slow, fast: summary(slow - fast),
    "the lower quartile came first: return median, low, high": (
        lambda slow, fast: summary(slow / fast, 0.25, 0.5, 0.75)
    ),
    "the ratios were not sorted: this is the value in the middle of the list": center(
        lambda slow, fast: (slow / fast)[len(slow) // 2]
    ),
    "this is the smallest ratio: the quartile is the value below which 25 % of them lie": (
        lambda slow, fast: summary(slow / fast, 0.5, 0.0, 0.75)
    ),
    "this is the largest ratio: the quartile is the value below which 75 % of them lie": (
        lambda slow, fast: summary(slow / fast, 0.5, 0.25, 1.0)
    ),
    "low and high are swapped: return median, low, high": (
        lambda slow, fast: summary(slow / fast, 0.5, 0.75, 0.25)
    ),
    "the quartiles of the two lists were divided: divide turn by turn first": (
        lambda slow, fast: [
            (slow / fast).quantile(0.5),
            *(slow.quantile(share) / fast.quantile(share) for share in (0.25, 0.75)),
        ]
    ),
    f"the value below the quartile's place came back: {STRAIGHT}": sides(
        lambda ratios: summary(ratios, 0.25, 0.75, interpolation="lower")
    ),
    f"the value above the quartile's place came back: {STRAIGHT}": sides(
        lambda ratios: summary(ratios, 0.25, 0.75, interpolation="higher")
    ),
    "these are the 'exclusive' quartiles that statistics.quantiles gives by default: ask for "
    "method='inclusive'": sides(lambda ratios: statistics.quantiles(ratios.tolist())[::2]),
    "these are the limits of the middle 80 %: quartiles hold the middle half": sides(
        lambda ratios: summary(ratios, 0.1, 0.9)
    ),
    "these are the limits of the middle 90 %: quartiles hold the middle half": sides(
        lambda ratios: summary(ratios, 0.05, 0.95)
    ),
    "these are the limits of the middle 95 %: quartiles hold the middle half": sides(
        lambda ratios: summary(ratios, 0.025, 0.975)
    ),
    "this is the mean and a standard deviation, which one hiccup moves": sides(
        lambda ratios: deviation(ratios, ratios.mean())
    ),
    "this is the median and a standard deviation, which one hiccup moves": sides(
        lambda ratios: deviation(ratios, ratios.quantile(0.5))
    ),
}.items():
    SPEEDUP.add(says, wrong)
