"""Calibrate and tune on more than one kind of text.

What a method sees, it serves. Scales that were tuned on an encyclopedia alone make a better
encyclopedia of the model and a worse storyteller; a table that looks at the encyclopedia calls that
a gain. So the default is a mixture of three kinds, a third each:

- `wikipedia`: the embedded articles, their calibration half;
- `film-reviews`: opinions, slang and jokes, of films that no task judges;
- windows that the model writes itself (`write_windows`): what it was trained on, as remembered.

The kinds take turns, so that the first few windows are a mixture too. The `stories` are in none of
it: they are what the result is judged on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_choice, require_int
from shrinkkit.sources.text import load_text
from shrinkkit.surgery.parts import output_head
from shrinkkit.train.self_text import write_windows

WRITTEN = "written"  # by the model itself
MIXTURE = ("wikipedia", "film-reviews", WRITTEN)
KINDS = ("wikipedia", "lee-news", "film-reviews", WRITTEN)


def kinds_for(model: nn.Module | None) -> tuple[str, ...]:
    """Return the kinds of the mixture that there are for a model: not all can write.

    model: None where none is at hand, as in a run that reads a checkpoint block by block.
    """
    writes = getattr(getattr(model, "config", None), "bos_token_id", None) is not None
    return MIXTURE if writes and output_head(model) is not None else MIXTURE[:-1]


def mixed_windows(
    model: nn.Module | None,
    tokenizer: Any,
    n_samples: int = 32,
    seq_len: int = 256,
    *,
    kinds: Sequence[str] | None = None,
    seed: int = 0,
) -> torch.Tensor:
    """Return windows of several kinds of text, taking turns.

    model: what writes the windows of kind "written"; a language model with a start token.
    tokenizer: its tokenizer, or the name of one.
    n_samples, seq_len: windows in all, and tokens in each.
    kinds: of "wikipedia", "lee-news", "film-reviews" and "written"; None for `kinds_for(model)`.
    seed: which windows, and of the model's sampling.
    Returns [n_samples, seq_len] int64; window i is of kinds[i % len(kinds)].
    Raises InputError: no or unknown kinds, or more windows than a text has.
    """
    require_int("n_samples", n_samples, 1)
    kinds = kinds_for(model) if kinds is None else kinds
    if isinstance(kinds, str) or not len(kinds):
        raise InputError(f"kinds must be a list of {', '.join(KINDS)}, but {kinds!r} was given.")
    windows: list[torch.Tensor] = [torch.empty(0)] * n_samples
    for first, kind in enumerate(kinds):
        require_choice("kind of text", kind, KINDS)
        places = range(first, n_samples, len(kinds))
        if not places:
            continue
        if kind == WRITTEN:
            made = write_windows(model, len(places), seq_len, seed=seed)
        else:
            made = load_text(kind, tokenizer).calibration(len(places), seq_len, seed)
        for place, window in zip(places, made, strict=True):
            windows[place] = window
    return torch.stack(windows)
