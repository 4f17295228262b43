"""Work out what the usual mistakes of lesson 08's exercises return, so that a check can name them.

One function an exercise. Each returns {message: value}: a learner whose result equals the value is
told "it looks as if <message>". The messages say what to change, not only what is wrong.
"""

from __future__ import annotations

import math

import numpy as np

from shrinkkit.lessons.kv.truths import Array, round_group, round_keys, round_values


def bytes_mistakes(
    n_layers: int, n_kv_heads: int, head_dim: int, n_tokens: int, bits: int, group_size: int
) -> dict[str, float]:
    """Name mistakes in the bytes of a quantized cache."""
    heads = n_layers * n_kv_heads
    whole = n_tokens // group_size * group_size
    late = n_tokens - whole
    groups = math.ceil(head_dim / group_size)

    def total(packed_keys: float, values: int, late_bits: float, per_group: float = 24) -> float:
        key_bits = packed_keys * head_dim * (bits + per_group / group_size)
        value_bits = values * (head_dim * bits + groups * per_group)
        return heads * (key_bits + value_bits + late * head_dim * late_bits) / 8

    right = total(whole, n_tokens, 16)
    return {
        "scales and zero points were left out: 24 bits for each group": (
            total(whole, n_tokens, 16, per_group=0)
        ),
        "zero points were left out: a group has 16 bits of scale and 8 of zero point": (
            total(whole, n_tokens, 16, per_group=16)
        ),
        "the values were left out: a token has a key and a value": total(whole, 0, 16),
        "the keys that wait were left out: they take 16 bits a number": total(whole, n_tokens, 0),
        "all keys were counted as packed: the last n_tokens % group_size wait in 16 bits": (
            total(n_tokens, n_tokens, 0)
        ),
        "the unfinished group was counted as a full one: its tokens wait in 16 bits": (
            total(math.ceil(n_tokens / group_size) * group_size, n_tokens, 0)
        ),
        "values wait as well: they do not, a value is rounded when it arrives": (
            total(whole, whole, 32)
        ),
        "bits came back: divide by 8": right * 8,
        "one layer was counted: multiply by n_layers": right / n_layers,
        "one head was counted: multiply by n_kv_heads": right / n_kv_heads,
    }


def _rounding_mistakes(rounded, states: Array, bits: int, group_size: int) -> dict[str, Array]:
    """Name the mistakes that keys and values share."""
    return {
        "numbers were rounded down (floor or a cast to int), not to the nearest": rounded(
            states, bits, group_size, rounding=np.floor
        ),
        "the range was divided by 2**bits: between 2**bits levels lie 2**bits - 1 steps": rounded(
            states, bits, group_size, levels=True
        ),
        "the integers came back: the real number is low + scale * q": rounded(
            states, bits, group_size, integers=True
        ),
    }


def keys_mistakes(keys: Array, bits: int, group_size: int) -> dict[str, Array]:
    """Name mistakes in rounding keys per channel."""
    whole = len(keys) // group_size * group_size
    rest = keys[whole:].astype(np.float64)
    one_scale = np.concatenate(
        [round_group(keys[i : i + group_size], bits) for i in range(0, whole, group_size)] + [rest]
    )
    all_tokens = round_keys(keys[:whole], bits, max(1, whole))
    return {
        **_rounding_mistakes(round_keys, keys, bits, group_size),
        "the unfinished group was rounded: its tokens stay as they are until it is full": (
            round_keys(keys, bits, group_size, late=True)
        ),
        "the unfinished group was dropped: its tokens come back as they are": (
            round_keys(keys[:whole], bits, group_size)
        ),
        "a scale was shared per token, along dim=1: keys share it along the tokens, dim=0": (
            np.concatenate([round_values(keys[:whole], bits, keys.shape[1]), rest])
        ),
        "a channel has one scale for all tokens: it has one for each group of them": (
            np.concatenate([all_tokens, rest])
        ),
        "all channels of a group share one scale: each channel has its own": one_scale,
    }


def values_mistakes(values: Array, bits: int, group_size: int) -> dict[str, Array]:
    """Name mistakes in rounding values per token."""
    tokens, channels = values.shape
    whole = channels // group_size * group_size
    return {
        **_rounding_mistakes(round_values, values, bits, group_size),
        "a scale was shared per channel, along dim=0: values share it along the channels of one "
        "token, dim=1": round_keys(values, bits, tokens),
        "a token has one scale: it has one for each group of channels": (
            round_values(values, bits, channels)
        ),
        "all numbers share one scale": round_group(values, bits),
        "the short last group was left as it is: it has a scale of its own": np.concatenate(
            [round_values(values[:, :whole], bits, group_size), values[:, whole:]], axis=1
        ),
    }


def ready_mistakes(window: Array, new: Array, group_size: int, residual: int) -> dict[str, Array]:
    """Name mistakes in the tokens that leave the window."""
    every = np.concatenate([window, new])
    spare = max(0, len(every) - residual)
    n_ready = spare // group_size * group_size
    all_groups = len(every) // group_size * group_size
    return {
        "all tokens but `residual` left: only whole groups leave": every[:spare],
        "`residual` was left out: so many of the latest tokens have to stay": every[:all_groups],
        "only one group left: many tokens may come at once, and then several groups are full": (
            every[: min(group_size, n_ready)]
        ),
        "the newest tokens left: the oldest leave first": every[len(every) - n_ready :],
        "a full group had to wait for one more token: it leaves when `group_size` are ready, "
        "so compare with >=": every[: max(0, spare - 1) // group_size * group_size],
        "the new tokens were not looked at: join them to the window first": (
            window[: max(0, len(window) - residual) // group_size * group_size]
        ),
        "the two results are swapped: `return ready, window`": every[n_ready:],
    }
