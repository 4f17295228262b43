"""Check the exercises of lesson 08: the bytes of a quantized cache, and how it rounds and waits.

Here are the inputs and the comparisons; `truths.py` has the truths and `mistakes.py` the usual
wrong answers. Inputs keep a distance from rounding ties, where float32 and float64 may round
differently and both are right. Each judge goes through fixed cases and then some drawn afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

import numpy as np
import torch

from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.inputs import column_groups, fresh, largest, tensor
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.kv import mistakes, truths
from shrinkkit.lessons.kv.truths import Array, random_states

OWN = (  # closed during every check
    "shrinkkit.lessons.frontier.sums",
    "shrinkkit.measure.kv",
    "shrinkkit.quant.grids.affine",
    "shrinkkit.quant.kv.rows",
)
N_FRESH = 6
STAND_IN = "A scale of exactly 0 needs a stand-in, and no other, however small it is."
EXACT = {"rtol": 0.0, "atol": 0.0}

# n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size
BYTES_CASES = (
    (5, 3, 75, 1010, 3, 64),  # odd numbers, which tell the known mistakes apart
    (30, 3, 64, 1000, 4, 64),
    (32, 8, 128, 4100, 4, 32),
    (22, 4, 64, 1024, 8, 64),  # no key waits
    (2, 1, 80, 50, 2, 64),  # 80 channels: a group of 64 and one of 16; no group is full
    (1, 1, 3, 1, 5, 4),  # one token; bytes with a fraction
    (3, 5, 7, 9, 6, 1),  # groups of one
    (1, 3, 5, 11, 7, 11),
)


def fresh_bytes_cases() -> Iterator[tuple[int, ...]]:
    """Draw models, texts and formats."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_layers, n_kv_heads = rng.integers(1, (40, 12))
        head_dim, n_tokens = rng.integers(1, (130, 2000))
        bits, group_size = rng.integers((2, 1), (9, 130))
        case = (n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size)
        yield tuple(map(int, case))


def judge_cache_bytes(cache_bytes: Attempt) -> None:
    """Check the bytes of a cache with packed values, packed groups of keys and keys that wait."""
    for case in chain(BYTES_CASES, fresh_bytes_cases()):
        part = Part(
            f"the size of the cache for (n_layers, ...) = {case}",
            "Count four things: packed keys, packed values, 24 bits for each group of both, and "
            "16 bits for each number of a key that waits. Add up bits, and divide once.",
            rtol=1e-9,
            atol=0.0,
        )
        compare(cache_bytes, truths.cache_bytes, case, part)


# States, their bits and group_size, and the dtype in which they are given.
Case = tuple[Array, int, int, torch.dtype]
Places = Callable[[Array, int], list[tuple]]


def keys_cases() -> Iterator[Case]:
    """Yield keys: an unfinished group, none, only one, constant channels, all sizes and bits."""
    still = random_states(5, 8, 3)
    still[:4, 1] = 0.75
    for keys, bits, group_size in [
        (random_states(1, 14, 6), 4, 4),
        (random_states(2, 12, 5), 3, 6),
        (random_states(3, 3, 4), 4, 8),  # nothing is full yet
        (random_states(4, 70, 8), 2, 32),
        (still, 4, 4),
        (random_states(6, 63, 4), 8, 16),  # 15 wait
        (random_states(7, 5, 3), 4, 1),  # groups of one
    ]:
        yield spread_out(keys, bits, group_size, truths.key_places)
    yield from more_cases(8, (40, 7), 19, truths.key_places)


def values_cases() -> Iterator[Case]:
    """Yield values: short last groups, one token, one group, constant ones, all sizes and bits."""
    still = random_states(15, 3, 8)
    still[1, :4] = -0.5
    for values, bits, group_size in [
        (random_states(11, 6, 10), 4, 4),
        (random_states(12, 5, 12), 3, 6),
        (random_states(13, 1, 9), 4, 5),
        (random_states(14, 4, 8), 2, 8),
        (still, 4, 4),
        (random_states(16, 4, 7), 8, 3),  # the last group has one channel
        (random_states(17, 3, 5), 4, 1),  # groups of one
        (random_states(18, 3, 5), 5, 8),  # the only group is short
    ]:
        yield spread_out(values, bits, group_size, column_groups)
    yield from more_cases(19, (9, 40), 19, column_groups)


def spread_out(states: Array, bits: int, group_size: int, places: Places) -> Case:
    """Give states as float32, away from ties."""
    moved = truths.away_from_ties(states, places(states, group_size), bits)
    return moved, bits, group_size, torch.float32


