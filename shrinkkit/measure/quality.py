"""Say how well a language model still predicts, next to the model that it was made from.

Two measures, from least to most sensitive:

- `perplexity`: how many equally likely words the model hesitates between, on average, when it has
  to guess the next token of real text. One model at a time; lower is better; 1 is perfect, and a
  model that knows nothing gets the size of its vocabulary.
- `next_token_agreement`: the compressed model next to its reference, position by position. `top1`
  is how often both put the same token first; `kl` is how far the compressed model's probabilities
  have moved, in nats. A compressed model can keep its perplexity and still answer differently;
  these two notice.

All of them cost one forward pass over the tokens. `token_scores` shares that pass: it runs every
model on the same batch and keeps sums only, so that a 49,152-word vocabulary never fills the memory
(the logits of 8,192 tokens alone would be 1.6 GB). Losses are added up in float64.

Windows are scored separately, and the first token of each has nothing to be predicted from, so
that perplexity falls as windows get longer: compare only numbers with the same windows.
Leaderboards use longer windows, or a sliding one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import (
    check_tokens,
    check_vocabulary,
    device_of,
    evaluating,
    progress,
)

POSITIONS = 64  # rows of [vocabulary] floats that are worked on at once: 12 MB for SmolLM2


@dataclass(frozen=True)
class Agreement:
    """How alike two models predict: `top1` (fraction of positions), `kl` (nats), `n` positions.

    `kls`: [n_samples] float64; each window's own mean, for `paired_interval`.
    """

    top1: float
    kl: float
    n: int
    kls: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)


@dataclass(frozen=True)
class TokenScores:
    """One model's scores on a text; `agreement` is None for the reference itself.

    `losses`: [n_samples] float64; each window's mean loss in nats, for `paired_interval`.
    """

    perplexity: float
    agreement: Agreement | None
    losses: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)


def perplexity(model: nn.Module, tokens: torch.Tensor, batch_size: int = 4) -> float:
    """Give the perplexity of a language model on windows of text.

    perplexity = exp(mean over windows and positions 2..seq_len of -log p(token | earlier tokens))

    model: a causal language model; its output has `logits` [batch, seq_len, vocabulary].
    tokens: [n_samples, seq_len] integer; token ids, without padding.
    batch_size: windows a forward pass; changes speed and memory, not the result.
    Returns a number from 1; inf when a needed token got probability 0, nan for a broken model.
    Raises InputError for tokens of another shape or dtype, or outside the vocabulary.

    >>> from types import SimpleNamespace
    >>> class Clueless(nn.Module):
    ...     def forward(self, tokens):
    ...         return SimpleNamespace(logits=torch.zeros(*tokens.shape, 50))
    >>> round(perplexity(Clueless(), torch.tensor([[1, 2, 3]])), 3)
    50.0
    """
    return token_scores({"model": model}, tokens, batch_size)["model"].perplexity


def next_token_agreement(
    reference: nn.Module, compressed: nn.Module, tokens: torch.Tensor, batch_size: int = 4
) -> Agreement:
    """Compare the next-token predictions of two models, position by position.

    top1 = mean of [argmax reference = argmax compressed]
    kl = mean over positions of sum over v of p_reference(v) * log(p_reference(v) / p_compressed(v))

    Both over the positions that perplexity scores: each but the last of a window.

    reference, compressed: causal language models with one vocabulary.
    tokens: [n_samples, seq_len] integer; token ids, without padding.
    batch_size: windows a forward pass.
    Returns Agreement(top1, kl in nats, n positions). The same model twice: 1.0 and 0.0.
    Raises InputError as `perplexity` does, or when the vocabularies differ.
    """
    models = {"reference": reference, "compressed": compressed}
    scores = token_scores(models, tokens, batch_size, reference="reference")
    return scores["compressed"].agreement


def token_scores(
    models: Mapping[str, nn.Module],
    tokens: torch.Tensor,
    batch_size: int = 4,
    *,
    reference: str | None = None,
) -> dict[str, TokenScores]:
    """Score several models on the same tokens in one pass: perplexity, and agreement.

    models: {name: causal language model}.
    tokens: [n_samples, seq_len] integer.
    batch_size: windows a forward pass.
    reference: the name of the model that the others are compared with; None for no comparison.
    Returns {name: TokenScores}.
    Raises InputError as `perplexity` and `next_token_agreement` do.
    """
    tokens = check_tokens(tokens)
    require_int("batch_size", batch_size, 1)
    for name, model in models.items():
        check_vocabulary(name, model, tokens)
    n_samples, per_window = tokens.shape[0], tokens.shape[1] - 1
    losses, divergences = (
        {name: torch.zeros(n_samples, dtype=torch.float64) for name in models} for _ in range(2)
    )
    same = dict.fromkeys(models, 0)
    starts = range(0, n_samples, batch_size)
    with evaluating(*models.values()):
        for first in progress(starts, "reading text"):
            batch = tokens[first : first + batch_size]
            expected = None if reference is None else _logits(models[reference], batch)
            for name, model in models.items():
                given = expected if name == reference else _logits(model, batch)
                for window, row in _slices(batch):
                    here = given[window, row].float()  # [positions, vocabulary]
                    answer = batch[window, 1:][row].to(here.device)  # [positions]
                    each = cross_entropy(here, answer, reduction="none")  # [positions]
                    losses[name][first + window] += each.double().sum().item()
                    if expected is None or name == reference:
                        continue
                    there = expected[window, row].float().to(here.device)
                    if there.shape != here.shape:
                        raise InputError(
                            f"{name} predicts {here.shape[1]} tokens and the reference "
                            f"{there.shape[1]}: models can only be compared on one vocabulary."
                        )
                    same[name] += int((here.argmax(1) == there.argmax(1)).sum())
                    kls = kl_nats(there, here).double()
                    divergences[name][first + window] += kls.sum().item()
    scores = {}
    for name in models:
        mean, agreement = losses[name] / per_window, None
        if reference is not None and name != reference:
            kls, n = divergences[name] / per_window, n_samples * per_window
            agreement = Agreement(same[name] / n, kls.mean().item(), n, kls)
        scores[name] = TokenScores(perplexity_of(mean.mean().item()), agreement, mean)
    return scores


def kl_nats(reference_logits: torch.Tensor, compressed_logits: torch.Tensor) -> torch.Tensor:
    """Give KL(reference || compressed) of each row of logits, in nats.

    sum over v of p(v) * (log p(v) - log q(v)), p = softmax(reference), q = softmax(compressed);
    a token that the reference rules out (p = 0) adds nothing.

    reference_logits, compressed_logits: [..., vocabulary] float.
    Returns [...] float.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(kl_nats(p.log(), q.log()).item(), 4)  # 0.5 ln 2 + 0.5 ln (2/3)
    0.1438
    """
    log_p = reference_logits.log_softmax(-1)
    log_q = compressed_logits.log_softmax(-1)
    p = log_p.exp()
    return (p * (log_p - log_q)).masked_fill(p == 0, 0.0).sum(-1)


def _logits(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Run the model: [batch, seq_len] ids -> [batch, seq_len, vocabulary] logits."""
    output = model(batch.to(device_of(model)))
    logits = getattr(output, "logits", None)
    if logits is None or logits.shape[:-1] != batch.shape:
        raise InputError(
            f"{type(model).__name__} does not predict a next token (its output has no logits "
            "[batch, seq_len, vocabulary]). Perplexity is for causal language models; score an "
            "encoder with classification_score or retrieval_scores."
        )
    return logits


def _slices(batch: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """Cut a batch into runs of positions, each but the last of a window."""
    last = batch.shape[1] - 1
    for window in range(batch.shape[0]):
        for start in range(0, last, POSITIONS):
            yield window, slice(start, min(start + POSITIONS, last))


def perplexity_of(mean_loss: float) -> float:
    """Return exp(mean loss in nats); inf where that is beyond 1e308, for a model so broken."""
    try:
        return math.exp(mean_loss)
    except OverflowError:
        return math.inf
