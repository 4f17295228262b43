"""Keep the keys and values of a language model in 2 to 8 bits while it writes.

To write one token, a model attends to the keys and values of all tokens before it. It keeps them,
because computing them again would cost a pass over the whole text for every token. This cache grows
with every token, and with long texts or many readers it outweighs the model itself.

    cache = QuantizedKVCache(bits=4)
    model.generate(**prompt, past_key_values=cache)
    cache.nbytes

The recipe is KIVI's (Liu et al. 2024, arXiv 2402.02750, section 3), in every layer:

1. A value is rounded **per token**. Its scale depends on that token alone, so it is rounded the
   moment it arrives, unless it is one of the `residual` latest tokens. One step is not KIVI's:
   the channels of a value are mixed before rounding, and unmixed after (`rows.mix`), which
   about halves what rounding the values costs and takes no memory.
2. A key is rounded **per channel**, over a group of `group_size` tokens. Its scale depends on
   tokens that are not written yet, so keys wait in float until a group is full.
3. Attention reads both as float again: packed integers widened, then the window in float.

So a token attends to rounded values, to rounded keys of every full group, and to the last few
keys as they are; a prompt that is read in one call sees its own keys in float. What is stored does
not depend on how the tokens came, in one call or one by one.

A layer that looks back at a window only (Mistral, every other layer of Gemma) forgets what has left
it, keys in whole groups.

It saves memory, not time: widening the whole cache at each step costs more than attention does.
Production kernels (KIVI's own, vLLM, llama.cpp) widen inside the attention kernel.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import torch
from torch import nn
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from shrinkkit.errors import InputError, require_choice, require_int
from shrinkkit.quant.kv.lane import Lane
from shrinkkit.quant.kv.rows import SHARED_BY


class QuantizedKVLayer(DynamicLayer):
    """One attention layer's part of a `QuantizedKVCache`, as transformers asks for it."""

    is_croppable = False  # cropping gives back the tokens, and not the float that they had

    def __init__(
        self,
        sliding_window: int | None,
        bits: int,
        group_size: int,
        residual: int,
        keys: str,
        values: str,
        mix_values: bool,
    ) -> None:
        super().__init__()
        self.sliding_window = sliding_window
        self.is_sliding = sliding_window is not None
        self._n_seen = 0
        self._lanes = [
            Lane(bits, keys, group_size, residual, mixed=False),
            Lane(bits, values, group_size, residual, mixed=mix_values),
        ]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Note dtype and device of the first tokens."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values [batch, heads, new, head_dim] and return all, for attention."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        visible = self.get_mask_sizes(key_states.shape[-2])[0]
        self._n_seen += key_states.shape[-2]
        new = zip(self._lanes, (key_states, value_states), strict=True)
        keys, values = [lane.add(states)[:, :, -visible:] for lane, states in new]
        if self.is_sliding:
            for lane in self._lanes:
                lane.keep_last(self.sliding_window - 1)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return (tokens that attention will get with so many new ones, how many came before)."""
        past = self._n_seen
        if self.is_sliding:
            past = min(past, self.sliding_window - 1)
        return past + query_length, self._n_seen - past

    @property
    def nbytes(self) -> int:
        """Bytes that this layer's keys and values take: codes, scales, zero points and window."""
        return sum(lane.nbytes for lane in self._lanes)

    def get_seq_length(self) -> int:
        """Count the tokens that were stored, those that left a sliding window included."""
        return self._n_seen

    def get_max_length(self) -> int:
        """Return how many tokens the layer looks back at most; -1: all of them."""
        return self.sliding_window if self.is_sliding else -1

    def reset(self) -> None:
        """Forget everything."""
        for lane in self._lanes:
            lane.packed = lane.window = None
        self._n_seen = 0
        self.is_initialized = False

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens; tokens_to_remove is 0 or negative, as in transformers."""
        if tokens_to_remove > 0:
            raise InputError(
                f"tokens_to_remove must be 0 or negative, but {tokens_to_remove} was given: "
                "crop(-3) removes the last three tokens."
            )
        if tokens_to_remove and self.is_sliding and self._n_seen >= self.sliding_window:
            raise InputError(
                f"This layer looks back at {self.sliding_window} tokens and has forgotten what "
                "came before them: after that many tokens it cannot be cropped."
            )
        self._n_seen = max(0, self._n_seen + tokens_to_remove)
        for lane in self._lanes:
            if len(lane) and tokens_to_remove:
                lane.drop_last(-tokens_to_remove)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Give each beam the past of the beam that it goes on from."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence of the batch."""
        for lane in self._lanes:
            lane.change_batch(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the sequences of the batch that `indices` names."""
        for lane in self._lanes:
            lane.change_batch(lambda x: x[indices.to(x.device)])


class QuantizedKVCache(Cache):
    """A key-value cache of packed integers, for `model.generate(past_key_values=cache)`.

    KIVI (Liu et al. 2024, arXiv 2402.02750), section 3: keys per channel, values per token.

    bits: 2 to 8, of each stored number.
    group_size: numbers that share a scale: tokens of one channel for keys, channels of one token
        for values.
    residual: the latest tokens that stay in float, at least; keys wait for a whole group besides.
    keys, values: "per_channel" or "per_token"; the defaults are KIVI's, others are for comparing.
    mix_values: spread a value over its channels before rounding (`rows.mix`); not in KIVI.
    config: the model's, `model.config`, which says what layers look back at a window only and may
        forget the rest. None: taken from the attention layer that first brings keys.

    A cache belongs to one text: start the next one with a new cache, or `reset()` it.
    Raises InputError for other arguments.

    >>> cache = QuantizedKVCache(bits=4, group_size=2)
    >>> one = torch.tensor([[[[1.0, 2.0]]]])  # [batch, heads, tokens, head_dim]
    >>> for _ in range(3):
    ...     keys, values = cache.update(one, one, layer_idx=0)
    >>> keys.shape, cache.get_seq_length(), cache.layers[0].nbytes
    (torch.Size([1, 1, 3, 2]), 3, 28)
    """

    def __init__(
        self,
        bits: int = 4,
        *,
        group_size: int = 64,
        residual: int = 0,
        keys: str = "per_channel",
        values: str = "per_token",
        mix_values: bool = True,
        config: Any = None,
    ) -> None:
        self.bits = require_int("bits", bits, 2, 8)
        self.group_size = require_int("group_size", group_size, 1)
        self.residual = require_int("residual", residual, 0)
        require_choice("keys", keys, SHARED_BY)
        require_choice("values", values, SHARED_BY)
        how = (bits, group_size, residual, keys, values, bool(mix_values))
        self._windows: list[int | None] | None = None
        super().__init__(layer_class_to_replicate=lambda: self._next_layer(how))
        if config is not None:
            self.use_config(config)

    def use_config(self, config: Any) -> None:
        """Note which layers of a model look back at a window only; before the first token."""
        self._windows = sliding_windows(config)

    def update_conv_state(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse a family that has recurrent layers beside attention."""
        raise _keeps_something_else("a layer of this model")

    update_recurrent_state = update_indexer = has_previous_state = update_conv_state
    get_conv_state = get_recurrent_state = update_conv_state

    def _next_layer(self, how: tuple) -> QuantizedKVLayer:
        number = len(self.layers)
        window = self._windows[number] if self._windows and number < len(self._windows) else None
        return QuantizedKVLayer(window, *how)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values [batch, heads, new, head_dim]; return all of them."""
        if self._windows is None:
            self._windows = sliding_windows(_config_of_caller())
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)

    @property
    def nbytes(self) -> int:
        """Bytes that the cache takes now: codes, scales, zero points and what is still float."""
        return sum(layer.nbytes for layer in self.layers)


def sliding_windows(config: Any) -> list[int | None]:
    """Return, for each layer of a model, how many tokens it looks back at; None: all of them.

    config: a model's configuration; None gives an empty list.

    >>> from transformers import MistralConfig
    >>> sliding_windows(MistralConfig(num_hidden_layers=2, sliding_window=16))
    [16, 16]
    """
    usual = () if config is None else DynamicCache(config=config).layers  # transformers' own rule
    for number, layer in enumerate(usual):
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise _keeps_something_else(f"layer {number} of this {config.model_type}")
    return [
        layer.sliding_window if getattr(layer, "is_sliding", False) else None for layer in usual
    ]


def _keeps_something_else(what: str) -> InputError:
    return InputError(
        f"A quantized cache holds keys and values of attention, and {what} keeps something else "
        "(the state of a recurrent layer, an index, compressed latents). Use transformers' own "
        "cache for this family."
    )


def _config_of_caller() -> Any:
    """Return the configuration of the attention layer that is storing keys; None: nobody says.

    transformers hands keys to a cache and nothing else, and a cache that does not know the window
    would keep tokens that no layer looks at any more.
    """
    frame = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            return None
        owner = frame.f_locals.get("self")
        config = getattr(owner, "config", None) if isinstance(owner, nn.Module) else None
        if config is not None:
            return config
        frame = frame.f_back
    return None
