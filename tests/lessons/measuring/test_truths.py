"""The truths of lesson 02's checks against torch, scipy and the standard library."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from shrinkkit.lessons.measuring import exercises as checks
from shrinkkit.lessons.measuring import truths


@pytest.mark.parametrize(("logits", "tokens"), checks.perplexity_cases())
def test_perplexity_is_torchs_cross_entropy(logits: np.ndarray, tokens: np.ndarray) -> None:
    rows = torch.from_numpy(logits).double()[:, :-1].transpose(1, 2)
    loss = F.cross_entropy(rows, torch.from_numpy(tokens)[:, 1:])
    assert truths.perplexity(logits, tokens) == pytest.approx(loss.exp().item())


@pytest.mark.parametrize(("reference", "compressed"), checks.kl_cases())
def test_kl_is_torchs(reference: np.ndarray, compressed: np.ndarray) -> None:
    p = torch.distributions.Categorical(logits=torch.from_numpy(reference).double())
    q = torch.distributions.Categorical(logits=torch.from_numpy(compressed).double())
    expected = torch.distributions.kl_divergence(p, q).mean().item()
    assert truths.kl_divergence(reference, compressed) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("successes", "n", "confidence"), checks.WILSON_CASES)
def test_wilson_is_scipys(successes: int, n: int, confidence: float) -> None:
    expected = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert truths.wilson(successes, n, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("slow", "fast"), checks.timing_cases())
def test_quartiles_are_torchs(slow: np.ndarray, fast: np.ndarray) -> None:
    ratios = torch.from_numpy(slow).double() / torch.from_numpy(fast).double()
    shares = torch.tensor([0.5, 0.25, 0.75], dtype=torch.float64)
    median, low, high = truths.speedup(slow, fast)
    assert [median, low, high] == pytest.approx(ratios.quantile(shares).tolist())
    assert median == pytest.approx(statistics.median(ratios.tolist()))
