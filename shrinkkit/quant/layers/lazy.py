"""A weight that looks like a float tensor and is made only when somebody computes with it.

Some models read `layer.weight` by themselves: to ask its dtype, to multiply by it in an operator of
their own, to pick one expert out of a stack. A packed layer has no such tensor. What it shows there
has a shape, a dtype and a device, and becomes numbers at the moment when an operator wants them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map_only


class LazyWeight(torch.Tensor):
    """A float tensor of a given shape whose numbers are made by `make` whenever they are used.

    part: makes one of the matrices of a stack [n, rows, columns]; None: `make` and pick.

    >>> weight = LazyWeight.of(lambda: torch.ones(2, 3), (2, 3), torch.float32)
    >>> weight.shape, (weight @ torch.ones(3)).tolist()
    (torch.Size([2, 3]), [3.0, 3.0])
    """

    _make: Callable[[], torch.Tensor]
    _part: Callable[[int], torch.Tensor] | None

    @staticmethod
    def of(
        make: Callable[[], torch.Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        part: Callable[[int], torch.Tensor] | None = None,
    ) -> LazyWeight:
        """Make one: `make()` returns a tensor of this shape, dtype and device."""
        made = torch.Tensor._make_wrapper_subclass(LazyWeight, shape, dtype=dtype, device=device)
        made._make, made._part = make, part
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run an operator on the numbers; of a stack, make only the matrix that is picked."""
        if func is torch.ops.aten.detach.default:  # asks for no number
            one = args[0]
            return cls.of(one._make, one.shape, one.dtype, one.device, one._part)
        if func is torch.ops.aten.select.int and args[0]._part is not None and args[1] == 0:
            return args[0]._part(args[2])
        args, kwargs = tree_map_only(LazyWeight, lambda one: one._make(), (args, kwargs or {}))
        return func(*args, **kwargs)

    def __repr__(self) -> str:
        """Show the numbers."""
        return repr(self._make())
