"""Measure which channels of a block can be rescaled for nothing, instead of believing their names.

`invariance.norm_groups` goes by names: `input_layernorm` is read by q, k and v. In Llama that is
all there is to say. In other families a module of the same name multiplies by 1 + weight (Gemma),
is read by the MLP, too (Phi, Cohere), or stands behind the layers that it seems to feed (Olmo 2).
So the block itself is asked: a group's channels are rescaled by random powers of two, which cost no
rounding, and the block has to say what it said before on the windows that the walk brings.

Norms that no name is known for are found by watching: a norm's output that arrives, the very same
tensor, at some linear layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shrinkkit.calibration.stand_ins import Block
from shrinkkit.calibration.walk import Walk
from shrinkkit.errors import InputError
from shrinkkit.surgery.invariance import NormGroup, named_groups, rescale
from shrinkkit.surgery.matrices import is_linear

PRECISION = 1e-3  # of what a block adds, in float32; one hundredth in 16 bits


def free_groups(
    block: Block, walk: Walk, only: Callable[[NormGroup], bool] = lambda group: True
) -> list[NormGroup]:
    """Return the groups of a block that can be rescaled without changing what it computes.

    block: the next one of the walk; it is the same afterwards.
    only: whether a group is wanted; all are, unless told otherwise.
    Raises InputError, with what was measured, where groups were wanted and none is free.
    """
    named = named_groups(block.module)
    wanted = [group for group in named if only(group)]
    exact = walk.output_of(block)
    if wanted and _change(block, walk, wanted, exact) == 0:
        return wanted
    seen = watched_groups(block, walk)
    free: dict[str, NormGroup] = {}
    changes = {}
    for group in filter(only, named + seen):
        for spelled in group.spellings(block.module) if group.source not in free else ():
            changes[group.source] = _change(block, walk, [spelled], exact)
            if changes[group.source] == 0:
                free[group.source] = spelled
                break
    if not free and (changes or not named + seen):
        said = ", ".join(f"{source} by {change:.0%}" for source, change in changes.items())
        measured = f"rescaling a module and its readers changed the output ({said})."
        raise InputError(
            f"Nothing in {block.name} ({type(block.module).__name__}) can be rescaled for nothing: "
            + (measured if said else "no norm's output goes to linear layers alone.")
        )
    return list(free.values())


def watched_groups(block: Block, walk: Walk) -> list[NormGroup]:
    """Find norms whose output, the very same tensor, arrives at linear layers of the block."""
    made: dict[tuple[int, torch.Size], str] = {}
    alive: list[torch.Tensor] = []  # so that no second tensor gets the memory of the first
    readers: dict[str, list[str]] = {}
    handles = []

    def note(name: str, out: torch.Tensor) -> None:
        if isinstance(out, torch.Tensor):
            alive.append(out)
            made[out.data_ptr(), out.shape] = name

    def look(name: str, x: torch.Tensor) -> None:
        source = made.get((x.data_ptr(), x.shape))
        if source is not None:
            readers.setdefault(source, []).append(name)

    for name, module in block.module.named_modules():
        weight = getattr(module, "_parameters", {}).get("weight")
        if weight is not None and weight.ndim == 1:
            handles.append(module.register_forward_hook(lambda _, __, out, n=name: note(n, out)))
        elif is_linear(module):
            handles.append(
                module.register_forward_pre_hook(lambda _, args, n=name: look(n, args[0]))
            )
    try:
        walk.output_of(block)
    finally:
        for handle in handles:
            handle.remove()
    return [
        NormGroup(source, tuple(names), block.module.get_submodule(source).weight.shape[0])
        for source, names in readers.items()
    ]


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
