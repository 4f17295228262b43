"""A step of making a model smaller, as data: which method, with which numbers.

A step is a frozen dataclass. It is validated when it is made, it can be printed, compared and
written to a file, and whatever applies the method (a verb such as `gptq_model`, the run from disk
to disk, the command line, `shrink` with a whole list) takes the step, so that its arguments are
listed once. Short calls stay short: a verb makes the step from its keywords, with `step_of`.

What a step needs is said by class attributes, so that an order that cannot work is refused
before any work is done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from shrinkkit.errors import InputError, near_matches

S = TypeVar("S", bound="Step")


class Step:
    """One step: a frozen dataclass whose fields are the method's settings.

    takes, gives: "float" or "packed"; what the weights have to be before, and what they are after.
    needs_text: whether the method looks at calibration windows.
    needs_reference: whether it learns from the float model.
    """

    takes: ClassVar[str] = "float"
    gives: ClassVar[str] = "float"
    needs_text: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = False

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Return the model after this step, in eval mode.

        text: [n_samples, seq_len] calibration windows, for a step that needs them.
        reference: the float model that the whole list began with, as a teacher.
        inplace: change `model` itself instead of a copy.
        """
        raise NotImplementedError

    def __str__(self) -> str:
        """Name the step and the settings that are not the usual ones, as one would type it."""
        said = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(said)})"


def step_of(kind: type[S], first: Any, **settings: Any) -> S:
    """Return the step that a verb was given, or make it from the verb's keywords.

    kind: the step's class.
    first: the step itself, or the value of the class's first field.
    settings: values of other fields.
    Raises InputError for a setting that the step does not have, and for a step with settings.
    """
    if isinstance(first, Step):
        if not isinstance(first, kind):
            raise InputError(
                f"A {type(first).__name__} was given where a {kind.__name__} belongs. "
                "`shrink(model, [step], calibration=...)` takes any step."
            )
        if settings:
            raise InputError(
                f"{', '.join(settings)} cannot be given beside a whole {kind.__name__}: say it "
                "in the step."
            )
        return first
    known = [field.name for field in fields(kind)]
    refuse_unknown(kind.__name__, settings, known)
    return kind(first, **settings)


def refuse_unknown(what: str, given: Mapping[str, Any], known: list[str]) -> None:
    """Raise InputError for the first name that is none of a step's settings, with near ones."""
    for name in given:
        if name not in known:
            near = near_matches(name, known)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known)}."
            raise InputError(f"{what} has no setting {name!r}. {hint}")
