"""Do the sums that decide whether a language model is affordable: memory, time, money, energy.

A model is a pile of numbers, and nearly everything it costs follows from how many there are and
how many bits each takes. The sums need a pencil and no machine:

- to load it: parameters x bits / 8 bytes, all at once;
- to serve it: the same once, plus a KV cache (what the model remembers of a conversation) for
  every user and every token;
- to train it: about six floating-point operations for each parameter and each token;
- to pay for that: operations / speed = hours, x price = money, x watts = kilowatt-hours,
  x what the power station emits = CO2;
- to write a token: every weight is read from memory once, so memory bandwidth sets the pace;
- to get an answer from afar: the way there and back, and then the same.

Every function is plain arithmetic on plain numbers, with the unit in each name. Where an estimate
is rough, its docstring says what is left out. Measured counterparts live in `shrinkkit.measure`.

Conventions: 1 GiB = 2**30 bytes is for memory; 1 GB/s = 10**9 bytes a second is for bandwidth,
as on datasheets. A "16-bit FLOP" is one multiplication or one addition.
"""

from __future__ import annotations

import math
from numbers import Real

from shrinkkit.errors import InputError, require_int


def memory_to_load_bytes(n_parameters: int, bits_per_weight: float = 32.0) -> int:
    """Give the bytes that a model's weights take: n_parameters * bits_per_weight / 8.

    Leaves out what the program around it takes, and activations. Parameters that two layers share
    (a tied output head) are one set of numbers: count them once.

    n_parameters: how many numbers the model holds.
    bits_per_weight: 32 for fp32, 16 for bf16 and fp16, 8 for int8; 4.5 for 4-bit weights with
        one 16-bit scale for every 32 of them.

    Returns whole bytes, rounded up.

    >>> memory_to_load_bytes(7_000_000_000, 16)
    14000000000
    >>> memory_to_load_bytes(3, 4)  # a byte and a half
    2
    """
    n_parameters = require_int("n_parameters", n_parameters, 0)
    return math.ceil(n_parameters * _positive("bits_per_weight", bits_per_weight) / 8)


def memory_to_serve_bytes(
    weights_bytes: float, kv_bytes_per_token: float, n_users: int, context_tokens: int
) -> float:
    """Give the bytes to serve n_users at once: the weights once, a KV cache for each user.

    weights_bytes + n_users * context_tokens * kv_bytes_per_token. Leaves out activations and
    whatever the server wastes on half-filled blocks.

    weights_bytes: see memory_to_load_bytes.
    kv_bytes_per_token: see `measure.kv_cache_bytes_per_token`.
    n_users: conversations held in memory at the same time.
    context_tokens: tokens of each conversation, prompt and answer together.

    >>> memory_to_serve_bytes(1000, 10, n_users=3, context_tokens=20)
    1600.0
    """
    cache = (
        require_int("n_users", n_users, 0)
        * require_int("context_tokens", context_tokens, 0)
        * _positive("kv_bytes_per_token", kv_bytes_per_token, zero=True)
    )
    return float(_positive("weights_bytes", weights_bytes, zero=True) + cache)


def fits(needed_bytes: float, device_bytes: float, usable_fraction: float = 0.7) -> bool:
    """Say whether needed_bytes go into the part of a device's memory that a model may use.

    usable_fraction: from 0 to 1; the rest is for the system and other programs. 0.7 is a rule of
        thumb of this course, not a measurement.

    >>> fits(14e9, 24 * 2**30), fits(14e9, 16 * 2**30)
    (True, False)
    """
    share = _fraction("usable_fraction", usable_fraction)
    needed = _positive("needed_bytes", needed_bytes, zero=True)
    return bool(needed <= _positive("device_bytes", device_bytes, zero=True) * share)


def users_that_fit(
    weights_bytes: float,
    kv_bytes_per_token: float,
    context_tokens: int,
    device_bytes: float,
    usable_fraction: float = 0.7,
) -> int:
    """Give the most users that one device can hold at once; 0 if not even the weights fit.

    >>> users_that_fit(1000, 10, context_tokens=20, device_bytes=2000, usable_fraction=1)
    5
    """
    room = _positive("device_bytes", device_bytes) * _fraction("usable_fraction", usable_fraction)
    cache = require_int("context_tokens", context_tokens, 1) * _positive(
        "kv_bytes_per_token", kv_bytes_per_token
    )
    return max(0, math.floor((room - _positive("weights_bytes", weights_bytes, zero=True)) / cache))


def training_flops(n_parameters: float, n_tokens: float) -> float:
    """Give the floating-point operations to train on n_tokens: 6 * n_parameters * n_tokens.

    Kaplan et al. 2020, arXiv:2001.08361, Section 2.1: forward, one multiplication and one
    addition for each parameter and token; backward, twice that. Leaves out attention over long
    contexts, and every run that was thrown away.

    >>> f"{training_flops(175e9, 300e9):.2e}"  # GPT-3; its paper says 3.14e+23 (Table D.1)
    '3.15e+23'
    """
    return 6.0 * _positive("n_parameters", n_parameters) * _positive("n_tokens", n_tokens)


