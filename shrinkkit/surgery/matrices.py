"""What in a model is a matrix that multiplies: plain linear layers, and weights in other places.

A layer may be exchanged for another one only if nothing is lost with it. `is_linear` is true where
a module computes x @ weight.T + bias and nothing else. A class that inherits from nn.Linear and has
a forward of its own is asked what it computes: Falcon's is linear all the same, a router that
scales is not. GPT-2 keeps its matrices transposed in transformers' Conv1D; `matrix` shows them the
usual way round.

Weights that no such layer holds are found by `other_matrices`: the experts of a mixture, stacked in
one tensor, the joint projection of torch's MultiheadAttention, the weight of a linear layer with a
forward of its own. They can be compressed where they stand, and their modules go on computing.
"""

from __future__ import annotations

import sys
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.functional import linear

SMALLEST = 8  # rows and columns from which a stack of matrices is one, and no convolution


class Place(NamedTuple):
    """Where a weight stands: a parameter `leaf` of a module, whose name in the model is `owner`."""

    owner: str
    leaf: str

    @property
    def name(self) -> str:
        """The parameter's full name."""
        return f"{self.owner}.{self.leaf}" if self.owner else self.leaf


def is_packed(module: nn.Module) -> bool:
    """Tell whether a module holds a compressed weight (it can `dequantize()`)."""
    return hasattr(type(module), "dequantize") and hasattr(type(module), "nbytes")


def is_transposed(module: nn.Module) -> bool:
    """Tell whether a module is transformers' Conv1D: GPT-2's linear layer, weight [in, out]."""
    known = sys.modules.get("transformers.pytorch_utils")  # no model has one before it is imported
    return known is not None and type(module) is known.Conv1D


def is_linear(module: nn.Module) -> bool:
    """Tell whether a module computes x @ weight.T + bias in float, and nothing else.

    >>> class Doubled(nn.Linear):
    ...     def forward(self, x):
    ...         return 2 * super().forward(x)
    >>> is_linear(nn.Linear(2, 2)), is_linear(Doubled(2, 2))
    (True, False)
    """
    if isinstance(module, nn.Linear):
        return type(module).forward is nn.Linear.forward or _multiplies_alone(module)
    return is_transposed(module)


_MEASURED: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _multiplies_alone(layer: nn.Linear) -> bool:
    """Tell, by trying, whether a linear layer's own forward is x @ weight.T + bias."""
    if layer.weight.is_meta:
        return False
    if layer not in _MEASURED:
        weight, bias = layer.weight.detach(), layer.bias
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, 3, weight.shape[1], generator=generator).to(weight)
        mode = layer.training
        try:
            with torch.no_grad():
                expected = linear(x, weight, bias)
                found = [layer.train(training)(x) for training in (True, False)]
            _MEASURED[layer] = all(
                one.dtype == expected.dtype and torch.allclose(one, expected, rtol=1e-2, atol=1e-3)
                for one in found
            )
        except Exception:  # it wants something else than activations
            _MEASURED[layer] = False
        finally:
            layer.train(mode)
    return _MEASURED[layer]


def matrix(layer: nn.Module) -> torch.Tensor:
    """Return a linear layer's weight as [out_features, in_features], a view and detached."""
    weight = layer.weight.detach()
    return weight.t() if is_transposed(layer) else weight


def other_matrices(model: nn.Module) -> list[Place]:
    """Find weights that multiply and stand in no plain linear layer, in the model's order.

    Stacks of matrices [n, rows, columns] of any module, the input projections of torch's
    MultiheadAttention, the weights of linear layers with a forward of their own.

    >>> other_matrices(nn.Sequential(nn.MultiheadAttention(8, 2)))
    [Place(owner='0', leaf='in_proj_weight')]
    """
    return [
        Place(name, leaf)
        for name, module in model.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
        if _multiplies(module, leaf, parameter)
    ]


_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def _multiplies(module: nn.Module, leaf: str, parameter: nn.Parameter) -> bool:
    if not parameter.is_floating_point() or is_linear(module):
        return False
    if isinstance(module, nn.Linear):
        return leaf == "weight"
    if isinstance(module, nn.MultiheadAttention):
        return leaf in _PROJECTIONS
    stacked = parameter.ndim == 3 and parameter.shape[0] > 1
    return stacked and min(parameter.shape[1:]) >= SMALLEST and not _convolves(module)


def _convolves(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd)
