"""Right and wrong answers to the exercises of lesson 02."""

from __future__ import annotations

import math
import statistics
from statistics import NormalDist

import torch
import torch.nn.functional as F

from tests.lessons.gates import Answers

Tensor = torch.Tensor

# ----------------------------------------------------------------------- measuring.perplexity

perplexity = Answers("measuring.perplexity")


@perplexity.second
def perplexity_by_hand(logits: Tensor, tokens: Tensor) -> Tensor:
    answers = tokens[:, 1:].unsqueeze(2)  # [n, seq_len - 1, 1]
    scores = logits[:, :-1].gather(2, answers).squeeze(2)
    return (logits[:, :-1].logsumexp(2) - scores).mean().exp()


def cross_entropy(logits: Tensor, tokens: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction=reduction)


@perplexity.mistake("no shift", says="nothing was shifted: the logits at position t predict")
def perplexity_unshifted(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits, tokens).exp().item()


@perplexity.mistake("last position dropped, no shift", says="the last position was left out of")
def perplexity_dropped(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, :-1], tokens[:, :-1]).exp().item()


@perplexity.mistake("first position dropped, no shift", says="the first position was left out of")
def perplexity_first_dropped(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, 1:], tokens[:, 1:]).exp().item()


@perplexity.mistake("shifted the other way", says="the shift goes the wrong way")
def perplexity_backwards(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, 1:], tokens[:, :-1]).exp().item()


@perplexity.mistake("windows joined", says="windows were joined before the shift")
def perplexity_joined(logits: Tensor, tokens: Tensor) -> float:
    return F.cross_entropy(logits.flatten(0, 1)[:-1], tokens.flatten()[1:]).exp().item()


@perplexity.mistake("mean of perplexities", says="each window's perplexity was computed")
def perplexity_mean_of_windows(logits: Tensor, tokens: Tensor) -> float:
    pairs = zip(logits, tokens, strict=True)
    each = [F.cross_entropy(z[:-1], t[1:]).exp().item() for z, t in pairs]
    return sum(each) / len(each)


@perplexity.mistake("exp before the mean", says="exp was taken of every token's loss")
def perplexity_mean_of_exp(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, :-1], tokens[:, 1:], reduction="none").exp().mean().item()


@perplexity.mistake("probabilities averaged", says="probabilities were averaged")
def perplexity_mean_of_p(logits: Tensor, tokens: Tensor) -> float:
    p = logits[:, :-1].softmax(-1).gather(2, tokens[:, 1:, None])
    return 1 / p.mean().item()


@perplexity.mistake("loss returned", says="the mean loss came back")
def perplexity_loss(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, :-1], tokens[:, 1:]).item()


@perplexity.mistake("2 to the loss in nats", says="2 was raised to a loss in nats")
def perplexity_two(logits: Tensor, tokens: Tensor) -> float:
    return 2 ** cross_entropy(logits[:, :-1], tokens[:, 1:]).item()


@perplexity.mistake("e to the loss in bits", says="a loss in bits (log2)")
def perplexity_bits(logits: Tensor, tokens: Tensor) -> float:
    p = logits[:, :-1].softmax(-1).gather(2, tokens[:, 1:, None])
    return math.exp(-p.log2().mean().item())


@perplexity.mistake("losses added up", says="losses were added up")
def perplexity_sum(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, :-1], tokens[:, 1:], reduction="sum").exp().item()


@perplexity.mistake("divided by all tokens", says="was divided by all n * seq_len tokens")
def perplexity_all_tokens(logits: Tensor, tokens: Tensor) -> float:
    total = cross_entropy(logits[:, :-1], tokens[:, 1:], reduction="sum")
    return math.exp(total.item() / tokens.numel())


@perplexity.mistake("softmax twice", says="softmax was applied twice")
def perplexity_softmax_twice(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits.softmax(-1)[:, :-1], tokens[:, 1:]).exp().item()


@perplexity.mistake("no softmax", says="logits were used as if they were log p")
def perplexity_no_softmax(logits: Tensor, tokens: Tensor) -> float:
    return math.exp(-logits[:, :-1].gather(2, tokens[:, 1:, None]).mean().item())


@perplexity.mistake("softmax over positions", says="softmax ran over the positions")
def perplexity_wrong_dim(logits: Tensor, tokens: Tensor) -> float:
    log_p = logits.log_softmax(1)
    return math.exp(-log_p[:, :-1].gather(2, tokens[:, 1:, None]).mean().item())


@perplexity.mistake("reshape for transpose", says="reshape or view made room")
def perplexity_scrambled(logits: Tensor, tokens: Tensor) -> float:
    n, positions, vocabulary = logits[:, :-1].shape
    rows = logits[:, :-1].reshape(n, vocabulary, positions)
    return F.cross_entropy(rows, tokens[:, 1:]).exp().item()


