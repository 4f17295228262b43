"""Check the exercises of lesson 01: what a model costs to load, to serve, to run and to train.

Each exercise is one sum. Here are the inputs and the comparisons; `truths.py` has the truths and
`mistakes.py` the usual wrong answers. Each judge goes through fixed cases and then some drawn
afresh. The first ones tell the known mistakes apart; some results are so small that any rounding
shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.inputs import fresh
from shrinkkit.checks.judge import Attempt, Exercise
from shrinkkit.lessons.frontier import mistakes, truths

OWN = ("shrinkkit.lessons.frontier.sums", "shrinkkit.measure.kv")  # closed during every check
N_FRESH = 6


def judge_sum(answer: Attempt, truth: Callable, cases: Iterator[tuple], hint: str) -> None:
    """Compare a sum with the truth, case by case, with all its digits."""
    for case in cases:
        name = f"the result of {answer.name}{case}"
        compare(answer, truth, case, Part(name, f"{hint} Do not round.", rtol=1e-9, atol=0.0))


# Parameters and bits of each weight.
LOAD_CASES = (
    (1_640_000_000, 24),  # here hardly a mistake gives what another one gives
    (2_500_000_000, 12),
    (7_000_000_000, 4),
    (134_515_008, 32),
    (3_800_000_000, 4.5),
    (66_000_000, 8),
    (175_000_000_000, 3),
    (3_735, 4.25),  # a millionth of a GiB, and bytes with a fraction
    (5, 1),
    (2_000_000_000_000, 32),
    (1_000_000_007, 16),
)


def fresh_load_cases() -> Iterator[tuple[int, float]]:
    """Draw models from a thousand to a million million weights, whole bits and quarters."""
    rng = fresh()
    for n in range(N_FRESH):
        bits = int(rng.integers(1, 33)) if n % 2 else float(rng.integers(4, 65)) / 4
        yield int(10 ** rng.uniform(3, 12)), bits


def judge_memory_to_load(memory_to_load_gib: Attempt) -> None:
    """Check the memory that a model's weights take."""
    cases = chain(LOAD_CASES, fresh_load_cases())
    judge_sum(memory_to_load_gib, truths.load_gib, cases, "Bits to bytes, then bytes to GiB.")


# n_layers, hidden_size, n_heads, n_kv_heads, n_users, context_tokens, bits
CACHE_CASES = (
    (11, 665, 35, 7, 13, 17, 24),  # here no mistake gives what another one gives
    (4, 60, 4, 2, 3, 5, 12),
    (2, 96, 6, 2, 3, 10, 4),
    (30, 576, 9, 3, 5, 700, 32),
    (32, 4096, 32, 32, 1, 2048, 16),  # every query head has a KV head of its own
    (18, 2048, 8, 1, 20, 1, 8),  # one KV head for all
    (1, 15, 3, 1, 1, 1, 3),  # bytes with a fraction
    (1, 3, 3, 1, 1, 1, 2),  # half a byte
    (80, 8192, 64, 8, 7, 100_000, 16),
)


def fresh_cache_cases() -> Iterator[tuple[int, ...]]:
    """Draw models whose heads divide their width, and are divided into groups."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_layers, head_dim, n_kv_heads, in_a_group = rng.integers(1, (80, 129, 12, 9))
        n_users, context_tokens, bits = rng.integers((1, 1, 2), (50, 9000, 33))
        n_heads = n_kv_heads * in_a_group
        case = n_layers, n_heads * head_dim, n_heads, n_kv_heads, n_users, context_tokens, bits
        yield tuple(map(int, case))


def judge_kv_cache_bytes(kv_cache_bytes: Attempt) -> None:
    """Check the size of the KV caches of several users."""
    cases = chain(CACHE_CASES, fresh_cache_cases())
    hint = "A token leaves a key and a value for each KV head, in each layer."
    judge_sum(kv_cache_bytes, truths.cache_bytes, cases, hint)


# weights_bytes, kv_bytes_per_token, n_users, context_tokens, bandwidth_gb_per_s
DECODE_CASES = (
    (13_400_000_000, 524_288, 6, 1500, 1555),
    (538_000_000, 46_080, 1, 300, 21.5),
    (269_000_000, 23_040, 100, 8192, 77),
    (4_000_000_000, 131_072, 3, 0, 400),  # the first token: nothing is kept yet
    (350_000_000_000, 4_718_592, 2, 2048, 8),  # a token takes longer than a second
    (5_000_000, 1040.5, 3, 77, 3350),
)


def fresh_decode_cases() -> Iterator[tuple[int, float, int, int, float]]:
    """Draw models, users and memories."""
    rng = fresh()
    for _ in range(N_FRESH):
        weights = int(10 ** rng.uniform(6, 12))
        kv = float(rng.integers(10, 2_000_000)) / 4
        n_users, context_tokens = (int(n) for n in rng.integers(1, (200, 10_000)))
        yield weights, kv, n_users, context_tokens, float(rng.integers(10, 10_000)) / 2


def judge_decode_bound(decode_tokens_per_s: Attempt) -> None:
    """Check the speed limit that memory sets to writing."""
    cases = chain(DECODE_CASES, fresh_decode_cases())
    hint = "A step reads all weights once and each user's cache, and writes one token for each."
    judge_sum(decode_tokens_per_s, truths.tokens_per_s, cases, hint)


# n_parameters, n_tokens, peak_tflops, utilisation
TRAINING_CASES = (
    (6_700_000_000, 1_000_000_000_000, 312, 0.43),
    (134_515_008, 2_000_000_000_000, 989, 0.25),
    (175_000_000_000, 300_000_000_000, 125, 0.2),
    (1_100_000_000, 3_000_000_000, 19.5, 1.0),
    (1_200_000, 40_000_000, 0.5, 0.01),
    (1000, 1000, 10, 0.5),  # a millionth of a second
)


def fresh_training_cases() -> Iterator[tuple[int, int, float, float]]:
    """Draw models, texts and GPUs."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_parameters, n_tokens = (int(10**power) for power in rng.uniform((4, 5), (12, 13)))
        yield n_parameters, n_tokens, float(rng.integers(1, 4000)) / 2, float(rng.uniform(0.02, 1))


def judge_training_gpu_hours(training_gpu_hours: Attempt) -> None:
    """Check the GPU-hours of a training run."""
    cases = chain(TRAINING_CASES, fresh_training_cases())
    hint = "All operations, divided by those that the GPU really does in a second, are seconds."
    judge_sum(training_gpu_hours, truths.gpu_hours, cases, hint)


EXERCISES = {
    "frontier.memory_to_load": Exercise(judge_memory_to_load, OWN, mistakes.MEMORY_TO_LOAD),
    "frontier.kv_cache_bytes": Exercise(judge_kv_cache_bytes, OWN, mistakes.KV_CACHE_BYTES),
    "frontier.decode_bound": Exercise(judge_decode_bound, OWN, mistakes.DECODE_BOUND),
    "frontier.training_gpu_hours": Exercise(
        judge_training_gpu_hours, OWN, mistakes.TRAINING_GPU_HOURS
    ),
}
