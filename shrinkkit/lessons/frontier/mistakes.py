"""The usual wrong answers to the exercises of lesson 01: a wrong unit, a forgotten factor.

For each exercise there is the right sum, and then a table: what to tell a learner, and the sum with
something else in the place of an argument or a constant, in the order in which they are compared.
"""

from __future__ import annotations

from shrinkkit.checks.mistakes import Mistakes

GIB = 2**30


def gib(n_parameters: int, bits: float, unit: float = GIB) -> float:
    return n_parameters * bits / 8 / unit


MEMORY_TO_LOAD = Mistakes()
for says, wrong in {
    "the result is in GB: a GiB has 2**30 bytes, 7 % more than 10**9": (
        lambda n, bits: gib(n, bits, 1e9)
    ),
    "the result is in bytes: divide it by 2**30": lambda n, bits: gib(n, bits, 1),
    "the result is in MiB: a GiB has 2**30 bytes": lambda n, bits: gib(n, bits, 2**20),
    "the result is in KiB: a GiB has 2**30 bytes": lambda n, bits: gib(n, bits, 2**10),
    "it was divided by 2 ^ 30, which is 28: Python writes a power as 2**30": (
        lambda n, bits: gib(n, bits, 2 ^ 30)
    ),
    "bits were taken for bytes: eight bits are a byte": lambda n, bits: gib(n, bits) * 8,
    "bits were taken for bytes, and GB for GiB": lambda n, bits: gib(n, bits, 1e9) * 8,
    "bits were multiplied by 8: eight bits are one byte, so divide": (
        lambda n, bits: gib(n, bits) * 8 * 8
    ),
    "whole bytes were counted for each weight (bits // 8): at 4 bits that is 0, and two "
    "weights share a byte": lambda n, bits: gib(n, bits // 8 * 8),
    "fewer than 8 bits were counted as a whole byte: two weights of 4 bits share one": (
        lambda n, bits: gib(n, max(bits, 8))
    ),
    "whole bytes were counted for each weight, rounded up: two weights of 4 bits share one": (
        lambda n, bits: gib(n, -(-bits // 8) * 8)
    ),
    "the fraction of the bits was cut off (`int(bits_per_weight)`): 4.5 bits are more than 4": (
        lambda n, bits: gib(n, int(bits))
    ),
    "the bytes were rounded down (`// 8` or int): keep their fraction": (
        lambda n, bits: n * bits // 8 / GIB
    ),
    "the bytes were rounded up: keep their fraction": lambda n, bits: -(n * bits // -8) / GIB,
    "every weight takes 8 bits: bits_per_weight was not used": lambda n, bits: gib(n, 8),
    "every weight takes 32 bits: bits_per_weight was not used": lambda n, bits: gib(n, 32),
    "every weight takes 16 bits: bits_per_weight was not used": lambda n, bits: gib(n, 16),
    "the result was rounded down to whole GiB": lambda n, bits: gib(n, bits) // 1,
    "the result was rounded to whole GiB": lambda n, bits: round(gib(n, bits)),
    "the result was rounded to two digits: return all of them": (
        lambda n, bits: round(gib(n, bits), 2)
    ),
}.items():
    MEMORY_TO_LOAD.add(says, wrong)


def cache(layers: int, hidden: int, heads: int, kv_heads: int, users, tokens, bits) -> float:
    return 2 * layers * kv_heads * (hidden // heads) * users * tokens * bits / 8


KV_CACHE_BYTES = Mistakes()
for says, wrong in {
    "the values were left out: each KV head keeps a key and a value": (
        lambda *case: cache(*case) / 2
    ),
    "query heads were counted: only n_kv_heads keep a key and a value, and each of these has "
    "hidden_size / n_heads numbers": (
        lambda layers, hidden, heads, _, *rest: cache(layers, hidden, heads, heads, *rest)
    ),
    "every KV head keeps hidden_size numbers: it keeps hidden_size / n_heads of them": (
        lambda layers, hidden, _, *rest: cache(layers, hidden, 1, *rest)
    ),
    "one KV head was counted: there are n_kv_heads": (
        lambda layers, hidden, heads, _, *rest: cache(layers, hidden, heads, 1, *rest)
    ),
    "one layer was counted: every layer has a cache of its own": lambda _, *rest: cache(1, *rest),
    "one user was counted: every user has a cache of their own": (
        lambda *case: cache(*case[:4], 1, *case[5:])
    ),
    "one token was counted: every token of the context is kept": (
        lambda *case: cache(*case[:5], 1, case[6])
    ),
    "bits were taken for bytes: eight bits are a byte": lambda *case: cache(*case) * 8,
    "whole bytes were counted for each number (bits // 8): at 4 bits that is 0, and two "
    "numbers share a byte": lambda *case: cache(*case[:6], case[6] // 8 * 8),
    "fewer than 8 bits were counted as a whole byte: two numbers of 4 bits share one": (
        lambda *case: cache(*case[:6], max(case[6], 8))
    ),
    "whole bytes were counted for each number, rounded up: two numbers of 4 bits share one": (
        lambda *case: cache(*case[:6], -(-case[6] // 8) * 8)
    ),
    "numbers were counted, not bytes: `bits` was not used": lambda *case: cache(*case[:6], 8),
    "every number takes 2 bytes: `bits` was not used": lambda *case: cache(*case[:6], 16),
    "every number takes 4 bytes: `bits` was not used": lambda *case: cache(*case[:6], 32),
    "the result was rounded down to whole bytes (`// 8` or int): keep the fraction": (
        lambda *case: cache(*case) // 1
    ),
    "hidden_size was divided by n_kv_heads: a head's lists have hidden_size / n_heads numbers": (
        lambda layers, hidden, heads, kv_heads, *rest: cache(layers, hidden, kv_heads, 1, *rest)
    ),
    "the result is in KiB: bytes are asked for": lambda *case: cache(*case) / 2**10,
    "the result is in MiB: bytes are asked for": lambda *case: cache(*case) / 2**20,
    "the result is in GiB: bytes are asked for": lambda *case: cache(*case) / GIB,
    "the factor for keys and values came twice": lambda *case: cache(*case) * 2,
}.items():
    KV_CACHE_BYTES.add(says, wrong)


def speed(weights: int, kv: int, users: int, tokens: int, bandwidth: float) -> float:
    return users * bandwidth * 1e9 / (weights + users * kv * tokens)


DECODE_BOUND = Mistakes()
for says, wrong in {
    "the KV caches were left out: they are read for every token too": (
        lambda weights, _, *rest: speed(weights, 0, *rest)
    ),
    "one user's cache was read: each user brings one": (
        lambda weights, kv, users, *rest: users * speed(weights, kv, 1, *rest)
    ),
    "the tokens of one user came back: a step writes one for each user": (
        lambda weights, kv, users, *rest: speed(weights, kv, users, *rest) / users
    ),
    "n_users makes no difference: a step reads the weights once for all users together, and "
    "one cache for each user, and writes one token for each": (
        lambda weights, kv, _, *rest: speed(weights, kv, 1, *rest)
    ),
    "the weights are read anew for each user, and the tokens of one user came back: one "
    "reading of the weights serves all": (
        lambda weights, kv, users, *rest: speed(weights, kv, 1, *rest) / users
    ),
    "one token's keys and values were read for each user: a cache holds context_tokens of "
    "them": lambda weights, kv, users, _, bandwidth: speed(weights, kv, users, 1, bandwidth),
    "it is upside down: these are seconds a token": lambda *case: 1 / speed(*case),
    "it is upside down: these are the seconds of a step": lambda *case: case[2] / speed(*case),
    "GB were taken for GiB: bandwidth counts in 10**9 bytes": (
        lambda *case: speed(*case) / 1e9 * GIB
    ),
    "the bandwidth was taken for bytes a second: 1 GB is 10**9 bytes": (
        lambda *case: speed(*case) / 1e9
    ),
    "the bandwidth was taken for MB a second: 1 GB is 10**9 bytes": (
        lambda *case: speed(*case) / 1e3
    ),
    "bytes were turned into bits: both sides are in bytes already": lambda *case: speed(*case) / 8,
    "bytes were divided by 8 as if they were bits": lambda *case: speed(*case) * 8,
    "the result was rounded down to a whole number": lambda *case: speed(*case) // 1,
    "the steps of a second were rounded down: half a step counts, too": (
        lambda *case: speed(*case) / case[2] // 1 * case[2]
    ),
    "the weights were left out: a step reads them once": (
        lambda _, *rest: speed(0, *rest) if rest[2] else 0.0
    ),
}.items():
    DECODE_BOUND.add(says, wrong)


def hours(
    parameters: int, tokens: int, peak: float, utilisation: float, *, operations=6, tera=1e12
) -> float:
    return operations * parameters * tokens / (peak * tera * utilisation) / 3600


TRAINING_GPU_HOURS = Mistakes()
for says, wrong in {
    "two operations were counted for each parameter and token, the forward pass alone: the "
    "backward pass takes four more": lambda *case: hours(*case, operations=2),
    "four operations were counted for each parameter and token, the backward pass alone: the "
    "forward pass takes two more": lambda *case: hours(*case, operations=4),
    "three operations were counted for each parameter and token: each multiplication comes "
    "with an addition, so there are six": lambda *case: hours(*case, operations=3),
    "one operation was counted for each parameter and token: there are six": (
        lambda *case: hours(*case, operations=1)
    ),
    "the GPU works at its peak: utilisation was not used": lambda *case: hours(*case[:3], 1),
    "utilisation was multiplied with the time: a GPU that is used less needs longer, so "
    "divide": lambda *case: hours(*case[:3], 1) * case[3],
    "eight operations were counted for each parameter and token: six are all, two of them in "
    "the forward pass": lambda *case: hours(*case, operations=8),
    "utilisation was turned round (1 - utilisation)": (lambda *case: hours(*case[:3], 1 - case[3])),
    "utilisation was taken for a percentage: 0.4 means 40 % already": (
        lambda *case: hours(*case) * 100
    ),
    "the result is in seconds: an hour has 3,600 of them": lambda *case: hours(*case) * 3600,
    "the result is in minutes: divide by 60 once more": lambda *case: hours(*case) * 60,
    "the result is in days: hours are asked for": lambda *case: hours(*case) / 24,
    "a TFLOPS was taken for 10**9 operations a second: tera is 10**12": (
        lambda *case: hours(*case, tera=1e9)
    ),
    "a TFLOPS was taken for 10**15 operations a second: tera is 10**12": (
        lambda *case: hours(*case, tera=1e15)
    ),
    "a TFLOPS was taken for 2**40 operations a second: tera is 10**12": (
        lambda *case: hours(*case, tera=2**40)
    ),
    "the result was rounded down to whole hours": lambda *case: hours(*case) // 1,
    "the result was rounded to whole hours": lambda *case: round(hours(*case)),
    "a TFLOPS was taken for one operation a second: tera is 10**12": (
        lambda *case: hours(*case, tera=1)
    ),
}.items():
    TRAINING_GPU_HOURS.add(says, wrong)
