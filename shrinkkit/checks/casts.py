"""Let a cast of NaN or infinity to an integer give what another machine might make of it.

C leaves it open what such a cast gives, and torch passes that on: 0 here, the least integer there.
An answer that divides 0 by 0 and casts the quotient is right by chance on one machine:

    with OtherCasts():
        compare(ternarize, truths.ternary, (zeros,), ...)

Inside of the block torch's casts give the least integer of the dtype. Whoever puts something else
in its place afterwards is as right as before. A cast by numpy is not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What casts, and which of its arguments holds the numbers.
SOURCES = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}


class OtherCasts(TorchDispatchMode):
    """Cast NaN and infinity to an integer dtype's least number, inside of the `with` block.

    >>> with OtherCasts():
    ...     torch.tensor([0.0, float("nan")]).to(torch.int8)
    tensor([   0, -128], dtype=torch.int8)
    """

    def __torch_dispatch__(
        self, func: Callable, types: Sequence, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOURCES:
            source = args[SOURCES[func]]
            if source.is_floating_point() and _is_integer(result.dtype):
                least = torch.iinfo(result.dtype).min
                result.masked_fill_(~source.isfinite().to(result.device), least)
        return result


def _is_integer(dtype: torch.dtype) -> bool:
    """Say whether a dtype stores integers, and can be filled."""
    return dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
