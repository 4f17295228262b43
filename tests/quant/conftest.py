"""A tiny model that rounding hurts; a language that one learns in seconds, and one that has."""

from __future__ import annotations

import copy

import pytest
import torch

from shrinkkit.measure import next_token_agreement
from shrinkkit.quant import dequantize_model, train_qat
from shrinkkit.surgery.parts import find_linears
from tests import tiny


@pytest.fixture(scope="module")
def llama(tiny_llama):
    """The tiny model with weights large enough that rounding them matters."""
    model = copy.deepcopy(tiny_llama)
    return tiny.redrawn(model, [layer.weight for layer in find_linears(model).values()])


def divergence(reference, small, tokens: torch.Tensor) -> float:
    """How far a packed model's predictions, its weights unpacked, have moved, in nats."""
    return next_token_agreement(reference, dequantize_model(small), tokens).kl


def windows_of(n_samples: int, seed: int) -> torch.Tensor:
    """Windows [n_samples, 24] of a language with three equally likely followers of each token."""
    followers = torch.randint(64, (64, 3), generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(64, (n_samples,), generator=generator)]
    for _ in range(23):
        picked = torch.randint(3, (n_samples,), generator=generator)
        rows.append(followers[rows[-1], picked])
    return torch.stack(rows, dim=1)


def train(model, text: torch.Tensor, steps: int, batch_size: int = 16, **how) -> tuple:
    """Train a prepared or adapted model; return it with the loss of every step."""
    losses: list[float] = []
    trained = train_qat(
        model,
        text,
        steps=steps,
        batch_size=batch_size,
        learning_rate=1e-2,
        on_step=lambda row: losses.append(row["loss"]),
        **how,
    )
    return trained, losses


@pytest.fixture(scope="session")
def taught():
    """A small Llama that has learned the language of `windows_of`: perplexity 3 is the best."""
    model = tiny.llama(tie_word_embeddings=True)
    return train(model, windows_of(512, seed=0), steps=150)[0]
