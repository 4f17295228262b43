"""Count what a model takes: parameters, bytes on disk, bytes in memory, bits per weight.

Four numbers that are often mixed up:

- `n_parameters`: how many weights the model computes with. Quantizing does not change it.
- `saved_bytes`: what a file of the model holds. Packed integers count as packed, and so do their
  scales and zero points, which a claim such as "4 bits is an eighth of 32" leaves out.
- `resident_bytes`: what the loaded tensors occupy in memory, which can be more than on disk: a
  kernel may want its scales in another form, and some tables are made anew on loading.
- `bits_per_weight`: saved bits of the weights, divided by the number of weights. 32 for float32; a
  "4-bit" model is more like 4.3 in its linear layers and more again over the whole model.

A tensor that serves twice, as the embedding that is also the output head, is counted once: it is
stored once. All counts are exact and take milliseconds; nothing is written. Zeros count like any
other number, because a file stores them like any other number: a pruning mask by itself shrinks
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.matrices import is_packed
from shrinkkit.system.files import size_of

MIB = 2**20


@dataclass(frozen=True)
class _Store:
    """One tensor, or one packed weight: how many numbers it stands for, and its bytes in a file."""

    n_numbers: int
    saved_bytes: int
    is_weight: bool  # False for a buffer, such as BERT's position ids


def n_parameters(model: nn.Module) -> int:
    """Count the weights of a model; packed weights count as the numbers that they stand for.

    model: any module.
    Returns the count, tied weights once.

    >>> n_parameters(nn.Linear(3, 2))
    8
    """
    return sum(store.n_numbers for store in _stores(model) if store.is_weight)


def saved_bytes(model: nn.Module) -> int:
    """Count the bytes of the tensors that saving the model writes; nothing is written.

    The file itself is a little larger: a safetensors header of some 100 bytes a tensor.

    model: any module.
    Returns bytes, tied weights once.

    >>> saved_bytes(nn.Linear(3, 2))  # 8 numbers of 4 bytes
    32
    """
    return sum(store.saved_bytes for store in _stores(model))


def bits_per_weight(model: nn.Module) -> float:
    """Give the mean number of bits that a weight takes when saved, scales and zero points counted.

    bits_per_weight = 8 * (bytes of the saved weights) / (number of weights)

    model: any module with weights.
    Returns bits, a mean over all weights: embedding, norms and biases among them.
    Raises InputError for a model without weights.

    >>> bits_per_weight(nn.Linear(3, 2).to(torch.bfloat16))
    16.0
    """
    weights = [store for store in _stores(model) if store.is_weight]
    count = sum(store.n_numbers for store in weights)
    if count == 0:
        raise InputError(f"model is a {type(model).__name__} without weights: nothing to count.")
    return 8 * sum(store.saved_bytes for store in weights) / count


def resident_bytes(model: nn.Module) -> int:
    """Count the bytes that the loaded model's tensors occupy in memory.

    Weights, buffers and tensors kept as plain attributes, each underlying block of memory once. A
    small view that keeps a large tensor alive counts as the large tensor.

    model: any module.
    Returns bytes. Activations, the KV cache and Python itself come on top: see `memory.peak_rss`.

    >>> resident_bytes(nn.Linear(3, 2))
    32
    """
    blocks: dict[tuple, int] = {}
    for module in model.modules():
        attributes = (value for value in vars(module).values() if isinstance(value, torch.Tensor))
        for tensor in (*_own_tensors(module), *attributes):
            storage = tensor.untyped_storage()
            blocks[(tensor.device, storage.data_ptr() or id(tensor))] = storage.nbytes()
    return sum(blocks.values())


def file_bytes(path: str | Path) -> int:
    """Count the bytes of a file, or of all files in a folder.

    path: a file or a folder, such as the one a model was saved to.
    Raises InputError when there is nothing at `path`.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"path is {str(path)!r}, and there is no such file or folder.")
    return size_of(path)


def packed_bytes(layer: nn.Module) -> int:
    """Count the bytes of a packed layer's weight in a file, without its bias.

    layer: a packed layer, such as `shrinkkit.quant.QuantizedLinear`. Its `bits_per_weight` is used
        where it has one (the stored form), else its `nbytes` (the form in memory).
    """
    bits = getattr(layer, "bits_per_weight", None)
    if bits is None:
        return int(layer.nbytes) - _bias_bytes(layer)
    return math.ceil(round(bits * layer.in_features * layer.out_features, 3) / 8)


def _stores(model: nn.Module) -> Iterator[_Store]:
    """Walk over what would be saved, each tensor once."""
    seen: set[tuple] = set()
    for module in model.modules():  # a module that stands in two places comes once
        if is_packed(module):
            yield _Store(module.in_features * module.out_features, packed_bytes(module), True)
            bias = getattr(module, "bias", None)
            if bias is not None:
                yield _Store(bias.numel(), _bias_bytes(module), True)
            continue
        transient = module._non_persistent_buffers_set
        named = [(True, p) for p in module._parameters.values()]
        named += [(False, b) for name, b in module._buffers.items() if name not in transient]
        for is_weight, tensor in named:
            if tensor is None or _place(tensor) in seen:
                continue
            seen.add(_place(tensor))
            yield _Store(tensor.numel(), tensor.numel() * tensor.element_size(), is_weight)


def _own_tensors(module: nn.Module) -> list[torch.Tensor]:
    own = [*module._parameters.values(), *module._buffers.values()]
    return [tensor for tensor in own if tensor is not None]


def _place(tensor: torch.Tensor) -> tuple:
    """Tell where a tensor's numbers lie: two tied tensors have the same place."""
    storage = tensor.untyped_storage().data_ptr()
    if storage == 0:  # on the meta device: no memory at all
        return (id(tensor),)
    return (tensor.device, storage, tensor.storage_offset(), tuple(tensor.shape))


def _bias_bytes(layer: nn.Module) -> int:
    bias = getattr(layer, "bias", None)
    return 0 if bias is None else bias.numel() * bias.element_size()
