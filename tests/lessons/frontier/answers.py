"""Right and wrong answers to the exercises of lesson 01."""

from __future__ import annotations

import math

from tests.lessons.gates import Answers

GIB = 2**30

# -------------------------------------------------------------------- frontier.memory_to_load

memory_to_load = Answers("frontier.memory_to_load")


@memory_to_load.second
def load_in_powers_of_two(n_parameters: int, bits_per_weight: float) -> float:
    gib = n_parameters * bits_per_weight
    for divisor in (8, 1024, 1024, 1024):
        gib /= divisor
    return gib


@memory_to_load.mistake("MiB returned", says="the result is in MiB")
def load_mib(n_parameters: int, bits_per_weight: float) -> float:
    kib = n_parameters * bits_per_weight / 2**13
    return kib / 1024


@memory_to_load.mistake("whole bytes for each weight", says="(bits // 8)")
def load_whole_bytes(n_parameters: int, bits_per_weight: float) -> float:
    bytes_per_weight = int(bits_per_weight) >> 3
    return n_parameters * bytes_per_weight / GIB


@memory_to_load.mistake("a text", says="should be one number, but 'float' was")
def load_text(n_parameters: int, bits_per_weight: float) -> str:
    return type(n_parameters * bits_per_weight / 8 / GIB).__name__


@memory_to_load.mistake("five digits", says="is 4.58211, and should be 4.582107")
def load_five_digits(n_parameters: int, bits_per_weight: float) -> float:
    return round(load_in_powers_of_two(n_parameters, bits_per_weight), 5)


# -------------------------------------------------------------------- frontier.kv_cache_bytes

kv_cache = Answers("frontier.kv_cache_bytes")


@kv_cache.second
def cache_from_all_heads(
    n_layers: int,
    hidden_size: int,
    n_heads: int,
    n_kv_heads: int,
    n_users: int,
    context_tokens: int,
    bits: int,
) -> float:
    without_sharing = 2 * hidden_size  # a key and a value for every query head
    numbers = n_layers * without_sharing / (n_heads / n_kv_heads)
    return math.prod([numbers, bits / 8, n_users, context_tokens])


@kv_cache.mistake("keys only", says="the values were left out")
def cache_keys(layers, hidden, heads, kv_heads, users, tokens, bits):
    keys_of_a_token = hidden / heads * kv_heads * bits / 8
    return sum(keys_of_a_token * users * tokens for _ in range(layers))


@kv_cache.mistake("hidden size shared by KV heads", says="query heads were counted")
def cache_head_dim(layers, hidden, heads, kv_heads, users, tokens, bits):
    head_dim = hidden // kv_heads
    return 2 * layers * kv_heads * head_dim * users * tokens * bits / 8


@kv_cache.mistake("one layer", says="one layer was counted")
def cache_one_layer(layers, hidden, heads, kv_heads, users, tokens, bits):
    key = hidden // heads * bits
    return users * tokens * kv_heads * (key + key) / 8


@kv_cache.mistake("two bytes, always", says="every number takes 2 bytes")
def cache_two_bytes(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 4 * layers * hidden // heads * kv_heads * users * tokens


@kv_cache.mistake("a byte at least", says="fewer than 8 bits were counted as a whole byte")
def cache_a_byte_at_least(*case):
    *rest, bits = case
    return cache_from_all_heads(*rest, bits if bits > 8 else 8)


# ---------------------------------------------------------------------- frontier.decode_bound

decode_bound = Answers("frontier.decode_bound")


@decode_bound.second
def decode_by_seconds(
    weights_bytes: int,
    kv_bytes_per_token: float,
    n_users: int,
    context_tokens: int,
    bandwidth_gb_per_s: float,
) -> float:
    weights_s = weights_bytes / bandwidth_gb_per_s * 1e-9 / n_users  # each user's share of it
    cache_s = kv_bytes_per_token * context_tokens / bandwidth_gb_per_s * 1e-9
    return 1 / (weights_s + cache_s)


@decode_bound.mistake("one cache", says="one user's cache was read")
def decode_one_cache(weights, kv, users, tokens, bandwidth):
    step_s = (weights + kv * tokens) / bandwidth / 1e9
    return users / step_s


@decode_bound.mistake("weights for each user", says="n_users makes no difference")
def decode_weights_again(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / (users * weights + users * kv * tokens)


@decode_bound.mistake("seconds of a step", says="these are the seconds of a step")
def decode_step(weights, kv, users, tokens, bandwidth):
    weights_s = weights / bandwidth * 1e-9
    return weights_s + users * (tokens * kv / bandwidth * 1e-9)


# ---------------------------------------------------------------- frontier.training_gpu_hours

training = Answers("frontier.training_gpu_hours")


@training.second
def training_by_passes(
    n_parameters: int, n_tokens: int, peak_tflops: float, utilisation: float
) -> float:
    pass_tflop = 2e-12 * n_parameters * n_tokens  # forward; backward is two of these
    seconds = (pass_tflop + 2 * pass_tflop) / utilisation / peak_tflops
    return seconds / 60 / 60


@training.mistake("forward pass only", says="the forward pass alone")
def training_forward(parameters, tokens, peak, utilisation):
    flops = peak * utilisation * 10**12
    return (parameters * tokens + parameters * tokens) / flops / 60 / 60


@training.mistake("minutes", says="the result is in minutes")
def training_minutes(parameters, tokens, peak, utilisation):
    gpu_s = training_by_passes(parameters, tokens, peak, utilisation) * 3600
    return gpu_s / 60
