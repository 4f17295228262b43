"""Write tokens faster with the same numbers: fused projections, a fixed cache, a compiled step.

A small quantized model at batch size 1 spends less than half of its time in matrix products. The
rest is the price of asking: each of some 60 operations a block is a call of Python and torch, a few
microseconds long whatever it computes. Two ways to ask less:

- **Fused projections** (`fuse_projections`). Queries, keys and values are three products of the
  same input, gate and up two. Stacking the matrices makes it one product each, and the rotary
  embedding then turns queries and keys together. No number changes: a row's product does not know
  which rows stand beside it.
- **A compiled step** (`compile_decoding`). A cache of fixed size gives each new token the same
  shapes, so torch.compile can turn the whole step into one program: the small operations become a
  few loops of C++ and Python leaves the inner loop. The first answer pays for it (a minute the
  first time, some seconds when torch finds it in its own cache on disk), and it needs a C++
  compiler.

Both go through transformers' own `generate`. What is left then is the matrix kernel itself: torch's
4-bit kernel turns integers into floats before it multiplies, where llama.cpp multiplies integers.

Source: fused projections are common to all inference engines (vLLM, llama.cpp); static cache and
compiled step as in gpt-fast (PyTorch, 2023).
"""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.surgery.parts import clone, decoder_blocks, replace_module

FAMILIES = ("llama", "mistral", "qwen2")  # their attention differs in biases and masks alone
ATTENTION = ("q_proj", "k_proj", "v_proj")
MLP = ("gate_proj", "up_proj")


class FusedAttention(nn.Module):
    """Stand in for a Llama-like attention: one product gives queries, keys and values.

    Takes and returns what transformers' LlamaAttention does. For inference: no dropout.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.config = attention.config
        self.layer_idx = attention.layer_idx
        self.head_dim = attention.head_dim
        self.scaling = attention.scaling
        self.is_causal = True
        window = getattr(self.config, "sliding_window", None)  # Mistral's; Qwen2's is a layer's
        self.sliding_window = getattr(attention, "sliding_window", window)
        self.num_key_value_groups = attention.num_key_value_groups
        self.n_kv_heads = attention.k_proj.out_features // self.head_dim
        self.n_heads = self.n_kv_heads * self.num_key_value_groups
        self.qkv_proj = stack([getattr(attention, name) for name in ATTENTION])
        self.o_proj = attention.o_proj
        self._find_attention = _attention_functions()

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend: hidden_states [batch, seq_len, hidden] -> (the same shape, weights or None)."""
        shape = hidden_states.shape[:-1]
        heads = self.qkv_proj(hidden_states).view(*shape, -1, self.head_dim).transpose(1, 2)
        turning, value = heads.split((self.n_heads + self.n_kv_heads, self.n_kv_heads), dim=1)
        cos, sin = (part[:, None] for part in position_embeddings)
        first, second = turning.chunk(2, dim=-1)
        turned = turning * cos + torch.cat((-second, first), dim=-1) * sin
        query, key = turned.split((self.n_heads, self.n_kv_heads), dim=1)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = self._find_attention(self.config._attn_implementation)
        more = {"scaling": self.scaling, "sliding_window": self.sliding_window, "dropout": 0.0}
        out, weights = attend(self, query, key, value, attention_mask, **more, **kwargs)
        return self.o_proj(out.reshape(*shape, -1).contiguous()), weights


class FusedMLP(nn.Module):
    """Stand in for a Llama-like MLP: one product gives gate and up."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.act_fn = mlp.act_fn
        self.gate_up_proj = stack([getattr(mlp, name) for name in MLP])
        self.down_proj = mlp.down_proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute down(act(gate x) * up x): [..., hidden] -> [..., hidden]."""
        gate, up = self.gate_up_proj(x).chunk(2, dim=-1)
        return self.down_proj(self.act_fn(gate) * up)


PARTS = (("self_attn", ATTENTION, FusedAttention), ("mlp", MLP, FusedMLP))


