"""Inputs that the judges of several lessons draw."""

from __future__ import annotations

import numpy as np
import torch

Array = np.ndarray


def tensor(array: Array) -> torch.Tensor:
    """Turn a truth into a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))


def random_weight(seed: int, out_features: int, in_features: int, spread: float = 1.0) -> Array:
    """Draw a weight [out_features, in_features] float32 whose rows have different sizes."""
    rng = np.random.default_rng(seed)
    sizes = spread * rng.uniform(0.2, 3.0, size=(out_features, 1))
    return (sizes * rng.standard_normal((out_features, in_features))).astype(np.float32)
