"""A packed layer whose groups are not runs of neighbouring columns (act-order).

GPTQ may settle the columns with the largest inputs first, and give each run of columns *in that
order* a scale of its own. The columns of one group then lie all over the row, and a checkpoint says
for each column which group it belongs to (`g_idx`). Our grids, and every fast kernel, want a group
to be a run. So the columns are stored in the order of their groups, and the input is put into the
same order before it is multiplied: a sum does not know in which order it was written.

It costs a copy of the input a call and 4 bytes a column. GPTQ with static groups, as this package
does it, has the better order without that cost.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.linear import QuantizedLinear


class OrderedLinear(QuantizedLinear):
    """Multiply by a packed weight whose columns are stored in the order of their groups.

    Make one with `from_group_index`. `order` [in_features] int32: which column of the model stands
    at each place. `qparams()` gives the columns as they are stored, one group after another;
    `integers()`, `dequantize()` and `rows()` give them as the model has them.

    >>> q, scale = torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1.0, 10.0]])
    >>> fmt = Format(4, False, "per_group", 2, scale_bits=32)
    >>> group_index = torch.tensor([1, 0, 1, 0])
    >>> layer = OrderedLinear.from_group_index(q, scale, torch.zeros(1, 2), group_index, fmt)
    >>> layer.order.tolist(), layer.dequantize().tolist()
    ([1, 3, 0, 2], [[10.0, 2.0, 30.0, 4.0]])
    """

    order: torch.Tensor

    @classmethod
    def from_group_index(
        cls,
        q: torch.Tensor,
        scale: torch.Tensor,
        zero_point: torch.Tensor,
        group_index: torch.Tensor,
        fmt: Format,
        bias: torch.Tensor | None = None,
    ) -> QuantizedLinear:
        """Make the layer from integers and the group of each column.

        q: [out_features, in_features] integer, columns as the model has them; scale, zero_point:
            [out, n_groups]; group_index: [in_features] integer; bias: [out].
        Returns a new layer: a plain `QuantizedLinear` where the groups are runs after all.
        Raises InputError where the groups do not have the size that the format says.
        """
        order = group_index.argsort(stable=True)
        places = torch.arange(len(order), device=order.device)
        size = fmt.columns_per_scale(len(order))
        if not torch.equal(group_index[order].long(), places // size):
            raise InputError(f"its columns do not belong to groups of {size}.")
        if torch.equal(order, places):
            return QuantizedLinear.from_integers(q, scale, zero_point, fmt, bias)
        made = cls.from_integers(q[:, order], scale, zero_point, fmt, bias)
        return made.in_order(order)

    def in_order(self, order: torch.Tensor) -> OrderedLinear:
        """Say which column of the model stands at each place: order [in_features] integer."""
        self.register_buffer("order", order.to(self.device, torch.int32))
        return self

    def _names(self) -> list[str]:
        return [name for name in super()._names() if name != "order"]

    @property
    def bits_per_weight(self) -> float:
        """Bits a weight takes when saved: also a share of the order's 32 a column."""
        return super().bits_per_weight + 32 / self.out_features

    def integers(self) -> torch.Tensor:
        """Return the stored integers q, [out_features, in_features], columns as in the model."""
        return super().integers()[:, self._places()]

    def dequantize(self) -> torch.Tensor:
        """Return the weight as real numbers, [out_features, in_features] float32."""
        return super().dequantize()[:, self._places()]

    def rows(self, index: torch.Tensor) -> torch.Tensor:
        """Return some rows of the de-quantised weight: index [...] -> [..., in_features]."""
        return super().rows(index)[..., self._places()]

    def _places(self) -> torch.Tensor:
        """Return at which place each column of the model is stored."""
        return self.order.argsort()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply: x [..., in_features] float -> [..., out_features] of the same dtype."""
        whole = torch.is_grad_enabled() and x.requires_grad  # then `dequantize` is multiplied by
        return super().forward(x if whole else x[..., self.order])

    def _apply(self, fn: Callable, recurse: bool = True) -> OrderedLinear:
        super()._apply(fn, recurse)
        self.order = self.order.to(self.device)
        return self
