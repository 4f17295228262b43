"""Draw the inputs of lesson 04's exercises.

Fixed ones reach the edges one by one, and `fresh_...` draws others at every check. Numbers keep a
distance from rounding ties, where float32 and float64 may round differently and both are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from shrinkkit.checks.inputs import fresh
from shrinkkit.lessons.smooth import truths
from shrinkkit.lessons.smooth.truths import Array

INT8 = torch.int8
N_FRESH = 4


def spiky(
    seed: int | np.random.Generator, n_tokens: int, in_features: int, factor: float = 30.0
) -> Array:
    """Draw activations [n_tokens, in_features] float32 with one channel that is far larger."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_tokens, in_features)) * rng.uniform(0.3, 3.0, (n_tokens, 1))
    x[:, rng.integers(in_features)] *= factor
    return x.astype(np.float32)


def readers(
    seed: int | np.random.Generator, out_features: Sequence[int], in_features: int
) -> list[Array]:
    """Draw weights [out, in] float32, whose columns have different sizes in each of them."""
    rng = np.random.default_rng(seed)
    sizes = [rng.uniform(0.05, 1.5, (1, in_features)) for _ in out_features]
    drawn = [rng.standard_normal((out, in_features)) for out in out_features]
    return [(w * size).astype(np.float32) for w, size in zip(drawn, sizes, strict=True)]


def sizes(rng: np.random.Generator, n: int, low: float = -6, high: float = 4) -> Array:
    """Draw n magnitudes, from 10**low to 10**high."""
    return (10.0 ** rng.uniform(low, high, n)).astype(np.float32)


# ---------------------------------------------------------------------- quantize_tokens


def tokens() -> Iterator[Array]:
    """Yield activations: spiky, one token, one channel, negative, zeros here and there, all sizes.

    Tokens of 1e-30 and 1e4 stand side by side: no step may be raised.
    """
    dead = spiky(6, 5, 8)
    dead[[0, 3]] = 0.0
    wide = spiky(7, 6, 37) * np.float32([[1e-30], [1e-12], [1e-6], [1e-2], [1.0], [1e4]])
    wide[4, ::2] = 0.0
    sparse = np.zeros((3, 6), dtype=np.float32)
    sparse[0, 5], sparse[2, 0] = -2e-9, 3.0
    late = spiky(8, 3, 40)
    late[:, -1] = -2 * np.abs(late).max()  # the largest comes last
    for x in [
        spiky(1, 4, 12),
        spiky(2, 7, 5, factor=100.0),
        spiky(3, 1, 33),
        spiky(4, 6, 1),
        -np.abs(spiky(5, 3, 9)),
        dead,
        wide,
        sparse,
        late,
        np.zeros((2, 3), dtype=np.float32),
    ]:
        yield truths.away_from_ties(x)


