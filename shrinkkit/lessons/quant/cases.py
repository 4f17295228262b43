"""Draw the inputs of lesson 03's exercises: fixed ones that reach the edges, and fresh ones.

Inputs keep a distance from rounding ties (weight / scale = 2.5), where float32 and float64 may
round differently and both are right, and searches have a winner by a margin.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from shrinkkit.checks.inputs import column_groups, fresh, random_weight, tensor
from shrinkkit.lessons.quant import truths
from shrinkkit.lessons.quant.truths import Array

ALL_BITS = range(2, 9)
# Other dtypes, each with bits for which a sum in it can be exact.
DTYPES = ((3, torch.float16), (8, torch.float16), (4, torch.bfloat16), (7, torch.float64))

# A weight, bits, the group size and the dtype in which it is given.
Case = tuple[Array, int, int, torch.dtype]


def spread_cases(
    seed: int | np.random.Generator, shape: tuple[int, int], group_size: int
) -> Iterator[Case]:
    """Yield groups from 1e-9 to 1e4, side by side, for every bit width, and in other dtypes.

    One group of a random row is zero.
    """
    rng = np.random.default_rng(seed)
    for bits in ALL_BITS:
        weight = random_weight(rng, *shape)
        places = column_groups(weight, group_size)
        for n, place in enumerate(places):
            weight[place] *= 10.0 ** (rng.uniform(-6, 4) if n else -9)
        if len(places) > 1:
            weight[places[rng.integers(1, len(places))]] = 0.0
        moved = truths.away_from_ties(weight, bits, group_size)
        yield moved, bits, group_size, torch.float32
    for bits, dtype in DTYPES:
        yield truths.on_quarters(rng, np.zeros(shape), bits, group_size), bits, group_size, dtype


def rtn_cases() -> Iterator[Case]:
    """Yield weights: small, wide, one column, one row, negative, zero row; all sizes and bits."""
    spiky = random_weight(3, 3, 48)
    spiky[1, 7] = -40.0
    dead = random_weight(4, 4, 6)
    dead[2] = 0.0
    for weight, bits in [
        (random_weight(1, 3, 8), 4),
        (spiky, 8),
        (random_weight(2, 6, 5), 3),
        (-np.abs(random_weight(5, 2, 9)), 4),
        (random_weight(6, 5, 1), 2),
        (random_weight(7, 1, 20), 5),
        (random_weight(8, 3, 7).astype(np.float64), 4),
        (dead, 4),
        (np.zeros((2, 3), np.float32), 6),
        (random_weight(10, 2, 300, spread=0.02), 8),
    ]:
        width = weight.shape[1]
        dtype = tensor(weight).dtype
        yield truths.away_from_ties(weight, bits, width), bits, width, dtype
    yield from spread_cases(9, (7, 19), 19)


def fresh_rtn_cases() -> Iterator[Case]:
    """Draw the shape, and then as above."""
    rng = fresh()
    out_features, in_features = (int(n) for n in rng.integers(2, (9, 40)))
    yield from spread_cases(rng, (out_features, in_features), in_features)


def qparams_cases() -> Iterator[tuple[Array, int, torch.dtype]]:
    """Yield weights and bits: shifted, all positive, all negative, constant and zero rows."""
    constant = random_weight(16, 4, 9) + np.float32(0.4)
    constant[2] = 0.75  # here the mistakes that leave zero out choose other scales
    for weight, bits in [
        (constant, 4),
        (random_weight(11, 4, 9) + np.float32(0.4), 4),
        (random_weight(12, 7, 3) - np.float32(0.3), 8),
        (np.abs(random_weight(13, 3, 6)) + np.float32(0.5), 4),
        (-np.abs(random_weight(14, 2, 6)) - np.float32(0.5), 3),
        (random_weight(15, 1, 33), 2),
        (np.array([[0.75] * 4, [0.0] * 4, [-0.75] * 4], dtype=np.float32), 4),
        (np.array([[2.5], [-1e-6], [0.0]], dtype=np.float32), 7),
    ]:
        yield weight, bits, torch.float32
    yield from spread_qparams_cases(17, (8, 12))


def spread_qparams_cases(
    seed: int | np.random.Generator, shape: tuple[int, int]
) -> Iterator[tuple[Array, int, torch.dtype]]:
    """Yield shifted rows from 1e-9 to 1e4, side by side, for every bit width; other dtypes."""
    rng = np.random.default_rng(seed)
    for bits in ALL_BITS:
        weight = random_weight(rng, *shape)
        for n, row in enumerate(weight):
            while True:
                row[:] = rng.standard_normal(len(row)) + rng.uniform(-3, 3)
                row *= 10.0 ** (rng.uniform(-6, 4) if n else -9)
                if truths.has_clear_zero_points(row[None], bits):
                    break
        weight[rng.integers(1, len(weight))] = 0.0
        yield weight, bits, torch.float32
    for bits, dtype in DTYPES:
        yield truths.ranges_on_steps(rng, shape, bits), bits, dtype


def fresh_qparams_cases() -> Iterator[tuple[Array, int, torch.dtype]]:
    """Draw the shape, and then as above."""
    rng = fresh()
    out_features, in_features = (int(n) for n in rng.integers(2, (9, 20)))
    yield from spread_qparams_cases(rng, (out_features, in_features))


def group_cases() -> Iterator[Case]:
    """Yield weights: short last groups, one group, groups of one; all sizes and bits."""
    dead = random_weight(24, 2, 12)
    dead[1, 4:8] = 0.0
    for weight, bits, group_size in [
        (random_weight(21, 3, 12), 4, 4),
        (random_weight(22, 3, 10), 4, 4),
        (random_weight(23, 4, 6), 3, 8),  # 8 divides the 24 weights, and not the row
        (random_weight(25, 2, 576), 4, 128),
        (random_weight(26, 2, 7), 2, 5),
        (random_weight(27, 3, 9), 8, 3),
        (dead, 4, 4),
        (random_weight(28, 3, 5), 4, 1),  # groups of one
        (random_weight(29, 2, 33), 6, 16),  # the last group has one column
        (random_weight(30, 1, 64), 5, 64),
    ]:
        moved = truths.away_from_ties(weight, bits, group_size)
        yield moved, bits, group_size, torch.float32
    yield from spread_cases(33, (4, 40), 9)


def fresh_group_cases() -> Iterator[Case]:
    """Draw the shape and the group size, and then as above."""
    rng = fresh()
    out_features, in_features = (int(n) for n in rng.integers(2, (6, 50)))
    yield from spread_cases(rng, (out_features, in_features), int(rng.integers(2, 20)))


SIGNED = (np.int8, np.int64, np.int32, np.int16)


def pack_cases() -> Iterator[tuple[Array, Array]]:
    """Yield integers [out, in] to pack, and other bytes of the same width to unpack."""
    rng = np.random.default_rng(31)
    shapes = [(2, 6), (3, 5), (4, 1), (1, 17), (2, 64), (3, 131), (5, 2)]
    for n, shape in enumerate(shapes):
        yield packable(rng, shape, SIGNED[n % 4])
    yield (
        np.arange(-8, 8, dtype=np.int8).reshape(1, 16),
        np.arange(0, 256, 17, dtype=np.uint8).reshape(2, 8),
    )
    yield np.full((1, 4), -8, np.int32), np.arange(256, dtype=np.uint8).reshape(128, 2)


def fresh_pack_cases() -> Iterator[tuple[Array, Array]]:
    """Draw shapes, and then as above, in each integer dtype."""
    rng = fresh()
    for dtype in SIGNED:
        rows, width = rng.integers(1, (6, 40))
        yield packable(rng, (int(rows), int(width)), dtype)


def packable(rng: np.random.Generator, shape: tuple[int, int], dtype: type) -> tuple[Array, Array]:
    """Draw integers to pack, and bytes to unpack, of which every free nibble holds something."""
    q = rng.integers(-8, 8, size=shape).astype(dtype)
    return q, rng.integers(0, 256, size=(shape[0], (shape[1] + 1) // 2)).astype(np.uint8)


ClipCase = tuple[Array, int, Array]


def clip_cases() -> Iterator[ClipCase]:
    """Yield weight, bits, ratios: outliers, ratios in any order and of any size, a zero row."""
    first = random_weight(463, 8, 24)  # here every mistake chooses other scales than the rest
    first[:, 3] *= 3
    shuffled = np.random.default_rng(463).permutation(np.arange(10, 31) / 20)
    spiky = random_weight(41, 4, 40)
    spiky[:, 3] = [9.0, -12.0, 2.0, 7.5]
    dead = random_weight(42, 3, 25)
    dead[1] = 0.0
    falling = np.linspace(1.0, 0.4, 13)
    crowded = np.sign(random_weight(44, 2, 220)) + 0.1 * random_weight(50, 2, 220)
    crowded[:, 5] = 8.0, -6.0
    for weight, bits, ratios in [
        (first, 3, with_winners_at_ends(first, 3, shuffled)),
        (spiky, 3, falling),
        (random_weight(43, 6, 64), 4, np.linspace(1.0, 0.3, 29)),
        (random_weight(45, 2, 50), 4, np.array([0.6, 0.9, 0.75])),
        (dead, 4, falling[1:]),
        (crowded, 2, np.linspace(0.9, 0.08, 12)),  # ratios below 0.2 win
        (random_weight(46, 3, 1), 2, falling),  # one column: nothing is gained by clipping
        (random_weight(47, 3, 12), 4, np.array([0.8])),  # one ratio
    ]:
        yield weight, bits, ratios.astype(np.float32)
    yield from spread_clip_cases(62, (4, 26))


SEARCHES = ((0.05, 0.33), (0.3, 1.0), (0.9, 1.4))  # the smallest and the largest ratio


def spread_clip_cases(
    seed: int | np.random.Generator,
    shape: tuple[int, int],
    searches: tuple[tuple[float, float], ...] = SEARCHES,
) -> Iterator[ClipCase]:
    """Yield rows from 1e-8 to 1e5 for every bit width: the last ratio wins, the first, small ones.

    Of some searches all ratios are below a third, and of some a few are above 1.
    """
    rng = np.random.default_rng(seed)
    for bits in ALL_BITS:
        for low, high in searches:
            ratios = rng.permutation(np.linspace(low, high, 9)).astype(np.float32)
            weight = np.zeros(shape, np.float32)
            for n, row in enumerate(weight):
                redraw_row(rng, row, bits, ratios)
                is_last = n == len(weight) - 1
                weight[n] *= 10.0 ** (rng.choice([-8, 5]) if is_last else rng.uniform(-6, 4))
            yield weight, bits, with_winners_at_ends(weight, bits, ratios)


def redraw_row(rng: np.random.Generator, row: Array, bits: int, ratios: Array) -> None:
    """Draw a row with an outlier, until one ratio is better than all others by a margin."""
    while True:
        row[:] = rng.standard_normal(len(row))
        row[rng.integers(len(row))] *= rng.uniform(1, 4)
        if truths.has_clear_winner(row, bits, ratios):
            return


def with_winners_at_ends(weight: Array, bits: int, ratios: Array) -> Array:
    """Move the ratio that is best for row 0 to the end, and that of row 1 to the start."""
    last, first = (int(np.argmin(truths.errors_of(row, bits, ratios))) for row in weight[:2])
    rest = [r for n, r in enumerate(ratios) if n not in (first, last)]
    start = [ratios[first]] if first != last else []
    return np.array([*start, *rest, ratios[last]], dtype=np.float32)


def fresh_clip_cases() -> Iterator[ClipCase]:
    """Draw the shape and where to search, and then as above."""
    rng = fresh()
    out_features, in_features = (int(n) for n in rng.integers((2, 8), (5, 30)))
    search = SEARCHES[rng.integers(len(SEARCHES))]
    yield from spread_clip_cases(rng, (out_features, in_features), (search,))
