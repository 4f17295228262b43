"""How fast this machine trains a recipe's model: tokens per second, forward plus backward."""

from __future__ import annotations

import torch

from shrinkkit.errors import require_int
from shrinkkit.lm.build import new_model
from shrinkkit.lm.recipe import Recipe
from shrinkkit.lm.train import new_accelerator, train_step
from shrinkkit.measure.timing import Rate, time_call


def training_speed(recipe: Recipe, repeats: int = 5) -> Rate:
    """Time forward plus backward of one batch, after a warm-up.

    recipe: shape, batch and precision; random tokens are as much work as any.
    repeats: how often.
    Returns a Rate in tokens per second, with its spread.
    """
    require_int("repeats", repeats, 2)
    accelerator = new_accelerator(recipe)
    model = accelerator.prepare(new_model(recipe).train())
    generator = torch.Generator().manual_seed(recipe.seed)
    shape = recipe.batch_size, recipe.seq_len
    batch = torch.randint(recipe.vocab_size, shape, generator=generator)
    timing = time_call(lambda: train_step(model, [], batch, recipe, accelerator), repeats=repeats)
    return Rate.of([batch.numel() / (ms / 1000) for ms in timing.samples_ms])