def training_gpu_hours(flops: float, peak_flops_per_s: float, utilisation: float = 0.4) -> float:
    """Give the GPU-hours for so many operations: flops / (peak_flops_per_s * utilisation) / 3600.

    peak_flops_per_s: of one GPU, from its datasheet (without "sparsity").
    utilisation: share of the peak that training gets, from 0 to 1; published runs reach 0.2-0.5.

    >>> training_gpu_hours(flops=3.6e18, peak_flops_per_s=1e15, utilisation=0.5)
    2.0
    """
    useful = _positive("peak_flops_per_s", peak_flops_per_s) * _fraction("utilisation", utilisation)
    return _positive("flops", flops, zero=True) / useful / 3600.0


def training_dollars(gpu_hours: float, dollars_per_gpu_hour: float) -> float:
    """Give the rent of the GPUs. Leaves out people, data, storage and failed runs.

    >>> training_dollars(1000, 2.5)
    2500.0
    """
    return float(
        _positive("gpu_hours", gpu_hours, zero=True)
        * _positive("dollars_per_gpu_hour", dollars_per_gpu_hour, zero=True)
    )


def training_kwh(gpu_hours: float, watts_per_gpu: float, pue: float = 1.1) -> float:
    """Give the kilowatt-hours drawn: gpu_hours * watts_per_gpu * pue / 1000.

    Patterson et al. 2021, arXiv:2104.10350, Section 2.5. Leaves out making the hardware.

    pue: power usage effectiveness, at least 1; what the building draws (cooling, conversion)
        for each watt of its computers.

    >>> round(training_kwh(82_432, 400, pue=1.1))  # LLaMA-7B; its paper says 36 MWh
    36270
    """
    if _positive("pue", pue) < 1.0:
        raise InputError(
            f"pue must be at least 1, but {pue!r} was given: a data centre cannot draw less than "
            "its computers do. Good ones publish about 1.1."
        )
    drawn = _positive("gpu_hours", gpu_hours, zero=True) * _positive("watts_per_gpu", watts_per_gpu)
    return drawn * pue / 1000.0


def co2_kg(kwh: float, kg_co2_per_kwh: float = 0.385) -> float:
    """Give the kilograms of CO2 for kwh of electricity; it depends on where and when.

    kg_co2_per_kwh: 0.385 is the United States' average that Touvron et al. 2023 use
        (arXiv:2302.13971, Section 6).

    >>> co2_kg(1000)
    385.0
    """
    return float(
        _positive("kwh", kwh, zero=True) * _positive("kg_co2_per_kwh", kg_co2_per_kwh, zero=True)
    )


def decode_tokens_per_s(
    read_bytes: float,
    bandwidth_bytes_per_s: float,
    *,
    n_users: int = 1,
    flops: float = 0.0,
    peak_flops_per_s: float = math.inf,
) -> float:
    """Give the most tokens a second that writing can reach, for all users together.

    The roofline of Williams et al. 2009 (doi:10.1145/1498765.1498785): a step takes at least the
    longer of read_bytes / bandwidth_bytes_per_s and flops / peak_flops_per_s, and gives each user
    one token. An upper bound: starting each operation costs time too, which is not counted.

    read_bytes: bytes read from memory in a step: all weights, and every user's KV cache.
    bandwidth_bytes_per_s: of the memory, measured or from a datasheet.
    n_users: conversations advanced in one step.
    flops: operations in a step, about 2 * n_parameters * n_users.
    peak_flops_per_s: what the processor can do.

    >>> decode_tokens_per_s(read_bytes=14e9, bandwidth_bytes_per_s=2.8e12)
    200.0
    """
    reading_s = _positive("read_bytes", read_bytes) / _positive(
        "bandwidth_bytes_per_s", bandwidth_bytes_per_s
    )
    if peak_flops_per_s != math.inf:
        _positive("peak_flops_per_s", peak_flops_per_s)
    computing_s = _positive("flops", flops, zero=True) / peak_flops_per_s
    return require_int("n_users", n_users, 1) / max(reading_s, computing_s)


def answer_s(n_tokens: int, tokens_per_s: float, round_trip_s: float = 0.0) -> float:
    """Give the seconds from a question to its whole answer: round_trip_s + n_tokens / tokens_per_s.

    Leaves out reading the question and waiting for other users. A stream of tokens pays for the
    way once, not for each token.

    n_tokens: tokens of the answer.
    tokens_per_s: how fast they are written.
    round_trip_s: the network's way there and back; 0 on one's own device.

    >>> answer_s(10, tokens_per_s=20), answer_s(10, tokens_per_s=100, round_trip_s=0.06)
    (0.5, 0.16)
    """
    writing_s = require_int("n_tokens", n_tokens, 1) / _positive("tokens_per_s", tokens_per_s)
    return _positive("round_trip_s", round_trip_s, zero=True) + writing_s


def _positive(name: str, value: float, *, zero: bool = False) -> float:
    """Return value when it is a finite number above zero (or zero, where that makes sense)."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < 0 or (value == 0 and not zero):
        allowed = "zero or more" if zero else "above zero"
        raise InputError(
            f"{name} must be a finite number {allowed}, but {value!r} was given. "
            "Check the unit that the name ends in, and give a plain number."
        )
    return value


def _fraction(name: str, value: float) -> float:
    """Return value when it lies above 0 and is at most 1."""
    if _positive(name, value) > 1:
        raise InputError(
            f"{name} must be a share above 0 and up to 1, but {value!r} was given. "
            "For a percentage, divide by 100."
        )
    return value
