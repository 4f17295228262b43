"""Show a model some text, block by block, and let a method see what flows into each layer.

Methods that use data (GPTQ, AWQ, SmoothQuant, Wanda, SparseGPT) differ in what they collect and
what they do with it, not in how they get at it. The walk is always this:

1. run the embedding on all windows: the inputs of block 0;
2. for each block in order: run all windows through it while accumulators watch the inputs of its
   layers; let the method change the block; run the windows through the changed block, and take
   what comes out as the inputs of the next one.

So each block is calibrated on what it will really get, errors of the blocks before it included, and
a method can repair some of them. Only one block has to be in memory at a time, with the windows'
activations: 32 windows of 256 tokens are 19 MB for SmolLM2. Twice the forward pass is the price,
or a little less, because the first stops at the last layer that somebody watches.

`Walk` holds the activations between blocks, `walk_blocks` takes them from block to block, and
`calibrate` is the two of them for a model that is in memory. A walk can begin in the middle: a run
that was interrupted has kept the activations it had reached, and the blocks before are not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from tqdm.auto import tqdm

from shrinkkit.errors import require_finite, require_int
from shrinkkit.surgery.parts import decoder_blocks, find_linears, watch_inputs
from shrinkkit.surgery.running import check_tokens, check_vocabulary, device_of, evaluating


class Accumulator(Protocol):
    """Anything that wants to see a layer's inputs, such as `obs.Hessian`."""

    def add(self, x: torch.Tensor) -> None:
        """Take in inputs x [..., in_features]."""


class _Caught(Exception):
    """Ends a forward pass once what was wanted of it is known."""


