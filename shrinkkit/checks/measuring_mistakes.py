"""Work out what the usual mistakes of lesson 02's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shrinkkit.checks.measuring_truths import (
    Array,
    kl_of,
    log_softmax,
    percentile,
    quantile_of,
    token_losses,
    wilson,
)

UPSIDE_DOWN = (
    "it is upside down (fast / slow): a speed-up of 2 means that the slow one takes twice as long"
)
SORTED_APART = (
    "the two were sorted each for itself, which tears the turns apart: divide first, then sort"
)


def _exp(value: float) -> float:
    """Give exp, and infinity where it is too large for a float."""
    return math.exp(value) if value < 700 else math.inf


def perplexity_mistakes(logits: Array, tokens: Array) -> dict[str, float]:
    """Name mistakes in the perplexity of tokens [n, seq_len] under logits [n, seq_len, v]."""
    n_samples, seq_len, vocabulary = logits.shape
    losses = token_losses(logits, tokens)
    loss = float(losses.mean())

    def scored(log_p: Array, answers: Array) -> float:
        """Give the perplexity when log_p [n, k, v] is held against answers [n, k]."""
        return _exp(-float(np.take_along_axis(log_p, answers[..., None], axis=-1).mean()))

    log_p = log_softmax(logits)
    p = np.exp(log_p)
    flat = log_p.reshape(1, -1, vocabulary), tokens.reshape(1, -1)
    scrambled = logits[:, :-1].reshape(n_samples, vocabulary, seq_len - 1).transpose(0, 2, 1)
    unshifted = (
        "nothing was shifted: the logits at position t predict the token at t + 1, so that "
        "logits[:, :-1] belong to tokens[:, 1:]"
    )
    answers = np.exp(-losses)
    propped = {
        f"{epsilon:g} was added to p before the logarithm, to keep it above zero: log_softmax "
        "needs no such prop and stays exact": _exp(-float(np.log(answers + epsilon).mean()))
        for epsilon in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
    }
    return {
        "the mean loss came back: take exp of it": loss,
        "the sign of the loss is turned: it is minus log p": _exp(-loss),
        unshifted: scored(log_p, tokens),
        f"{unshifted} (the first position was left out of both)": scored(
            log_p[:, 1:], tokens[:, 1:]
        ),
        f"{unshifted} (the last position was left out of both)": scored(
            log_p[:, :-1], tokens[:, :-1]
        ),
        "the shift goes the wrong way: logits[:, :-1] belong to tokens[:, 1:]": scored(
            log_p[:, 1:], tokens[:, :-1]
        ),
        "windows were joined before the shift, so that the last position of one predicts the "
        "first token of the next": scored(flat[0][:, :-1], flat[1][:, 1:]),
        "each window's perplexity was computed and these were averaged: average the losses of "
        "all tokens, then take exp once": float(np.exp(losses.mean(axis=1)).mean()),
        "exp was taken of every token's loss and these were averaged: average first": float(
            np.exp(losses).mean()
        ),
        "probabilities were averaged, not their logarithms": 1 / float(answers.mean()),
        "2 was raised to a loss in nats: with natural logarithms it is exp": _exp(
            loss * math.log(2)
        ),
        "exp was taken of a loss in bits (log2): use the natural logarithm": _exp(
            loss / math.log(2)
        ),
        "losses were added up, not averaged": _exp(float(losses.sum())),
        "the sum was divided by all n * seq_len tokens: the first of each window is not predicted, "
        "so seq_len - 1 of a window count": _exp(float(losses.sum()) / tokens.size),
        "the sum was divided by the number of windows: divide by the number of predicted tokens": (
            _exp(float(losses.sum()) / n_samples)
        ),
        "logits were used as if they were log p: log_softmax is missing": scored(
            logits[:, :-1].astype(np.float64), tokens[:, 1:]
        ),
        "softmax was applied twice: cross_entropy wants the logits themselves": scored(
            log_softmax(p)[:, :-1], tokens[:, 1:]
        ),
        "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
        "dimension": scored(
            log_softmax(logits.transpose(0, 2, 1)).transpose(0, 2, 1)[:, :-1], tokens[:, 1:]
        ),
        "reshape or view made room for cross_entropy: that scrambles the logits. Swap dimensions "
        "with transpose, or flatten windows and positions into one": scored(
            log_softmax(scrambled), tokens[:, 1:]
        ),
        "a probability was rounded to 0 before the logarithm, which is then minus infinity: "
        "log_softmax takes both steps at once and stays exact": math.inf,
        **propped,
    }


def kl_mistakes(reference: Array, compressed: Array) -> dict[str, float]:
    """Name mistakes in KL(reference || compressed) of logits [n, seq_len, vocabulary]."""
    n_samples, seq_len, vocabulary = reference.shape
    log_p, log_q = log_softmax(reference), log_softmax(compressed)
    p, q = np.exp(log_p), np.exp(log_q)
    right = float(kl_of(log_p, log_q).mean())
    swapped = float(kl_of(log_q, log_p).mean())
    log_mixture = np.log((p + q) / 2 + 1e-300)
    jensen = float((kl_of(log_p, log_mixture) + kl_of(log_q, log_mixture)).mean()) / 2
    over_positions = [
        log_softmax(z.transpose(0, 2, 1)).transpose(0, 2, 1) for z in (reference, compressed)
    ]
    underflow = bool((p < 1e-45).any())
    return {
        "the two models are swapped: the reference's probabilities weigh the sum, and the "
        "compressed model's stand below it": swapped,
        "the sign is turned: it is the sum of p * (log p - log q)": -right,
        "the sign is turned, and the two models are swapped": -swapped,
        "everything was averaged, the vocabulary too (reduction='mean' does that): sum over the "
        "vocabulary, then average over positions": right / vocabulary,
        "the sum was divided by the number of windows only (reduction='batchmean' does that with "
        "three dimensions): divide by the number of positions": right * seq_len,
        "positions were added up: take their mean": right * seq_len * n_samples,
        "the logarithm is to base 2, so these are bits: nats come from the natural one": (
            right / math.log(2)
        ),
        "this is the cross-entropy, the sum of -p * log q: KL also has p * log p": float(
            -(p * log_q).sum(-1).mean()
        ),
        "logits were subtracted, not log-probabilities: p * (log p - log q) needs log_softmax of "
        "both": float((p * (reference.astype(np.float64) - compressed)).sum(-1).mean()),
        "the compressed model's logits were used as if they were log-probabilities: "
        "log_softmax is missing": float((p * (log_p - compressed)).sum(-1).mean()),
        "probabilities stand where F.kl_div wants log-probabilities: its first argument is log q": (
            float((p * (log_p - q)).sum(-1).mean())
        ),
        "softmax was applied twice": float(kl_of(log_softmax(p), log_softmax(q)).mean()),
        "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
        "dimension": float(kl_of(*over_positions).mean()),
        "this is the mean of both directions: only KL(reference || compressed) is asked for": (
            (right + swapped) / 2
        ),
        "this is the Jensen-Shannon divergence, which compares both with their average": jensen,
        "this is the sum of |p - q|, without a logarithm": float(np.abs(p - q).sum(-1).mean()),
        "a probability was rounded to 0 before the logarithm, and 0 times infinity is not a "
        "number: use log_softmax, which takes both steps at once"
        if underflow
        else "F.kl_div took a logarithm of log-probabilities: tell it log_target=True, or give it "
        "p itself": math.nan,
        "a probability was rounded to 0 before the logarithm: use log_softmax, which takes both "
        "steps at once": math.inf,
    }


def wilson_mistakes(successes: int, n: int, confidence: float) -> dict[str, Sequence[float]]:
    """Name mistakes in Wilson's interval: {message: (low, high)}."""
    z, p = quantile_of(confidence), successes / n

    def interval(
        z: float = z, first: float = 2.0, second: float = 4.0, power: int = 2, root: float = 0.5
    ) -> tuple[float, float, float]:
        """Give middle, half width and the divisor, with the formula's parts to be got wrong."""
        middle = p + z * z / (first * n)
        half = z * (p * (1 - p) / n + z * z / (second * n**power)) ** root
        return middle, half, 1 + z * z / n

    def ends(middle: float, half: float, divisor: float = 1.0) -> tuple[float, float]:
        return (middle - half) / divisor, (middle + half) / divisor

    middle, half, divisor = interval()
    low, high = wilson(successes, n, confidence)
    wald = z * math.sqrt(p * (1 - p) / n)
    pulled = middle / divisor  # the rate of Agresti and Coull
    simple = (
        "this is p ± z * sqrt(p * (1 - p) / n), the simple interval: Wilson's has z**2 terms and "
        "cannot leave 0 to 1"
    )
    one_sided = quantile_of(2 * confidence - 1) if confidence > 0.5 else 0.0
    return {
        simple: ends(p, wald),
        f"{simple} (cutting it off does not help)": np.clip(ends(p, wald), 0, 1),
        "z leaves 1 - confidence on one side: half of it lies on each side, so that z = "
        "inv_cdf((1 + confidence) / 2)": ends(*interval(z=one_sided)),
        "z is 1.96 whatever the confidence: compute it from `confidence`": ends(*interval(z=1.96)),
        "the confidence itself was used as z": ends(*interval(z=confidence)),
        "z comes from inv_cdf(1 - confidence / 2): that is meant for alpha = 1 - confidence": ends(
            *interval(z=quantile_of(1 - confidence))
        ),
        "the ends are swapped: return low, high (a z below 0 swaps them as well)": (high, low),
        "the division by 1 + z**2 / n is missing": ends(middle, half),
        "only the middle was divided by 1 + z**2 / n: the spread is, too": ends(pulled, half),
        "only the spread was divided by 1 + z**2 / n: the middle is, too": ends(
            middle, half / divisor
        ),
        "the middle is p: it is pulled towards one half, to p + z**2 / (2 * n) before the "
        "division": ends(p, half / divisor),
        "the middle is p + z**2 / n: it should be p + z**2 / (2 * n)": ends(*interval(first=1.0)),
        "the root holds z**2 / (4 * n): it should be z**2 / (4 * n**2)": ends(*interval(power=1)),
        "the root holds z**2 / (2 * n**2) or so: it should be z**2 / (4 * n**2)": ends(
            *interval(second=2.0)
        ),
        "the root is missing: z * sqrt(...)": ends(*interval(root=1.0)),
        "the root was not multiplied by z": ends(middle, half / z, divisor),
        "middle and spread came back: return middle - spread and middle + spread": (
            pulled,
            half / divisor,
        ),
        "the ends are percentages: rates from 0 to 1 are asked for": (100 * low, 100 * high),
        "this is the interval of Agresti and Coull, which is a little wider": ends(
            pulled, z * math.sqrt(pulled * (1 - pulled) / (n + z * z))
        ),
    }


