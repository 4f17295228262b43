"""Make it visible when an answer rests on what a cast makes of NaN or infinity.

`(x / 0).round().to(torch.int8)` has no defined result: 0 on one machine, -128 on the next. Where it
happens to be the right number, a wrong answer would pass. So a judge may ask:

    with UndefinedCasts():
        compare(quantize_tokens, truths.tokens_to_int8, (x,), ...)

Inside, such a cast gives the lowest number of the integer dtype (255 for uint8). Whoever replaces
these numbers afterwards is not disturbed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CASTS = {torch.ops.aten._to_copy.default: 0, torch.ops.aten.copy_.default: 1}  # place of the source


class UndefinedCasts(TorchDispatchMode):
    """Let casts of NaN and infinity to integers give a number that is seldom the right one."""

    def __torch_dispatch__(self, function, types, arguments=(), options=None) -> Any:
        """Run one of torch's operators, and look at what it has cast."""
        result = function(*arguments, **(options or {}))
        place = CASTS.get(function)
        if place is not None and _is_whole(result):
            source = arguments[place]
            if source.is_floating_point() and source.numel():
                lost = ~source.isfinite()
                if bool(lost.any()):
                    limits = torch.iinfo(result.dtype)
                    result.masked_fill_(lost, limits.min if limits.min else limits.max)
        return result


def _is_whole(value: Tensor) -> bool:
    """Say whether a tensor holds integers."""
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
