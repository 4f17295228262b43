"""Wrong answers to lesson 02's exercises are refused, and right ones written otherwise pass."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shrinkkit.checks import check
from tests.lessons.attacks import assert_refused, each
from tests.lessons.measuring.attacks import (
    KL,
    PERPLEXITY,
    SPEEDUP,
    WILSON,
    kl,
    perplexity,
    speedup,
    wilson,
)

Tensor = torch.Tensor
ATTACKS = {
    "measuring.perplexity": PERPLEXITY,
    "measuring.kl": KL,
    "measuring.wilson_interval": WILSON,
    "measuring.speedup": SPEEDUP,
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def token_by_token(logits: Tensor, tokens: Tensor) -> float:
    losses = []
    for window, row in zip(logits.double(), tokens, strict=True):
        for z, token in zip(window[:-1], row[1:], strict=True):
            losses.append((z.logsumexp(0) - z[token]).item())
    return math.exp(sum(losses) / len(losses))


def by_transposing(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:]).exp()


def by_kl_div(reference: Tensor, compressed: Tensor) -> Tensor:
    log_q, p = compressed.log_softmax(-1).flatten(0, 1), reference.softmax(-1).flatten(0, 1)
    return F.kl_div(log_q, p, reduction="batchmean")


def by_cross_entropy(reference: Tensor, compressed: Tensor) -> np.float64:
    log_p, log_q = reference.double().log_softmax(-1), compressed.double().log_softmax(-1)
    return np.float64(((log_p - log_q) * log_p.exp()).sum() / log_p[..., 0].numel())


def by_torch_normal(successes: int, n: int, confidence: float) -> Tensor:
    normal = torch.distributions.Normal(torch.tensor(0.0).double(), 1.0)
    z = normal.icdf(torch.tensor((1 + confidence) / 2, dtype=torch.float64)).item()
    return torch.tensor(wilson(successes, n, confidence, z=lambda _: z), dtype=torch.float64)


def by_counts(successes: int, n: int, confidence: float) -> list[float]:
    z = statistics.NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    middle = (successes + z * z / 2) / (n + z * z)
    spread = z / (n + z * z) * math.sqrt(successes * (n - successes) / n + z * z / 4)
    return [max(0.0, middle - spread), min(1.0, middle + spread)]


def by_inclusive(slow: Tensor, fast: Tensor) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles((slow / fast).tolist(), method="inclusive")
    return median, low, high


def by_numpy(slow: Tensor, fast: Tensor) -> np.ndarray:
    return np.percentile(slow.numpy() / fast.numpy(), [50, 25, 75])


RIGHT = {
    "measuring.perplexity": [perplexity, token_by_token, by_transposing],
    "measuring.kl": [kl, by_kl_div, by_cross_entropy],
    "measuring.wilson_interval": [wilson, by_torch_normal, by_counts],
    "measuring.speedup": [speedup, by_inclusive, by_numpy],
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "answer"), [(name, answer) for name, answers in RIGHT.items() for answer in answers]
)
def test_a_right_answer_is_not(name: str, answer: Callable, seed: int) -> None:
    check(name, answer, seed=seed)


def test_quartiles_in_one_tensor_are_right_too() -> None:
    shares = torch.tensor([0.5, 0.25, 0.75])
    check("measuring.speedup", lambda slow, fast: torch.quantile(slow / fast, shares))