class Walk:
    """The activations that stand between two blocks, and how to take them one block further.

    Attributes: `hidden` [n_samples, seq_len, hidden], what the next block will get; `options`, the
    keyword arguments that the model passes to each block (positions, mask).
    """

    def __init__(self, model: nn.Module, tokens: torch.Tensor, batch_size: int = 4) -> None:
        """Run everything before the first block.

        model: a decoder whose blocks `surgery.decoder_blocks` knows; only what comes before the
            blocks has to hold real weights.
        tokens: [n_samples, seq_len] integer; the calibration windows.
        batch_size: windows that go through a block at once.
        Raises InputError for tokens that are no windows, or outside the vocabulary.
        """
        self.batch_size = require_int("batch_size", batch_size, 1)
        tokens = check_tokens(tokens)
        check_vocabulary("the model", model, tokens)
        first = next(iter(decoder_blocks(model).values()))
        inputs: list[torch.Tensor] = []
        self.options: dict[str, Any] = {}

        def catch(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            inputs.append((args[0] if args else kwargs["hidden_states"]).detach())
            if not self.options:
                known = {k: v for k, v in kwargs.items() if k != "hidden_states"}
                self.options = known | {"past_key_values": None, "use_cache": False}
            raise _Caught

        handle = first.register_forward_pre_hook(catch, with_kwargs=True)
        device = device_of(model.get_input_embeddings())
        try:
            with evaluating(model):
                # one batch size for all, because a mask has the batch's shape: the rest goes singly
                for batch in self._split(tokens):
                    with torch.no_grad():
                        try:
                            model(batch.to(device), use_cache=False)
                        except _Caught:
                            continue
        finally:
            handle.remove()
        self.hidden = torch.cat(inputs)
        if self.options.get("attention_mask") is not None:
            # every window is whole and causal, so one row's mask serves all
            self.options["attention_mask"] = self.options["attention_mask"][:1]

    def _split(self, rows: torch.Tensor) -> Iterable[torch.Tensor]:
        return rows.split(self.batch_size)

    def run(self, block: nn.Module) -> None:
        """Send all windows through a block; what comes out is the new `hidden`."""
        with evaluating(block):
            for start in range(0, len(self.hidden), self.batch_size):
                rows = slice(start, start + self.batch_size)
                out = block(self.hidden[rows], **self.options)
                self.hidden[rows] = out[0] if isinstance(out, tuple) else out

    def observe(self, block: nn.Module, accumulators: Mapping[str, Accumulator]) -> None:
        """Send all windows into a block, as far as the last layer that is watched.

        accumulators: {layer's name inside the block: accumulator}, in the order in which the
            layers run (`shared_inputs` finds it). What the last layer would compute is not needed,
            and neither is what comes after it: a quarter of the work, where that is `down_proj`.
        """
        *_, last = accumulators.values()
        ends = _Last(last)
        watched = {name: ends if one is last else one for name, one in accumulators.items()}
        with evaluating(block), watching(block, watched):
            for rows in self._split(self.hidden):
                with suppress(_Caught):
                    block(rows, **self.options)

    def shared_inputs(self, block: nn.Module) -> list[list[str]]:
        """Group the block's linear layers by the input that they share, in the order they run.

        Found by watching one window: layers that are called with one and the same tensor belong
        together (q, k and v; gate and up), whatever the family calls them.
        Returns [[names inside the block that share the first input], ...].
        """
        inputs: list[tuple[torch.Tensor, list[str]]] = []  # holding them keeps them apart

        def watch_of(name: str) -> Callable[[torch.Tensor], None]:
            def watch(x: torch.Tensor) -> None:
                for seen, names in inputs:
                    if x.data_ptr() == seen.data_ptr() and x.shape == seen.shape:
                        names.append(name)
                        return
                inputs.append((x, [name]))

            return watch

        watchers = {name: watch_of(name) for name in find_linears(block)}
        with evaluating(block), watch_inputs(block, watchers):
            block(self.hidden[:1].clone(), **self.options)
        return [names for _, names in inputs]


@dataclass(frozen=True)
class _Last:
    """Ends the forward pass once an accumulator has what it wants of it."""

    accumulator: Accumulator

    def add(self, x: torch.Tensor) -> None:
        self.accumulator.add(x)
        raise _Caught


# visit(block's name, block, walk) -> what to call once the windows went through the block, or None
Visit = Callable[[str, nn.Module, Walk], Callable[[], None] | None]


@contextmanager
def watching(block: nn.Module, accumulators: Mapping[str, Accumulator]) -> Iterator[None]:
    """Let accumulators see the inputs of some layers of a block while it runs.

    accumulators: {layer's name inside the block: accumulator}. One accumulator may stand for
        several layers that get the same input; it is then fed once, by the first of them.
    """
    first = {id(accumulator): name for name, accumulator in reversed(accumulators.items())}
    with watch_inputs(block, {name: accumulators[name].add for name in first.values()}):
        yield


def calibrate(
    model: nn.Module,
    tokens: torch.Tensor,
    visit: Visit,
    *,
    batch_size: int = 4,
    n_blocks: int | None = None,
    label: str = "calibrating",
) -> None:
    """Take every decoder block in order and let `visit` see it with its inputs.

    model: a decoder; `visit` may change its blocks in place.
    tokens: [n_samples, seq_len] calibration windows.
    visit: called with (block's name, block, walk); `walk.hidden` are the block's inputs. It may
        return a function, which is called once the windows have gone through the changed block.
    batch_size: windows that go through a block at once.
    n_blocks: how many blocks are visited, from the first on; None: all.
    label: of the progress bar.
    Raises InputError as `Walk` does, and where the blocks produce NaN, naming the block.
    """
    blocks = dict(list(decoder_blocks(model).items())[:n_blocks])
    walk_blocks(Walk(model, tokens, batch_size), blocks, visit, label=label)


def walk_blocks(
    walk: Walk, blocks: Mapping[str, nn.Module], visit: Visit, *, done: int = 0, label: str
) -> None:
    """Take blocks in order and let `visit` see each with its inputs.

    walk: `walk.hidden` are the inputs of the first block that is not done.
    blocks: all of them, {name: block}, in order; `visit` may change them in place.
    visit, label: as for `calibrate`.
    done: how many blocks at the beginning are left out, because an earlier run did them.
    Raises InputError where the blocks produce NaN, naming the block.
    """
    left = list(blocks.items())[done:]
    bar = tqdm(left, desc=label, unit="block", leave=False, initial=done, total=len(blocks))
    for name, block in bar:
        finish = visit(name, block, walk)
        walk.run(block)
        require_finite(f"the output of {name}", walk.hidden)
        if finish is not None:
            finish()
