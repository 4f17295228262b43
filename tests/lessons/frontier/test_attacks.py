"""Right sums with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, a unit, an edge or a type,
and some try to answer without the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.lessons.frontier import exercises
from tests.lessons.attacks import assert_refused, each


def load(n, bits, *, byte=8, unit=2**30, bits_of=lambda b: b, bytes_of=lambda b: b):
    return bytes_of(n * bits_of(bits) / byte) / unit


def cache(
    layers, hidden, heads, kv_heads, users, tokens, bits, *, per=2, dim=None, bits_of=lambda b: b
):
    """dim: what stands for the numbers that one token leaves in a layer, halved."""
    numbers = kv_heads * (hidden // heads) if dim is None else dim(hidden, heads, kv_heads)
    return per * layers * numbers * users * tokens * bits_of(bits) / 8


def speed(weights, kv, users, tokens, gb_per_s, *, read=None, written=None, unit=1e9):
    """read: what stands for the bytes of a step; written: for its tokens."""
    step = weights + users * kv * tokens if read is None else read(weights, kv, users, tokens)
    return (users if written is None else written) * gb_per_s * unit / step


def hours(n, tokens, peak, share, *, flops=6, unit=1e12, hour=3600, share_of=lambda u: u):
    return flops * n * tokens / (peak * unit * share_of(share)) / hour


def variants(right: Callable, **options: list) -> dict[str, Callable]:
    """Change one option of a sum at a time."""
    return {
        f"{option} {n}": lambda *case, how={option: value}: right(*case, **how)
        for option, values in options.items()
        for n, value in enumerate(values)
    }


def first_answer_kept(right: Callable) -> Callable:
    kept: list[float] = []

    def answer(*case):
        kept.append(right(*case))
        return kept[0]

    return answer


def common(right: Callable, cases: tuple, digits=(0, 1, 2, 3, 5, 6)) -> dict[str, Callable]:
    """Spoil the result of a sum, whatever it is."""
    results: dict[str, Callable] = {
        **{f"{n} digits": lambda x, n=n: round(x, n) for n in digits},
        **{f"{n:.0e} off": lambda x, n=n: x * (1 + n) for n in (-1e-5, 1e-5, 1e-6, -1e-7, 1e-8)},
        "rounded down": math.floor,
        "rounded up": math.ceil,
        "four figures": lambda x: float(f"{x:.4g}"),
        "six figures": lambda x: float(f"{x:.6g}"),
        "a little more": lambda x: x + 1e-6,
        "one at least": lambda x: max(x, 1.0),
        "a thousand at most": lambda x: min(x, 1e3),
        "halved": lambda x: x / 2,
        "negative": lambda x: -x,
        "a text": str,
        "a list": lambda x: [x],
        "a vector": lambda x: torch.tensor([x]),
        "half precision": np.float16,
        "not a number": lambda x: math.nan,
        "nothing": lambda x: None,
    }
    found = {name: lambda *case, by=by: by(right(*case)) for name, by in results.items()}
    table = {case: right(*case) for case in cases}
    found["a table"] = lambda *case: table.get(case, 0.0)
    found["the first answer kept"] = first_answer_kept(right)
    return found


ATTACKS = {
    "frontier.memory_to_load": common(load, exercises.LOAD_CASES)
    | variants(
        load,
        byte=[1, 4, 7, 10, 16, 1 / 8],
        unit=[1, 1e9, 2**20, 2**31, 1000 * 2**20, 1024**2 * 1000, 2 ^ 30, 1.0737e9],
        bits_of=[
            int,
            round,
            math.ceil,
            lambda b: b // 8 * 8,
            lambda b: max(b, 8),
            lambda b: max(b, 4),
            lambda b: min(b, 16),
            lambda b: b + 0.5 if b == 4 else b,
            lambda b: 4 if b < 5 else b,
            lambda b: 16 if b > 16 else b,
        ],
        bytes_of=[math.floor, math.ceil, round],
    ),
    "frontier.kv_cache_bytes": common(cache, exercises.CACHE_CASES, digits=(0, 1))
    | variants(
        cache,
        per=[1, 3, 4],
        dim=[
            lambda hidden, heads, kv: hidden,
            lambda hidden, heads, kv: hidden * kv,
            lambda hidden, heads, kv: hidden // kv,
            lambda hidden, heads, kv: hidden // heads,
            lambda hidden, heads, kv: hidden / (heads - kv + 1),
            lambda hidden, heads, kv: heads * kv,
            lambda hidden, heads, kv: hidden // (heads // kv) // 2 * 2,
            lambda hidden, heads, kv: hidden // heads // 2 * 2 * kv,
            lambda hidden, heads, kv: 64 * kv,
            lambda hidden, heads, kv: max(2, kv) * hidden // heads,
        ],
        bits_of=[
            lambda b: 16,
            lambda b: b // 8 * 8,
            lambda b: max(b, 8),
            lambda b: max(b, 4),
            lambda b: 4 if b == 3 else b,
            lambda b: min(b, 16),
            lambda b: 8 if b == 12 else b,
        ],
    )
    | {
        "one user": lambda *case: cache(*case[:4], 1, *case[5:]),
        "a token more": lambda *case: cache(*case[:5], case[5] + 1, case[6]),
        "a token fewer": lambda *case: cache(*case[:5], case[5] - 1, case[6]),
        "a layer fewer": lambda layers, *case: cache(layers - 1, *case),
        "users and tokens added": lambda *case: cache(*case[:4], 1, case[4] + case[5], case[6]),
    },
    "frontier.decode_bound": common(speed, exercises.DECODE_CASES)
    | variants(
        speed,
        written=[1, 2],
        unit=[1, 1e6, 2**30, 1e9 / 8, 8e9, 1e12],
        read=[
            lambda w, kv, users, tokens: w,
            lambda w, kv, users, tokens: users * kv * tokens + 1e-3,
            lambda w, kv, users, tokens: w + kv * tokens,
            lambda w, kv, users, tokens: w + users * kv,
            lambda w, kv, users, tokens: w + users * tokens,
            lambda w, kv, users, tokens: users * (w + kv * tokens),
            lambda w, kv, users, tokens: w + users * kv * (tokens + 1),
            lambda w, kv, users, tokens: w + users * kv * max(tokens, 1),
            lambda w, kv, users, tokens: w + users * kv * tokens / 2,
            lambda w, kv, users, tokens: w + users * int(kv) * tokens,
            lambda w, kv, users, tokens: max(w, users * kv * tokens),
            lambda w, kv, users, tokens: 2 * w + users * kv * tokens,
            lambda w, kv, users, tokens: w + 2 * users * kv * tokens,
        ],
    )
    | {
        "upside down": lambda *case: 1 / speed(*case),
        "a whole bandwidth": lambda *case: speed(*case[:4], int(case[4])),
        "whole steps": lambda *case: speed(*case) / case[2] // 1 * case[2],
        "of each user": lambda *case: speed(*case) / case[2],
    },
    "frontier.training_gpu_hours": common(hours, exercises.TRAINING_CASES)
    | variants(
        hours,
        flops=[1, 2, 3, 4, 5, 7, 8, 6.0001],
        unit=[1, 1e9, 1e15, 2**40, 1e13],
        hour=[1, 60, 360, 3601, 86400, 24],
        share_of=[
            lambda u: 1,
            lambda u: 1 - u or 1,
            lambda u: u / 100,
            lambda u: 1 / u,
            lambda u: round(u, 1) or 0.1,
            lambda u: max(u, 0.2),
            lambda u: min(u, 0.5),
            lambda u: 0.4,
        ],
    )
    | {"a whole peak": lambda *case: hours(*case[:2], math.ceil(case[2]), case[3])},
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


RIGHT_SUMS = {
    "frontier.memory_to_load": [
        load,
        lambda n, bits: n / 2**33 * bits,
        lambda n, bits: torch.tensor(load(n, bits), dtype=torch.float64),
        lambda n, bits: Fraction(n) * Fraction(bits) / 8 / 1024**3,
        lambda n, bits: np.float64(n) * bits / 8 / 2**30,
    ],
    "frontier.kv_cache_bytes": [
        cache,
        lambda *case: cache(*case, dim=lambda hidden, heads, kv: hidden / heads * kv),
        lambda *case: Fraction(cache(*case)),
        lambda *case: np.float64(cache(*case)),
        lambda *case: int(cache(*case)) if cache(*case).is_integer() else cache(*case),
    ],
    "frontier.decode_bound": [
        speed,
        lambda *case: torch.tensor(speed(*case), dtype=torch.float64),
        lambda w, kv, users, tokens, gb: 1 / ((w / users + kv * tokens) / (gb * 1e9)),
        lambda w, kv, users, tokens, gb: users / (w / gb + users * kv * tokens / gb) * 10**9,
    ],
    "frontier.training_gpu_hours": [
        hours,
        lambda n, tokens, peak, share: n * tokens / (peak * share * 6e14),
        lambda n, tokens, peak, share: (2 * n + 4 * n) * tokens / peak / 1e12 / share / 60 / 60,
        lambda *case: np.float64(hours(*case)),
    ],
}


RIGHT = {
    name: {f"right {n}": answer for n, answer in enumerate(answers)}
    for name, answers in RIGHT_SUMS.items()
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_is_not(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