def more_cases(
    seed: int | np.random.Generator, shape: tuple[int, int], group_size: int, places: Places
) -> Iterator[Case]:
    """Yield numbers from 1e-8 to 1e4, side by side, for every bit width, and in other dtypes."""
    rng = np.random.default_rng(seed)
    for bits in range(2, 9):
        states = random_states(rng, *shape)
        for n, place in enumerate(places(states, group_size)):
            states[place] *= 10.0 ** (rng.uniform(-6, 4) if n else -8)
        yield spread_out(states, bits, group_size, places)
    for bits, dtype in [(3, torch.float16), (4, torch.bfloat16), (7, torch.float64)]:
        states = random_states(rng, *shape)
        exact = truths.on_quarters(rng, states, places(states, group_size), bits)
        yield exact, bits, group_size, dtype


def fresh_cases(places: Places) -> Iterator[Case]:
    """Draw the shape and the group size, and then as above."""
    rng = fresh()
    tokens, channels = rng.integers(2, (30, 20))
    group_size = int(rng.integers(2, 12))
    yield from more_cases(rng, (int(tokens), int(channels)), group_size, places)


def judge_round_keys(round_keys: Attempt) -> None:
    """Check rounding keys per channel, in whole groups of tokens."""
    for keys, bits, group_size, dtype in chain(keys_cases(), fresh_cases(truths.key_places)):
        part = Part(
            f"the result for keys {list(keys.shape)} at {bits} bits, groups of {group_size}",
            f"{len(keys) % group_size} token(s) wait for a full group here. {STAND_IN}",
            dtype=dtype,
            rtol=0.0,
            atol=2e-6 * largest(keys, truths.key_places(keys, group_size)),
        )
        given = (tensor(keys).to(dtype), bits, group_size)
        compare(round_keys, truths.round_keys, (keys, bits, group_size), part, given=given)


def judge_round_values(round_values: Attempt) -> None:
    """Check rounding values per token, in groups of channels."""
    for values, bits, group_size, dtype in chain(values_cases(), fresh_cases(column_groups)):
        short = values.shape[1] % group_size
        part = Part(
            f"the result for values {list(values.shape)} at {bits} bits, groups of {group_size}",
            f"The last group of a token has {short or group_size} channel(s). {STAND_IN}",
            dtype=dtype,
            rtol=0.0,
            atol=2e-6 * largest(values, column_groups(values, group_size)),
        )
        given = (tensor(values).to(dtype), bits, group_size)
        compare(round_values, truths.round_values, (values, bits, group_size), part, given=given)


def add_cases() -> Iterator[tuple[Array, Array, int, int]]:
    """Yield window, new, group_size, residual: none, one and several full groups, nothing yet."""
    for seed, late, new, group_size, residual in [
        (21, 0, 11, 3, 2),
        (22, 3, 1, 4, 0),  # just full
        (23, 5, 1, 4, 2),  # just full behind a window of 2
        (24, 2, 1, 4, 0),
        (25, 6, 30, 8, 5),
        (26, 0, 1, 1, 0),
        (27, 1, 2, 2, 8),  # all of them have to stay
        (28, 3, 4, 2, 8),  # likewise, and they are more than what is missing
        (30, 3, 4, 2, 12),
        (29, 4, 0, 3, 2),  # no new token
    ]:
        states = random_states(seed, late + new, 3)
        yield states[:late], states[late:], group_size, residual


def fresh_add_cases() -> Iterator[tuple[Array, Array, int, int]]:
    """Draw a window as it may be, and new tokens."""
    rng = fresh()
    for _ in range(N_FRESH):
        group_size, residual = int(rng.integers(1, 9)), int(rng.integers(0, 12))
        late, new = rng.integers(0, residual + group_size), rng.integers(1, 30)
        states = random_states(rng, int(late + new), 4)
        yield states[:late], states[late:], group_size, residual


def judge_add_keys(add_keys: Attempt) -> None:
    """Check when keys leave the window: the oldest, in whole groups, and never the latest."""
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
    for n, case in enumerate(chain(add_cases(), fresh_add_cases())):
        *states, group_size, residual = case
        dtype = dtypes[n % len(dtypes)]
        waiting, new = (tensor(part).to(dtype) for part in states)
        exact = tuple(part.double().numpy() for part in (waiting, new))
        here = (
            f"{len(waiting)} waiting and {len(new)} new, groups of {group_size}, residual "
            f"{residual}"
        )
        compare(
            add_keys,
            truths.add_keys,
            (*exact, group_size, residual),
            Part(
                f"ready ({here})",
                "The oldest tokens leave, in whole groups, while `residual` of the latest stay.",
                dtype=dtype,
                **EXACT,
            ),
            Part(f"the window ({here})", "It holds whatever did not leave.", dtype=dtype, **EXACT),
            given=(waiting, new, group_size, residual),
            call="return ready, window",
        )


EXERCISES = {
    "kv.cache_bytes": Exercise(judge_cache_bytes, OWN, mistakes.CACHE_BYTES),
    "kv.round_keys": Exercise(judge_round_keys, OWN, mistakes.ROUND_KEYS),
    "kv.round_values": Exercise(judge_round_values, OWN, mistakes.ROUND_VALUES),
    "kv.add_keys": Exercise(judge_add_keys, OWN, mistakes.ADD_KEYS),
}
