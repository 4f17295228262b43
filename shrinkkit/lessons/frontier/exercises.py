"""Check the exercises of lesson 01: what a model costs to load, to serve, to run and to train.

Each exercise is one sum, and the usual mistakes are a wrong unit or a forgotten factor. So below
each truth stand the numbers that these mistakes lead to. The truths are exact: whole numbers and
fractions, worked out in the order in which one would explain them, without the package.
"""

from __future__ import annotations

from fractions import Fraction

from shrinkkit.checks.judge import Attempt, Exercise, close

OWN = ("shrinkkit.lessons.frontier.sums", "shrinkkit.measure.kv")  # closed during every check
GIB = 2**30

# Parameters and bits of each weight.
LOAD_CASES = [
    (1_540_000_000, 16),
    (7_000_000_000, 4),
    (134_515_008, 32),
    (3_800_000_000, 4.5),
    (66_000_000, 8),
    (175_000_000_000, 3),
]


def load_gib(n_parameters: int, bits: float) -> float:
    """Give the truth of memory_to_load_gib."""
    return float(n_parameters * Fraction(bits) / 8 / GIB)


def load_mistakes(n_parameters: int, bits: float) -> dict[str, float]:
    """Name mistakes in the memory that weights take."""
    right = load_gib(n_parameters, bits)
    return {
        "the result is in GB: a GiB has 2**30 bytes, 7 % more than 10**9": right * GIB / 1e9,
        "the result is in bytes: divide it by 2**30": right * GIB,
        "the result is in MiB: a GiB has 2**30 bytes": right * 2**10,
        "the result is in KiB: a GiB has 2**30 bytes": right * 2**20,
        "it was divided by 2 ^ 30, which is 28: Python writes a power as 2**30": right * GIB / 28,
        "bits were taken for bytes: eight bits are a byte": right * 8,
        "bits were taken for bytes, and GB for GiB": right * 8 * GIB / 1e9,
        "bits were multiplied by 8: eight bits are one byte, so divide": right * 64,
        "whole bytes were counted for each weight (bits // 8): at 4 bits that is 0, and two "
        "weights share a byte": load_gib(n_parameters, bits // 8 * 8),
        "every weight takes 32 bits: bits_per_weight was not used": load_gib(n_parameters, 32),
        "every weight takes 16 bits: bits_per_weight was not used": load_gib(n_parameters, 16),
        "the result was rounded down to whole GiB": right // 1,
        "the result was rounded to whole GiB": round(right),
    }


def judge_memory_to_load(memory_to_load_gib: Attempt) -> None:
    """Check the memory that a model's weights take."""
    for n_parameters, bits in LOAD_CASES:
        close(
            memory_to_load_gib(n_parameters, bits),
            load_gib(n_parameters, bits),
            f"the result of memory_to_load_gib({n_parameters}, {bits})",
            "Bits to bytes, then bytes to GiB.",
            lookalikes=load_mistakes(n_parameters, bits),
        )


# n_layers, hidden_size, n_heads, n_kv_heads, n_users, context_tokens, bits
CACHE_CASES = [
    (30, 576, 9, 3, 5, 700, 32),
    (32, 4096, 32, 32, 1, 2048, 16),  # every query head has a KV head of its own
    (18, 2048, 8, 1, 20, 1, 8),  # one KV head for all
    (2, 96, 6, 2, 3, 10, 4),
    (80, 8192, 64, 8, 7, 100_000, 16),
]


def cache_bytes(
    n_layers: int,
    hidden_size: int,
    n_heads: int,
    n_kv_heads: int,
    n_users: int,
    context_tokens: int,
    bits: int,
) -> int:
    """Give the truth of kv_cache_bytes: collect what is kept, token by token, then count bits."""
    head_dim = hidden_size // n_heads
    in_a_layer = sum(head_dim for _ in ("key", "value") for _ in range(n_kv_heads))
    for_a_token = sum(in_a_layer for _ in range(n_layers))
    return for_a_token * n_users * context_tokens * bits // 8


def cache_mistakes(
    n_layers: int,
    hidden_size: int,
    n_heads: int,
    n_kv_heads: int,
    n_users: int,
    context_tokens: int,
    bits: int,
) -> dict[str, float]:
    """Name mistakes in the size of a KV cache."""
    model = (n_layers, hidden_size, n_heads, n_kv_heads)
    right = cache_bytes(*model, n_users, context_tokens, bits)
    return {
        "the values were left out: each KV head keeps a key and a value": right / 2,
        "query heads were counted: only n_kv_heads keep a key and a value, and each of these has "
        "hidden_size / n_heads numbers": right * n_heads / n_kv_heads,
        "every KV head keeps hidden_size numbers: it keeps hidden_size / n_heads of them": (
            right * n_heads
        ),
        "one KV head was counted: there are n_kv_heads": right / n_kv_heads,
        "one layer was counted: every layer has a cache of its own": right / n_layers,
        "one user was counted: every user has a cache of their own": right / n_users,
        "one token was counted: every token of the context is kept": right / context_tokens,
        "bits were taken for bytes: eight bits are a byte": right * 8,
        "whole bytes were counted for each number (bits // 8): at 4 bits that is 0, and two "
        "numbers share a byte": right / bits * (bits // 8 * 8),
        "numbers were counted, not bytes: `bits` was not used": right / bits * 8,
        "the result is in KiB: bytes are asked for": right / 2**10,
        "the result is in MiB: bytes are asked for": right / 2**20,
        "the result is in GiB: bytes are asked for": right / GIB,
        "the factor for keys and values came twice": right * 2,
    }


def judge_kv_cache_bytes(kv_cache_bytes: Attempt) -> None:
    """Check the size of the KV caches of several users."""
    for case in CACHE_CASES:
        close(
            kv_cache_bytes(*case),
            cache_bytes(*case),
            f"the result of kv_cache_bytes{case}",
            lookalikes=cache_mistakes(*case),
        )


# weights_bytes, kv_bytes_per_token, n_users, context_tokens, bandwidth_gb_per_s
DECODE_CASES = [
    (13_400_000_000, 524_288, 6, 1500, 1555),
    (538_000_000, 46_080, 1, 300, 21.5),
    (269_000_000, 23_040, 100, 8192, 77),
    (4_000_000_000, 131_072, 3, 0, 400),  # the first token: nothing is kept yet
]


def tokens_per_s(
    weights: int, kv: int, n_users: int, context_tokens: int, bandwidth: float
) -> float:
    """Give the truth of decode_tokens_per_s: how long a step reads, then tokens over seconds."""
    caches = sum(context_tokens * kv for _ in range(n_users))
    step_s = Fraction(weights + caches) / (Fraction(bandwidth) * 10**9)
    return float(n_users / step_s)


def decode_mistakes(
    weights: int, kv: int, n_users: int, context_tokens: int, bandwidth: float
) -> dict[str, float]:
    """Name mistakes in the speed limit of writing."""
    right = tokens_per_s(weights, kv, n_users, context_tokens, bandwidth)
    bytes_per_s = bandwidth * 1e9
    cache = context_tokens * kv
    return {
        "the KV caches were left out: they are read for every token too": (
            n_users * bytes_per_s / weights
        ),
        "one user's cache was read: each user brings one": n_users
        * bytes_per_s
        / (weights + cache),
        "the tokens of one user came back: a step writes one for each user": right / n_users,
        "n_users makes no difference: a step reads the weights once for all users together, and "
        "one cache for each user, and writes one token for each": bytes_per_s / (weights + cache),
        "the weights are read anew for each user, and the tokens of one user came back: one "
        "reading of the weights serves all": bytes_per_s / (n_users * (weights + cache)),
        "one token's keys and values were read for each user: a cache holds context_tokens of "
        "them": n_users * bytes_per_s / (weights + n_users * kv),
        "it is upside down: these are seconds a token": 1 / right,
        "it is upside down: these are the seconds of a step": n_users / right,
        "GB were taken for GiB: bandwidth counts in 10**9 bytes": right * GIB / 1e9,
        "the bandwidth was taken for bytes a second: 1 GB is 10**9 bytes": right / 1e9,
        "the bandwidth was taken for MB a second: 1 GB is 10**9 bytes": right / 1e3,
        "bytes were turned into bits: both sides are in bytes already": right / 8,
        "bytes were divided by 8 as if they were bits": right * 8,
        "the result was rounded down to a whole number": right // 1,
    }


def judge_decode_bound(decode_tokens_per_s: Attempt) -> None:
    """Check the speed limit that memory sets to writing."""
    for case in DECODE_CASES:
        close(
            decode_tokens_per_s(*case),
            tokens_per_s(*case),
            f"the result of decode_tokens_per_s{case}",
            lookalikes=decode_mistakes(*case),
        )


# n_parameters, n_tokens, peak_tflops, utilisation
TRAINING_CASES = [
    (6_700_000_000, 1_000_000_000_000, 312, 0.43),
    (134_515_008, 2_000_000_000_000, 989, 0.25),
    (175_000_000_000, 300_000_000_000, 125, 0.2),
    (1_100_000_000, 3_000_000_000, 19.5, 1.0),
]


def gpu_hours(n_parameters: int, n_tokens: int, peak_tflops: float, utilisation: float) -> float:
    """Give the truth of training_gpu_hours: forward and backward, then seconds, then hours."""
    forward = 2 * n_parameters * n_tokens  # a multiplication and an addition for each weight
    backward = 2 * forward
    achieved = Fraction(peak_tflops) * 10**12 * Fraction(utilisation)
    return float((forward + backward) / achieved / 3600)


def training_mistakes(
    n_parameters: int, n_tokens: int, peak_tflops: float, utilisation: float
) -> dict[str, float]:
    """Name mistakes in the GPU-hours of a training run."""
    right = gpu_hours(n_parameters, n_tokens, peak_tflops, utilisation)
    seconds, tera = right * 3600, 1e12
    return {
        "two operations were counted for each parameter and token, the forward pass alone: the "
        "backward pass takes four more": right / 3,
        "four operations were counted for each parameter and token, the backward pass alone: the "
        "forward pass takes two more": right / 6 * 4,
        "three operations were counted for each parameter and token: each multiplication comes "
        "with an addition, so there are six": right / 2,
        "one operation was counted for each parameter and token: there are six": right / 6,
        "the GPU works at its peak: utilisation was not used": right * utilisation,
        "utilisation was multiplied with the time: a GPU that is used less needs longer, so "
        "divide": right * utilisation**2,
        "utilisation was turned round (1 - utilisation)": right * utilisation / (1 - utilisation)
        if utilisation < 1
        else float("inf"),
        "utilisation was taken for a percentage: 0.4 means 40 % already": right * 100,
        "the result is in seconds: an hour has 3,600 of them": seconds,
        "the result is in minutes: divide by 60 once more": seconds / 60,
        "the result is in days: hours are asked for": seconds / 86_400,
        "a TFLOPS was taken for 10**9 operations a second: tera is 10**12": right * tera / 1e9,
        "a TFLOPS was taken for 10**15 operations a second: tera is 10**12": right * tera / 1e15,
        "a TFLOPS was taken for 2**40 operations a second: tera is 10**12": right * tera / 2**40,
        "a TFLOPS was taken for one operation a second: tera is 10**12": right * tera,
    }


def judge_training_gpu_hours(training_gpu_hours: Attempt) -> None:
    """Check the GPU-hours of a training run."""
    for case in TRAINING_CASES:
        close(
            training_gpu_hours(*case),
            gpu_hours(*case),
            f"the result of training_gpu_hours{case}",
            lookalikes=training_mistakes(*case),
        )


EXERCISES = {
    "frontier.memory_to_load": Exercise(judge_memory_to_load, OWN),
    "frontier.kv_cache_bytes": Exercise(judge_kv_cache_bytes, OWN),
    "frontier.decode_bound": Exercise(judge_decode_bound, OWN),
    "frontier.training_gpu_hours": Exercise(judge_training_gpu_hours, OWN),
}
