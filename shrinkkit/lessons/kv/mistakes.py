"""The usual wrong answers to the exercises of lesson 08, each with what to tell its author.

Most are the right answer with one thing changed: a helper has the right one and takes what stands
in the place of a part of it. Where the helper's call says all, it is a lambda.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from shrinkkit.checks.mistakes import Mistakes

CACHE_BYTES = Mistakes()
ROUND_KEYS = Mistakes()
ROUND_VALUES = Mistakes()
ADD_KEYS = Mistakes()

# -------------------------------------------------------------------------- kv.cache_bytes


def counted(
    *case, packed=math.floor, values=None, late_bits=16, per_keys=24, per_values=24, whole=math.ceil
) -> float:
    """Count a cache's bytes.

    packed, values: how many of the n_tokens / group_size groups count as packed keys, as values.
    late_bits: what a number of a token that waits takes. per_keys, per_values: a scale and a zero
    point. whole: how many of the head_dim / group_size groups of a value there are.
    """
    n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size = case
    groups = n_tokens / group_size
    values = n_tokens if values is None else values(groups) * group_size
    key_bits = packed(groups) * head_dim * (group_size * bits + per_keys)
    late_bits *= n_tokens % group_size * head_dim
    value_bits = values * (head_dim * bits + per_values * whole(head_dim / group_size))
    return n_layers * n_kv_heads * (key_bits + late_bits + value_bits) / 8


def in_parts(rounding: Callable, *case) -> float:
    """Count a cache's bytes, each head's keys and values rounded to bytes by themselves."""
    n_layers, n_kv_heads, *one = case
    keys = counted(1, 1, *one, values=lambda groups: 0)
    return n_layers * n_kv_heads * (rounding(keys) + rounding(counted(1, 1, *one) - keys))


CACHE_BYTES.add(
    "scales and zero points were left out: 24 bits for each group",
    lambda *case: counted(*case, per_keys=0, per_values=0),
)
CACHE_BYTES.add(
    "the 24 bits of each group of keys were left out: it has a scale and a zero point a channel",
    lambda *case: counted(*case, per_keys=0),
)
CACHE_BYTES.add(
    "the 24 bits of each group of values were left out",
    lambda *case: counted(*case, per_values=0),
)
CACHE_BYTES.add(
    "a group of keys was given one scale: it has one for each channel",
    lambda *case: counted(*case, per_keys=24 / case[2]),
)
CACHE_BYTES.add(
    "the short last group of a value was left out: it has a scale and a zero point, too",
    lambda *case: counted(*case, whole=math.floor),
)
CACHE_BYTES.add(
    "a value's groups were counted with a fraction: the short last one takes 24 bits, too",
    lambda *case: counted(*case, whole=float),
)
CACHE_BYTES.add(
    "zero points were left out: a group has 16 bits of scale and 8 of zero point",
    lambda *case: counted(*case, per_keys=16, per_values=16),
)
CACHE_BYTES.add(
    "the values were left out: a token has a key and a value",
    lambda *case: counted(*case, values=lambda groups: 0),
)
CACHE_BYTES.add(
    "the keys that wait were left out: they take 16 bits a number",
    lambda *case: counted(*case, late_bits=0),
)
CACHE_BYTES.add(
    "keys and values were rounded down to bytes by themselves (`// 8`): add up the bits, and "
    "divide by 8 once",
    lambda *case: in_parts(math.floor, *case),
)
CACHE_BYTES.add(
    "keys and values were rounded up to bytes by themselves: add up the bits, and divide by 8 once",
    lambda *case: in_parts(math.ceil, *case),
)
CACHE_BYTES.add(
    "the total was rounded down (`// 8` or int): return it with its fraction",
    lambda *case: math.floor(counted(*case)),
)
CACHE_BYTES.add(
    "all keys were counted as packed: the last n_tokens % group_size wait in 16 bits",
    lambda *case: counted(*case, packed=lambda groups: groups, late_bits=0),
)
CACHE_BYTES.add(
    "the unfinished group was counted as a full one: its tokens wait in 16 bits",
    lambda *case: counted(*case, packed=math.ceil, late_bits=0),
)
CACHE_BYTES.add(
    "values wait as well: they do not, a value is rounded when it arrives",
    lambda *case: counted(*case, values=math.floor, late_bits=32),
)
CACHE_BYTES.add("bits came back: divide by 8", lambda *case: counted(*case) * 8)
CACHE_BYTES.add("one layer was counted: multiply by n_layers", lambda _, *case: counted(1, *case))
CACHE_BYTES.add(
    "one head was counted: multiply by n_kv_heads",
    lambda n_layers, _, *case: counted(n_layers, 1, *case),
)

# ---------------------------------------------------------- kv.round_keys, kv.round_values


def rounded(
    x: Tensor,
    bits: int,
    along=0,
    *,
    rounding=torch.round,
    steps=-1,
    least=0.0,
    ends=None,
    zero_point=False,
    integers=False,
) -> Tensor:
    """Round what shares a scale: it lies along one axis, or along both.

    steps: how many more of them than levels. least: no scale is smaller. ends: what to take for the
    low and the high end. zero_point: move the grid so that 0 lies on it. integers: give them back.
    """
    low, high = x.amin(along, keepdim=True), x.amax(along, keepdim=True)
    if ends is not None:
        low, high = ends(low, high)
    scale = ((high - low) / (2**bits + steps)).clamp(min=least)
    scale = scale.masked_fill(scale == 0, 1.0)
    if zero_point:
        low = scale * (low / scale).round()
    q = rounding((x - low) / scale).clamp(max=2**bits - 1)
    return q if integers else low + scale * q


def keys(keys: Tensor, bits: int, group_size: int, *, late=False, **how) -> Tensor:
    """Round groups of tokens; late: the unfinished one, too."""
    parts = keys.split(group_size)
    return torch.cat(
        [rounded(p, bits, **how) if late or len(p) == group_size else p for p in parts]
    )


def values(values: Tensor, bits: int, group_size: int, *, late=True, **how) -> Tensor:
    """Round groups of channels: what keys do along tokens, and the short last one has its scale."""
    return keys(values.T, bits, group_size, late=late, **how).T


def shared(exercise: Mistakes, right: Callable) -> None:
    """Register what keys and values have in common."""
    exercise.add(
        "numbers were rounded down (floor or a cast to int), not to the nearest",
        lambda *case: right(*case, rounding=torch.floor),
    )
    exercise.add(
        "the range was divided by 2**bits: between 2**bits levels lie 2**bits - 1 steps",
        lambda *case: right(*case, steps=0),
    )
    exercise.add(
        "the integers came back: the real number is low + scale * q",
        lambda *case: right(*case, integers=True),
    )
    exercise.add(
        "numbers of a small range were lost: no scale may be raised (`clamp(min=...)`, `+ 1e-8`), "
        "only one that is exactly 0 needs a stand-in",
        lambda *case: right(*case, least=1e-2),
    )
    exercise.add(
        "the grid reaches to zero: it goes from the lowest to the highest number of the group",
        lambda *case: right(*case, ends=lambda low, high: (low.clamp(max=0), high.clamp(min=0))),
    )
    exercise.add(
        "the grid was moved so that 0 lies on it (a zero point): here the lowest number does",
        lambda *case: right(*case, zero_point=True),
    )
    exercise.add(
        "integers above 127 were kept in int8, where they turn negative",
        lambda *case: right(*case, rounding=lambda v: v.round().to(torch.int8).to(v.dtype)),
    )


shared(ROUND_KEYS, keys)
ROUND_KEYS.add(
    "the unfinished group was rounded: its tokens stay as they are until it is full",
    lambda *case: keys(*case, late=True),
)
ROUND_KEYS.add(
    "the unfinished group was dropped: its tokens come back as they are",
    lambda x, bits, group_size: keys(x, bits, group_size)[: len(x) // group_size * group_size],
)
ROUND_KEYS.add(
    "a scale was shared per token, along dim=1: keys share it along the tokens, dim=0",
    lambda *case: keys(*case, along=1),
)
ROUND_KEYS.add(
    "a channel has one scale for all tokens: it has one for each group of them",
    lambda x, bits, group_size: keys(x, bits, max(1, len(x) // group_size * group_size)),
)
ROUND_KEYS.add(
    "all channels of a group share one scale: each channel has its own",
    lambda *case: keys(*case, along=(0, 1)),
)

shared(ROUND_VALUES, values)
ROUND_VALUES.add(
    "a scale was shared per channel, along dim=0: values share it along the channels of one "
    "token, dim=1",
    lambda x, bits, group_size: rounded(x, bits, 0),
)
ROUND_VALUES.add(
    "a token has one scale: it has one for each group of channels",
    lambda x, bits, group_size: rounded(x, bits, 1),
)
ROUND_VALUES.add(
    "all numbers share one scale", lambda x, bits, group_size: rounded(x, bits, (0, 1))
)
ROUND_VALUES.add(
    "the short last group was left as it is: it has a scale of its own",
    lambda *case: values(*case, late=False),
)

# ----------------------------------------------------------------------------- kv.add_keys


def leave(window: Tensor, new: Tensor, group_size: int, residual: int) -> tuple[Tensor, Tensor]:
    every = torch.cat([window, new])
    n_ready = max(0, len(every) - residual) // group_size * group_size
    return every[:n_ready], every[n_ready:]


ADD_KEYS.add(
    "all tokens but `residual` left: only whole groups leave",
    lambda window, new, group_size, residual: leave(window, new, 1, residual),
)
ADD_KEYS.add(
    "`residual` was left out: so many of the latest tokens have to stay",
    lambda window, new, group_size, residual: leave(window, new, group_size, 0),
)


@ADD_KEYS("only one group left: many tokens may come at once, and then several groups are full")
def one_group(window, new, group_size, residual):
    ready, left = leave(window, new, group_size, residual)
    return ready[:group_size], torch.cat([ready[group_size:], left])


@ADD_KEYS("the newest tokens left: the oldest leave first")
def newest(window, new, group_size, residual):
    n_left = len(leave(window, new, group_size, residual)[1])
    every = torch.cat([window, new])
    return every[n_left:], every[:n_left]


ADD_KEYS.add(
    "a full group had to wait for one more token: it leaves when `group_size` are ready, "
    "so compare with >=",
    lambda window, new, group_size, residual: leave(window, new, group_size, residual + 1),
)


@ADD_KEYS("the new tokens were not looked at: join them to the window first")
def window_alone(window, new, group_size, residual):
    ready, left = leave(window, new[:0], group_size, residual)
    return ready, torch.cat([left, new])


@ADD_KEYS("too few tokens made a negative count: `max(0, ...)` what could leave")
def below_zero(window, new, group_size, residual):
    every = torch.cat([window, new])
    n_ready = (len(every) - residual) // group_size * group_size
    return every[:n_ready], every[n_ready:]
