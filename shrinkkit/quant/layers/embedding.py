"""An embedding that looks its rows up in packed integers.

`QuantizedEmbedding` reads the matrix of a `QuantizedLinear`. Models such as SmolLM2 use one matrix
both as input embedding and as output head; packing it once serves both.

Many families have an embedding of their own class, which scales what it has looked up (Gemma by the
root of the hidden size), normalises it, or shifts positions. What it does must not be lost with
the float matrix: the packed embedding is then a subclass of that class *and* of
QuantizedEmbedding, so that its forward runs as it is, and finds packed rows where it looks up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.quant.layers.lazy import LazyWeight
from shrinkkit.quant.layers.linear import QuantizedLinear


class QuantizedEmbedding(nn.Embedding):
    """Look rows up in a packed matrix: index [...] -> [..., embedding_dim] float.

    Holds its own matrix, or shares that of a tied output head (`tied=True`), which is then
    counted, saved and moved with the head alone.

    >>> from shrinkkit.quant.grids.formats import Format
    >>> head = QuantizedLinear.from_linear(nn.Linear(64, 32, bias=False), Format(8))
    >>> QuantizedEmbedding(head, tied=True)(torch.tensor([[3, 5]])).shape
    torch.Size([1, 2, 64])
    """

    max_norm, norm_type, scale_grad_by_freq, sparse = None, 2.0, False, False

    def __init__(
        self,
        table: QuantizedLinear,
        *,
        tied: bool = False,
        padding_idx: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.padding_idx = padding_idx
        self._look_up_in(table, tied, dtype)

    @classmethod
    def instead_of(
        cls, old: nn.Embedding, table: QuantizedLinear, *, tied: bool = False
    ) -> QuantizedEmbedding:
        """Return an embedding that does what `old` does, from packed rows.

        Raises InputError for one that changes its own matrix as it looks up (max_norm).
        """
        if old.max_norm is not None:
            raise InputError("An embedding with max_norm rewrites its rows, and cannot be packed.")
        dtype = old.weight.dtype
        if type(old).forward is nn.Embedding.forward:
            return cls(table, tied=tied, padding_idx=old.padding_idx, dtype=dtype)
        made = _like(old, _packed_class(type(old)))
        made._look_up_in(table, tied, dtype)
        return made

    def plain(self, weight: nn.Parameter) -> nn.Embedding:
        """Return the float embedding that this one stands for, with the weight given."""
        if type(self) is QuantizedEmbedding:
            made = nn.Embedding(*weight.shape, self.padding_idx, device="meta")
            made.weight = weight
            return made
        made = _like(self, type(self).__mro__[1])
        for own in ("_tied", "_dtype"):
            del made.__dict__[own]
        made._modules.pop("table", None)
        made.weight = weight
        return made

    def _look_up_in(self, table: QuantizedLinear, tied: bool, dtype: torch.dtype | None) -> None:
        self.num_embeddings, self.embedding_dim = table.shape
        self._dtype = table.dtype if dtype is None else dtype
        self._tied = (table,) if tied else ()  # in a tuple: not registered a second time
        if not tied:
            self.table = table

    @property
    def source(self) -> QuantizedLinear:
        """The layer that holds the matrix."""
        return self._tied[0] if self._tied else self.table

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what is looked up; it follows `.to(dtype)`."""
        return self._dtype

    @property
    def weight(self) -> LazyWeight:
        """The matrix as whoever reads a float embedding's expects it; unpacked at every use."""
        return LazyWeight.of(
            lambda: self.source.dequantize().to(self.dtype),
            self.source.shape,
            self.dtype,
            self.source.device,
        )

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        """Look up: index [...] integer -> [..., embedding_dim]."""
        return self.source.rows(index).to(self.dtype)

    def _apply(self, fn: Callable, recurse: bool = True) -> QuantizedEmbedding:
        """Follow `.to(dtype)`; a tied matrix is moved with its head."""
        self._dtype = fn(torch.empty(0, dtype=self._dtype, device=self.source.device)).dtype
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """Return what print(model) shows of this embedding."""
        return f"{super().extra_repr()}, format={self.source.format}"


@cache
def _packed_class(base: type[nn.Embedding]) -> type[QuantizedEmbedding]:
    """Make the class of a packed embedding whose float one has a forward of its own."""
    return type(f"Packed{base.__name__}", (base, QuantizedEmbedding), {})


def _like(module: nn.Module, cls: type) -> nn.Module:
    """Return a module of another class with all that this one has, but for its weight."""
    made = cls.__new__(cls)
    for name, value in module.__dict__.items():
        made.__dict__[name] = value.copy() if isinstance(value, dict) else value
    made._parameters.pop("weight", None)
    return made
