"""What a killed training run needs to go on exactly: weights, optimizer state, and a page of JSON.

A checkpoint is a folder `checkpoint-000300` in the run's folder, named after the steps that are
done. It is written under another name and renamed, and only then is the older one removed, so that
whenever the process is killed there is a whole one. Tensors are safetensors; `state.json` holds the
settings, the digest of the text, the curve so far and the seconds spent.

The windows' order needs no state (see `corpus`), nor does any random number: the model has no
dropout. That is why a resumed run equals the uninterrupted one bit for bit on the same machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import AssetError
from shrinkkit.system.files import write_atomically
from shrinkkit.train.lm.settings import Settings
from shrinkkit.train.resume import ANEW, read_page, refuse_other

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass
class Progress:
    """How far a run has come: steps done, seconds spent, and the curve."""

    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


def latest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint of a run's folder, or None."""
    whole = sorted(path.parent for path in folder.glob(f"checkpoint-[0-9]*/{STATE}"))
    return whole[-1] if whole else None


def save_state(
    folder: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    progress: Progress,
    settings: Settings,
    text_sha256: str,
) -> Path:
    """Write a checkpoint, whole or not at all, then remove the older ones; returns its folder."""
    from safetensors.torch import save_file

    older = list(folder.glob("checkpoint-[0-9]*"))
    place = folder / f"checkpoint-{progress.step:06d}"
    with write_atomically(place) as temporary:
        temporary.mkdir()
        weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
        save_file(weights, temporary / WEIGHTS)
        save_file(_optimizer_tensors(optimizers), temporary / OPTIMIZER)
        page = {"settings": asdict(settings), "text_sha256": text_sha256, **asdict(progress)}
        (temporary / STATE).write_text(json.dumps(page), encoding="utf-8")
    for path in older:
        if path != place:
            shutil.rmtree(path, ignore_errors=True)
    return place


def load_state(
    place: Path,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: Settings,
    text_sha256: str,
) -> Progress:
    """Put a checkpoint's weights and optimizer state in place; return how far the run had come.

    Raises InputError for a checkpoint of other settings or text (naming what differs), AssetError
    for a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    page = read_page(place / STATE)
    try:
        weights, tensors = load_file(place / WEIGHTS), load_file(place / OPTIMIZER)
        theirs = page.get("settings") or page["recipe"]  # the key of older runs
        progress = Progress(page["step"], page["seconds"], page["curve"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise AssetError(f"{place} is damaged ({error}). Delete it. {ANEW}") from None
    text = "text_or_tokenizer_sha256"
    ours = asdict(settings) | {text: text_sha256}
    refuse_other(place, theirs | {text: page.get("text_sha256")}, ours)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            which, index, name = key.split(".", 2)
            if int(which) == number:
                state.setdefault(int(index), {})[name] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    return progress


def _optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """Name every tensor of the optimizers' states "optimizer.parameter.name"."""
    return {
        f"{number}.{index}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, optimizer in enumerate(optimizers)
        for index, entries in optimizer.state_dict()["state"].items()
        for name, value in entries.items()
    }
