"""The loop that lets some numbers of a model learn for a few steps, on windows of text.

`tune_scales` and `train_qat` differ in what learns and by what loss, not in this: windows in an
order drawn from a seed; Adam; a learning rate that rises in a straight line and falls along half a
cosine to zero, because the first gradients are the least to be trusted and the last steps should
settle. Full trainings from scratch, with checkpoints and curves, are in `shrinkkit.train.lm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_finite, require_int
from shrinkkit.surgery.running import progress


@dataclass(frozen=True)
class Schedule:
    """How many steps, of how many windows, how large; raises InputError for values out of range.

    steps, batch_size: optimizer steps, and windows in each.
    learning_rate: the peak, between 0 and 1.
    warm_up: the fraction of the steps over which it rises.
    seed: of the windows' order.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warm_up: float
    seed: int

    def __post_init__(self) -> None:
        require_int("steps", self.steps, 1)
        require_int("batch_size", self.batch_size, 1)
        require_int("seed", self.seed, 0)
        for name in ("learning_rate", "warm_up"):
            value = getattr(self, name)
            fits = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not fits or not 0 <= value < 1 or (name == "learning_rate" and value == 0):
                raise InputError(f"{name} must lie between 0 and 1, but {value!r} was given.")

    def factor(self, step: int) -> float:
        """Return what the peak is multiplied by: a straight line up, half a cosine down.

        >>> schedule = Schedule(10, 1, 0.1, warm_up=0.2, seed=0)
        >>> [round(schedule.factor(step), 2) for step in (0, 1, 5, 9)]
        [0.5, 1.0, 0.59, 0.03]
        """
        rise = max(1, round(self.steps * self.warm_up))
        if step < rise:
            return (step + 1) / rise
        angle = torch.tensor(torch.pi * (step - rise + 1) / (self.steps - rise + 1))
        return float((1 + angle.cos()) / 2)

    def rows(self, n: int) -> list[torch.Tensor]:
        """Return each step's row numbers: all n in one random order, then in another, and so on.

        >>> [sorted(rows.tolist()) for rows in Schedule(2, 3, 0.1, 0, seed=0).rows(3)]
        [[0, 1, 2], [0, 1, 2]]
        """
        generator = torch.Generator().manual_seed(self.seed)
        wanted = self.steps * self.batch_size
        rounds = [torch.randperm(n, generator=generator) for _ in range(-(-wanted // n))]
        return list(torch.cat(rounds)[:wanted].split(self.batch_size))


def descend(
    schedule: Schedule,
    windows: torch.Tensor,
    groups: Iterable[tuple[list[nn.Parameter], float]],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    *,
    label: str,
    loss_name: str = "loss",
    clip: float | None = None,
    rows: Sequence[torch.Tensor] | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Let parameters follow the gradient of a loss, with Adam (Kingma and Ba 2015).

    windows: [n_samples, seq_len] token ids.
    groups: (parameters, size): their learning rate is the schedule's times size.
    loss_of: rows of windows -> the mean loss, in nats.
    label, loss_name: of the progress bar.
    clip: the largest length of the gradient; None: any.
    rows: each step's row numbers; None: those of the schedule.
    on_step: called after each step with {"step", "loss"}, the loss before the step.
    Raises InputError where the loss stops being finite. Gradients are dropped in any case.
    """
    parts = [{"params": parameters, "size": size} for parameters, size in groups]
    weights = [weight for part in parts for weight in part["params"]]
    optimizer = torch.optim.Adam(parts, lr=schedule.learning_rate, betas=(0.9, 0.95))
    bar = progress(schedule.rows(len(windows)) if rows is None else rows, label, "step")
    try:
        for step, chosen in enumerate(bar):
            with torch.enable_grad():
                loss = loss_of(windows[chosen])
                optimizer.zero_grad()
                loss.backward()
            value = require_finite(f"the {loss_name} in step {step + 1}", loss.detach()).item()
            if clip is not None:
                nn.utils.clip_grad_norm_(weights, clip)
            for part in optimizer.param_groups:
                part["lr"] = schedule.learning_rate * part["size"] * schedule.factor(step)
            optimizer.step()
            bar.set_postfix_str(f"{loss_name} {value:.4f}", refresh=False)
            if on_step is not None:
                on_step({"step": step + 1, "loss": value})
    finally:
        optimizer.zero_grad()
