"""Ask a model what its layers keep of each token, instead of believing that all are like the first.

How many heads keep keys and values, and how wide they are, is spelled differently in every family:
multi-query models keep one head, some layers slide over a window, latent attention keeps something
else altogether. So the model is built on torch's meta device, where tensors have shapes and no
numbers, reads two tokens, and a cache notes what each layer hands to it.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from shrinkkit.errors import InputError


class Kept(NamedTuple):
    """What one layer keeps of a token: numbers of its keys, and of its values, in each head."""

    n_heads: int
    key_dim: int
    value_dim: int


def kv_shape(config: Any) -> tuple[int, int, int]:
    """Read what decides the size of a cache from a configuration, for a Llama-like model.

    config: a transformers configuration, `model.config`.
    Returns (layers, key-value heads, numbers in one key). `kv_shapes` asks the model itself.

    >>> from transformers import LlamaConfig
    >>> config = LlamaConfig(
    ...     hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3
    ... )
    >>> kv_shape(config)
    (30, 3, 64)
    """
    n_heads = getattr(config, "num_attention_heads", None)
    n_layers = getattr(config, "num_hidden_layers", None)
    if not n_heads or not n_layers:
        raise InputError(
            f"config is a {type(config).__name__}, which does not say how many layers and heads "
            "there are: give the configuration of a language model, model.config."
        )
    n_kv_heads = getattr(config, "num_key_value_heads", None) or n_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    return n_layers, n_kv_heads, head_dim


def kv_shapes(config: Any) -> list[Kept | None]:
    """Ask the model of a configuration what each of its layers keeps; None: no keys and values.

    Where it does not run without numbers, the configuration is read as a Llama-like one's.

    >>> from transformers import FalconConfig
    >>> kv_shapes(FalconConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))[0]
    Kept(n_heads=1, key_dim=16, value_dim=16)
    """
    n_layers, n_kv_heads, head_dim = kv_shape(config)
    noted = _noted(type(config), config.to_json_string()) if hasattr(config, "to_dict") else ()
    if not noted:
        return [Kept(n_kv_heads, head_dim, head_dim)] * n_layers
    return [noted.get(number) for number in range(n_layers)]


@lru_cache(maxsize=64)
def _noted(kind: type, written: str) -> dict[int, Kept]:
    """Return {layer: what it keeps} of a model on the meta device; empty where it cannot run."""
    from transformers import AutoModelForCausalLM, DynamicCache

    class Notes(DynamicCache):
        def update(self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *args, **kwargs):
            noted[layer_idx] = Kept(keys.shape[1], keys.shape[3], values.shape[3])
            return super().update(keys, values, layer_idx, *args, **kwargs)

    noted: dict[int, Kept] = {}
    config = kind.from_dict(json.loads(written))
    try:
        with torch.device("meta"), torch.no_grad():
            usual = {"attn_implementation": "eager", "dtype": torch.bfloat16}
            model = AutoModelForCausalLM.from_config(config, **usual).eval()
            tokens = torch.ones(1, 2, dtype=torch.long)
            model(tokens, past_key_values=Notes(config=config), use_cache=True)
    except Exception:  # whatever a family does that meta tensors cannot
        return {}
    return noted
