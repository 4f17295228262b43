"""Right answers with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, an axis, an edge, a dtype
or a bound, and some try to answer without the calculation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from shrinkkit.checks import check
from tests.lessons.attacks import assert_refused, each, with_options

Tensor = torch.Tensor


def no(value: float) -> float:
    return value


def count(*case, key=24, value=24, waits=16, each=no, total=no, whole=math.ceil, bits_of=no):
    """Count a cache's bytes; the options are what an attack changes."""
    n_layers, n_kv_heads, head_dim, n_tokens, bits, group_size = case
    bits = bits_of(bits)
    n_groups, late = divmod(n_tokens, group_size)
    keys = n_groups * head_dim * (group_size * bits + key) + late * head_dim * waits
    values = n_tokens * (head_dim * bits + whole(head_dim / group_size) * value)
    return total(n_layers * n_kv_heads * (each(keys / 8) + each(values / 8)))


BYTES = {
    "total rounded down": {"total": math.floor},
    "total rounded up": {"total": math.ceil},
    "total rounded": {"total": round},
    "parts rounded down": {"each": math.floor},
    "parts rounded up": {"each": math.ceil},
    "parts rounded": {"each": round},
    "value groups rounded down": {"whole": math.floor},
    "value groups: one at least": {"whole": lambda n: max(1, math.floor(n))},
    "value groups with a fraction": {"whole": no},
    "no scales of keys": {"key": 0},
    "no scales of values": {"value": 0},
    "zero point of 16 bits": {"key": 32, "value": 32},
    "keys wait in 32 bits": {"waits": 32},
    "4 bits at least": {"bits_of": lambda bits: max(bits, 4)},
    "3 bits stored in 4": {"bits_of": lambda bits: 4 if bits == 3 else bits},
    "5 to 7 bits stored in 8": {"bits_of": lambda bits: 8 if bits > 4 else bits},
    "0.001 % off": {"total": lambda total: 1.00001 * total},
    "two bytes more": {"total": lambda total: total + 2},
    "MB": {"total": lambda total: total / 1e6},
    "a string": {"total": str},
}


def line(x: Tensor, bits: int, *, least=0.0, more=0.0, by=torch.round, n_of=None, kept=None):
    """Round the rows of x, each on its grid; the options are what an attack changes."""
    low, high = x.aminmax(dim=1, keepdim=True)
    n = 2**bits - 1 if n_of is None else n_of(bits)
    scale = ((high - low) / n).clamp(min=least) + more
    if kept is not None:
        scale = scale.to(kept).to(x.dtype)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return low + scale * by((x - low) / scale)


def symmetric(x: Tensor, bits: int) -> Tensor:
    scale = (x.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 1)).clamp(min=1e-30)
    return scale * (x / scale).round()


def all_alike(x: Tensor, bits: int) -> Tensor:
    """Leave everything as it is as soon as one row is constant."""
    low, high = x.aminmax(dim=1)
    return x if bool((low == high).any()) else line(x, bits)


LINES = {
    "scale 0.01 at least": lambda x, bits: line(x, bits, least=1e-2),
    "scale 1e-5 at least": lambda x, bits: line(x, bits, least=1e-5),
    "scale 1e-8 at least": lambda x, bits: line(x, bits, least=1e-8),
    "scale + 1e-3": lambda x, bits: line(x, bits, more=1e-3),
    "scale + 1e-8": lambda x, bits: line(x, bits, more=1e-8),
    "scale in float16": lambda x, bits: line(x, bits, kept=torch.float16),
    "scale in bfloat16": lambda x, bits: line(x, bits, kept=torch.bfloat16),
    "rounded down": lambda x, bits: line(x, bits, by=torch.floor),
    "rounded up": lambda x, bits: line(x, bits, by=torch.ceil),
    "rounded at 0.45": lambda x, bits: line(x, bits, by=lambda v: (v + 0.55).floor()),
    "rounded at 0.55": lambda x, bits: line(x, bits, by=lambda v: (v + 0.45).floor()),
    "int8": lambda x, bits: line(x, bits, by=lambda v: v.round().to(torch.int8)),
    "2**bits steps": lambda x, bits: line(x, bits, n_of=lambda bits: 2**bits),
    "5 bits wrong": lambda x, bits: line(x, bits, n_of=lambda bits: 2**bits - (bits != 5)),
    "6 bits wrong": lambda x, bits: line(x, bits, n_of=lambda bits: 2**bits - (bits != 6)),
    "8 bits wrong": lambda x, bits: line(x, bits, n_of=lambda bits: min(2**bits - 1, 127)),
    "4 bits at most": lambda x, bits: line(x, bits, n_of=lambda bits: min(2**bits - 1, 15)),
    "half the levels": lambda x, bits: line(x, bits, n_of=lambda bits: 2 ** (bits - 1) - 1),
    "symmetric": symmetric,
    "one constant, all left": all_alike,
    "float64 comes back": lambda x, bits: line(x, bits).double(),
    "float32 comes back": lambda x, bits: line(x, bits).float(),
    "not rounded": lambda x, bits: x,
    "NaN where constant": lambda x, bits: line(x, bits) / (x.amax(1) > x.amin(1))[:, None],
}


def keys_by(
    rows: Callable, keys: Tensor, bits: int, group_size: int, *, late=lambda p: False
) -> Tensor:
    """Round keys by a function of rows; late: which unfinished groups are rounded, too."""
    parts = keys.split(group_size)
    return torch.cat(
        [rows(p.T, bits).T if len(p) == group_size or late(p) else p for p in parts]
    ).to(rows(keys[:1], bits).dtype)