@perplexity.mistake("dimensions as they come", says="raised RuntimeError")
def perplexity_not_flattened(logits: Tensor, tokens: Tensor) -> float:
    return F.cross_entropy(logits[:, :-1], tokens[:, 1:]).exp().item()


@perplexity.mistake("log of softmax", says="a probability was rounded to 0 before the logarithm")
def perplexity_log_of_softmax(logits: Tensor, tokens: Tensor) -> float:
    p = logits[:, :-1].softmax(-1).gather(2, tokens[:, 1:, None])
    return (-p.log().mean()).exp().item()


@perplexity.mistake("log of softmax, propped up", says="1e-09 was added to p before the logarithm")
def perplexity_epsilon(logits: Tensor, tokens: Tensor) -> float:
    p = logits[:, :-1].softmax(-1).gather(2, tokens[:, 1:, None])
    return (-(p + 1e-9).log().mean()).exp().item()


# ------------------------------------------------------------------------------- measuring.kl

kl = Answers("measuring.kl")


@kl.second
def kl_by_torch(reference_logits: Tensor, compressed_logits: Tensor) -> Tensor:
    log_p = reference_logits.log_softmax(2).flatten(0, 1)  # [n * seq_len, vocabulary]
    log_q = compressed_logits.log_softmax(2).flatten(0, 1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


@kl.mistake("swapped", says="the two models are swapped: the reference's")
def kl_swapped(reference: Tensor, compressed: Tensor) -> float:
    return kl_by_torch(compressed, reference).item()


@kl.mistake("F.kl_div's arguments in reading order", says="the two models are swapped: the refer")
def kl_reading_order(reference: Tensor, compressed: Tensor) -> float:
    log_p, q = reference.log_softmax(-1), compressed.softmax(-1)
    return F.kl_div(log_p, q, reduction="sum").item() / log_p[..., 0].numel()


@kl.mistake("sign turned", says="the sign is turned: it is the sum")
def kl_sign(reference: Tensor, compressed: Tensor) -> float:
    log_p, log_q = reference.log_softmax(-1), compressed.log_softmax(-1)
    return (log_p.exp() * (log_q - log_p)).sum(-1).mean().item()


@kl.mistake("mean for batchmean", says="the vocabulary too (reduction='mean' does that)")
def kl_mean(reference: Tensor, compressed: Tensor) -> float:
    return F.kl_div(compressed.log_softmax(-1), reference.softmax(-1), reduction="mean").item()


@kl.mistake("batchmean of three dimensions", says="divided by the number of windows only")
def kl_batchmean(reference: Tensor, compressed: Tensor) -> float:
    log_q, p = compressed.log_softmax(-1), reference.softmax(-1)
    return F.kl_div(log_q, p, reduction="batchmean").item()


@kl.mistake("sum for mean", says="positions were added up")
def kl_sum(reference: Tensor, compressed: Tensor) -> float:
    return F.kl_div(compressed.log_softmax(-1), reference.softmax(-1), reduction="sum").item()


@kl.mistake("bits for nats", says="the logarithm is to base 2")
def kl_bits(reference: Tensor, compressed: Tensor) -> float:
    p, q = reference.softmax(-1), compressed.softmax(-1)
    return (p * (p.log2() - q.log2())).sum(-1).mean().item()


@kl.mistake("cross-entropy", says="this is the cross-entropy")
def kl_cross_entropy(reference: Tensor, compressed: Tensor) -> float:
    return -(reference.softmax(-1) * compressed.log_softmax(-1)).sum(-1).mean().item()


@kl.mistake("logits subtracted", says="logits were subtracted, not log-probabilities")
def kl_logits(reference: Tensor, compressed: Tensor) -> float:
    return (reference.softmax(-1) * (reference - compressed)).sum(-1).mean().item()


@kl.mistake("F.kl_div on logits", says="logits were used as if they were log-probabilities")
def kl_div_on_logits(reference: Tensor, compressed: Tensor) -> float:
    total = F.kl_div(compressed, reference.softmax(-1), reduction="sum")
    return total.item() / reference[..., 0].numel()


@kl.mistake("F.kl_div on probabilities", says="probabilities stand where F.kl_div wants")
def kl_div_on_probabilities(reference: Tensor, compressed: Tensor) -> float:
    total = F.kl_div(compressed.softmax(-1), reference.softmax(-1), reduction="sum")
    return total.item() / reference[..., 0].numel()


@kl.mistake("log_target forgotten", says="tell it log_target=True")
def kl_no_log_target(reference: Tensor, compressed: Tensor) -> float:
    log_p, log_q = reference.log_softmax(-1), compressed.log_softmax(-1)
    return F.kl_div(log_q.flatten(0, 1), log_p.flatten(0, 1), reduction="batchmean").item()


@kl.mistake("softmax over positions", says="softmax ran over the positions")
def kl_wrong_dim(reference: Tensor, compressed: Tensor) -> float:
    log_p, log_q = reference.log_softmax(1), compressed.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean().item()


@kl.mistake("both directions", says="the mean of both directions")
def kl_symmetric(reference: Tensor, compressed: Tensor) -> float:
    there, back = kl_by_torch(reference, compressed), kl_by_torch(compressed, reference)
    return (there + back).item() / 2


@kl.mistake("Jensen-Shannon", says="the Jensen-Shannon divergence")
def kl_jensen_shannon(reference: Tensor, compressed: Tensor) -> float:
    p, q = reference.softmax(-1), compressed.softmax(-1)
    middle = ((p + q) / 2).log()
    return (p * (p.log() - middle) + q * (q.log() - middle)).sum(-1).mean().item() / 2


@kl.mistake("distance without logarithm", says="the sum of |p - q|")
def kl_total_variation(reference: Tensor, compressed: Tensor) -> float:
    return (reference.softmax(-1) - compressed.softmax(-1)).abs().sum(-1).mean().item()


@kl.mistake("log of softmax", says="0 times infinity is not a number")
def kl_log_of_softmax(reference: Tensor, compressed: Tensor) -> float:
    p, q = reference.softmax(-1), compressed.softmax(-1)
    return (p * (p.log() - q.log())).sum(-1).mean().item()


@kl.mistake("log of softmax for q", says="a probability was rounded to 0 before the logarithm: use")
def kl_log_of_softmax_q(reference: Tensor, compressed: Tensor) -> float:
    log_p = reference.log_softmax(-1)
    return (log_p.exp() * (log_p - compressed.softmax(-1).log())).sum(-1).mean().item()


@kl.mistake("one number a position", says="should be one number, but float32")
def kl_not_averaged(reference: Tensor, compressed: Tensor) -> Tensor:
    log_p, log_q = reference.log_softmax(-1), compressed.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


# ------------------------------------------------------------------ measuring.wilson_interval

wilson = Answers("measuring.wilson_interval")


@wilson.second
def wilson_by_its_roots(successes: int, n: int, confidence: float) -> list[float]:
    """Solve (p - r)**2 = z**2 * r * (1 - r) / n, a quadratic equation in the true rate r."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, square = successes / n, z * z / n
    a, b, c = 1 + square, -(2 * p + square), p * p
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def wilson_ends(
    successes: int,
    n: int,
    z: float,
    *,
    shift: float = 2.0,
    inside: float | None = None,
    power: float = 0.5,
) -> tuple[float, float]:
    p = successes / n
    middle = p + z**2 / (shift * n)
    spread = z * (p * (1 - p) / n + z**2 / (inside or 4 * n**2)) ** power
    return (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)


def z_of(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


@wilson.mistake("the simple interval", says="this is p ± z * sqrt(p * (1 - p) / n)")
def wilson_wald(successes: int, n: int, confidence: float) -> tuple[float, float]:
    p = successes / n
    spread = z_of(confidence) * math.sqrt(p * (1 - p) / n)
    return p - spread, p + spread


@wilson.mistake("one-sided z", says="z leaves 1 - confidence on one side")
def wilson_one_sided(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, NormalDist().inv_cdf(confidence))


@wilson.mistake("always 1.96", says="z is 1.96 whatever the confidence")
def wilson_fixed(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, 1.96)


@wilson.mistake("confidence as z", says="the confidence itself was used as z")
def wilson_confidence(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, confidence)


@wilson.mistake("alpha for confidence", says="meant for alpha = 1 - confidence")
def wilson_alpha(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, NormalDist().inv_cdf(1 - confidence / 2))


@wilson.mistake("a negative z", says="the ends are swapped")
def wilson_negative(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, NormalDist().inv_cdf((1 - confidence) / 2))


@wilson.mistake("no division", says="the division by 1 + z**2 / n is missing")
def wilson_no_division(successes: int, n: int, confidence: float) -> tuple[float, float]:
    divisor = 1 + z_of(confidence) ** 2 / n
    low, high = wilson_ends(successes, n, z_of(confidence))
    return low * divisor, high * divisor


@wilson.mistake("only the spread divided", says="only the spread was divided")
def wilson_precedence(successes: int, n: int, confidence: float) -> tuple[float, float]:
    z, p = z_of(confidence), successes / n
    middle = p + z**2 / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - spread / (1 + z**2 / n), middle + spread / (1 + z**2 / n)


@wilson.mistake("middle not pulled", says="the middle is p: it is pulled towards one half")
def wilson_middle(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, z_of(confidence), shift=math.inf)


@wilson.mistake("middle pulled twice", says="the middle is p + z**2 / n")
def wilson_middle_twice(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, z_of(confidence), shift=1)


@wilson.mistake("4 * n inside the root", says="the root holds z**2 / (4 * n): it should")
def wilson_inside(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, z_of(confidence), inside=4 * n)


@wilson.mistake("no root", says="the root is missing")
def wilson_no_root(successes: int, n: int, confidence: float) -> tuple[float, float]:
    return wilson_ends(successes, n, z_of(confidence), power=1)


@wilson.mistake("middle and spread returned", says="middle and spread came back")
def wilson_middle_and_spread(successes: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = wilson_ends(successes, n, z_of(confidence))
    return (low + high) / 2, (high - low) / 2


@wilson.mistake("percentages", says="the ends are percentages")
def wilson_percent(successes: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = wilson_ends(successes, n, z_of(confidence))
    return 100 * low, 100 * high


@wilson.mistake("one end", says="2 numbers should come back (`return low, high`)")
def wilson_low(successes: int, n: int, confidence: float) -> float:
    return wilson_ends(successes, n, z_of(confidence))[0]


# -------------------------------------------------------------------------- measuring.speedup

speedup = Answers("measuring.speedup")


@speedup.second
def speedup_by_statistics(slow_ms: Tensor, fast_ms: Tensor) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(slow_ms.tolist(), fast_ms.tolist(), strict=True)]
    if len(ratios) == 1:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def summary(ratios: Tensor, low: float = 0.25, high: float = 0.75) -> tuple[float, float, float]:
    return tuple(ratios.quantile(share).item() for share in (0.5, low, high))


@speedup.mistake("ratio of medians", says="the ratio of the two medians")
def speedup_of_medians(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow.quantile(0.5) / fast.quantile(0.5)).item(), low, high


@speedup.mistake("ratio of means", says="the ratio of the two means")
def speedup_of_means(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow.mean() / fast.mean()).item(), low, high


@speedup.mistake("mean of ratios", says="the mean of the ratios")
def speedup_mean(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow / fast).mean().item(), low, high


@speedup.mistake("fastest calls", says="the ratio of the two fastest calls")
def speedup_of_minima(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow.min() / fast.min()).item(), low, high


@speedup.mistake("upside down", says="it is upside down (fast / slow)")
def speedup_upside_down(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(fast / slow)


@speedup.mistake("torch.median", says="torch.median was used")
def speedup_torch_median(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow / fast).median().item(), low, high


@speedup.mistake("upper middle", says="the upper of the two middle values")
def speedup_upper_middle(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = summary(slow / fast)
    return (slow / fast).sort().values[len(slow) // 2].item(), low, high


@speedup.mistake("sorted before dividing", says="the two were sorted each for itself")
def speedup_sorted(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(slow.sort().values / fast.sort().values)


@speedup.mistake("gain for ratio", says="1 was subtracted")
def speedup_gain(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(slow / fast - 1)


@speedup.mistake("low, median, high", says="the lower quartile came first")
def speedup_order(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    median, low, high = summary(slow / fast)
    return low, median, high


@speedup.mistake("quartiles swapped", says="low and high are swapped")
def speedup_swapped(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(slow / fast, 0.75, 0.25)


@speedup.mistake("smallest and largest", says="this is the smallest ratio")
def speedup_extremes(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(slow / fast, 0, 1)


@speedup.mistake("middle 90 %", says="the limits of the middle 90 %")
def speedup_ninety(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return summary(slow / fast, 0.05, 0.95)


@speedup.mistake("quartiles divided", says="the quartiles of the two lists were divided")
def speedup_of_quartiles(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    median, _, _ = summary(slow / fast)
    low, high = (slow.quantile(share) / fast.quantile(share) for share in (0.25, 0.75))
    return median, low.item(), high.item()


@speedup.mistake("standard deviation", says="this is the median and a standard deviation")
def speedup_deviation(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    ratios = slow / fast
    median, deviation = ratios.quantile(0.5), ratios.std()
    return median.item(), (median - deviation).item(), (median + deviation).item()


@speedup.mistake("nearest rank", says="the value below the quartile's place came back")
def speedup_rank(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    ratios = (slow / fast).sort().values
    median, _, _ = summary(ratios)
    last = len(ratios) - 1
    return median, ratios[last // 4].item(), ratios[3 * last // 4].item()


@speedup.mistake("exclusive quartiles", says="these are the 'exclusive' quartiles")
def speedup_exclusive(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles((slow / fast).tolist(), n=4)
    return median, low, high


@speedup.mistake("only the median", says="3 numbers should come back")
def speedup_median_only(slow: Tensor, fast: Tensor) -> float:
    return summary(slow / fast)[0]