def _attention_functions() -> Callable[[str], Callable]:
    """Return what finds transformers' attention function by its name (sdpa, eager, ...)."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.llama.modeling_llama import eager_attention_forward

    return lambda name: ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention_forward)


def stack(layers: list[nn.Module]) -> nn.Module:
    """Make one linear layer whose output is the layers' outputs, one after the other.

    layers: nn.Linear all, or QuantizedLinear all with one format; the same in_features.
    Returns a new layer of the same kind. Raises InputError for layers that differ.

    >>> a, b = nn.Linear(4, 2), nn.Linear(4, 3)
    >>> x = torch.ones(1, 4)
    >>> torch.allclose(stack([a, b])(x), torch.cat([a(x), b(x)], dim=1))
    True
    """
    if reason := why_not_one_matrix(layers):
        raise InputError(reason)
    first = layers[0]
    like = next((layer.bias for layer in layers if layer.bias is not None), None)
    bias = None
    if like is not None:
        biases = (
            like.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()
            for layer in layers
        )
        bias = torch.cat(list(biases))
    if type(first) is nn.Linear:
        weight = torch.cat([layer.weight.detach() for layer in layers])
        made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=False)
        made.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        return made
    parts = zip(*(layer.qparams() for layer in layers), strict=True)
    return QuantizedLinear.from_integers(*map(torch.cat, parts), first.format, bias)


def why_not_one_matrix(layers: list[nn.Module]) -> str:
    """Return why layers cannot be stacked, as a sentence; empty where they can."""
    first = layers[0]
    if type(first) not in (nn.Linear, QuantizedLinear):
        return f"layers are {type(first).__name__}: only nn.Linear and QuantizedLinear are stacked."
    if len({(type(layer), layer.in_features) for layer in layers}) > 1:
        return "layers are of different kinds or widths: they cannot be one matrix."
    if type(first) is nn.Linear:
        return ""
    if len({layer.format for layer in layers}) > 1:
        formats = ", ".join(str(layer.format) for layer in layers)
        return f"layers have the formats {formats}: only layers of one format can be stacked."
    if first.format.granularity == "per_tensor":
        return "layers have one scale each: stacked, they would have to share it."
    return ""


def fuse_projections(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Stack the matrices that read the same input: q, k, v of attention, gate and up of the MLP.

    A projection whose layers differ in format (as after `choose_formats`) stays as it is.

    model: a transformers Llama, Mistral or Qwen2, quantized or not.
    inplace: change `model` itself instead of a copy.
    Returns the model, in eval mode. Save the model from before: a fused one is for running.
    Raises InputError for another family or a model that is fused already.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    >>> model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=32, num_attention_heads=2))
    >>> fuse_projections(model).model.layers[0].mlp.gate_up_proj
    Linear(in_features=64, out_features=192, bias=False)
    """
    family = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if family not in FAMILIES:
        raise InputError(
            f"model is of the family {family}; fused projections are known for "
            f"{', '.join(FAMILIES)}."
        )
    if is_fused(model):
        raise InputError("This model's projections are fused already.")
    found = {
        f"{name}.{part}": fused
        for name, block in decoder_blocks(model).items()
        for part, leaves, fused in PARTS
        if not why_not_one_matrix([block.get_submodule(f"{part}.{leaf}") for leaf in leaves])
    }
    if not inplace:
        old = [model.get_submodule(name) for name in found]
        model = clone(model, shared=chain.from_iterable(_tensors(module) for module in old))
    for name, fused in found.items():
        replace_module(model, name, fused(model.get_submodule(name)))
    return model.eval()


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def is_fused(model: nn.Module) -> bool:
    """Tell whether some projections of the model are fused."""
    return any(isinstance(module, (FusedAttention, FusedMLP)) for module in model.modules())


def refuse_fused(model: nn.Module) -> None:
    """Raise InputError for a model with fused projections: files hold a model's own layers."""
    if is_fused(model):
        raise InputError(
            "This model's projections are fused for decoding, which no file format knows: save the "
            "model that it was made from, and fuse again after loading."
        )


def compile_decoding(
    model: nn.Module, max_length: int = 256, *, inplace: bool = False
) -> nn.Module:
    """Let `generate` write with a cache of fixed size and a compiled step.

    The step is compiled when `generate` first needs it, once for each batch size; prompts are read
    without it. The cache is as long as `max_length` from the start, and every token looks at all of
    it, so a needlessly long one costs time. A longer text grows the cache and compiles again.

    model: a causal language model of transformers, on the CPU or elsewhere.
    max_length: tokens of prompt and answer together that the cache holds.
    inplace: change `model` itself instead of a copy.
    Returns the model, in eval mode.
    Raises InputError for a model that cannot generate, a bad length, no C++ compiler.
    """
    from transformers import CompileConfig

    require_int("max_length", max_length, 2)
    if not callable(getattr(model, "generate", None)):
        raise InputError(f"model is a {type(model).__name__}, which cannot generate text.")
    if next(model.parameters()).device.type == "cpu":
        require_compiler()
    if not inplace:
        model = clone(model)
    compiling = CompileConfig(mode="default", dynamic=False)
    compiling._compile_all_devices = True  # transformers would compile on a GPU alone
    model.generation_config.cache_implementation = "static"
    model.generation_config.compile_config = compiling
    model._previous_max_cache_length = max_length  # by which transformers keeps the shape
    return model.eval()


def generation_config_to_save(model: nn.Module) -> Any:
    """Return the model's generation config without what `compile_decoding` set: for one machine.

    None for a model without one.
    """
    config = getattr(model, "generation_config", None)
    if getattr(getattr(config, "compile_config", None), "_compile_all_devices", None):
        config = copy.deepcopy(config)
        config.cache_implementation = config.compile_config = None
    return config


def require_compiler() -> None:
    """Raise InputError unless the C++ compiler that torch.compile needs is there."""
    names = ("cl",) if sys.platform == "win32" else ("g++", "clang++")
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *names) if name):
        raise InputError(
            f"compile_decoding needs a C++ compiler ({' or '.join(names)}), and none was found. "
            "Install one (`apt install g++`, `xcode-select --install`), or leave this step out: "
            "fuse_projections needs none."
        )
