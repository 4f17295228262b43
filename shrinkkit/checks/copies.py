"""Copy what a learner's function is given, and see afterwards what it did with it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

SEVERAL = (list, tuple)
MOST = 10**7  # elements of what is copied to be compared
NUMBERS = (bool, int, float, complex, str, bytes, type(None))


def copied(value: Any) -> Any:
    """Copy whatever could be changed in place: tensors, arrays, and what holds them.

    A copy of a tensor that requires a gradient is part of its graph, so that `backward` reaches the
    original.
    """
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) in SEVERAL:
        return type(value)(map(copied, value))
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    return copy.deepcopy(value)


def settled(value: Any, depth: int = 3) -> Any:
    """Copy a result as far as it is made of tensors, numbers, lists and tuples.

    Whatever else there is, or lies deeper, or is huge, becomes its type alone: nothing of the
    learner's is called.
    """
    kind = type(value)
    if kind in (Tensor, torch.nn.Parameter):
        ordinary = value.layout is torch.strided and not value.is_nested and not value.is_quantized
        small = ordinary and value.device.type == "cpu" and value.numel() < MOST
        return Tensor.clone(Tensor.detach(value)) if small else kind
    if kind is np.ndarray:
        return value.copy() if value.dtype.kind in "fiub" and value.size < MOST else kind
    if kind in SEVERAL and depth and len(value) < MOST:
        return kind(settled(item, depth - 1) for item in value)
    return value if kind in NUMBERS else kind


def difference(before: Any, after: Any) -> str | None:
    """Say how one value differs from another, in the words for what became of an argument.

    Returns "" for a tensor or another value, a few words for a list's, and None where nothing
    differs. NaN equals NaN.

    >>> difference([torch.zeros(2), 1], [torch.zeros(2)])
    'a list: it had 2 elements, and has 1'
    >>> difference([torch.zeros(2)], [torch.ones(2)])
    'a list: its element 0 is another one now'
    """
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return None if same_tensor(before, after) else ""
    if type(before) is not type(after):
        return ""
    if isinstance(before, np.ndarray):
        same = before.dtype == after.dtype and np.array_equal(before, after, equal_nan=True)
        return None if same else ""
    if type(before) in (*SEVERAL, dict):
        return _difference_inside(before, after)
    same = before is after or type(before) not in NUMBERS or before == after or before != before
    return None if same else ""


def _difference_inside(before: list | tuple | dict, after: list | tuple | dict) -> str | None:
    """Say how one list, tuple or dict differs from another."""
    what = f"a {type(before).__name__}"
    if len(before) != len(after):
        return f"{what}: it had {len(before)} elements, and has {len(after)}"
    keys = before if isinstance(before, dict) else range(len(before))
    if isinstance(after, dict) and list(before) != list(after):
        return f"{what}: its keys are others now"
    for key in keys:
        if difference(before[key], after[key]) is not None:
            return f"{what}: its element {key!r} is another one now"
    return None


def same_tensor(a: Tensor, b: Tensor) -> bool:
    """Say whether two tensors have the same shape, dtype and values; NaN equals NaN."""
    if (a.shape, a.dtype, a.layout) != (b.shape, b.dtype, b.layout):
        return False
    try:
        return bool(((a == b) | ((a != a) & (b != b))).all())
    except (RuntimeError, NotImplementedError):  # a dtype without ==: whoever returns it is refused
        return True
