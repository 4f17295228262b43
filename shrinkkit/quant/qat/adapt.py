"""Train what is left trainable in a small model: a prepared model's weights, or a LoRA adapter.

The loop is the usual one (`descent`). The loss is either the surprise at the next token of the
text, or, with a `teacher`, the divergence from the float model's predictions (distillation). For
repairing a model the teacher is worth much: at each position it gives the probability of every
token, where the text only says which one came.

A teacher also makes the text a smaller matter: it can write its own (`train.self_text`).

A step costs three forward passes' worth of arithmetic, four with a teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.distill.losses import distillation_loss
from shrinkkit.errors import InputError
from shrinkkit.surgery.parts import clone
from shrinkkit.surgery.running import check_tokens, check_vocabulary, device_of
from shrinkkit.train.descent import Schedule, descend


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
