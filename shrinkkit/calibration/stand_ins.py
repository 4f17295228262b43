"""Find out what a model calls its blocks with, by letting stand-ins answer for them.

A block gets more than the activations: positions, rotary tables, masks. Families give these by
position or by name, and not the same to every block (layers with a sliding window beside layers
that see everything). So the model runs once with a stand-in for each block, which writes down what
it is called with and hands the activations on. No block's weights are needed for it.

How a model wants the activations back differs too: as they are, or inside a tuple. What goes wrong
tells: the next block gets another shape, or the model fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.running import device_of, evaluating

_CACHES = ("past_key_values", "past_key_value", "layer_past")  # what earlier calls left behind


class Block(NamedTuple):
    """One of the model's repeated blocks: its place in the order, its full name, the module."""

    number: int
    name: str
    module: nn.Module


@dataclass
class Call:
    """What a block is called with beside the activations, and how it returns them."""

    hidden: torch.Tensor | None
    args: tuple
    options: dict[str, Any]
    returned: Callable[[torch.Tensor], Any]


class _LastReached(Exception):
    """Ends the model's run over stand-ins: what comes after the blocks is not needed."""


# How a model expects its blocks to return activations; which one shows when it has gone wrong.
_RETURNS: tuple[Callable[[torch.Tensor], Any], ...] = (
    lambda hidden: hidden,
    lambda hidden: (hidden,),
    lambda hidden: (hidden, None),
    lambda hidden: [hidden],
)


def activations(returned: Any) -> torch.Tensor:
    """Return the activations out of what a block returned: as they are, or first of several."""
    return returned[0] if isinstance(returned, tuple | list) else returned


def calls_of(
    model: nn.Module, blocks: list[Block], batches: tuple[torch.Tensor, ...]
) -> list[list[Call]]:
    """Return what each block is called with, for each batch of windows."""
    if not blocks:
        return []
    failure: Exception | None = None
    for returned in _RETURNS:
        same, calls = _Same(), []
        try:
            with evaluating(model):
                for batch in batches:
                    calls.append(of_batch := run(model, batch, blocks, returned))
                    for call in of_batch:
                        call.args, call.options = same.of(call.args), same.of(call.options)
                    same.next_batch()
            return calls
        except Exception as error:
            failure = failure or error  # of the first try, which is how most models are written
    if isinstance(failure, InputError) or not _runs(model, batches[0]):
        raise failure
    raise InputError(
        f"{type(model).__name__} hands more on from block to block than activations, and "
        f"calibration cannot follow it ({type(failure).__name__}: {failure}). quantize_model needs "
        "no calibration."
    ) from failure


def _runs(model: nn.Module, batch: torch.Tensor) -> bool:
    """Tell whether a model answers when its own blocks are in place."""
    try:
        with evaluating(model):
            model(batch.to(device_of(model)))
    except Exception:
        return False
    return True


def run(
    model: nn.Module,
    batch: torch.Tensor,
    blocks: list[Block],
    returned: Callable[[torch.Tensor], Any],
    last: torch.Tensor | None = None,
) -> list[Call]:
    """Run a model with stand-ins for its blocks, which hand on what they get.

    last: what the last block returns; None ends the run there.
    Returns what the blocks were called with.
    """
    calls: list[Call] = []

    def stand_in(*args: Any, **options: Any) -> Any:
        hidden, args = (args[0], args[1:]) if args else (options.pop("hidden_states"), ())
        if calls and hidden.shape != calls[0].hidden.shape:
            raise InputError(
                f"The blocks of {type(model).__name__} do not hand their activations on: shape "
                f"{tuple(calls[0].hidden.shape)} became {tuple(hidden.shape)}."
            )
        options |= {name: None for name in _CACHES if name in options}
        calls.append(Call(hidden.detach(), args, options, returned))
        if len(calls) < len(blocks):
            return returned(hidden)
        if last is None:
            raise _LastReached
        return returned(last)

    takes_cache = "use_cache" in inspect.signature(model.forward).parameters
    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(instead(block.module, stand_in))
        try:
            device = device_of(model)
            model(batch.to(device), **({"use_cache": False} if takes_cache else {}))
        except _LastReached:
            pass
    return calls


@contextmanager
def instead(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else while the block runs; its hooks still see the calls."""
    own = module.__dict__.get("forward")  # that of a tool which has wrapped it already
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


class _Same:
    """Keeps one tensor of those that are equal: masks and tables repeat from batch to batch."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []
        self.known: dict[int, torch.Tensor] = {}  # of this batch, which keeps them alive
        self.alive: list[torch.Tensor] = []

    def next_batch(self) -> None:
        self.known.clear()
        self.alive.clear()

    def of(self, value: Any) -> Any:
        """Return a value with its tensors replaced by equal ones that are kept already."""
        if isinstance(value, torch.Tensor):
            if id(value) not in self.known:
                self.alive.append(value)
                self.known[id(value)] = self._kept(value)
            return self.known[id(value)]
        if isinstance(value, dict):
            return {key: self.of(one) for key, one in value.items()}
        if isinstance(value, tuple | list) and type(value) in (tuple, list):
            return type(value)(self.of(one) for one in value)
        return value

    def _kept(self, value: torch.Tensor) -> torch.Tensor:
        for kept in self.kept:
            alike = kept.shape == value.shape and kept.dtype == value.dtype
            if alike and kept.device == value.device and torch.equal(kept, value):
                return kept
        self.kept.append(value.detach())
        return self.kept[-1]
