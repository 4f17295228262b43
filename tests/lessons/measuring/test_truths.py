"""The truths of lesson 02's checks against torch, scipy and the standard library."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import binomtest

from shrinkkit.lessons.measuring import exercises as checks
from shrinkkit.lessons.measuring import mistakes_quality as quality
from shrinkkit.lessons.measuring import mistakes_samples as samples
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


@pytest.mark.parametrize(
    ("truth", "mistakes", "cases"),
    [
        pytest.param(
            truths.perplexity, quality.perplexity_mistakes, checks.perplexity_cases, id="perplexity"
        ),
        pytest.param(truths.kl_divergence, quality.kl_mistakes, checks.kl_cases, id="kl"),
        pytest.param(
            truths.wilson, samples.wilson_mistakes, lambda: checks.WILSON_CASES, id="wilson"
        ),
    ],
)
def test_every_mistake_shows_in_the_first_cases(truth, mistakes, cases) -> None:
    """A mistake that equals the truth on all inputs would pass the check."""
    known, shown = set(), set()
    for case in cases():
        right = np.array(truth(*case))
        for name, value in mistakes(*case).items():
            known.add(name)
            if not np.allclose(value, right, rtol=1e-3, atol=1e-4):
                shown.add(name)
    assert shown == known


def test_every_mistake_in_a_speedup_shows() -> None:
    known, shown = set(), set()
    for case in checks.timing_cases():
        parts = zip(truths.speedup(*case), samples.speedup_mistakes(*case), strict=True)
        for part, (right, mistakes) in enumerate(parts):
            known |= {(part, name) for name in mistakes}
            shown |= {
                (part, name)
                for name, value in mistakes.items()
                if not np.isclose(value, right, rtol=1e-3)
            }
    assert shown == known
