"""Work out the truths of lesson 08's exercises.

Everything here is numpy in float64, one group at a time, as one would do it with a pencil, and
independent of the package.
"""

from __future__ import annotations

import numpy as np

from shrinkkit.checks.inputs import column_groups

Array = np.ndarray


def random_states(seed: int | np.random.Generator, tokens: int, channels: int) -> Array:
    """Draw keys or values [tokens, channels] float32; one channel is large, one token is."""
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((tokens, channels)) * rng.uniform(0.3, 2.0, size=(1, channels))
    states[:, channels // 2] += 9.0
    states[tokens // 3] *= 2.5
    return states.astype(np.float32)


def key_places(keys: Array, group_size: int) -> list[tuple]:
    """List what shares a scale in keys: a channel of each whole group of tokens."""
    return [
        (slice(start, start + group_size), channel)
        for start in range(0, len(keys) // group_size * group_size, group_size)
        for channel in range(keys.shape[1])
    ]


def round_group(numbers: Array, bits: int) -> Array:
    """Round numbers that share a scale: low + scale * round((x - low) / scale), in float64."""
    numbers = numbers.astype(np.float64)
    low = numbers.min()
    scale = (numbers.max() - low) / (2**bits - 1)
    return low + scale * np.round((numbers - low) / scale) if scale else numbers


def round_keys(keys: Array, bits: int, group_size: int) -> Array:
    """Round keys [tokens, channels]; tokens of the unfinished group stay."""
    rounded = keys.astype(np.float64)
    for place in key_places(keys, group_size):
        rounded[place] = round_group(keys[place], bits)
    return rounded


def round_values(values: Array, bits: int, group_size: int) -> Array:
    """Round values [tokens, channels]."""
    rounded = values.astype(np.float64)
    for place in column_groups(values, group_size):
        rounded[place] = round_group(values[place], bits)
    return rounded


def away_from_ties(states: Array, places: list[tuple], bits: int) -> Array:
    """Move numbers that lie halfway between two levels a fiftieth of a step down.

    places: what shares a scale. Ends of a range lie on a level, so they never move.
    """
    moved = states.astype(np.float64)
    for place in places:
        group = moved[place]  # a view
        scale = (group.max() - group.min()) / (2**bits - 1)
        if scale:
            near = np.abs((group - group.min()) / scale % 1 - 0.5) < 0.01
            group[near] -= 0.02 * scale
    return moved.astype(states.dtype)


def on_quarters(rng: np.random.Generator, states: Array, places: list[tuple], bits: int) -> Array:
    """Put numbers that share a scale on quarters of a step that is a power of two.

    Every sum and quotient on the way is exact then, also in 16 bits, so that all right ways to
    round agree to the last digit: bfloat16 up to 4 bits, float16 up to 8.
    """
    exact = np.round(states)
    for place in places:
        n = exact[place].size
        level = rng.integers(0, 2**bits, n)
        shift = rng.choice([-0.25, 0.0, 0.25], n)
        shift[level == 0], shift[level == 2**bits - 1] = 0.25, -0.25
        level[: min(n, 2)], shift[: min(n, 2)] = [0, 2**bits - 1][:n], 0.0  # the ends of the range
        order = rng.permutation(n)
        step = 2.0 ** rng.integers(-6, 4)
        exact[place] = step * (rng.integers(-8, 9) + (level + shift)[order])
    return exact


def cache_bytes(
    n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, bits: int, group_size: int
) -> float:
    """Count the bits of a quantized cache number by number, scale by scale."""
    total = 0
    whole = n_tokens // group_size * group_size
    for token in range(n_tokens):
        total += head_dim * (bits if token < whole else 16)  # its key
        total += head_dim * bits  # its value
        total += len(range(0, head_dim, group_size)) * (16 + 8)
    total += n_tokens // group_size * head_dim * (16 + 8)  # the keys' scales and zero points
    return n_layers * n_kv_heads * total / 8


def add_keys(window: Array, new: Array, group_size: int, residual: int) -> tuple[Array, Array]:
    """Let tokens come one by one; return those that left in whole groups, and the window."""
    ready: list[Array] = []
    waiting = list(window)
    for token in new:
        waiting.append(token)
        if len(waiting) - residual >= group_size:
            ready += waiting[:group_size]
            waiting = waiting[group_size:]
    channels = new.shape[1]
    return np.array(ready).reshape(-1, channels), np.array(waiting).reshape(-1, channels)
