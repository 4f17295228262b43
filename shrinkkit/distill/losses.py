"""How far a student's answers are from its teacher's, as losses to train on."""

from __future__ import annotations

import torch
from torch.nn.functional import kl_div, log_softmax


def distillation_loss(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher || student) in nats, the mean over all positions.

    student_logits, teacher_logits: [..., vocabulary].

    >>> distillation_loss(torch.zeros(1, 2), torch.tensor([[0.0, 0.0]])).item()
    0.0
    """
    ours = log_softmax(student_logits.flatten(0, -2).float(), dim=-1)
    theirs = log_softmax(teacher_logits.flatten(0, -2).float(), dim=-1)
    return kl_div(ours, theirs, reduction="batchmean", log_target=True)
