"""Distillation: a small model learns from a large one's answers."""

from shrinkkit.distill.losses import distillation_loss
