"""Check the exercises of lesson 08: the bytes of a quantized cache, and how it rounds and waits.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Inputs keep a distance from rounding ties, where float32 and float64 may round
differently and both are right.
"""

from __future__ import annotations

from collections.abc import Iterator

from shrinkkit.checks.compare import close, must
from shrinkkit.checks.inputs import tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.kv import mistakes, truths
from shrinkkit.lessons.kv.truths import Array, random_states

OWN = (  # closed during every check
    "shrinkkit.lessons.frontier.sums",
    "shrinkkit.measure.kv",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.kv.rows",
)

# n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size
BYTES_CASES = (
    (30, 3, 64, 1000, 4, 64),
    (32, 8, 128, 4100, 4, 32),
    (22, 4, 64, 1024, 8, 64),  # no key waits
    (2, 1, 80, 50, 2, 64),  # 80 channels: a group of 64 and one of 16; no group is full
)


def judge_cache_bytes(cache_bytes: Attempt) -> None:
    """Check the bytes of a cache with packed values, packed groups of keys and keys that wait."""
    for case in BYTES_CASES:
        close(
            cache_bytes(*case),
            truths.cache_bytes(*case),
            f"the size of the cache for (n_layers, ...) = {case}",
            "Count four things: packed keys, packed values, 24 bits for each group of both, and "
            "16 bits for each number of a key that waits.",
        )


def keys_cases() -> Iterator[tuple[Array, int, int]]:
    """Yield keys, bits, group_size: an unfinished group, none, only one, and a constant channel."""
    still = random_states(5, 8, 3)
    still[:4, 1] = 0.75
    for keys, bits, group_size in [
        (random_states(1, 14, 6), 4, 4),
        (random_states(2, 12, 5), 3, 6),
        (random_states(3, 3, 4), 4, 8),  # nothing is full yet
        (random_states(4, 70, 8), 2, 32),
        (still, 4, 4),
    ]:
        whole = len(keys) // group_size * group_size
        places = [
            (slice(start, start + group_size), channel)
            for start in range(0, whole, group_size)
            for channel in range(keys.shape[1])
        ]
        yield truths.away_from_ties(keys, places, bits), bits, group_size


def judge_round_keys(round_keys: Attempt) -> None:
    """Check rounding keys per channel, in whole groups of tokens."""
    for keys, bits, group_size in keys_cases():
        close(
            round_keys(tensor(keys), bits, group_size),
            tensor(truths.round_keys(keys, bits, group_size)),
            f"the keys {list(keys.shape)} in groups of {group_size} tokens",
            f"{len(keys) % group_size} token(s) wait for a full group here.",
        )


def values_cases() -> Iterator[tuple[Array, int, int]]:
    """Yield values, bits, group_size: short last groups, one token, one group, a constant group."""
    still = random_states(15, 3, 8)
    still[1, :4] = -0.5
    for values, bits, group_size in [
        (random_states(11, 6, 10), 4, 4),
        (random_states(12, 5, 12), 3, 6),
        (random_states(13, 1, 9), 4, 5),
        (random_states(14, 4, 8), 2, 8),
        (still, 4, 4),
    ]:
        places = [
            (token, slice(start, start + group_size))
            for token in range(len(values))
            for start in range(0, values.shape[1], group_size)
        ]
        yield truths.away_from_ties(values, places, bits), bits, group_size


def judge_round_values(round_values: Attempt) -> None:
    """Check rounding values per token, in groups of channels."""
    for values, bits, group_size in values_cases():
        short = values.shape[1] % group_size
        close(
            round_values(tensor(values), bits, group_size),
            tensor(truths.round_values(values, bits, group_size)),
            f"the values {list(values.shape)} in groups of {group_size} channels",
            f"The last group has {short} channel(s)."
            if short
            else "Each token has its own scales.",
        )


def add_cases() -> Iterator[tuple[Array, Array, int, int]]:
    """Yield window, new, group_size, residual: none, one and several full groups, nothing yet."""
    for seed, late, fresh, group_size, residual in [
        (21, 0, 11, 3, 2),
        (22, 3, 1, 4, 0),  # just full
        (23, 5, 1, 4, 2),  # just full behind a window of 2
        (24, 2, 1, 4, 0),
        (25, 6, 30, 8, 5),
        (26, 0, 1, 1, 0),
        (27, 1, 2, 2, 8),  # all of them have to stay
    ]:
        states = random_states(seed, late + fresh, 3)
        yield states[:late], states[late:], group_size, residual


def judge_add_keys(add_keys: Attempt) -> None:
    """Check when keys leave the window: the oldest, in whole groups, and never the latest."""
    for window, new, group_size, residual in add_cases():
        got = add_keys(tensor(window), tensor(new), group_size, residual)
        must(
            isinstance(got, tuple) and len(got) == 2,
            "Two tensors should come back: `return ready, window`.",
        )
        here = (
            f"{len(window)} waiting and {len(new)} new, groups of {group_size}, residual {residual}"
        )
        ready, left = truths.add_keys(window, new, group_size, residual)
        close(
            got[0],
            tensor(ready),
            f"ready ({here})",
            "The oldest tokens leave, in whole groups, while `residual` of the latest stay.",
        )
        close(got[1], tensor(left), f"the window ({here})", "It holds whatever did not leave.")


EXERCISES = {
    "kv.cache_bytes": Exercise(judge_cache_bytes, OWN, mistakes.CACHE_BYTES),
    "kv.round_keys": Exercise(judge_round_keys, OWN, mistakes.ROUND_KEYS),
    "kv.round_values": Exercise(judge_round_values, OWN, mistakes.ROUND_VALUES),
    "kv.add_keys": Exercise(judge_add_keys, OWN, mistakes.ADD_KEYS),
}
