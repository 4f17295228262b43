"""Measure the memory that a model takes from start to answer, in a process of its own.

`size.resident_bytes` counts a loaded model's tensors, and `memory.peak_rss` what one piece of work
adds to a process that is there already, with everything else that a notebook keeps in it. The
question before a deployment is another one: a new process loads this model and reads a prompt; how
much memory must the machine have free? That includes Python, torch, transformers, whatever loading
holds twice for a moment, and the activations. `footprint` starts that process and asks the system.
"""

from __future__ import annotations

from pathlib import Path

import torch

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.memory import PeakMemory, peak_rss
from shrinkkit.surgery.running import evaluating


def load_and_read(name: str, n_tokens: int = 64) -> None:
    """Load a model and read a prompt of random tokens: the work whose memory `footprint` measures.

    name: as for `load_model`.
    n_tokens: length of the prompt.
    """
    from shrinkkit.loading import load_model

    model = load_model(name)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(0, model.config.vocab_size, (1, n_tokens), generator=generator)
    with evaluating(model):
        model(prompt)


def footprint(name: str | Path, n_tokens: int = 64) -> PeakMemory:
    """Give the peak memory of a fresh process that loads a model and reads a prompt.

    name: an embedded name, a hub name, or the folder of a saved model; not a model itself, which
        another process could not see.
    n_tokens: length of the prompt.
    Returns PeakMemory; its baseline is the process before it loads the model.
    Raises InputError when `name` is a model; ShrinkkitError when loading fails in the process.
    """
    if not isinstance(name, (str, Path)):
        raise InputError(
            f"name is a {type(name).__name__}: give the name of a model or the folder that it was "
            "saved to. A fresh process has to load it itself."
        )
    require_int("n_tokens", n_tokens, 1)
    return peak_rss(load_and_read, str(name), n_tokens, fresh_process=True)
