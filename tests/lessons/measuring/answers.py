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


@perplexity.mistake("windows joined", says="windows were joined before the shift")
def perplexity_joined(logits: Tensor, tokens: Tensor) -> float:
    return F.cross_entropy(logits.flatten(0, 1)[:-1], tokens.flatten()[1:]).exp().item()


@perplexity.mistake("mean of perplexities", says="each window's perplexity was computed")
def perplexity_mean_of_windows(logits: Tensor, tokens: Tensor) -> float:
    pairs = zip(logits, tokens, strict=True)
    each = [F.cross_entropy(z[:-1], t[1:]).exp().item() for z, t in pairs]
    return sum(each) / len(each)


@perplexity.mistake("dimensions as they come", says="raised RuntimeError")
def perplexity_not_flattened(logits: Tensor, tokens: Tensor) -> float:
    return F.cross_entropy(logits[:, :-1], tokens[:, 1:]).exp().item()


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


@kl.mistake("F.kl_div's arguments in reading order", says="the two models are swapped: the refer")
def kl_reading_order(reference: Tensor, compressed: Tensor) -> float:
    log_p, q = reference.log_softmax(-1), compressed.softmax(-1)
    return F.kl_div(log_p, q, reduction="sum").item() / log_p[..., 0].numel()


@kl.mistake("mean for batchmean", says="the vocabulary too (reduction='mean' does that)")
def kl_mean(reference: Tensor, compressed: Tensor) -> float:
    return F.kl_div(compressed.log_softmax(-1), reference.softmax(-1), reduction="mean").item()


@kl.mistake("batchmean of three dimensions", says="divided by the number of windows only")
def kl_batchmean(reference: Tensor, compressed: Tensor) -> float:
    log_q, p = compressed.log_softmax(-1), reference.softmax(-1)
    return F.kl_div(log_q, p, reduction="batchmean").item()


@kl.mistake("F.kl_div on probabilities", says="probabilities stand where F.kl_div wants")
def kl_div_on_probabilities(reference: Tensor, compressed: Tensor) -> float:
    total = F.kl_div(compressed.softmax(-1), reference.softmax(-1), reduction="sum")
    return total.item() / reference[..., 0].numel()


@kl.mistake("log_target forgotten", says="tell it log_target=True")
def kl_no_log_target(reference: Tensor, compressed: Tensor) -> float:
    log_p, log_q = reference.log_softmax(-1), compressed.log_softmax(-1)
    return F.kl_div(log_q.flatten(0, 1), log_p.flatten(0, 1), reduction="batchmean").item()


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


@wilson.mistake("a negative z", says="the ends are swapped")
def wilson_negative(successes: int, n: int, confidence: float) -> tuple[float, float]:
    z = NormalDist().inv_cdf((1 - confidence) / 2)
    middle = (successes + z * z / 2) / (n + z * z)
    spread = z * math.sqrt(successes * (n - successes) / n + z * z / 4) / (n + z * z)
    return middle - spread, middle + spread


@wilson.mistake("middle and spread returned", says="middle and spread came back")
def wilson_middle_and_spread(successes: int, n: int, confidence: float) -> tuple[float, float]:
    low, high = wilson_by_its_roots(successes, n, confidence)
    return (low + high) / 2, (high - low) / 2


@wilson.mistake("one end", says="Two results should come back, in this order: `return low, high`")
def wilson_low(successes: int, n: int, confidence: float) -> float:
    return wilson_by_its_roots(successes, n, confidence)[0]


# -------------------------------------------------------------------------- measuring.speedup

speedup = Answers("measuring.speedup")


@speedup.second
def speedup_by_statistics(slow_ms: Tensor, fast_ms: Tensor) -> tuple[float, float, float]:
    ratios = [a / b for a, b in zip(slow_ms.tolist(), fast_ms.tolist(), strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


@speedup.mistake("upper middle", says="the upper of the two middle values")
def speedup_upper_middle(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    _, low, high = speedup_by_statistics(slow, fast)
    return statistics.median_high((slow / fast).tolist()), low, high


@speedup.mistake("gain for ratio", says="1 was subtracted")
def speedup_gain(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    return speedup_by_statistics(slow - fast, fast)


@speedup.mistake("nearest rank", says="the value below the quartile's place came back")
def speedup_rank(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    ratios, last = sorted((slow / fast).tolist()), len(slow) - 1
    return statistics.median(ratios), ratios[last // 4], ratios[3 * last // 4]


@speedup.mistake("the default of statistics.quantiles", says="ask for method='inclusive'")
def speedup_exclusive(slow: Tensor, fast: Tensor) -> list[float]:
    low, middle, high = statistics.quantiles((slow / fast).tolist(), n=4)
    return [middle, low, high]


@speedup.mistake("only the median", says="Three results should come back")
def speedup_median_only(slow: Tensor, fast: Tensor) -> float:
    return speedup_by_statistics(slow, fast)[0]
