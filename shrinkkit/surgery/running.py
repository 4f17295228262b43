"""What every measurement needs: windows that are windows, models that hold still, a progress bar.

A model that is measured must not learn and must not roll dice: `evaluating` switches dropout off
and gradients too, and afterwards leaves the model as it found it, which matters to whoever measures
in the middle of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from shrinkkit.errors import InputError

T = TypeVar("T")


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode without gradients; each goes back as it was afterwards.

    >>> layer = nn.Dropout().train()
    >>> with evaluating(layer):
    ...     layer.training, torch.is_grad_enabled()
    (False, False)
    >>> layer.training
    True
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def progress(steps: T, label: str, unit: str = "batch") -> T:
    """Show a progress bar over `steps` that disappears when it is done."""
    return tqdm(steps, desc=label, unit=unit, leave=False)


def device_of(model: nn.Module) -> torch.device:
    """Tell which device a model computes on; the CPU for one without tensors.

    >>> device_of(nn.Identity())
    device(type='cpu')
    """
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def check_tokens(tokens: torch.Tensor) -> torch.Tensor:
    """Return tokens as they are when they are windows of token ids [n_samples, seq_len].

    >>> check_tokens(torch.tensor([1, 2, 3]))
    Traceback (most recent call last):
    ...
    shrinkkit.errors.InputError: tokens has shape (3,): give windows [n_samples, seq_len], ...
    """
    if not isinstance(tokens, torch.Tensor):
        raise InputError(
            f"tokens is a {type(tokens).__name__}: give a tensor of token ids [n_samples, seq_len],"
            " such as load_text('wikipedia').evaluation()."
        )
    if tokens.dtype.is_floating_point or tokens.dtype.is_complex or tokens.dtype == torch.bool:
        raise InputError(f"tokens holds {tokens.dtype}: token ids are integers.")
    if tokens.ndim != 2 or tokens.shape[0] < 1 or tokens.shape[1] < 2:
        raise InputError(
            f"tokens has shape {tuple(tokens.shape)}: give windows [n_samples, seq_len], at least "
            "one of them and at least 2 tokens long, such as load_text('wikipedia').evaluation()."
        )
    return tokens.long()


def check_vocabulary(name: str, model: nn.Module, tokens: torch.Tensor) -> None:
    """Refuse token ids, and windows, that a model has no row for: they would crash it."""
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0:
        raise InputError(f"tokens holds the id {low}: token ids start at 0, without padding marks.")
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    if size is not None and high >= size:
        raise InputError(
            f"tokens holds ids up to {high}, and {name} knows 0 to {size - 1}: they were made with "
            "another model's tokenizer. Make them again with this model's, as in "
            "load_text('wikipedia', tokenizer=...)."
        )
    if (longest := learned_positions(model)) is not None and tokens.shape[-1] > longest:
        raise InputError(
            f"tokens has windows of {tokens.shape[-1]} tokens, and {name} has learned "
            f"{longest} positions: make shorter windows (seq_len={longest})."
        )


def learned_positions(model: nn.Module) -> int | None:
    """Return how many positions a model has a learned vector for; None where it learns none.

    A table of positions is an embedding beside that of the tokens, with as many rows as the
    configuration says, and some more in front where the family counts from further on.
    """
    config = getattr(model, "config", None)
    said = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    names = {"pos", "wpe"}
    for name, module in model.named_modules():
        is_table = isinstance(module, nn.Embedding) and any(part in name for part in names)
        if is_table and said is not None and 0 <= module.num_embeddings - said <= 4:
            padding = -1 if module.padding_idx is None else module.padding_idx
            return module.num_embeddings - getattr(module, "offset", padding + 1)
    return None


def probe_tokens(model: nn.Module) -> torch.Tensor:
    """Return one window [1, 16] of token ids that a model knows, for comparing two models."""
    size = min(getattr(model.config, "vocab_size", 2), 2**15)
    tokens = torch.randint(size, (1, 16), generator=torch.Generator().manual_seed(0))
    return tokens.to(device_of(model))


def require_same(model: nn.Module, before: torch.Tensor, after: torch.Tensor, what: str) -> None:
    """Refuse a model whose output changed by more than its dtype's rounding explains.

    what: was done to it, as the beginning of a sentence.
    """
    precision = {torch.float32: 1e-3, torch.float64: 1e-3}.get(before.dtype, 0.1)
    difference = ((after - before).float().norm() / before.float().norm()).item()
    if not difference <= precision:
        raise InputError(
            f"{what} changed the output of {type(model).__name__} by {difference:.1%}, which it "
            "must not: something else reads one of its norms, or a norm does not multiply by its "
            "weight. The model is as it was."
        )


def pad_right(
    rows: Sequence[torch.Tensor], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right with 0.

    rows: [n] of [length] integer.
    Returns (ids [n, longest], mask [n, longest] with 1 for what is real and 0 for padding).

    >>> pad_right([torch.tensor([5]), torch.tensor([6, 7])], torch.device("cpu"))[0].tolist()
    [[5, 0], [6, 7]]
    """
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return pad_sequence(list(rows), batch_first=True).to(device), mask.to(device)
