"""Ask a language model for the last word of passages: how likely was it, and was it the likeliest?

The word's perplexity is the finer measure. Right or wrong is one bit a passage, and a word that
went from likely to just beaten counts as much as one that was lost; the probability tells them
apart, so that a few hundred passages resolve a few per cent.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import require_int
from shrinkkit.measure.quality import perplexity_of
from shrinkkit.sources.tasks import LastWordTask
from shrinkkit.surgery.running import device_of, evaluating, pad_right, progress


@dataclass(frozen=True)
class LastWordScore:
    """`perplexity` of the last word (all its tokens together), `accuracy`, `n` passages.

    accuracy: the fraction of words of which every token was the model's first choice.
    losses: [n] float64, -log p(word) in nats; right: [n] bool; both for `paired_interval`.
    """

    perplexity: float
    accuracy: float
    n: int
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    right: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)


def last_word_scores(
    model: nn.Module, tokenizer: Any, task: LastWordTask, batch_size: int = 8
) -> LastWordScore:
    """Score a causal language model on the last words of passages.

    perplexity = exp(mean over passages of -log p(word | passage)), where
    log p(word) = sum over its tokens of log p(token | passage, earlier tokens of the word).

    model: a causal language model; tokenizer: its tokenizer.
    task: from load_task('last-words').
    batch_size: passages a forward pass; changes speed and memory only.
    Returns LastWordScore.
    """
    require_int("batch_size", batch_size, 1)
    rows, n_last = [], []
    for item in task.items:
        start = tokenizer(item.passage, add_special_tokens=False)["input_ids"]
        word = tokenizer(" " + item.word, add_special_tokens=False)["input_ids"]
        rows.append(torch.tensor([*start, *word]))
        n_last.append(len(word))
    losses = torch.zeros(len(rows), dtype=torch.float64)
    right = torch.zeros(len(rows), dtype=torch.bool)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with evaluating(model):
        for first in progress(range(0, len(order), batch_size), "last words"):
            part = order[first : first + batch_size]
            # Padding stands behind the word, where a causal model cannot see it.
            padded, _ = pad_right([rows[i] for i in part], device_of(model))
            first_needed = min(len(rows[i]) - n_last[i] - 1 for i in part)
            for i, row in zip(part, _logits(model, padded, first_needed), strict=True):
                end, n = len(rows[i]) - first_needed, n_last[i]
                logits = row[end - n - 1 : end - 1].float()  # [n, vocabulary]
                wanted = rows[i][-n:].to(logits.device)
                each = logits.log_softmax(-1).gather(1, wanted[:, None])
                losses[i] = -each.double().sum().item()
                right[i] = bool((logits.argmax(-1) == wanted).all())
    mean = losses.mean().item()
    accuracy = right.double().mean().item()
    return LastWordScore(perplexity_of(mean), accuracy, len(rows), losses, right)


def _logits(model: nn.Module, ids: torch.Tensor, first: int) -> torch.Tensor:
    """Run ids [batch, seq_len] -> logits [batch, seq_len - first, vocabulary] from `first` on.

    Most models can leave out the head's work, a fifth of SmolLM2's, where nobody asks for it.
    """
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        return model(ids, logits_to_keep=ids.shape[1] - first).logits
    return model(ids).logits[:, first:]
