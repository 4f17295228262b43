"""Show a model some text, block by block, and let a method see what flows into each layer.

Methods that use data (GPTQ, AWQ, SmoothQuant, W8A8, pruning by activations) differ in what they
collect and what they do with it, not in how they get at it. The walk is a loop:

    walk = Walk(model, tokens)
    for block in walk:
        for layers in walk.observe(block, Hessian.of):   # who shares an input, and its Hessian
            ...                                          # change the block, in place
        walk.advance(block)                              # its outputs are the next one's inputs

So each block is calibrated on what it will really get, the changes of the blocks before it
included. Only one block has to be in memory at a time, with the windows' activations: 32 windows of
256 tokens are 19 MB for SmolLM2. Twice the forward pass is the price, or a little less, because
from the second batch on the last layer that is watched need not compute.

Every block is called with what the model itself would call it with (`stand_ins`). A walk can begin
in the middle: a run that was interrupted has kept the activations it had reached, and the blocks
before are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from shrinkkit.calibration.accumulators import Accumulator
from shrinkkit.calibration.stand_ins import Block, Call, activations, calls_of, instead, run
from shrinkkit.errors import InputError, require_finite, require_int
from shrinkkit.surgery.matrices import matrix
from shrinkkit.surgery.parts import decoder_blocks, find_linears, watch_inputs
from shrinkkit.surgery.running import check_tokens, check_vocabulary, evaluating


@dataclass(frozen=True)
class Observed:
    """Linear layers of a block that read one and the same input, and what watched it.

    names: of the layers, inside the block, in the order in which they run.
    seen: the accumulator, which was fed with every token once.
    """

    names: list[str]
    seen: Any


class Walk:
    """The activations that stand between two blocks, and how to take them one block further.

    Attributes: `hidden` [n_samples, seq_len, hidden], what the next block will get; `done`, how
    many blocks the windows have gone through.
    """

    def __init__(
        self,
        model: nn.Module,
        tokens: torch.Tensor,
        batch_size: int = 4,
        *,
        n_blocks: int | None = None,
        done: int = 0,
        hidden: torch.Tensor | None = None,
        label: str = "calibrating",
    ) -> None:
        """Run everything before the first block.

        model: one whose blocks `surgery.decoder_blocks` knows; only what comes before the blocks
            has to hold real weights.
        tokens: [n_samples, seq_len] integer; the calibration windows.
        batch_size: windows that go through a block at once.
        n_blocks: how many blocks the walk takes, from the first on; None: all.
        done, hidden: to go on in the middle: how many blocks are done, and what came out of them.
        label: of the progress bar.
        Raises InputError for tokens that are no windows, or outside the vocabulary.
        """
        self.batch_size = require_int("batch_size", batch_size, 1)
        tokens = check_tokens(tokens)
        check_vocabulary("the model", model, tokens)
        named = list(decoder_blocks(model).items())[:n_blocks]
        self.blocks = [Block(i, name, module) for i, (name, module) in enumerate(named)]
        self.done, self.label, self._model, self._tokens = done, label, model, tokens
        self._calls = calls_of(model, self.blocks, tokens.split(self.batch_size))
        if hidden is None and self.blocks:
            hidden = torch.cat([of_batch[0].hidden for of_batch in self._calls])
        self.hidden = hidden
        for call in (call for of_batch in self._calls for call in of_batch):
            call.hidden = None  # one copy, above, is enough

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks that are not done, in order; each has to be advanced in the loop."""
        left, total = self.blocks[self.done :], len(self.blocks)
        bar = tqdm(left, desc=self.label, unit="block", leave=False, initial=self.done, total=total)
        for block in bar:
            yield block
            if self.done <= block.number:
                raise InputError(
                    f"The windows have not gone through {block.name}: end the loop's body with "
                    "walk.advance(block)."
                )

    def _batches(self, block: Block) -> Iterator[tuple[slice, Call]]:
        """Yield each batch's rows of `hidden`, and what the block is called with beside them."""
        for number, of_batch in enumerate(self._calls):
            start = number * self.batch_size
            yield slice(start, start + self.batch_size), of_batch[block.number]

    def advance(self, block: Block) -> None:
        """Send all windows through a block; what comes out is the new `hidden`.

        Raises InputError where the block produces NaN, and for a block that is not the next one.
        """
        if block.number != self.done:
            raise InputError(f"{block.name} is not the next block of this walk.")
        with evaluating(block.module):
            for rows, call in self._batches(block):
                out = block.module(self.hidden[rows], *call.args, **call.options)
                self.hidden[rows] = activations(out)
        require_finite(f"the output of {block.name}", self.hidden)
        self.done += 1

    def output_of(self, block: Block) -> torch.Tensor:
        """Return what a block makes of the first batch; the walk stays where it is."""
        rows, call = next(self._batches(block))
        with evaluating(block.module):
            out = block.module(self.hidden[rows].clone(), *call.args, **call.options)
        return activations(out)

    def observe(
        self,
        block: Block,
        make: Callable[[nn.Module], Accumulator],
        only: Collection[str] | None = None,
    ) -> list[Observed]:
        """Send all windows into a block, and let accumulators watch its linear layers' inputs.

        Layers that are called with one and the same tensor (q, k and v; gate and up) share an
        accumulator, whatever the family calls them.

        make: gets a layer and returns what is to watch its input, such as `Hessian.of`.
        only: names inside the block; other layers are left out. None: all.
        Returns one Observed for each distinct input, in the order in which the layers run.
        """
        layers = {
            name: layer
            for name, layer in find_linears(block.module, needed=False).items()
            if only is None or name in only
        }
        found: list[Observed] = []
        held: list[torch.Tensor] = []  # inputs of the first batch: holding them keeps them apart

        def first_sight_of(name: str, layer: nn.Linear) -> Callable[[torch.Tensor], None]:
            def watch(x: torch.Tensor) -> None:
                for seen, observed in zip(held, found, strict=True):
                    if x.data_ptr() == seen.data_ptr() and x.shape == seen.shape:
                        observed.names.append(name)
                        return
                held.append(x)
                found.append(Observed([name], make(layer)))
                found[-1].seen.add(x)

            return watch

        watchers = {name: first_sight_of(name, layer) for name, layer in layers.items()}
        idle: Collection[nn.Module] = ()
        with evaluating(block.module):
            for rows, call in self._batches(block):
                hidden = self.hidden[rows].clone()  # a block may write into what it gets
                with watch_inputs(block.module, watchers), _resting(idle):
                    block.module(hidden, *call.args, **call.options)
                if held:  # from now on it is known who shares, and who comes last
                    held.clear()
                    watchers = {one.names[0]: one.seen.add for one in found}
                    idle = [layers[name] for name in found[-1].names]
        return found

    def observe_rest(self, accumulators: Mapping[str, Accumulator]) -> None:
        """Let accumulators watch layers outside of the blocks (a pooler, a classifier).

        To be called when all blocks are done: what comes before them runs again, and what comes
        after them runs on `hidden`.

        accumulators: {layer's full name: accumulator}.
        """
        if not accumulators:
            return
        watchers = {name: accumulator.add for name, accumulator in accumulators.items()}
        with evaluating(self._model), watch_inputs(self._model, watchers):
            for number, batch in enumerate(self._tokens.split(self.batch_size)):
                rows = self.hidden[number * self.batch_size :][: len(batch)]
                run(self._model, batch, self.blocks, self._calls[number][0].returned, rows)


@contextmanager
def _resting(layers: Collection[nn.Module]) -> Iterator[None]:
    """Let linear layers return zeros without computing anything."""
    with ExitStack() as stack:
        for layer in layers:
            width = matrix(layer).shape[0]
            stack.enter_context(
                instead(layer, lambda x, width=width: x.new_zeros(*x.shape[:-1], width))
            )
        yield
