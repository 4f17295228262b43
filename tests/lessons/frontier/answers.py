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


@memory_to_load.mistake("GB for GiB", says="the result is in GB")
def load_gb(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight / 8 / 1e9


@memory_to_load.mistake("bytes returned", says="the result is in bytes")
def load_bytes(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight / 8


@memory_to_load.mistake("MiB returned", says="the result is in MiB")
def load_mib(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight / 8 / 1024**2


@memory_to_load.mistake("bits for bytes", says="bits were taken for bytes: eight")
def load_bits(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight / GIB


@memory_to_load.mistake("times 8", says="bits were multiplied by 8")
def load_times_eight(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight * 8 / GIB


@memory_to_load.mistake("whole bytes for each weight", says="(bits // 8)")
def load_whole_bytes(n_parameters: int, bits_per_weight: float) -> float:
    bytes_per_weight = bits_per_weight // 8
    return n_parameters * bytes_per_weight / GIB


@memory_to_load.mistake("always fp32", says="every weight takes 32 bits")
def load_fp32(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * 4 / GIB


@memory_to_load.mistake("whole GiB", says="rounded down to whole GiB")
def load_whole(n_parameters: int, bits_per_weight: float) -> int:
    return int(n_parameters * bits_per_weight / 8) // GIB


@memory_to_load.mistake("2 ^ 30 for 2 ** 30", says="2 ^ 30, which is 28")
def load_xor(n_parameters: int, bits_per_weight: float) -> float:
    return n_parameters * bits_per_weight / 8 / (2 ^ 30)


@memory_to_load.mistake("a text", says="should be one number, but 'float' was")
def load_text(n_parameters: int, bits_per_weight: float) -> str:
    return type(n_parameters * bits_per_weight / 8 / GIB).__name__


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
    return layers * kv_heads * (hidden // heads) * users * tokens * bits / 8


@kv_cache.mistake("query heads counted", says="query heads were counted")
def cache_query_heads(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * heads * (hidden // heads) * users * tokens * bits / 8


@kv_cache.mistake("hidden size shared by KV heads", says="query heads were counted")
def cache_head_dim(layers, hidden, heads, kv_heads, users, tokens, bits):
    head_dim = hidden // kv_heads
    return 2 * layers * kv_heads * head_dim * users * tokens * bits / 8


@kv_cache.mistake("hidden_size for each KV head", says="every KV head keeps hidden_size")
def cache_hidden(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * hidden * users * tokens * bits / 8


@kv_cache.mistake("one KV head", says="one KV head was counted")
def cache_one_head(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * (hidden // heads) * users * tokens * bits / 8


@kv_cache.mistake("one layer", says="one layer was counted")
def cache_one_layer(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * kv_heads * (hidden // heads) * users * tokens * bits / 8


@kv_cache.mistake("one user", says="one user was counted")
def cache_one_user(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * tokens * bits / 8


@kv_cache.mistake("one token", says="one token was counted")
def cache_one_token(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * users * bits / 8


@kv_cache.mistake("bits for bytes", says="bits were taken for bytes")
def cache_bits(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * users * tokens * bits


@kv_cache.mistake("whole bytes for each number", says="(bits // 8)")
def cache_whole_bytes(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * users * tokens * (bits // 8)


@kv_cache.mistake("numbers for bytes", says="numbers were counted")
def cache_numbers(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * users * tokens


@kv_cache.mistake("GiB returned", says="the result is in GiB")
def cache_gib(layers, hidden, heads, kv_heads, users, tokens, bits):
    return 2 * layers * kv_heads * (hidden // heads) * users * tokens * bits / 8 / GIB


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


@decode_bound.mistake("caches left out", says="the KV caches were left out")
def decode_weights_only(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / weights


@decode_bound.mistake("one cache", says="one user's cache was read")
def decode_one_cache(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / (weights + kv * tokens)


@decode_bound.mistake("tokens of one user", says="the tokens of one user came back: a step")
def decode_one_token(weights, kv, users, tokens, bandwidth):
    return bandwidth * 1e9 / (weights + users * kv * tokens)


@decode_bound.mistake("users ignored", says="n_users makes no difference")
def decode_no_users(weights, kv, users, tokens, bandwidth):
    return bandwidth * 1e9 / (weights + kv * tokens)


@decode_bound.mistake("weights for each user", says="n_users makes no difference")
def decode_weights_again(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / (users * weights + users * kv * tokens)


@decode_bound.mistake("weights for each user, one token", says="weights are read anew for each")
def decode_weights_again_one(weights, kv, users, tokens, bandwidth):
    return bandwidth * 1e9 / (users * (weights + kv * tokens))


@decode_bound.mistake("context forgotten", says="one token's keys and values were read")
def decode_no_context(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / (weights + users * kv)


@decode_bound.mistake("upside down", says="these are seconds a token")
def decode_seconds(weights, kv, users, tokens, bandwidth):
    return (weights + users * kv * tokens) / (users * bandwidth * 1e9)


@decode_bound.mistake("seconds of a step", says="these are the seconds of a step")
def decode_step(weights, kv, users, tokens, bandwidth):
    return (weights + users * kv * tokens) / (bandwidth * 1e9)


@decode_bound.mistake("GiB for GB", says="GB were taken for GiB")
def decode_gib(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * GIB / (weights + users * kv * tokens)


@decode_bound.mistake("bytes a second", says="taken for bytes a second")
def decode_no_giga(weights, kv, users, tokens, bandwidth):
    return users * bandwidth / (weights + users * kv * tokens)


@decode_bound.mistake("bytes to bits", says="bytes were turned into bits")
def decode_bits(weights, kv, users, tokens, bandwidth):
    return users * bandwidth * 1e9 / (8 * (weights + users * kv * tokens))


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
    return 2 * parameters * tokens / (peak * 1e12 * utilisation) / 3600


@training.mistake("backward pass only", says="the backward pass alone")
def training_backward(parameters, tokens, peak, utilisation):
    return 4 * parameters * tokens / (peak * 1e12 * utilisation) / 3600


@training.mistake("multiplications only", says="three operations were counted")
def training_multiplications(parameters, tokens, peak, utilisation):
    return 3 * parameters * tokens / (peak * 1e12 * utilisation) / 3600


@training.mistake("full speed", says="utilisation was not used")
def training_peak(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12) / 3600


@training.mistake("times utilisation", says="utilisation was multiplied with the time")
def training_times(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / peak / 1e12 * utilisation / 3600


@training.mistake("the unused part", says="utilisation was turned round")
def training_unused(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12 * max(1 - utilisation, 1e-9)) / 3600


@training.mistake("percentage", says="utilisation was taken for a percentage")
def training_percent(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12 * utilisation / 100) / 3600


@training.mistake("seconds", says="the result is in seconds")
def training_seconds(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12 * utilisation)


@training.mistake("minutes", says="the result is in minutes")
def training_minutes(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12 * utilisation) / 60


@training.mistake("days", says="the result is in days")
def training_days(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e12 * utilisation) / 86_400


@training.mistake("giga for tera", says="taken for 10**9 operations a second")
def training_giga(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 1e9 * utilisation) / 3600


@training.mistake("2**40 for tera", says="taken for 2**40 operations a second")
def training_tebi(parameters, tokens, peak, utilisation):
    return 6 * parameters * tokens / (peak * 2**40 * utilisation) / 3600
