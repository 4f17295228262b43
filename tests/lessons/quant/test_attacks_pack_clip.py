"""Right ways to pack, and to search for a scale, with one thing changed: all must be refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import pad

from shrinkkit.checks import check
from shrinkkit.lessons.quant import cases
from tests.lessons.attacks import assert_refused, each
from tests.lessons.quant.test_attacks import BIT_WIDTHS, largest, qmax_of, stood_in, wrong_at

Tensor = torch.Tensor


# ------------------------------------------------------------------------- quant.pack_int4


def pack(q: Tensor, *, codes=lambda q: q.int() + 8, free=0, join=None, after=lambda x: x):
    """Pack pairs of neighbours; the options are what an attack changes."""
    both = pad(codes(q), (0, q.shape[1] % 2), value=free)
    left, right = both[:, 0::2], both[:, 1::2]
    return after((left | right << 4 if join is None else join(left, right)).to(torch.uint8))


def unpack(packed: Tensor, n: int, *, codes=None, shift=8, after=lambda x: x):
    """Unpack pairs of neighbours; the options are what an attack changes."""
    pair = (packed & 15, packed >> 4) if codes is None else codes(packed)
    return after(torch.stack(pair, dim=2).flatten(1)[:, :n].to(torch.int16) - shift)


PACK_OPTIONS: dict[str, dict] = {
    "7 added": {"codes": lambda q: q.int() + 7},
    "16 added": {"codes": lambda q: q.int() + 16},
    "nothing added": {"codes": lambda q: q.int() & 15},
    "8 subtracted": {"codes": lambda q: 8 - q.int()},
    "-8 lost": {"codes": lambda q: q.int().clamp(min=-7) + 8},
    "7 lost": {"codes": lambda q: q.int().clamp(max=6) + 8},
    "magnitude and sign": {"codes": lambda q: q.int().abs() & 7 | (q < 0) * 8},
    "view": {"codes": lambda q: (q + 8).view(torch.uint8)},
    "int64 refused": {"codes": lambda q: (q + 8) if q.element_size() < 8 else torch.zeros_like(q)},
    "swapped": {"join": lambda left, right: right | left << 4},
    "by 3 bits": {"join": lambda left, right: left | right << 3},
    "by 5 bits": {"join": lambda left, right: left | right << 5},
    "times 15": {"join": lambda left, right: left + 15 * right},
    "left alone": {"join": lambda left, right: left},
    "right alone": {"join": lambda left, right: right << 4},
    "and": {"join": lambda left, right: left & right << 4},
    "minus": {"join": lambda left, right: left - (right << 4)},
    "int8": {"after": lambda x: x.to(torch.int8)},
    "int32": {"after": Tensor.int},
    "a float": {"after": Tensor.float},
    "a column too many": {"after": lambda x: pad(x, (0, 1))},
    "transposed": {"after": lambda x: x.T},
    "rows turned": {"after": lambda x: x.flip(0)},
    "columns turned": {"after": lambda x: x.flip(1)},
    "flat": {"after": Tensor.flatten},
    "8 bytes right": {"after": lambda x: torch.cat([x[:, :8], 0 * x[:, 8:]], dim=1)},
    "32 bytes right": {"after": lambda x: torch.cat([x[:, :32], 0 * x[:, 32:]], dim=1)},
    "last byte lost": {"after": lambda x: x[:, :-1]},
    "last byte zero": {"after": lambda x: torch.cat([x[:, :-1], 0 * x[:, -1:]], dim=1)},
    "bytes": {"after": lambda x: x.numpy().tobytes()},
}
UNPACK_OPTIONS: dict[str, dict] = {
    "7 subtracted": {"shift": 7},
    "nothing subtracted": {"shift": 0},
    "16 subtracted": {"shift": 16},
    "swapped": {"codes": lambda p: (p >> 4, p & 15)},
    "low one only": {"codes": lambda p: (p & 15, p & 15)},
    "high one only": {"codes": lambda p: (p >> 4, p >> 4)},
    "not shifted": {"codes": lambda p: (p & 15, p & 240)},
    "shifted with a sign": {"codes": lambda p: (p & 15, (p.view(torch.int8) >> 4) & 31)},
    "by 3 bits": {"codes": lambda p: (p & 15, p >> 3)},
    "7 for 15": {"codes": lambda p: (p & 7, p >> 4)},
    "31 for 15": {"codes": lambda p: (p & 31, p >> 4)},
    "modulo 15": {"codes": lambda p: (p % 15, p >> 4)},
    "two's complement": {"after": lambda q: (q + 16) % 16 - 8},
    "uint8": {"after": lambda q: q.to(torch.uint8)},
    "a float": {"after": Tensor.float},
    "bool": {"after": Tensor.bool},
    "a column fewer": {"after": lambda q: q[:, :-1]},
    "a column more": {"after": lambda q: pad(q, (0, 1))},
    "-8 lost": {"after": lambda q: q.clamp(min=-7)},
    "rows turned": {"after": lambda q: q.flip(0)},
    "transposed": {"after": lambda q: q.T},
    "16 columns right": {"after": lambda q: torch.cat([q[:, :16], 0 * q[:, 16:]], dim=1)},
    "a list": {"after": Tensor.tolist},
}


def by_memory() -> tuple[Callable, Callable]:
    """Pack as one should, and let `unpack` return what was packed last."""
    kept: list[Tensor] = []

    def remember(q: Tensor) -> Tensor:
        kept.append(q.clone())
        return pack(q)

    return remember, lambda packed, n: kept[-1]


PACK = {
    f"pack: {name}": (lambda q, how=how: pack(q, **how), unpack)
    for name, how in PACK_OPTIONS.items()
}
PACK |= {
    f"unpack: {name}": (pack, lambda packed, n, how=how: unpack(packed, n, **how))
    for name, how in UNPACK_OPTIONS.items()
}
PACK |= {
    "unpack remembers": by_memory(),
    "unpack: all columns": (pack, lambda packed, n: unpack(packed, 2 * packed.shape[1])),
    "unpack: even columns": (pack, lambda packed, n: unpack(packed, n // 2 * 2)),
    "unpack: blocks": (pack, lambda p, n: torch.cat([p & 15, p >> 4], dim=1)[:, :n].int() - 8),
    "both the other way round": (
        lambda q: pack(q, join=lambda left, right: right | left << 4),
        lambda packed, n: unpack(packed, n, codes=lambda p: (p >> 4, p & 15)),
    ),
    "both without 8": (
        lambda q: pack(q, codes=lambda q: q.int() & 15),
        lambda packed, n: unpack(packed, n, after=lambda q: (q + 16) % 16 - 8),
    ),
}


# ------------------------------------------------------------------------- quant.best_clip


def squares(error: Tensor) -> Tensor:
    return error.square().sum(dim=2)


def clip(
    weight: Tensor,
    bits: int,
    ratios: Tensor,
    *,
    n_of=qmax_of,
    ratios_of=lambda ratios, weight: ratios,
    top=largest,
    least=0.0,
    more=0.0,
    ends=None,
    by=torch.round,
    error_of=lambda real, weight, scale: real - weight,
    cost=squares,
    pick=lambda costs: costs.argmin(dim=0),
    after=lambda x: x,
) -> Tensor:
    """Search the scale of least error; the options are what an attack changes."""
    widest = top(weight) / n_of(bits)
    ratios = ratios_of(ratios, weight)
    scales = torch.where(widest > 0, ratios.view(-1, 1, 1) * widest, 1.0).clamp(min=least) + more
    low, high = (-qmax_of(bits), qmax_of(bits)) if ends is None else ends(bits)
    real = scales * by(weight / scales).clamp(low, high)
    chosen = pick(cost(error_of(real, weight, scales)))
    return after(scales[:, :, 0].gather(0, chosen[None]).T)


def from_start(costs: Tensor, start: float) -> Tensor:
    """Return the last ratio where no error is below a start that is not infinite."""
    return torch.where(costs.amin(dim=0) < start, costs.argmin(dim=0), len(costs) - 1)


def before_the_first_worse(costs: Tensor) -> Tensor:
    worse = torch.cat([torch.zeros_like(costs[:1]), (costs[1:] > costs[:-1]).float()])
    return costs.masked_fill(worse.cumsum(0) > 0, torch.inf).argmin(dim=0)


def at_best(wrong: int) -> dict:
    return {"n_of": wrong_at(wrong), "ends": lambda bits: (-wrong_at(wrong)(bits), qmax_of(bits))}


CLIP_OPTIONS: dict[str, dict] = {
    **{f"{bits} bits wrong": at_best(bits) for bits in BIT_WIDTHS},
    "always 4 bits": {"n_of": lambda bits: 7, "ends": lambda bits: (-7, 7)},
    "2**(bits-1)": {"n_of": lambda bits: 2 ** (bits - 1)},
    "last not tried": {"ratios_of": lambda r, w: r[:-1] if len(r) > 1 else r},
    "first not tried": {"ratios_of": lambda r, w: r[1:] if len(r) > 1 else r},
    "every other": {"ratios_of": lambda r, w: r[::2]},
    "eight at most": {"ratios_of": lambda r, w: r[:8]},
    "sorted, last lost": {"ratios_of": lambda r, w: r.sort().values[: max(1, len(r) - 1)]},
    "sorted, first lost": {"ratios_of": lambda r, w: r.sort().values[min(1, len(r) - 1) :]},
    "small ones lost": {
        "ratios_of": lambda r, w: r[r > 0.35] if (r > 0.35).any() else r[:1] * 0 + 1
    },
    "0.2 at least": {"ratios_of": lambda r, w: r.clamp(min=0.2)},
    "1 at most": {"ratios_of": lambda r, w: r.clamp(max=1)},
    "1 as well": {"ratios_of": lambda r, w: torch.cat([r, torch.ones(1)])},
    "first only": {"ratios_of": lambda r, w: r[:1]},
    "last only": {"ratios_of": lambda r, w: r[-1:]},
    "smallest": {"ratios_of": lambda r, w: r.min()[None]},
    "largest": {"ratios_of": lambda r, w: r.max()[None]},
    "mean": {"ratios_of": lambda r, w: r.mean()[None]},
    "own ratios": {"ratios_of": lambda r, w: torch.linspace(0.3, 1.0, 15)},
    "no abs": {"top": lambda w: w.amax(dim=1, keepdim=True)},
    "per tensor": {"top": lambda w: w.abs().max().expand(len(w), 1)},
    "scale 0.01 at least": {"least": 1e-2},
    "scale 1e-5 at least": {"least": 1e-5},
    "scale 1e-8 at least": {"least": 1e-8},
    "scale + 1e-8": {"more": 1e-8},
    "not clamped": {"ends": lambda bits: (-1e9, 1e9)},
    "one more below": {"ends": lambda bits: (-qmax_of(bits) - 1, qmax_of(bits))},
    "one fewer above": {"ends": lambda bits: (-qmax_of(bits), qmax_of(bits) - 1)},
    "clamped to 7": {"ends": lambda bits: (-7, 7)},
    "above zero": {"ends": lambda bits: (0, qmax_of(bits))},
    "rounded down": {"by": torch.floor},
    "rounded up": {"by": torch.ceil},
    "cut off": {"by": torch.trunc},
    "not rounded": {"by": lambda v: v},
    "in steps": {"error_of": lambda real, weight, scale: (real - weight) / scale},
    "relative": {"error_of": lambda real, weight, scale: (real - weight) / stood_in(weight.abs())},
    "of the norm": {"error_of": lambda real, weight, scale: real.abs() - weight.abs().mean()},
    "plain sum": {"cost": lambda e: e.sum(dim=2)},
    "abs of the sum": {"cost": lambda e: e.sum(dim=2).abs()},
    "abs errors": {"cost": lambda e: e.abs().sum(dim=2)},
    "worst error": {"cost": lambda e: e.abs().amax(dim=2)},
    "fourth powers": {"cost": lambda e: e.square().square().sum(dim=2)},
    "power 2.4": {"cost": lambda e: e.abs().pow(2.4).sum(dim=2)},
    "median": {"cost": lambda e: e.square().median(dim=2).values},
    "variance": {"cost": lambda e: e.var(dim=2, correction=0)},
    "16 columns": {"cost": lambda e: squares(e[:, :, :16])},
    "without the last column": {"cost": lambda e: squares(e[:, :, : max(1, e.shape[2] - 1)])},
    "all rows together": {"cost": lambda e: squares(e).sum(1, True).expand(e.shape[:2])},
    "worst": {"pick": lambda costs: costs.argmax(dim=0)},
    "second best": {"pick": lambda costs: costs.argsort(dim=0)[min(1, len(costs) - 1)]},
    "greedy": {"pick": before_the_first_worse},
    "a start of 1": {"pick": lambda costs: from_start(costs, 1.0)},
    "a start of 1e6": {"pick": lambda costs: from_start(costs, 1e6)},
    "a start of 1e9": {"pick": lambda costs: from_start(costs, 1e9)},
    "rounded errors": {"pick": lambda costs: ((costs * 1e6).round() / 1e6).argmin(dim=0)},
    "errors in float16": {"pick": lambda costs: costs.half().argmin(dim=0)},
    "a row": {"after": lambda x: x.T},
    "flat": {"after": lambda x: x[:, 0]},
    "0.001 % off": {"after": lambda x: 1.00001 * x},
    "first row for all": {"after": lambda x: x[:1].expand_as(x)},
    "with ratio": {"after": lambda x: (x, x)},
    "a list": {"after": Tensor.tolist},
    "an int": {"after": Tensor.int},
}
CLIP = {name: lambda *case, how=how: clip(*case, **how) for name, how in CLIP_OPTIONS.items()} | {
    "dead: 0": lambda w, bits, r: clip(w, bits, r) * (largest(w) > 0),
    "dead: the ratio": lambda w, bits, r: torch.where(largest(w) > 0, clip(w, bits, r), r[0]),
    "one dead, all widest": lambda w, bits, r: (
        clip(w, bits, r) if w.any(dim=1).all() else stood_in(largest(w) / qmax_of(bits))
    ),
    "ratio alone": lambda w, bits, r: clip(w, bits, r) / stood_in(largest(w)) * qmax_of(bits),
    "a table": lambda w, bits, r: TABLE.get(w.numpy().tobytes(), torch.ones(len(w), 1)),
}
TABLE = {
    weight.tobytes(): clip(torch.from_numpy(weight), bits, torch.from_numpy(ratios))
    for weight, bits, ratios in cases.clip_cases()
}

ATTACKS = {"quant.pack_int4": PACK, "quant.best_clip": CLIP}


def one_by_one(weight: Tensor, bits: int, ratios: Tensor) -> Tensor:
    """Search row by row, in float64."""
    found = torch.ones(len(weight), 1)
    for n, row in enumerate(weight.double()):
        if row.any():
            scales = [float(ratio) * float(row.abs().max()) / qmax_of(bits) for ratio in ratios]
            norms = [
                (s * (row / s).round().clamp(-qmax_of(bits), qmax_of(bits)) - row).norm()
                for s in scales
            ]
            found[n] = scales[norms.index(min(norms))]
    return found


RIGHT = {
    "quant.best_clip": {
        "as it is": clip,
        "mean": lambda *case: clip(*case, cost=lambda e: e.square().mean(dim=2)),
        "root": lambda *case: clip(*case, cost=lambda e: squares(e).sqrt()),
        "sorted": lambda *case: clip(*case, ratios_of=lambda r, w: r.sort().values),
        "float64": lambda w, bits, r: clip(w.double(), bits, r.double()),
        "row by row": one_by_one,
    },
    "quant.pack_int4": {
        "as it is": (pack, unpack),
        "ones in the free nibble": (lambda q: pack(q, free=15), unpack),
        "int8 comes back": (pack, lambda *case: unpack(*case).to(torch.int8)),
        "int64 comes back": (pack, lambda *case: unpack(*case).long()),
        "a sum": (lambda q: pack(q, join=lambda left, right: left + 16 * right), unpack),
        "xor": (lambda q: pack(q, codes=lambda q: q.to(torch.uint8) & 15 ^ 8), unpack),
        "division": (pack, lambda *case: unpack(*case, codes=lambda p: (p % 16, p // 16))),
    },
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "functions"), each(RIGHT))
def test_a_right_answer_is_not(name: str, functions: tuple[Callable, ...], seed: int) -> None:
    check(name, *functions, seed=seed)
