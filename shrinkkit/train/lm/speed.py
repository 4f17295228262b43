"""How fast this machine trains a model: tokens per second, forward plus backward."""

from __future__ import annotations

import torch

from shrinkkit.errors import require_int
from shrinkkit.measure.timing import Rate, time_call
from shrinkkit.train.lm.build import new_model
from shrinkkit.train.lm.settings import Settings
from shrinkkit.train.lm.train import new_accelerator, train_step


def training_speed(settings: Settings, repeats: int = 5) -> Rate:
    """Time forward plus backward of one batch, after a warm-up.

    settings: shape, batch and precision; random tokens are as much work as any.
    repeats: how often.
    Returns a Rate in tokens per second, with its spread.
    """
    require_int("repeats", repeats, 2)
    accelerator = new_accelerator(settings)
    model = accelerator.prepare(new_model(settings).train())
    generator = torch.Generator().manual_seed(settings.seed)
    shape = settings.batch_size, settings.seq_len
    batch = torch.randint(settings.vocab_size, shape, generator=generator)
    timing = time_call(lambda: train_step(model, [], batch, settings, accelerator), repeats=repeats)
    return Rate.of([batch.numel() / (ms / 1000) for ms in timing.samples_ms])
