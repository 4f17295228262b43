"""The training loop, in full: guess the next token, measure the surprise, nudge the weights.

One step, for a batch of windows of text:

1. the model gives, at every position, a probability to each token of the vocabulary;
2. the loss is the mean of -log p(the token that really came next);
3. backward() finds, for each weight, which way would have made the loss smaller;
4. the optimizers move every weight a little that way.

Two optimizers share the weights. The matrices inside the blocks go to Muon (Jordan et al. 2024):
it turns each matrix's momentum into the nearest matrix whose directions all have the same strength,
so that rare directions learn as fast as common ones. Embedding and norms go to AdamW (Loshchilov
and Hutter 2019, arXiv 1711.05101). Accelerate moves everything to a GPU where there is one and
runs the arithmetic in bfloat16 where asked; on a CPU the same lines run as they are.

Six operations a weight and token: 6 million weights and 17 million tokens are 6e14, an hour and a
half on two laptop cores. Production runs differ in scale, not in kind: more chips, data that is
streamed, and the same dozen lines in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.bits import bits_per_byte
from shrinkkit.system.files import lock, write_atomically
from shrinkkit.train.lm.build import new_model, new_optimizers
from shrinkkit.train.lm.corpus import Corpus
from shrinkkit.train.lm.settings import Settings
from shrinkkit.train.lm.state import Progress, latest, load_state, save_state

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import LlamaForCausalLM

_JUDGED_TOKENS = 8_192  # of each held-out file, for the curve; the end is judged on all


@dataclass(frozen=True)
class Run:
    """A finished run: the model in eval mode, where it was saved, its curve, the seconds spent,
    bits per byte on all of the held-out files together and on each."""

    model: LlamaForCausalLM
    folder: Path
    curve: list[dict[str, Any]]
    seconds: float
    bits_per_byte: float
    by_file: dict[str, float]


def new_accelerator(settings: Settings) -> Accelerator:
    """Return Accelerate's view of this machine: its GPU if there is one, and the arithmetic."""
    from accelerate import Accelerator

    return Accelerator(mixed_precision="no" if settings.precision == "fp32" else "bf16")


def train_lm(
    corpus: Corpus,
    settings: Settings,
    folder: str | Path,
    *,
    save_every: int = 100,
    judge_every: int | None = None,
    restart: bool = False,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Train a model from scratch, or go on where a run in the same folder was interrupted.

    corpus: from `read_corpus`, with the settings' seq_len.
    settings: every number of the run.
    folder: gets `checkpoint-…` while the run goes on and `model` at its end.
    save_every: steps between checkpoints.
    judge_every: steps between looks at the held-out files; None: twenty in all.
    restart: throw an earlier run in this folder away.
    on_step: called with each row of the curve (step, tokens, loss in nats, seconds; sometimes
        bits_per_byte).
    Returns a Run. Raises InputError for a corpus with another vocabulary, or a folder with a run
    of other settings or text; StorageError for a full disk, or while another process trains there.
    """
    require_int("save_every", save_every, 1)
    if len(corpus.tokenizer) > settings.vocab_size:
        raise InputError(
            f"vocab_size={settings.vocab_size} is smaller than the tokenizer's "
            f"{len(corpus.tokenizer)} tokens."
        )
    folder = Path(folder).expanduser()
    judge_every = judge_every or max(1, settings.steps // 20)
    accelerator = new_accelerator(settings)
    model = new_model(settings)
    optimizers = new_optimizers(model, settings)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    with lock(folder / "training", timeout_s=0):
        place = None if restart else latest(folder)
        progress = Progress()
        if place is not None:
            progress = load_state(place, model, optimizers, settings, corpus.sha256)
        model, *optimizers = accelerator.prepare(model, *optimizers)
        model.train()
        began = time.perf_counter() - progress.seconds
        bar = tqdm(
            range(progress.step, settings.steps),
            initial=progress.step,
            total=settings.steps,
            desc="training",
            unit="step",
        )
        for step in bar:
            factor = settings.learning_rate_factor(step)
            for optimizer, rates in zip(optimizers, peaks, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
            batch = corpus.batch(step, settings.batch_size, settings.seq_len, settings.seed)
            loss = train_step(model, optimizers, batch, settings, accelerator)

            row = {"step": step + 1, "tokens": (step + 1) * batch.numel(), "loss": loss}
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            if (step + 1) % judge_every == 0 or step + 1 == settings.steps:
                documents = [(d.ids[:_JUDGED_TOKENS], d) for d in corpus.held_out]
                row["bits_per_byte"] = bits_per_byte(
                    accelerator.unwrap_model(model),
                    [(ids, round(d.n_bytes * len(ids) / len(d.ids))) for ids, d in documents],
                )
            progress.step, progress.seconds = step + 1, round(time.perf_counter() - began, 2)
            progress.curve.append(row | {"seconds": progress.seconds})
            if on_step is not None:
                on_step(progress.curve[-1])
            if (step + 1) % save_every == 0 or step + 1 == settings.steps:
                plain = accelerator.unwrap_model(model)
                save_state(folder, plain, optimizers, progress, settings, corpus.sha256)
        plain = accelerator.unwrap_model(model).eval()
        by_file = {d.title: bits_per_byte(plain, [(d.ids, d.n_bytes)]) for d in corpus.held_out}
        sizes = {d.title: d.n_bytes for d in corpus.held_out}
        overall = sum(by_file[title] * size for title, size in sizes.items()) / sum(sizes.values())
        own = ("model.safetensors", "config.json", "generation_config.json")
        with write_atomically(folder / "model", replaces=own) as temporary:
            plain.save_pretrained(temporary)
            corpus.tokenizer.save_pretrained(temporary)
    return Run(
        model=plain,
        folder=folder / "model",
        curve=progress.curve,
        seconds=progress.seconds,
        bits_per_byte=overall,
        by_file=by_file,
    )


def train_step(
    model: torch.nn.Module,
    optimizers: list[Any],
    batch: torch.Tensor,
    settings: Settings,
    accelerator: Accelerator,
) -> float:
    """Move the weights once: batch [batch_size, seq_len] -> the mean loss in nats, before it."""
    total = 0.0
    for windows in batch.to(accelerator.device).split(settings.micro_batch):
        with accelerator.autocast():
            logits = model(windows, use_cache=False).logits[:, :-1]  # [micro, seq_len - 1, vocab]
        loss = cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())
        loss = loss * (len(windows) / len(batch))
        accelerator.backward(loss)
        total += loss.item()
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return total
