"""Check the exercises of lesson 01: what a model costs to load, to serve, to run and to train.

Each exercise is one sum. The truths are exact: whole numbers and fractions, worked out in the order
in which one would explain them, without the package.
"""

from __future__ import annotations

from fractions import Fraction

from shrinkkit.checks.compare import close
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.frontier import mistakes

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


def judge_memory_to_load(memory_to_load_gib: Attempt) -> None:
    """Check the memory that a model's weights take."""
    for n_parameters, bits in LOAD_CASES:
        close(
            memory_to_load_gib(n_parameters, bits),
            load_gib(n_parameters, bits),
            f"the result of memory_to_load_gib({n_parameters}, {bits})",
            "Bits to bytes, then bytes to GiB.",
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


def judge_kv_cache_bytes(kv_cache_bytes: Attempt) -> None:
    """Check the size of the KV caches of several users."""
    for case in CACHE_CASES:
        close(
            kv_cache_bytes(*case),
            cache_bytes(*case),
            f"the result of kv_cache_bytes{case}",
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


def judge_decode_bound(decode_tokens_per_s: Attempt) -> None:
    """Check the speed limit that memory sets to writing."""
    for case in DECODE_CASES:
        close(
            decode_tokens_per_s(*case),
            tokens_per_s(*case),
            f"the result of decode_tokens_per_s{case}",
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


def judge_training_gpu_hours(training_gpu_hours: Attempt) -> None:
    """Check the GPU-hours of a training run."""
    for case in TRAINING_CASES:
        close(
            training_gpu_hours(*case),
            gpu_hours(*case),
            f"the result of training_gpu_hours{case}",
        )


EXERCISES = {
    "frontier.memory_to_load": Exercise(judge_memory_to_load, OWN, mistakes.MEMORY_TO_LOAD),
    "frontier.kv_cache_bytes": Exercise(judge_kv_cache_bytes, OWN, mistakes.KV_CACHE_BYTES),
    "frontier.decode_bound": Exercise(judge_decode_bound, OWN, mistakes.DECODE_BOUND),
    "frontier.training_gpu_hours": Exercise(
        judge_training_gpu_hours, OWN, mistakes.TRAINING_GPU_HOURS
    ),
}
