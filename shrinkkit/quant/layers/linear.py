"""A linear layer that holds packed integers and computes from them.

`QuantizedLinear` replaces `torch.nn.Linear`. It keeps exactly one copy of the weight, in the
layout of the kernel that will run (see `kernels`); `integers()` and `dequantize()` give it back
in the textbook form, and saving always writes the textbook form, so that a file made on one
machine opens on every other.

The layer runs without gradients for its weights. Where x needs a gradient (training something
in front of a frozen quantized layer, as QLoRA does), the multiplication falls back to the
de-quantised weight, which autograd can differentiate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.quant.grids.affine import choose_qparams, dequantize, quantize, search_qparams
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.kernels import UNPACK, Kernel, choose_kernel
from shrinkkit.quant.layers.lazy import LazyWeight
from shrinkkit.surgery.matrices import is_transposed, matrix


class QuantizedLinear(nn.Module):
    """Multiply by a packed weight: y = x @ dequantize().T + bias.

    Make one with `from_linear` or `from_integers`. Attributes: `format`, `in_features`,
    `out_features`, `kernel` (its name), `nbytes` (bytes in memory), `bits_per_weight` (as stored
    on disk, scales and zero points counted), `dtype` (of the float layer that it stands for; it
    follows `.to(dtype)`), `transposed` (that layer was GPT-2's, whose weight is [in, out]).

    >>> layer = QuantizedLinear.from_linear(nn.Linear(64, 32), Format(8))
    >>> layer.integers().dtype, layer(torch.ones(2, 64)).shape
    (torch.int8, torch.Size([2, 32]))
    """

    def __init__(self, fmt: Format, in_features: int, out_features: int) -> None:
        super().__init__()
        self.format = fmt
        self.in_features = in_features
        self.out_features = out_features
        self.dtype = torch.float32
        self.transposed = False
        self.is_held = False  # by another module, which reads the rows: see `held`
        self._kernel: Kernel = UNPACK
        self.bias: torch.Tensor | None
        self.register_buffer("bias", None)

    @classmethod
    def from_linear(cls, layer: nn.Module, fmt: Format, *, search: bool = False) -> QuantizedLinear:
        """Round a float layer's weight to nearest; the bias stays as it is.

        layer: torch.nn.Linear, weight [out_features, in_features], finite; or GPT-2's Conv1D.
        fmt: the grid.
        search: choose ranges by `search_qparams` instead of by min and max.
        Returns a new layer. Raises InputError for NaN, or a group larger than the row.
        """
        weight = matrix(layer)
        scale, zero_point = (search_qparams if search else choose_qparams)(weight, fmt)
        q = quantize(weight, scale, zero_point, fmt)
        return cls.from_integers(q, scale, zero_point, fmt, layer.bias).standing_for(layer)

    @classmethod
    def from_integers(
        cls,
        q: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor,
        fmt: Format,
        bias: torch.Tensor | None = None,
    ) -> QuantizedLinear:
        """Make the layer from integers that some method has chosen.

        q: [out_features, in_features] integer; scale, zero_point: [out, n_groups]; bias: [out].
        Returns a new layer on q's device.
        """
        made = cls(fmt, q.shape[1], q.shape[0])
        made._hold(q, scale, zero_point, q.device)
        if bias is not None:
            made.bias = bias.detach().clone()
        return made

    def standing_for(self, layer: nn.Module) -> QuantizedLinear:
        """Take over from a layer, float or packed, what is no number: its dtype, its way round."""
        self.dtype = layer.dtype if hasattr(layer, "dtype") else layer.weight.dtype
        self.transposed = getattr(layer, "transposed", is_transposed(layer))
        return self

    def plain(self) -> nn.Module:
        """Return the float layer that this one stands for, with the weight as it is now."""
        weight, bias = self.dequantize().to(self.dtype), self.bias
        if self.transposed:
            from transformers.pytorch_utils import Conv1D

            made, weight = Conv1D(1, 1), weight.t().contiguous()
            made.nx, made.nf = self.in_features, self.out_features
        else:
            made = nn.Linear(self.in_features, self.out_features, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=False)
        made.bias = None if bias is None else nn.Parameter(bias.clone(), requires_grad=False)
        return made

    def _hold(
        self, q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, device: torch.device
    ) -> None:
        """Keep the weight in the layout of the kernel for this device."""
        for name in self._names():
            delattr(self, name)
        self._kernel = self._choose_kernel(device)
        parts = (part.to(device) for part in (q, scale, zero_point))
        for name, tensor in self._kernel.store(*parts, self.format).items():
            self.register_buffer(name, tensor)

    def _choose_kernel(self, device: torch.device) -> Kernel:
        return choose_kernel(self.format, self.shape, device)

    def _names(self) -> list[str]:
        return [name for name in self._buffers if name != "bias"]

    @property
    def shape(self) -> tuple[int, int]:
        """The weight's shape, (out_features, in_features)."""
        return self.out_features, self.in_features

    @property
    def kernel(self) -> str:
        """Name of the kernel that runs: int8, int4 or unpack."""
        return self._kernel.name

    @property
    def nbytes(self) -> int:
        """Bytes that the layer's tensors take in memory, scales and bias included."""
        return sum(t.numel() * t.element_size() for t in self._buffers.values() if t is not None)

    @property
    def weight(self) -> LazyWeight:
        """The weight as whoever reads a float layer's expects it; unpacked at every use."""

        def make() -> torch.Tensor:
            weight = self.dequantize().to(self.dtype)
            return weight.t() if self.transposed else weight

        shape = self.shape[::-1] if self.transposed else self.shape
        return LazyWeight.of(make, shape, self.dtype, self.device)

    @property
    def device(self) -> torch.device:
        """Where the packed weight is."""
        return self.qweight.device

    @property
    def qweight(self) -> torch.Tensor:
        """The packed weight in the kernel's layout: the name by which peft finds the device."""
        return self._buffers[self._names()[0]]

    @property
    def bits_per_weight(self) -> float:
        """Bits a weight takes when saved, scales and zero points counted, bias not."""
        return self.format.bits_per_weight(self.shape)

    def qparams(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (q [out, in], scale [out, n_groups], zero_point [out, n_groups])."""
        return self._kernel.load(self._buffers, self.format, self.shape)

    def integers(self) -> torch.Tensor:
        """Return the stored integers q, [out_features, in_features]."""
        return self.qparams()[0]

    def dequantize(self) -> torch.Tensor:
        """Return the weight as real numbers, [out_features, in_features] float32."""
        return dequantize(*self.qparams(), self.format)

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Return some rows of the de-quantised weight: index [...] -> [..., in_features]."""
        held = {name: self._buffers[name] for name in self._names()}
        parts = self._kernel.rows(index.reshape(-1), held, self.format, self.shape)
        return dequantize(*parts, self.format).view(*index.shape, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply: x [..., in_features] float -> [..., out_features] of the same dtype."""
        if torch.is_grad_enabled() and x.requires_grad:
            y = linear(x, self.dequantize().to(x.dtype))
        else:
            flat = x.reshape(-1, self.in_features)
            y = self._kernel.matmul(flat, self._buffers, self.format, self.shape)
            y = y.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _apply(self, fn: Callable, recurse: bool = True) -> QuantizedLinear:
        """Follow `.to(device)` and `.to(dtype)`; packed tensors stay, the kernel fits."""
        like = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        self.dtype = like.dtype
        if like.device != self.device:
            self._hold(*self.qparams(), like.device)
        if self.bias is not None:
            self.bias = fn(self.bias)
        return self

    def extra_repr(self) -> str:
        """Return what print(model) shows of this layer."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"format={self.format}, kernel={self.kernel}"
        )
