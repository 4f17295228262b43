"""Close the door through which a packed model would be saved wrongly.

transformers' own `save_pretrained` writes packed tensors under names that no class of transformers
knows. `from_pretrained` then finds none of its weights, draws random ones, and says so in a warning
at most. So a model with packed layers refuses it and names what to call instead.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from torch import nn

from shrinkkit.errors import InputError

M = TypeVar("M", bound=nn.Module)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise InputError(
        "save_pretrained would write packed layers under names that transformers cannot read back. "
        "Use shrinkkit.quant.save(model, folder), shrinkkit.export.save_compressed_tensors for "
        "other tools, or dequantize_model(model).save_pretrained(folder) for floats."
    )


def seal(model: M) -> M:
    """Let `model.save_pretrained` refuse, with what to call instead; returns the model."""
    if hasattr(type(model), "save_pretrained"):
        model.save_pretrained = _refuse
    return model


def unseal(model: M) -> M:
    """Give a model that has no packed layers any more its `save_pretrained` back."""
    vars(model).pop("save_pretrained", None)
    return model
