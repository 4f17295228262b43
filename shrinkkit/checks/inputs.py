"""Inputs that the judges of several lessons draw, and what a learner's function is given of them.

A judge goes through fixed cases first, which reach the edges one by one, and then through some that
are drawn afresh at every run, so that no table of answers can pass:

    def fresh_cases():
        rng = fresh()                # inside the generator: asked for when the fixed ones are over
        for _ in range(4):
            yield rng.standard_normal((rng.integers(1, 9), 8)), int(rng.integers(2, 9))
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from shrinkkit.checks.run import this_run

Array = np.ndarray


def fresh() -> np.random.Generator:
    """Return a generator seeded anew at each run, and alike where a run is repeated.

    The second one of a run differs from the first. Outside of a run each call differs. A failure
    after it names the seed; `check(..., seed=...)` draws the same again.
    """
    run = this_run()
    run.drawn += 1
    return np.random.default_rng([run.seed, run.drawn])


def tensor(array: Array) -> torch.Tensor:
    """Copy an array into a tensor."""
    return torch.from_numpy(np.array(array, order="C"))


def as_given(value: Any) -> Any:
    """Turn arrays into tensors, in lists and tuples too, and leave everything else as it is."""
    if isinstance(value, np.ndarray):
        return tensor(value)
    if type(value) in (list, tuple):
        return type(value)(map(as_given, value))
    return value


def random_weight(
    seed: int | np.random.Generator, out_features: int, in_features: int, spread: float = 1.0
) -> Array:
    """Draw a weight [out_features, in_features] float32 whose rows have different sizes."""
    rng = np.random.default_rng(seed)
    sizes = spread * rng.uniform(0.2, 3.0, size=(out_features, 1))
    return (sizes * rng.standard_normal((out_features, in_features))).astype(np.float32)


def column_groups(array: Array, group_size: int) -> list[tuple[int, slice]]:
    """List the groups of columns of each row, [out, in]; the last one of a row may be shorter."""
    return [
        (row, slice(start, start + group_size))
        for row in range(len(array))
        for start in range(0, array.shape[1], group_size)
    ]


def largest(array: Array, places: list[tuple]) -> Array:
    """Return max|x| of the numbers that share a scale, at each of them; 0 where nothing does."""
    found = np.zeros(array.shape)
    for place in places:
        found[place] = np.abs(array[place]).max()
    return found
