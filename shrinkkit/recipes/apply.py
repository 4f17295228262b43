"""Apply steps to a model, one after the other, and say after each what it did.

Before anything is computed the whole list is looked at: a step that rounds weights needs float
ones, scales can only be tuned once there are some, a method that looks at text needs text. Each
step works on what the one before it made; the model that was handed in stays as it was, and is the
teacher of steps that learn from the original.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure.size import bits_per_weight, saved_bytes
from shrinkkit.quant.ptq.activations import W8A8Linear
from shrinkkit.recipes.written import read_recipe
from shrinkkit.surgery.parts import is_compressed
from shrinkkit.surgery.running import check_tokens
from shrinkkit.surgery.step import Step


@dataclass(frozen=True)
class Shrunk:
    """What `shrink` made: the model, and one row a step.

    rows: [{"step", "seconds", "saved_bytes", "bits_per_weight"}, ...], in the steps' order; the
        sizes are those of the model after the step.
    """

    model: nn.Module
    rows: list[dict[str, Any]]


def shrink(
    model: nn.Module,
    steps: Sequence[Step] | str | Path,
    calibration: torch.Tensor | None = None,
    *,
    inplace: bool = False,
) -> Shrunk:
    """Make a model smaller by a list of steps.

    model: a float transformers model; or a packed one, where the first step takes such.
    steps: such as [GPTQ(bits=4), TuneScales()], or a file that `write_recipe` wrote.
    calibration: [n_samples, seq_len] integer; windows of text, for the steps that look at any.
    inplace: change `model` itself instead of a copy.
    Returns Shrunk, its model in eval mode.
    Raises InputError: no steps, an order that cannot work (naming the step and why), calibration
    that is missing, and what the steps themselves refuse.
    """
    if isinstance(steps, str | Path):
        steps = read_recipe(steps)
    _require_steps(steps)
    if calibration is not None:
        calibration = check_tokens(calibration)
    _require_order(model, steps, calibration, inplace)
    rows, now = [], model
    for number, step in enumerate(steps):
        begin = time.perf_counter()
        now = step.apply(now, calibration, model, inplace=inplace or number > 0)
        rows.append(
            {
                "step": str(step),
                "seconds": time.perf_counter() - begin,
                "saved_bytes": saved_bytes(now),
                "bits_per_weight": bits_per_weight(now),
            }
        )
    return Shrunk(now, rows)


def _require_steps(steps: Any) -> None:
    if not isinstance(steps, Sequence) or not all(isinstance(step, Step) for step in steps):
        raise InputError(
            "steps must be a list of steps such as [GPTQ(bits=4)], or a file's name, but "
            f"{steps!r} was given."
        )
    if not steps:
        raise InputError("steps is empty: name at least one, such as RTN(bits=8).")


def _require_order(
    model: nn.Module, steps: Sequence[Step], calibration: torch.Tensor | None, inplace: bool
) -> None:
    """Refuse a list that would fail on the way, before any of it is done."""
    state, since = _state(model), "the model is so already"
    began = state
    for number, step in enumerate(steps, start=1):
        what = f"Step {number}, {step},"
        if step.takes == "float" and state != "float":
            raise InputError(
                f"{what} needs float weights, and they are integers by now ({since}). A second "
                "rounding only adds error: leave one of the two out, or change their order."
            )
        if step.takes != state:
            raise InputError(
                f"{what} needs {_STATES[step.takes]}, but finds {_STATES[state]} ({since}). "
                "Put a step before it that makes them, such as GPTQ(bits=4)."
            )
        if step.needs_text and calibration is None:
            raise InputError(
                f"{what} looks at text, and calibration is missing: give windows, such as "
                "load_text('wikipedia').calibration()."
            )
        if step.needs_reference and (inplace or began != "float"):
            raise InputError(
                f"{what} learns from the float model, which is not there with a packed model or "
                "inplace=True. Call its own verb with a teacher, or begin with the float model."
            )
        state, since = step.gives, f"since step {number}, {step}"


_STATES = {
    "float": "float weights",
    "packed": "packed weights with float activations",
    "packed, integer activations": "packed weights with integer activations",
}


def _state(model: nn.Module) -> str:
    if any(isinstance(module, W8A8Linear) for module in model.modules()):
        return "packed, integer activations"
    return "packed" if is_compressed(model) else "float"
