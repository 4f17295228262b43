"""GPTQ: round a layer's columns one after another, and let the rest make up for each rounding.

Rounding to nearest treats weights as strangers. But the inputs of a layer go together: where two
inputs nearly always move alike, an error in the weight of one can be undone by the weight of the
other. GPTQ (Frantar et al. 2023, arXiv 2210.17323) looks at a little text, forms the Hessian of the
layer's output error, and lets `settle_columns` push the error of every rounded column to the
columns that are not rounded yet.

Three choices matter as much as the loop:

- `act_order`: columns whose inputs are large go first, while there are many others left to make up
  for them. Groups still consist of neighbouring columns, so that the packed layout stays the plain
  one; that needs their scales before the first column is rounded (static groups).
- ranges: `search` picks each group's range by the rounding error weighted with the Hessian's
  diagonal, instead of covering the largest weight at any price. Without act_order a group's scale
  can be chosen when its first column is reached, from weights that have absorbed earlier errors.
- `damping`: how far to trust the calibration text.

Cost: for SmolLM2's 210 matrices about a minute on two cores, next to seconds for rounding; decoding
is exactly as fast, because the result is the same kind of layer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from shrinkkit.calibration.column_solver import check_damping, inverse_factor, settle_columns
from shrinkkit.errors import InputError
from shrinkkit.quant.grids.affine import (
    choose_qparams,
    code_bounds,
    dequantize,
    expand,
    search_qparams,
)
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.scales import scale_exponent

_BLOCK_SIZE = 128


@dataclass(frozen=True)
class Rounded:
    """Integers that a method has chosen for a weight, and what they cost.

    q: [out, in] integer; scale, zero_point: [out, n_groups]; as in `affine`.
    error: mean over rows of (w - q) H (w - q)ᵀ / 2, the squared output error of one output.
    note: empty, or what had to be done about the Hessian.
    """

    q: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor
    error: float
    note: str = ""

    def dequantize(self, fmt: Format) -> torch.Tensor:
        """Return the weight that the integers mean, [out, in] float32."""
        return dequantize(self.q, self.scale, self.zero_point, fmt)


def gptq(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    fmt: Format,
    *,
    damping: float = 0.01,
    act_order: bool = True,
    static_groups: bool | None = None,
    search: bool = True,
    block_size: int = _BLOCK_SIZE,
) -> Rounded:
    """Round a weight by GPTQ.

    Frantar et al. 2023 (arXiv 2210.17323), algorithm 1.

    weight: [out_features, in_features], finite.
    hessian: [in_features, in_features], 2/n * sum of x xᵀ over calibration inputs.
    fmt: the grid.
    damping: fraction of the mean diagonal that is added to the diagonal.
    act_order: settle the columns with the largest Hessian diagonal first.
    static_groups: choose all scales before the first column is settled (True), or each group's
        when its first column is reached (False); None: static with act_order only, which needs it.
    search: choose ranges by the error weighted with the Hessian's diagonal, or by min and max.
    block_size: columns a lazy update; changes the speed and the last bits of rounding alone.
    Returns Rounded.
    Raises InputError for shapes that do not fit, NaN, act_order without static groups.

    >>> fmt = Format(2, True, "per_channel", scale_bits=32)
    >>> weight = torch.tensor([[0.6, 0.6, 1.0]])  # rounding makes it [[1, 1, 1]]
    >>> hessian = torch.tensor([[2.0, 1.9, 0.0], [1.9, 2.0, 0.0], [0.0, 0.0, 2.0]])
    >>> gptq(weight, hessian, fmt, damping=0.0, search=False).q.tolist()
    [[1, 0, 1]]
    """
    if weight.ndim != 2 or hessian.shape != (weight.shape[1], weight.shape[1]):
        raise InputError(
            f"hessian has shape {tuple(hessian.shape)}; a weight of shape {tuple(weight.shape)} "
            "needs [in_features, in_features]."
        )
    static_groups = check_settings(damping, act_order, static_groups)
    weight = weight.detach().float()
    columns = fmt.columns_per_scale(weight.shape[1])
    factor_of = _ordered(hessian, damping, act_order)
    weight = weight.masked_fill(factor_of.dead, 0.0)  # inputs that are never there
    diagonal = hessian.diagonal().float().clone()  # not a view, which would keep all of it
    state = _Scales(weight, fmt, diagonal, search)
    if static_groups or fmt.granularity != "per_group":
        state.choose(weight, 0, weight.shape[1])
        before = None
    else:
        block_size = columns  # a block begins where a group begins

        def before(now: torch.Tensor, first: int) -> None:
            state.choose(now, first, min(first + columns, now.shape[1]))

    order = factor_of.order.tolist()
    steps = torch.empty(weight.shape[1], weight.shape[0], dtype=torch.int16)  # column by column

    def settle(column: torch.Tensor, i: int) -> torch.Tensor:
        integers, real = state.round(column, order[i] // columns)
        steps[order[i]] = integers
        return real

    _, errors = settle_columns(
        weight[:, order], factor_of.upper, settle, block_size=block_size, before_block=before
    )
    q = steps.t() + expand(state.zero_point, weight.shape, fmt).to(torch.int16)
    kind = torch.int8 if fmt.symmetric and fmt.code is None else torch.uint8
    error = errors.square().sum().item() / (2 * weight.shape[0])
    return Rounded(q.to(kind), state.scale, state.zero_point, error, factor_of.note)


def check_settings(
    damping: float, act_order: bool = False, static_groups: bool | None = None
) -> bool:
    """Return whether all scales are chosen before the first column, which None leaves to act_order.

    Raises InputError for settings that do not go together.
    """
    check_damping(damping)
    static_groups = act_order if static_groups is None else static_groups
    if act_order and not static_groups:
        raise InputError(
            "act_order=True needs static_groups=True: its columns do not come group by group, so "
            "every group's scale must be known before the first column. (Leave static_groups out.)"
        )
    return static_groups


@dataclass(frozen=True)
class _Ordered:
    upper: torch.Tensor
    order: torch.Tensor
    dead: torch.Tensor
    note: str


def _ordered(hessian: torch.Tensor, damping: float, act_order: bool) -> _Ordered:
    """Factor the Hessian with its columns in the order in which they will be settled."""
    order = torch.arange(hessian.shape[0])
    if act_order:
        order = hessian.diagonal().argsort(descending=True, stable=True)
    factor = inverse_factor(hessian, damping, order)
    dead = torch.zeros_like(factor.dead)
    dead[order] = factor.dead
    return _Ordered(factor.upper, order, dead, factor.note)


class _Scales:
    """The scales and zero points of all groups, and the rounding of one column with them."""

    def __init__(
        self, weight: torch.Tensor, fmt: Format, diagonal: torch.Tensor, search: bool
    ) -> None:
        rows = 1 if fmt.granularity == "per_tensor" else weight.shape[0]
        shape = rows, fmt.n_groups(weight.shape[1])
        self.fmt, self.diagonal, self.search = fmt, diagonal, search
        self.scale = torch.ones(shape)
        self.zero_point = torch.zeros(shape, dtype=torch.int32)
        self.columns = fmt.columns_per_scale(weight.shape[1])
        self.code = None if fmt.code is None else torch.tensor(fmt.code)
        self.bounds = None if fmt.code is None else code_bounds(fmt)
        # of each group: its scales, and from where to where w / scale is on the grid; [rows] each
        self.rows: list[tuple[torch.Tensor, ...]] = [()] * shape[1]
        self.exponent = None
        if fmt.row_exponent:  # of the whole row, though its groups may be chosen one by one
            self.exponent = scale_exponent(choose_qparams(weight, fmt)[0], fmt)

    def choose(self, weight: torch.Tensor, first: int, last: int) -> None:
        """Choose the scales of the groups in columns first..last from the weights given."""
        part = weight[:, first:last]
        fmt = self.fmt
        if fmt.granularity == "per_group" and part.shape[1] < self.columns:  # a short last group
            fmt = replace(fmt, granularity="per_channel", group_size=None)
        ratios, counts = (1.0,), None
        if self.search:
            ratios, counts = _RATIOS, self.diagonal[first:last].clamp(min=1e-12)
        found = search_qparams(
            part, fmt, ratios=ratios, column_importance=counts, exponent=self.exponent
        )
        begin = first // self.columns
        at = slice(begin, begin + found[0].shape[1])
        self.scale[:, at], self.zero_point[:, at] = found
        low, high = fmt.qmin - self.zero_point[:, at], fmt.qmax - self.zero_point[:, at]
        of_each = (tensor.float().t().contiguous() for tensor in (self.scale[:, at], low, high))
        self.rows[at] = zip(*of_each, strict=True)

    def round(self, column: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Round one column [out] with its group's scales: (q - zero_point, what they mean)."""
        scale, low, high = self.rows[group]
        if self.code is not None:
            q = torch.bucketize(column / scale, self.bounds)
            return q, self.code[q] * scale
        steps = (column / scale).round_().clamp_(low, high)
        return steps, steps * scale


_RATIOS = tuple(1 - 0.025 * i for i in range(-2, 17))
