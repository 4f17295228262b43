"""Measure how fast a language model reads and writes, and how fast it could.

A language model works at two speeds. **Prefill** reads the prompt: all its tokens at once, large
matrix products, bound by arithmetic. **Decode** writes the answer: one token at a time, and for
each one every weight has to come from memory to the processor once, to be used for a single
multiplication. Decode is bound by memory, which is why fewer bits make it faster, and why the limit
can be computed beforehand (bandwidth.py).

Decode is timed inside transformers' own `generate`, with a stopwatch that looks at the clock after
each new token: what a user gets, sampling code and cache handling included. Several models
are timed in turns (`decode_speed_paired`, see timing.py).

Speeds depend on the machine, on its threads and on what else it does. Ratios between models
timed in turns travel better than tokens per second.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.timing import Clock, Rate, Timing, time_call, time_paired, wait_for_device
from shrinkkit.surgery.running import check_vocabulary, device_of, evaluating, progress


@dataclass(frozen=True)
class DecodeSpeed:
    """Writing speed: `tokens_per_s`, and the `first_token` (prefill and one step) in ms."""

    tokens_per_s: Rate
    first_token: Timing
    n_new: int


@dataclass(frozen=True)
class PrefillSpeed:
    """Reading speed: `timing` of one pass over the prompt, and `tokens_per_s` from its median."""

    timing: Timing
    tokens_per_s: float
    n_tokens: int


def decode_speed_paired(
    models: Mapping[str, nn.Module],
    prompt_tokens: torch.Tensor | int = 16,
    n_new: int = 32,
    *,
    warmup: int = 1,
    repeats: int = 3,
    clock: Clock = time.perf_counter,
) -> dict[str, DecodeSpeed]:
    """Time writing through `generate` (batch 1, greedy), in turns: A writes an answer, B, A again.

    tokens_per_s = (n_new - 1) / (time of the last new token - time of the first)

    models: {name: transformers causal language model}.
    prompt_tokens: [seq_len] or [1, seq_len] token ids; or a number: that many random ones.
    n_new: tokens to write, at least 2; an end-of-text token does not stop it.
    warmup, repeats: answers that are not counted, and that are.
    Returns {name: DecodeSpeed}.
    Raises InputError for a model that cannot generate, or wrong counts.
    """
    require_int("n_new", n_new, 2)
    require_int("warmup", warmup, 0)
    require_int("repeats", repeats, 1)
    prompts = {name: _prompt(name, model, prompt_tokens) for name, model in models.items()}
    rates: dict[str, list[float]] = {name: [] for name in models}
    firsts: dict[str, list[float]] = {name: [] for name in models}
    with evaluating(*models.values()):
        for turn in progress(range(warmup + repeats), "decoding", unit="turn"):
            for name, model in models.items():
                start, times = _stopwatch(model, prompts[name], n_new, clock)
                if turn >= warmup:
                    rates[name].append((len(times) - 1) / (times[-1] - times[0]))
                    firsts[name].append((times[0] - start) * 1e3)
    return {
        name: DecodeSpeed(Rate.of(rates[name]), Timing.of(firsts[name]), n_new) for name in models
    }


def prefill_speed_paired(
    models: Mapping[str, nn.Module],
    prompt_tokens: torch.Tensor | int = 64,
    *,
    warmup: int = 2,
    repeats: int = 5,
    clock: Clock = time.perf_counter,
) -> dict[str, PrefillSpeed]:
    """Time one forward pass over a prompt, as `generate` makes it before it writes, in turns.

    Arguments and errors as in `decode_speed_paired`. Returns {name: PrefillSpeed}.
    """
    prompts = {name: _prompt(name, model, prompt_tokens) for name, model in models.items()}
    fns = {name: _prefill(model, prompts[name]) for name, model in models.items()}
    with evaluating(*models.values()):
        timings = time_paired(fns, warmup, repeats, clock=clock)
    speeds = {}
    for name, timing in timings.items():
        n_tokens = prompts[name].shape[1]
        speeds[name] = PrefillSpeed(timing, n_tokens * 1e3 / timing.median_ms, n_tokens)
    return speeds


def encoder_latency(
    model: nn.Module,
    n_tokens: int = 32,
    batch_size: int = 1,
    *,
    warmup: int = 3,
    repeats: int = 10,
) -> Timing:
    """Time an encoder on a batch of random sentences of n_tokens tokens each.

    Returns Timing of the whole batch.
    """
    require_int("n_tokens", n_tokens, 1)
    require_int("batch_size", batch_size, 1)
    ids = random_tokens(model, batch_size, n_tokens)
    mask = torch.ones_like(ids)
    with evaluating(model):
        return time_call(lambda: model(ids, attention_mask=mask), warmup, repeats)


def _stopwatch(
    model: nn.Module, prompt: torch.Tensor, n_new: int, clock: Clock
) -> tuple[float, list[float]]:
    """Write n_new tokens; give the time at the start and after each of them, in seconds."""
    times: list[float] = []

    def look(input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        """Look at the clock; `generate` calls this after each new token, and is not stopped."""
        wait_for_device()
        times.append(clock())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    wait_for_device()
    start = clock()
    write_tokens(model, prompt, n_new, stopping_criteria=[look])
    return start, times


def write_tokens(
    model: nn.Module, prompt: torch.Tensor, n_new: int, **more: object
) -> torch.Tensor:
    """Let `generate` write exactly n_new tokens after a prompt [1, seq_len], the likeliest each."""
    return model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        min_new_tokens=n_new,
        max_new_tokens=n_new,
        do_sample=False,
        num_beams=1,
        pad_token_id=0,
        **more,
    )


def _prefill(model: nn.Module, prompt: torch.Tensor):
    """Give a function that reads the prompt as generate does: cache filled, last logits only."""
    names = inspect.signature(model.forward).parameters
    options = {"use_cache": True, "logits_to_keep": 1}
    known = {name: value for name, value in options.items() if name in names}
    return lambda: model(prompt, **known)


def _prompt(name: str, model: nn.Module, prompt_tokens: torch.Tensor | int) -> torch.Tensor:
    """Give a prompt [1, seq_len] on the model's device, after checking model and tokens."""
    if not callable(getattr(model, "generate", None)):
        raise InputError(
            f"{name} is a {type(model).__name__}, which cannot generate text: give a causal "
            "language model, or time an encoder with encoder_latency."
        )
    if not isinstance(prompt_tokens, torch.Tensor):
        return random_tokens(model, 1, require_int("prompt_tokens", prompt_tokens, 1))
    prompt = prompt_tokens[None] if prompt_tokens.ndim == 1 else prompt_tokens
    if prompt.ndim != 2 or prompt.shape[0] != 1 or prompt.shape[1] < 1:
        raise InputError(
            f"prompt_tokens has shape {tuple(prompt_tokens.shape)}: give one prompt, [seq_len] or "
            "[1, seq_len], such as tokens[:1, :64]."
        )
    check_vocabulary(name, model, prompt)
    return prompt.long().to(device_of(model))


def random_tokens(model: nn.Module, n: int, seq_len: int) -> torch.Tensor:
    """Draw token ids [n, seq_len] that a model knows; the same ones each time."""
    vocab_size = getattr(getattr(model, "config", None), "vocab_size", 2)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocab_size, (n, seq_len), generator=generator)
    return ids.to(device_of(model))
