"""Right and wrong answers to the exercises of lesson 08."""

from __future__ import annotations

import math

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor


def lines(x: Tensor, bits: int, dim: int, rounding=torch.round, levels: int = 0) -> Tensor:
    """Round what lies along `dim` on a grid from its low to its high end."""
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    scale = (high - low) / (2**bits - 1 + levels)
    scale = scale.masked_fill(scale == 0, 1.0)
    return low + scale * rounding((x - low) / scale).clamp(0, 2**bits - 1)


def in_groups(x: Tensor, bits: int, group_size: int, **how) -> Tensor:
    """Round whole groups of tokens, channel by channel; the rest stays."""
    return torch.cat(
        [
            lines(part, bits, 0, **how) if len(part) == group_size else part
            for part in x.split(group_size)
        ]
    )


# -------------------------------------------------------------------------- kv.cache_bytes

cache_bytes = Answers("kv.cache_bytes")


@cache_bytes.second
def bytes_by_parts(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    n_groups, late = divmod(n_tokens, group_size)
    key_bytes = n_groups * head_dim * (group_size * bits / 8 + 3) + late * head_dim * 2
    value_bytes = n_tokens * (head_dim * bits / 8 + 3 * math.ceil(head_dim / group_size))
    return n_layers * n_kv_heads * (key_bytes + value_bytes)


def counted(n_layers, n_kv_heads, head_dim, keys, late, values, bits, group_size, shared=24):
    key_bits = keys * head_dim * (bits + shared / group_size) + late * head_dim * 16
    value_bits = values * (head_dim * bits + shared * math.ceil(head_dim / group_size))
    return n_layers * n_kv_heads * (key_bits + value_bits) / 8


@cache_bytes.mistake("scales left out", says="scales and zero points were left out")
def bytes_no_scales(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    late = n_tokens % group_size
    shape = n_layers, n_kv_heads, head_dim
    return counted(*shape, n_tokens - late, late, n_tokens, bits, group_size, shared=0)


@cache_bytes.mistake("zero points left out", says="zero points were left out")
def bytes_no_zeros(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    late = n_tokens % group_size
    shape = n_layers, n_kv_heads, head_dim
    return counted(*shape, n_tokens - late, late, n_tokens, bits, group_size, shared=16)


@cache_bytes.mistake("values left out", says="the values were left out")
def bytes_keys_only(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    late = n_tokens % group_size
    return counted(n_layers, n_kv_heads, head_dim, n_tokens - late, late, 0, bits, group_size)


@cache_bytes.mistake("no key waits", says="all keys were counted as packed")
def bytes_all_packed(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    return counted(n_layers, n_kv_heads, head_dim, n_tokens, 0, n_tokens, bits, group_size)


@cache_bytes.mistake("waiting keys left out", says="the keys that wait were left out")
def bytes_late_dropped(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    whole = n_tokens - n_tokens % group_size
    return counted(n_layers, n_kv_heads, head_dim, whole, 0, n_tokens, bits, group_size)


@cache_bytes.mistake("bits returned", says="divide by 8")
def bytes_in_bits(*case):
    return 8 * bytes_by_parts(*case)


@cache_bytes.mistake("values wait too", says="values wait as well")
def bytes_values_wait(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    late = n_tokens % group_size
    whole = n_tokens - late
    return counted(n_layers, n_kv_heads, head_dim, whole, 2 * late, whole, bits, group_size)


# --------------------------------------------------------------------------- kv.round_keys

round_keys = Answers("kv.round_keys")


@round_keys.second
def keys_by_view(keys: Tensor, bits: int, group_size: int) -> Tensor:
    whole = len(keys) // group_size * group_size
    if whole == 0:
        return keys.clone()
    groups = keys[:whole].view(-1, group_size, keys.shape[1])
    return torch.cat([lines(groups, bits, 1).flatten(0, 1), keys[whole:]])


@round_keys.mistake("per token", says="a scale was shared per token")
def keys_per_token(keys: Tensor, bits: int, group_size: int) -> Tensor:
    whole = len(keys) // group_size * group_size
    return torch.cat([lines(keys[:whole], bits, 1), keys[whole:]])


@round_keys.mistake("unfinished group rounded", says="the unfinished group was rounded")
def keys_late_rounded(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return torch.cat([lines(part, bits, 0) for part in keys.split(group_size)])


@round_keys.mistake("unfinished group dropped", says="the unfinished group was dropped")
def keys_late_dropped(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return in_groups(keys, bits, group_size)[: len(keys) // group_size * group_size]


@round_keys.mistake("one scale for all tokens", says="one scale for all tokens")
def keys_no_groups(keys: Tensor, bits: int, group_size: int) -> Tensor:
    whole = len(keys) // group_size * group_size
    return torch.cat([lines(keys[:whole], bits, 0), keys[whole:]]) if whole else keys


@round_keys.mistake("floor", says="rounded down (floor")
def keys_floor(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return in_groups(keys, bits, group_size, rounding=torch.floor)


@round_keys.mistake("2**bits steps", says="divided by 2**bits:")
def keys_levels(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return in_groups(keys, bits, group_size, levels=1)


@round_keys.mistake("one scale a group", says="all channels of a group share one scale")
def keys_one_scale(keys: Tensor, bits: int, group_size: int) -> Tensor:
    parts = keys.split(group_size)
    done = [lines(p.reshape(1, -1), bits, 1).view_as(p) for p in parts if len(p) == group_size]
    return torch.cat([*done, *(p for p in parts if len(p) < group_size)])


# ------------------------------------------------------------------------- kv.round_values

round_values = Answers("kv.round_values")


@round_values.second
def values_by_loops(values: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = values.clone()
    for row in rounded:
        for start in range(0, len(row), group_size):
            part = row[start : start + group_size]
            low, step = part.min(), (part.max() - part.min()) / (2**bits - 1)
            if step > 0:
                row[start : start + group_size] = low + step * ((part - low) / step).round()
    return rounded


def value_groups(values: Tensor, bits: int, group_size: int, **how) -> Tensor:
    parts = values.split(group_size, dim=1)
    return torch.cat([lines(part, bits, 1, **how) for part in parts], dim=1)


@round_values.mistake("per channel", says="a scale was shared per channel")
def values_per_channel(values: Tensor, bits: int, group_size: int) -> Tensor:
    return lines(values, bits, 0)


@round_values.mistake("one scale a token", says="a token has one scale")
def values_per_token(values: Tensor, bits: int, group_size: int) -> Tensor:
    return lines(values, bits, 1)


@round_values.mistake("one scale for all", says="all numbers share one scale")
def values_one_scale(values: Tensor, bits: int, group_size: int) -> Tensor:
    return lines(values.reshape(1, -1), bits, 1).view_as(values)


@round_values.mistake("floor", says="rounded down (floor")
def values_floor(values: Tensor, bits: int, group_size: int) -> Tensor:
    return value_groups(values, bits, group_size, rounding=torch.floor)


@round_values.mistake("2**bits steps", says="divided by 2**bits:")
def values_levels(values: Tensor, bits: int, group_size: int) -> Tensor:
    return value_groups(values, bits, group_size, levels=1)


@round_values.mistake("short group left", says="the short last group was left as it is")
def values_short_left(values: Tensor, bits: int, group_size: int) -> Tensor:
    whole = values.shape[1] // group_size * group_size
    done = value_groups(values[:, :whole], bits, group_size)
    return torch.cat([done, values[:, whole:]], dim=1)


# ----------------------------------------------------------------------------- kv.add_keys

add_keys = Answers("kv.add_keys")


@add_keys.second
def add_one_by_one(window: Tensor, new: Tensor, group_size: int, residual: int):
    every = torch.cat([window, new])
    start = 0
    while len(every) - start - group_size >= residual:
        start += group_size
    return every[:start], every[start:]


def cut(window: Tensor, new: Tensor, n_ready: int) -> tuple[Tensor, Tensor]:
    every = torch.cat([window, new])
    return every[:n_ready], every[n_ready:]


@add_keys.mistake("broken groups leave", says="only whole groups leave")
def add_broken(window: Tensor, new: Tensor, group_size: int, residual: int):
    return cut(window, new, max(0, len(window) + len(new) - residual))


@add_keys.mistake("residual left out", says="`residual` was left out")
def add_no_residual(window: Tensor, new: Tensor, group_size: int, residual: int):
    n = len(window) + len(new)
    return cut(window, new, n - n % group_size)


@add_keys.mistake("one group at most", says="only one group left")
def add_one_group(window: Tensor, new: Tensor, group_size: int, residual: int):
    full = len(window) + len(new) - residual >= group_size
    return cut(window, new, group_size if full else 0)


@add_keys.mistake("newest leave", says="the newest tokens left")
def add_newest(window: Tensor, new: Tensor, group_size: int, residual: int):
    every = torch.cat([window, new])
    n = len(every) - max(0, len(every) - residual) // group_size * group_size
    return every[n:], every[:n]


@add_keys.mistake("> for >=", says="a full group had to wait for one more token")
def add_too_late(window: Tensor, new: Tensor, group_size: int, residual: int):
    spare = max(0, len(window) + len(new) - residual - 1)
    return cut(window, new, spare // group_size * group_size)


@add_keys.mistake("results swapped", says="the two results are swapped")
def add_swapped(window: Tensor, new: Tensor, group_size: int, residual: int):
    return add_one_by_one(window, new, group_size, residual)[::-1]


@add_keys.mistake("window emptied", says="It holds whatever did not leave")
def add_forgets(window: Tensor, new: Tensor, group_size: int, residual: int):
    ready, left = add_one_by_one(window, new, group_size, residual)
    return ready, left[:0] if len(ready) else left
