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


def _refuse_to_save(*_: Any, **__: Any) -> NoReturn:
    raise InputError(
        "save_pretrained would write packed layers under names that transformers cannot read back. "
        "Use shrinkkit.quant.save(model, folder), shrinkkit.export.save_compressed_tensors for "
        "other tools, or dequantize_model(model).save_pretrained(folder) for floats."
    )


def _refuse_to_resize(*_: Any, **__: Any) -> NoReturn:
    raise InputError(
        "The packed vocabulary cannot get other rows: resize the float model's embeddings first, "
        "and quantize it then."
    )


_CLOSED = {
    "save_pretrained": _refuse_to_save,
    "push_to_hub": _refuse_to_save,
    "resize_token_embeddings": _refuse_to_resize,
}


def seal(model: M) -> M:
    """Let what would spoil a packed model refuse, with what to call instead; returns the model."""
    for name, refusal in _CLOSED.items():
        if hasattr(type(model), name):
            setattr(model, name, refusal)
    return model


def unseal(model: M) -> M:
    """Give a model that has no packed layers any more its methods back."""
    for name in _CLOSED:
        vars(model).pop(name, None)
    return model
