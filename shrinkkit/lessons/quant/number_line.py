"""See rounding happen: weights above, the grid below, and a line from each to where it goes.

One picture holds the whole of rounding to nearest. The grid is a row of ticks, `scale` apart; each
weight drops to the tick next to it; the length of the drop sideways is the rounding error. Move
the largest weight outwards and the ticks move apart for all the others, which is the one trouble
with quantization and the reason for groups.

`draw_number_line` draws any weights, for a lesson; `number_line_widget` redraws a row of sixteen
when a control moves (bits, symmetric or not, the largest weight).
"""

from __future__ import annotations

import ipywidgets as ipw
import torch

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing, Explorer, new_axes, slider
from shrinkkit.figures.style import GRID, INK, MUTED, mark
from shrinkkit.quant.grids.affine import choose_qparams, dequantize, quantize
from shrinkkit.quant.grids.formats import Format

BITS = (2, 3, 4, 5, 6, 8)
LARGEST = (2.5, 3.0, 4.0, 6.0, 8.0, 12.0)
ABOVE, BELOW = 1.0, 0.0  # heights of the weights and of the grid


def sample_row(largest: float = 2.5) -> torch.Tensor:
    """Give sixteen weights shaped like a real row: most near zero, the last one as told.

    largest: the last weight.
    Returns [16] float32, in rising order up to the last.

    >>> row = sample_row(4.0)
    >>> row.shape, row[-1].item()
    (torch.Size([16]), 4.0)
    """
    parts = torch.linspace(0.04, 0.96, 15, dtype=torch.float64)
    bell = torch.special.ndtri(parts) + 0.25  # quantiles of a bell curve, a little off centre
    return torch.cat([bell, torch.tensor([largest], dtype=torch.float64)]).float()


def draw_number_line(weights: torch.Tensor, bits: int, symmetric: bool = True) -> Drawing:
    """Draw how the weights of one row fall on the grid that just covers them.

    weights: [n] float; they share one scale.
    bits, symmetric: of the grid, as in `shrinkkit.quant.Format`.
    Returns the figure and its description, which ends in a sentence with the error.
    Raises InputError for weights that are not a row of finite numbers, or wrong bits.

    >>> words = draw_number_line(torch.tensor([-0.7, 0.26, 0.3]), 4).words
    >>> words.split(". ")[-1][:62]
    'With scale 0.1, zero_point 0: the rms rounding error is 0.023 '
    """
    if not isinstance(weights, torch.Tensor) or weights.ndim != 1:
        raise InputError(
            f"weights is {weights!r}: give the weights of one row, a tensor [n], such as weight[0]."
        )
    fmt = Format(bits, bool(symmetric), "per_channel", scale_bits=32)
    row = weights.detach().float().cpu()[None]  # [1, n]
    scale, zero_point = choose_qparams(row, fmt)
    rounded = dequantize(quantize(row, scale, zero_point, fmt), scale, zero_point, fmt)[0]
    step, zero = scale.item(), int(zero_point.item())
    grid = [step * (q - zero) for q in range(fmt.qmin, fmt.qmax + 1)]

    figure, ax = new_axes(8.2, 3.0)
    figure.set_layout_engine("constrained")  # one size for every slider position: nothing jumps
    ax.vlines(grid, BELOW - 0.16, BELOW, color=MUTED, linewidth=1.2 if len(grid) < 40 else 0.5)
    ax.hlines(BELOW, grid[0], grid[-1], color=MUTED, linewidth=1.2)
    ax.vlines(0.0, BELOW, ABOVE, color=GRID, linewidth=1.2)
    for weight, place in zip(row[0].tolist(), rounded.tolist(), strict=True):
        ax.plot([weight, place], [ABOVE, BELOW], color=INK, linewidth=0.9, marker="", linestyle="-")
    real, landed = mark(0), mark(1)
    look = {"linestyle": "", "markersize": 8, "markeredgecolor": "white", "zorder": 3}
    ax.plot(row[0], [ABOVE] * row.numel(), marker=real.marker, color=real.color, **look)
    ax.plot(rounded, [BELOW] * row.numel(), marker=landed.marker, color=landed.color, **look)
    ax.set_ylim(-0.4, 1.35)
    ax.set_yticks([BELOW, ABOVE], ["on the grid", "weights"], color=INK)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("value")
    kind = "symmetric" if symmetric else "asymmetric"
    ax.set_title(f"{bits} bits, {kind}: {len(grid)} levels, {step:.3g} apart")

    error = (rounded - row[0]).square().mean().sqrt().item()
    lost = int(((rounded == 0) & (row[0] != 0)).sum())
    said = (
        f"Number line from {min(grid[0], row.min().item()):.3g} to "
        f"{max(grid[-1], row.max().item()):.3g}. Above, circles: {row.numel()} weights. Below, "
        f"ticks: the {len(grid)} levels of a {bits}-bit {kind} grid, and squares where the weights "
        f"land; a line joins each weight to its level. With scale {step:.3g}, zero_point {zero}: "
        f"the rms rounding error is {error:.2g} and {lost} of {row.numel()} weights became exactly "
        "zero."
    )
    return Drawing(figure, said)


def number_line_widget() -> Explorer:
    """Explore rounding: move bits, symmetry and the largest weight, and watch the grid follow.

    Returns controls above a sentence and a picture; `parts` holds `bits`, `symmetric`, `largest`.
    """

    def draw(bits: int, symmetric: bool, largest: float) -> Drawing:
        return draw_number_line(sample_row(largest), bits, symmetric)

    parts = {
        "bits": slider("bits", BITS, 4),
        "symmetric": ipw.Checkbox(value=True, description="symmetric", indent=False),
        "largest": slider("largest weight", LARGEST, LARGEST[0]),
    }
    return Explorer(parts, draw)
