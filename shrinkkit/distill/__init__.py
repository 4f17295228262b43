"""Distillation: a small model learns from a large one's answers."""

from shrinkkit.distill.losses import distillation_loss

__all__ = ["distillation_loss"]