def speedup_mistakes(slow: Array, fast: Array) -> list[dict[str, float]]:
    """Name mistakes in median, lower and upper quartile of the speed-up, one dict for each."""
    slow, fast = slow.astype(np.float64), fast.astype(np.float64)
    ratios = np.sort(slow / fast)
    n = len(ratios)
    center = {
        "this is the ratio of the two medians: divide turn by turn first, and take the median of "
        "the ratios": float(np.median(slow) / np.median(fast)),
        "this is the ratio of the two means (or sums), which one hiccup moves: take the median of "
        "the ratios": float(slow.mean() / fast.mean()),
        "this is the mean of the ratios, which one hiccup moves: take their median": float(
            ratios.mean()
        ),
        "this is the ratio of the two fastest calls: take the median of the ratios": float(
            slow.min() / fast.min()
        ),
        UPSIDE_DOWN: percentile(fast / slow, 0.5),
        "torch.median was used, which returns the lower of the two middle values of an even "
        "number: the median lies halfway between them, as torch.quantile(ratios, 0.5) has it": (
            float(ratios[(n - 1) // 2])
        ),
        "the upper of the two middle values came back: the median lies halfway between them": (
            float(ratios[n // 2])
        ),
        SORTED_APART: percentile(np.sort(slow) / np.sort(fast), 0.5),
        "1 was subtracted: a ratio is asked for, not a gain": percentile(ratios, 0.5) - 1,
        "times were subtracted: divide them": percentile(slow - fast, 0.5),
        "the lower quartile came first: return median, low, high": percentile(ratios, 0.25),
        "the ratios were not sorted: this is the value in the middle of the list": float(
            (slow / fast)[n // 2]
        ),
    }
    return [center, *(_quartile_mistakes(slow, fast, share) for share in (0.25, 0.75))]


def _quartile_mistakes(slow: Array, fast: Array, share: float) -> dict[str, float]:
    """Name mistakes in one quartile of the speed-up; share: 0.25 or 0.75."""
    ratios = np.sort(slow / fast)
    n, side = len(ratios), 1 if share > 0.5 else -1
    place = share * (n - 1)
    exclusive = float(np.clip((n + 1) * share - 1, 0, n - 1))
    straight = "between two values a quartile lies on a straight line, as in torch.quantile"
    limits = {
        f"these are the limits of the middle {middle} %: quartiles hold the middle half": (
            percentile(ratios, 0.5 + side * middle / 200)
        )
        for middle in (80, 90, 95)
    }
    spreads = {
        f"this is the {name} and a standard deviation, which one hiccup moves": (
            middle + side * float(ratios.std(ddof=ddof))
        )
        for name, middle in (("mean", ratios.mean()), ("median", np.median(ratios)))
        for ddof in ([0, 1] if n > 1 else [0])
    }
    return {
        f"this is the {'smallest' if side < 0 else 'largest'} ratio: the quartile is the value "
        f"below which {share:.0%} of them lie": float(ratios[0 if side < 0 else -1]),
        "low and high are swapped: return median, low, high": percentile(ratios, 1 - share),
        "the quartiles of the two lists were divided: divide turn by turn first": (
            percentile(slow, share) / percentile(fast, share)
        ),
        UPSIDE_DOWN: percentile(fast / slow, share),
        SORTED_APART: percentile(np.sort(slow) / np.sort(fast), share),
        f"the value below the quartile's place came back: {straight}": float(
            ratios[math.floor(place)]
        ),
        f"the value above the quartile's place came back: {straight}": float(
            ratios[math.ceil(place)]
        ),
        "these are the 'exclusive' quartiles that statistics.quantiles gives by default: ask for "
        "method='inclusive'": percentile(ratios, exclusive / max(n - 1, 1)),
        **limits,
        **spreads,
    }
