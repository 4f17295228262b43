"""Tiny models whose answers are known beforehand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shrinkkit.sources.tasks import ClassificationTask, Part
from tests import tiny


class TableModel(nn.Module):
    """Predicts the next token from the last one alone, by a fixed table of probabilities."""

    def __init__(self, probabilities: list[list[float]]) -> None:
        super().__init__()
        self.log_p = nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, tokens: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.log_p[tokens])


class Clock:
    """A clock that stands still unless somebody takes time."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *seconds: float):
        """Make a function whose calls take these seconds in turn."""
        durations = iter(seconds)

        def work() -> None:
            self.now += next(durations)

        return work


@pytest.fixture
def clock():
    return Clock()


def topics(train, test, names, choice=()) -> ClassificationTask:
    """Make a task of (text, label) pairs, each text its own group."""

    def part(rows) -> Part:
        return Part.of((text, label, str(i)) for i, (text, label) in enumerate(rows))

    return ClassificationTask("topics", names, part(train), part(choice), part(test))


@pytest.fixture(scope="session")
def tokens():
    """Windows of random token ids, [5, 70]."""
    return tiny.tokens(5, 70)


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
