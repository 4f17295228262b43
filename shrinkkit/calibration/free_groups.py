"""Measure which channels of a block can be rescaled for nothing, instead of believing their names.

`invariance.norm_groups` goes by names: `input_layernorm` is read by q, k and v. In Llama that is
all there is to say. In other families a module of the same name multiplies by 1 + weight (Gemma),
is read by the MLP, too (Phi, Cohere), or stands behind the layers that it seems to feed (Olmo 2).
So the block itself is asked: a group's channels are rescaled by random powers of two, which cost no
rounding, and the block has to say what it said before on the windows that the walk brings.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shrinkkit.calibration.stand_ins import Block
from shrinkkit.calibration.walk import Walk
from shrinkkit.errors import InputError
from shrinkkit.surgery.invariance import NormGroup, norm_groups, rescale

PRECISION = 1e-3  # of what a block adds, in float32; one hundredth in 16 bits


def free_groups(
    block: Block, walk: Walk, only: Callable[[NormGroup], bool] = lambda group: True
) -> list[NormGroup]:
    """Return the groups of a block that can be rescaled without changing what it computes.

    block: the next one of the walk; it is the same afterwards.
    only: whether a group is wanted; all are, unless told otherwise.
    Raises InputError, with what was measured, where groups were wanted and none is free.
    """
    wanted = [group for group in norm_groups(block.module) if only(group)]
    exact = walk.output_of(block)
    if not wanted or _change(block, walk, wanted, exact) == 0:
        return wanted
    free, changes = [], {}
    for group in wanted:
        for spelled in group.spellings(block.module):
            changes[group.source] = _change(block, walk, [spelled], exact)
            if changes[group.source] == 0:
                free.append(spelled)
                break
    if not free:
        said = ", ".join(f"{source} by {change:.0%}" for source, change in changes.items())
        raise InputError(
            f"Nothing in {block.name} ({type(block.module).__name__}) can be rescaled for nothing. "
            f"Rescaling the channels of one module and of its readers changed the output: {said}."
        )
    return free


def _change(block: Block, walk: Walk, groups: list[NormGroup], exact: torch.Tensor) -> float:
    """Return by how much rescaled groups change what a block adds; 0 for what rounding explains."""
    held = {
        name: parameter.detach().clone()
        for group in groups
        for name, parameter in group.parameters(block.module)
    }
    generator = torch.Generator().manual_seed(block.number)
    for group in groups:
        powers = torch.randint(-2, 3, (group.n_channels,), generator=generator)
        rescale(block.module, group, torch.exp2(powers.float()).to(exact.device))
    try:
        added = (exact - walk.hidden[: len(exact)]).float().norm()
        change = ((walk.output_of(block) - exact).float().norm() / added).item()
    finally:
        for name, tensor in held.items():
            block.module.get_parameter(name).data.copy_(tensor)
    precision = PRECISION if exact.dtype.itemsize > 2 else 10 * PRECISION
    return 0.0 if change <= precision else change
