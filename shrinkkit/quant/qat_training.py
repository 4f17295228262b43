"""Train what is left trainable in a small model: a prepared model's weights, or a LoRA adapter.

The loop is the usual one (`descent`). The loss is either the surprise at the next token of the
text, or, with a `teacher`, the divergence from the float model's predictions (distillation). For
repairing a model the teacher is worth much: at each position it gives the probability of every
token, where the text only says which one came.

A teacher also makes the text a smaller matter. `write_windows` lets the float model write its own,
sampled at temperature 1, so that no data set is needed (LLM-QAT, Liu et al. 2023, arXiv 2305.17888,
section 2.1): what the model says is, by construction, text that the model knows.

A step costs three forward passes' worth of arithmetic, four with a teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.running import check_tokens, check_vocabulary, device_of, progress
from shrinkkit.quant.descent import Schedule, descend
from shrinkkit.quant.tuning import distillation_loss
from shrinkkit.surgery import clone


def train_qat(
    model: nn.Module,
    tokens: torch.Tensor,
    *,
    teacher: nn.Module | None = None,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    warm_up: float = 0.1,
    seed: int = 0,
    inplace: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> nn.Module:
    """Train every weight of a model that requires a gradient, with Adam.

    model: of `prepare_qat` or `add_lora`.
    tokens: [n_samples, seq_len] integer; windows in an order drawn from `seed`, and again in
        another order when all were used.
    teacher: the float model; the loss is then KL(teacher || model). None: the next token's
        cross-entropy.
    steps, batch_size: optimizer steps, and windows in each.
    learning_rate: peak; it rises over `warm_up` of the steps and falls along a cosine to zero.
    inplace: train `model` itself instead of a copy.
    on_step: called after each step with {"step", "loss"}, the loss in nats before the step.
    Returns the trained model in eval mode.
    Raises InputError: nothing to train, windows of another vocabulary, numbers out of range, a
    loss that stops being finite.
    """
    schedule = Schedule(steps, batch_size, learning_rate, warm_up, seed)
    tokens = check_tokens(tokens)
    check_vocabulary("the model", model, tokens)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(
            "Nothing in this model requires a gradient. Prepare it first: prepare_qat(model) lets "
            "the weights learn on their grid, add_lora(model) puts an adapter beside packed ones."
        )
    model = model if inplace else clone(model)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train()

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        return _loss(model, rows.to(device_of(model)), teacher)

    groups = [(weights, 1.0)]
    descend(schedule, tokens, groups, loss_of, label="training", clip=1.0, on_step=on_step)
    return model.eval()


def _loss(model: nn.Module, rows: torch.Tensor, teacher: nn.Module | None) -> torch.Tensor:
    """Return the mean loss of a batch in nats: next token, or divergence from the teacher."""
    logits = model(rows, use_cache=False).logits[:, :-1]  # [batch, seq_len - 1, vocabulary]
    if teacher is None:
        return cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())
    with torch.no_grad():
        theirs = teacher(rows, use_cache=False).logits[:, :-1]
    return distillation_loss(logits, theirs)


def write_windows(
    model: nn.Module,
    n_samples: int,
    seq_len: int,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> torch.Tensor:
    """Let a language model write windows of text, at temperature 1, from its start token on.

    Liu et al. 2023 (arXiv 2305.17888), section 2.1, with every token sampled.

    model: a transformers decoder whose config names a `bos_token_id`.
    n_samples, seq_len: windows, and tokens in each without the start token.
    seed: of the sampling; batch_size: windows written at once.
    Returns [n_samples, seq_len] int64. A window in which the model ended its text goes on with a
    new one.
    Raises InputError for a model without a start token, or numbers below 1.
    """
    require_int("n_samples", n_samples, 1)
    require_int("seq_len", seq_len, 2)
    start = getattr(getattr(model, "config", None), "bos_token_id", None)
    if start is None:
        raise InputError("The model's config has no bos_token_id: nothing to start writing from.")
    device, written = device_of(model), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for first in progress(range(0, n_samples, batch_size), "writing"):
            rows = min(batch_size, n_samples - first)
            ids = torch.full((rows, 1), start, device=device)
            written.append(_continued(model, ids, seq_len)[:, 1:].cpu())
    return torch.cat(written)


@torch.no_grad()
def _continued(model: nn.Module, ids: torch.Tensor, n_new: int) -> torch.Tensor:
    """Sample n_new tokens behind ids [rows, n], keeping the keys and values of those read."""
    cache, new = None, ids
    for _ in range(n_new):
        output = model(new, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        new = torch.multinomial(output.logits[:, -1].float().softmax(-1), 1)
        ids = torch.cat([ids, new], dim=1)
    return ids