def values_by(rows: Callable, values: Tensor, bits: int, group_size: int) -> Tensor:
    return torch.cat([rows(part, bits) for part in values.split(group_size, dim=1)], dim=1)


KEYS = {name: lambda *case, rows=rows: keys_by(rows, *case) for name, rows in LINES.items()} | {
    "unfinished rounded": lambda *case: keys_by(line, *case, late=lambda p: True),
    "unfinished rounded if half full": lambda x, bits, n: keys_by(
        line, x, bits, n, late=lambda p: len(p) > n / 2
    ),
    "two groups only": lambda x, bits, n: torch.cat(
        [keys_by(line, x[: 2 * n], bits, n), x[2 * n :]]
    ),
    "groups from the end": lambda x, bits, n: keys_by(line, x.flip(0), bits, n).flip(0),
    "per token": lambda x, bits, n: values_by(line, x, bits, x.shape[1]),
}
VALUES = {name: lambda *case, rows=rows: values_by(rows, *case) for name, rows in LINES.items()} | {
    "groups from the end": lambda x, bits, n: values_by(line, x.flip(1), bits, n).flip(1),
    "equal parts": lambda x, bits, n: values_by(
        line, x, bits, -(-x.shape[1] // -(-x.shape[1] // n))
    ),
    "per channel": lambda x, bits, n: keys_by(line, x, bits, n, late=lambda p: True),
    "a single channel is lost": lambda x, bits, n: torch.cat(
        [p * (p.shape[1] > 1) if n > 1 else p for p in values_by(line, x, bits, n).split(n, dim=1)],
        dim=1,
    ),
}


def leave(window: Tensor, new: Tensor, group_size: int, residual: int, *, by=None):
    every = torch.cat([window, new])
    free = len(every) - residual
    n = max(0, free) // group_size * group_size if by is None else by(free, group_size)
    return every[:n], every[n:]


def changed(ready=no, left=no) -> Callable:
    def answer(*case):
        first, second = leave(*case)
        return ready(first), left(second)

    return answer


ADD = {
    "max forgotten": lambda *case: leave(*case, by=lambda free, n: free // n * n),
    "max forgotten, int": lambda *case: leave(*case, by=lambda free, n: int(free / n) * n),
    "no whole groups": lambda *case: leave(*case, by=lambda free, n: max(0, free)),
    "one group": lambda *case: leave(*case, by=lambda free, n: n if free >= n else 0),
    "two groups at most": lambda *case: leave(
        *case, by=lambda free, n: min(2, max(0, free) // n) * n
    ),
    "rounded up": lambda *case: leave(*case, by=lambda free, n: -(-max(0, free) // n) * n),
    "residual + 1": lambda window, new, n, residual: leave(window, new, n, residual + 1),
    "residual - 1": lambda window, new, n, residual: leave(window, new, n, max(0, residual - 1)),
    "residual of 1 at least": lambda window, new, n, residual: leave(
        window, new, n, max(1, residual)
    ),
    "residual in whole groups": lambda window, new, n, residual: leave(
        window, new, n, -(-residual // n) * n
    ),
    "new before old": lambda window, new, n, residual: leave(new, window, n, residual),
    "nothing leaves": lambda window, new, n, residual: (new[:0], torch.cat([window, new])),
    "all but the last k": lambda *case: (
        torch.cat(case[:2])[: -len(leave(*case)[1])],
        leave(*case)[1],
    ),
    "the window alone": lambda *case: leave(*case)[1],
    "float64": changed(Tensor.double, Tensor.double),
    "window in float32": changed(no, Tensor.float),
    "an empty list": changed(lambda x: x if len(x) else torch.zeros(0)),
    "ready a little off": changed(lambda x: x * 1.00001),
    "window a little off": changed(no, lambda x: x + 1e-6),
    "window turned": changed(no, lambda x: x.flip(0)),
    "a generator": lambda *case: (part for part in leave(*case)),
}
ATTACKS = {
    "kv.cache_bytes": with_options(count, BYTES),
    "kv.round_keys": KEYS,
    "kv.round_values": VALUES,
    "kv.add_keys": ADD,
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def in_float32(x: Tensor, bits: int) -> Tensor:
    return line(x.float(), bits).to(x.dtype)


def times_the_inverse(x: Tensor, bits: int) -> Tensor:
    low, high = x.aminmax(dim=1, keepdim=True)
    steps = ((x - low) * ((2**bits - 1) / (high - low))).nan_to_num(0).round()
    return low + steps * (high - low) / (2**bits - 1)


def half_up(x: Tensor, bits: int) -> Tensor:
    return line(x, bits, by=lambda v: (v + 0.5).floor())


ROWS = (line, in_float32, times_the_inverse, half_up)
RIGHT = {
    "kv.cache_bytes": {
        "bytes": count,
        "tensor": lambda *case: torch.tensor(count(*case), dtype=torch.float64),
    },
    "kv.add_keys": {
        "pair": leave,
        "list": lambda *case: list(leave(*case)),
        "copies": changed(Tensor.clone, Tensor.clone),
    },
    "kv.round_keys": {
        rows.__name__: lambda *case, rows=rows: keys_by(rows, *case) for rows in ROWS
    },
    "kv.round_values": {
        rows.__name__: lambda *case, rows=rows: values_by(rows, *case) for rows in ROWS
    },
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_is_not(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