def fresh_tokens() -> Iterator[Array]:
    """Draw activations of all sizes, with tokens of zeros among them."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_tokens, in_features = map(int, rng.integers(1, (9, 40)))
        x = spiky(rng, n_tokens, in_features) * sizes(rng, n_tokens)[:, None]
        x[rng.random(n_tokens) < 0.2] = 0.0
        yield truths.away_from_ties(x)


# -------------------------------------------------------------------------- int8_matmul

Product = tuple[Array, Array, Array, Array]


def products() -> Iterator[Product]:
    """Yield xq, step, wq, scale: square, flat, one token, one column, long rows, a row of zeros."""
    rng = np.random.default_rng(11)
    for n_tokens, columns, out in [(3, 8, 5), (4, 6, 4), (1, 9, 3), (5, 1, 2), (2, 700, 3)]:
        yield product(rng, n_tokens, columns, out)
    xq, step, wq, scale = product(rng, 3, 5, 4)
    xq[1], wq[2] = 0, 0
    yield xq, step, wq, scale
    xq, step, wq, scale = product(rng, 2, 90, 2)
    yield np.full_like(xq, 127), step, np.full_like(wq, -127), scale
    for _ in range(4):
        yield long_product(rng)


def product(rng: np.random.Generator, n_tokens: int, columns: int, out: int) -> Product:
    """Draw integers of the whole range, and scales of all sizes."""
    xq = rng.integers(-127, 128, (n_tokens, columns), dtype=np.int8)
    wq = rng.integers(-127, 128, (out, columns), dtype=np.int8)
    return xq, sizes(rng, n_tokens, -5, 2)[:, None], wq, sizes(rng, out, -5, 1)[:, None]


def long_product(rng: np.random.Generator) -> Product:
    """Draw two rows whose sum passes 100 million on the way and ends below a hundred.

    Even columns count up and odd ones down by the same, so that each of the partial sums that a
    processor keeps side by side goes one way.
    """
    half = 10_000
    up_x, up_w = (rng.integers(115, 128, (1, half), dtype=np.int8) for _ in range(2))
    order = rng.permutation(half)
    xq, wq = (rng.integers(-9, 10, (1, 2 * half + 1), dtype=np.int8) for _ in range(2))
    xq[:, :-1:2], xq[:, 1::2] = up_x, -up_x[:, order]
    wq[:, :-1:2], wq[:, 1::2] = up_w, up_w[:, order]
    return xq, sizes(rng, 1, -2, 0)[:, None], wq, sizes(rng, 1, -2, 0)[:, None]


def fresh_products() -> Iterator[Product]:
    """Draw shapes, and then as above."""
    rng = fresh()
    for _ in range(N_FRESH):
        yield product(rng, *map(int, rng.integers(1, (7, 60, 7))))


# ---------------------------------------------------------------------- smoothing_scale

Scale = tuple[Array, list[Array], float]


def scales() -> Iterator[Scale]:
    """Yield x, weights, alpha: one to four readers, dead channels at both ends of alpha, too."""
    yield spiky(21, 6, 7), readers(31, (4, 3, 5), 7), 0.7
    yield spiky(22, 5, 10), readers(32, (6, 6), 10), 0.25
    yield -np.abs(spiky(23, 4, 6)), readers(33, (5,), 6), 0.5
    yield spiky(24, 3, 5), readers(34, (2, 9), 5), 0.0
    yield spiky(25, 3, 5), readers(35, (2, 9), 5), 1.0
    yield spiky(26, 1, 4), [-np.abs(w) for w in readers(36, (1, 1, 1, 2), 4)], 0.8
    for seed, alpha in enumerate([0.0, 0.5, 1.0, 0.05, 0.95], start=41):
        yield uneven(seed, 6, 20, (3, 4, 2), alpha)


def uneven(
    seed: int | np.random.Generator, n_tokens: int, in_features: int, outs: Sequence, alpha: float
) -> Scale:
    """Draw channels of all sizes; four are dead: in x, in all readers, in both, in one reader."""
    rng = np.random.default_rng(seed)
    x = spiky(rng, n_tokens, in_features) * sizes(rng, in_features)
    weights = [w * sizes(rng, in_features) for w in readers(rng, outs, in_features)]
    in_x, in_all, in_both, in_one = rng.permutation(in_features)[:4]
    x[:, [in_x, in_both]] = 0.0
    for weight in weights:
        weight[:, [in_all, in_both]] = 0.0
    weights[rng.integers(len(weights))][:, in_one] = 0.0  # where there is but one, it is dead, too
    return x, weights, alpha


def fresh_scales() -> Iterator[Scale]:
    """Draw shapes and alpha, and then as above."""
    rng = fresh()
    for _ in range(N_FRESH):
        n_tokens, in_features = map(int, rng.integers((1, 4), (9, 40)))
        outs = rng.integers(1, 7, rng.integers(1, 6)).tolist()
        yield uneven(rng, n_tokens, in_features, outs, float(rng.choice([0, 1, rng.random()])))


# --------------------------------------------------------------------------------- fold

Fold = tuple[Array, Array, list[Array], Array]


def folds() -> Iterator[Fold]:
    """Yield norm weight, norm bias, weights, s: square and flat readers, one to four of them."""
    rng = np.random.default_rng(41)
    for in_features, outs in [
        (6, (6, 3)),
        (5, (5, 2, 7)),
        (9, (4,)),
        (33, (1, 40, 1, 2)),
        (1, (1,)),
    ]:
        yield folded(rng, in_features, outs)


def folded(rng: np.random.Generator, in_features: int, outs: Sequence[int]) -> Fold:
    """Draw a norm of all sizes and signs, with a zero in it, and s from 1e-4 to 1e4."""
    norm, bias = (sizes(rng, in_features, -3, 2) * spiky(rng, 1, in_features)[0] for _ in range(2))
    if in_features > 3:
        norm[2], bias[1] = 0.0, 0.0
    s = sizes(rng, in_features, -4, 4)
    s[in_features // 2] = 1.0 if in_features > 1 else s[0]
    return norm, bias, readers(rng, outs, in_features), s


def fresh_folds() -> Iterator[Fold]:
    """Draw shapes, and then as above."""
    rng = fresh()
    for _ in range(N_FRESH):
        outs = rng.integers(1, 9, rng.integers(1, 6)).tolist()
        yield folded(rng, int(rng.integers(2, 30)), outs)


# ------------------------------------------------------------------------ output_errors

Errors = tuple[Array, Array, list[float]]


def errors() -> Iterator[Errors]:
    """Yield x, weight, alphas: spiky activations, a spiky weight, and what is dead or tiny."""
    rng = np.random.default_rng(51)
    for n_tokens, in_features, out, alphas in [
        (9, 12, 6, [0.0, 0.5, 0.8, 1.0]),
        (8, 24, 5, [0.9, 0.3, 0.6]),
        (1, 7, 1, [0.5]),
    ]:
        yield layer(rng, n_tokens, in_features, out, alphas)
    yield layer(rng, 10, 10, 6, [0.2, 0.4, 0.7], w_factor=60.0)
    yield layer(rng, 6, 9, 4, [0.0, 0.5, 1.0], dead=True)
    yield layer(rng, 5, 8, 4, [1.0, 0.0, 0.25], dead=True, x_size=1e-5, w_size=1e3)
    yield layer(rng, 4, 6, 3, [1.0, 0.0, 0.5], x_size=1e-4, w_size=1e-4)
    # Nothing is lost here, at whatever alpha.
    yield np.float32([[127, 1]]), np.float32([[1, 127]]), [0.5, 1.0, 0.0]


def layer(
    rng: np.random.Generator,
    n_tokens: int,
    in_features: int,
    out_features: int,
    alphas: list[float],
    *,
    dead: bool = False,
    x_size: float = 1.0,
    w_size: float = 1.0,
    w_factor: float | None = None,
) -> Errors:
    """Draw x and a weight that stay away from ties at every alpha.

    w_factor: how much larger one channel of the weight is; None: x has the large one.
    dead: a channel of x, another one of the weight, a token and an output are zero.
    """
    while True:
        x = spiky(rng, n_tokens, in_features, factor=2.0 if w_factor else rng.uniform(5, 100))
        [weight] = readers(rng, [out_features], in_features)
        if w_factor:
            weight = spiky(rng, out_features, in_features, factor=w_factor)
        x, weight = x * x_size, weight * w_size
        if dead:
            x[:, 1], weight[:, in_features - 2] = 0.0, 0.0
            x[n_tokens // 2], weight[out_features // 2] = 0.0, 0.0
        case = x.astype(np.float32), weight.astype(np.float32), alphas
        if truths.tie_distance(*case) > 2e-4:
            return case


def fresh_errors() -> Iterator[Errors]:
    """Draw shapes and alphas, and then as above."""
    rng = fresh()
    for n in range(3):
        shape = map(int, rng.integers((2, 4, 2), (7, 12, 6)))
        alphas = rng.random(rng.integers(1, 4)).tolist()
        yield layer(rng, *shape, alphas, dead=n == 1)
