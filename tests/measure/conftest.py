"""Tiny models whose answers are known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn


class TableModel(nn.Module):
    """Predicts the next token from the last one alone, by a fixed table of probabilities."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        super().__init__()
        self.log_p = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.log_p[tokens])


@pytest.fixture
def table_model():
    return TableModel


@pytest.fixture(scope="session")
def tokens():
    """Windows of random token ids, [5, 70]."""
    return torch.randint(0, 256, (5, 70), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def noisy_llama(tiny_llama):
    """The tiny Llama with noise on every weight: a poor compression of it."""
    import copy

    model = copy.deepcopy(tiny_llama)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model
