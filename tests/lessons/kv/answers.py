"""Right and wrong answers to the exercises of lesson 08."""

from __future__ import annotations

import math

import torch

from tests.lessons.gates import Answers

Tensor = torch.Tensor


def line(x: Tensor, bits: int) -> Tensor:
    """Round numbers that share a scale, on a grid from their low to their high end."""
    step = (x.max() - x.min()) / (2**bits - 1)
    return x.min() + step * ((x - x.min()) / step).round() if step > 0 else x


# -------------------------------------------------------------------------- kv.cache_bytes

cache_bytes = Answers("kv.cache_bytes")


@cache_bytes.second
def bytes_by_parts(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    n_groups, late = divmod(n_tokens, group_size)
    key_bytes = n_groups * head_dim * (group_size * bits / 8 + 3) + late * head_dim * 2
    value_bytes = n_tokens * (head_dim * bits / 8 + 3 * math.ceil(head_dim / group_size))
    return n_layers * n_kv_heads * (key_bytes + value_bytes)


@cache_bytes.mistake("values left out", says="the values were left out")
def bytes_keys_only(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    late = n_tokens % group_size
    numbers = (n_tokens - late) * bits + late * 16
    scales = (n_tokens - late) // group_size * 24
    return n_layers * n_kv_heads * head_dim * (numbers + scales) / 8


@cache_bytes.mistake("bits returned", says="divide by 8")
def bytes_in_bits(*case):
    return 8 * bytes_by_parts(*case)


@cache_bytes.mistake("// 8 everywhere", says="rounded down to bytes by themselves (`// 8`)")
def bytes_floored(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    n_groups, late = divmod(n_tokens, group_size)
    key_bytes = n_groups * head_dim * (group_size * bits + 24) // 8 + late * head_dim * 2
    value_bytes = n_tokens * (head_dim * bits + 24 * math.ceil(head_dim / group_size)) // 8
    return n_layers * n_kv_heads * (key_bytes + value_bytes)


@cache_bytes.mistake("24 bits of key groups forgotten", says="of each group of keys were left out")
def bytes_without_key_scales(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size):
    scales = n_layers * n_kv_heads * 3 * head_dim * (n_tokens // group_size)
    return bytes_by_parts(n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size) - scales


# --------------------------------------------------------------------------- kv.round_keys

round_keys = Answers("kv.round_keys")


@round_keys.second
def keys_by_view(keys: Tensor, bits: int, group_size: int) -> Tensor:
    whole = len(keys) // group_size * group_size
    if whole == 0:
        return keys.clone()
    groups = keys[:whole].view(-1, group_size, keys.shape[1])
    low, high = groups.aminmax(dim=1, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    scale = torch.where(scale == 0, 1.0, scale)
    rounded = low + scale * ((groups - low) / scale).round()
    return torch.cat([rounded.flatten(0, 1), keys[whole:]])


@round_keys.mistake("per token", says="a scale was shared per token")
def keys_per_token(keys: Tensor, bits: int, group_size: int) -> Tensor:
    late = len(keys) % group_size
    return torch.stack(
        [line(key, bits) if i < len(keys) - late else key for i, key in enumerate(keys)]
    )


@round_keys.mistake("unfinished group dropped", says="the unfinished group was dropped")
def keys_late_dropped(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return keys_by_view(keys, bits, group_size)[: len(keys) - len(keys) % group_size]


@round_keys.mistake("one scale for all tokens", says="one scale for all tokens")
def keys_no_groups(keys: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = keys.clone()
    for channel in rounded[: len(keys) - len(keys) % group_size].T:
        channel[:] = line(channel, bits)
    return rounded


@round_keys.mistake("float64 comes back", says="dtype torch.float64, and should have torch.float32")
def keys_in_double(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return keys_by_view(keys.double(), bits, group_size)


@round_keys.mistake("float32 comes back", says="dtype torch.float32, and should have torch.float16")
def keys_in_single(keys: Tensor, bits: int, group_size: int) -> Tensor:
    return keys_by_view(keys.float(), bits, group_size)


@round_keys.mistake("a little added to the scale", says="numbers of a small range were lost")
def keys_with_epsilon(keys: Tensor, bits: int, group_size: int) -> Tensor:
    whole = len(keys) // group_size * group_size
    groups = keys[:whole].unflatten(0, (-1, group_size)) if whole else keys[None, :0]
    low, high = groups.aminmax(dim=1, keepdim=True) if whole else (0, 0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-2) if whole else 1
    return torch.cat([(low + scale * ((groups - low) / scale).round()).flatten(0, 1), keys[whole:]])


# ------------------------------------------------------------------------- kv.round_values

round_values = Answers("kv.round_values")


@round_values.second
def values_by_loops(values: Tensor, bits: int, group_size: int) -> Tensor:
    rounded = values.clone()
    for row in rounded:
        for start in range(0, len(row), group_size):
            row[start : start + group_size] = line(row[start : start + group_size], bits)
    return rounded


@round_values.mistake("per channel", says="a scale was shared per channel")
def values_per_channel(values: Tensor, bits: int, group_size: int) -> Tensor:
    return torch.stack([line(column, bits) for column in values.T], dim=1)


@round_values.mistake("short group left", says="the short last group was left as it is")
def values_short_left(values: Tensor, bits: int, group_size: int) -> Tensor:
    rounded, short = values_by_loops(values, bits, group_size), values.shape[1] % group_size
    rounded[:, values.shape[1] - short :] = values[:, values.shape[1] - short :]
    return rounded


@round_values.mistake("float64 comes back", says="torch.float64, and should have torch.float32")
def values_in_double(values: Tensor, bits: int, group_size: int) -> Tensor:
    return values_by_loops(values.double(), bits, group_size)


@round_values.mistake("int8 overflows", says="integers above 127 were kept in int8")
def values_in_int8(values: Tensor, bits: int, group_size: int) -> Tensor:
    parts = []
    for part in values.split(group_size, dim=1):
        low, high = part.aminmax(dim=1, keepdim=True)
        step = ((high - low) / (2**bits - 1)).clamp(min=1e-20)
        parts.append(low + step * ((part - low) / step).round().to(torch.int8))
    return torch.cat(parts, dim=1)


# ----------------------------------------------------------------------------- kv.add_keys

add_keys = Answers("kv.add_keys")


@add_keys.second
def add_one_by_one(window: Tensor, new: Tensor, group_size: int, residual: int):
    every = torch.cat([window, new])
    start = 0
    while len(every) - start - group_size >= residual:
        start += group_size
    return every[:start], every[start:]


@add_keys.mistake("one group at most", says="only one group left")
def add_one_group(window: Tensor, new: Tensor, group_size: int, residual: int):
    every = torch.cat([window, new])
    full = len(every) - residual >= group_size
    return tuple(every.tensor_split([group_size if full else 0]))


@add_keys.mistake("> for >=", says="a full group had to wait for one more token")
def add_too_late(window: Tensor, new: Tensor, group_size: int, residual: int):
    ready, left = window[:0], window
    for token in new:
        left = torch.cat([left, token[None]])
        if len(left) > group_size + residual:
            ready, left = torch.cat([ready, left[:group_size]]), left[group_size:]
    return ready, left


@add_keys.mistake("window emptied", says="It holds whatever did not leave")
def add_forgets(window: Tensor, new: Tensor, group_size: int, residual: int):
    ready, left = add_one_by_one(window, new, group_size, residual)
    return ready, left[:0] if len(ready) else left


@add_keys.mistake("swapped", says="The two results are swapped: `return ready, window`")
def add_swapped(window: Tensor, new: Tensor, group_size: int, residual: int):
    return add_one_by_one(window, new, group_size, residual)[::-1]


@add_keys.mistake("a negative count", says="too few tokens made a negative count")
def add_below_zero(window: Tensor, new: Tensor, group_size: int, residual: int):
    every = torch.cat([window, new])
    groups, _ = divmod(len(every) - residual, group_size)
    return every[: groups * group_size], every[groups * group_size :]


@add_keys.mistake("nothing ever leaves", says="Ready (0 waiting and 11 new")
def add_nothing(window: Tensor, new: Tensor, group_size: int, residual: int):
    return new[:0], torch.cat([window, new])


@add_keys.mistake("float64 comes back", says="dtype torch.float64, and should have torch.float32")
def add_in_double(window: Tensor, new: Tensor, group_size: int, residual: int):
    return [part.double() for part in add_one_by_one(window, new, group_size, residual)]
