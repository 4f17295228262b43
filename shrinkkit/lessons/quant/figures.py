"""Draw what lesson 03 finds: where levels stand, what a grid costs, what a layout costs.

The lesson does the rounding and the measuring in its own cells; only the drawing is here. Each
function takes plain tensors or numbers and returns a `Drawing`, the figure and the same in words,
for `show(*drawing)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from shrinkkit.figures.drawing import Drawing, new_axes, require_some
from shrinkkit.figures.style import INK, mark

PALE = "#cfe3f2"


def draw_levels_in_use(weight: torch.Tensor, rounded: torch.Tensor) -> Drawing:
    """Draw how weights are spread, on a logarithmic scale, and the levels that they fall on.

    weight, rounded: [out, in]; the second is the first on its grid.
    """
    levels = rounded.unique().tolist()
    figure, ax = new_axes(7.6, 3.5)
    ax.hist(weight.flatten().cpu().numpy(), bins=120, color=mark(0).color, label="weights")
    for number, level in enumerate(levels):
        said_once = "levels in use" if number == 0 else None
        ax.axvline(level, color=mark(1).color, ls="--", marker="", lw=1.2, label=said_once)
    ax.set_yscale("log")
    ax.set_xlabel("weight")
    ax.set_ylabel("how many (logarithmic)")
    ax.set_title(f"One scale for {weight.numel():,} weights: {len(levels)} levels in use", pad=26)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    crowd = (rounded == 0).float().mean().item()
    return Drawing(
        figure,
        f"Histogram of {weight.numel():,} weights from {weight.min():.2f} to {weight.max():.2f}, "
        "counts on a logarithmic scale: nearly all crowd around zero, few lie far out. Dashed "
        f"lines mark the {len(levels)} levels in use; {crowd:.1%} of the weights fall on zero.",
    )


def draw_ways(ways: Mapping[str, tuple[float, float]], title: str) -> Drawing:
    """Draw memory and time of each way to hold one weight, side by side.

    ways: {name: (MiB held, milliseconds)}, the first on top.
    """
    require_some("ways", ways)
    figure, axes = new_axes(8.6, 0.42 * len(ways) + 1.2, 1, 2, sharey=True)
    columns = zip(*ways.values(), strict=True)
    labels = ("MiB held in memory", "ms for one token")
    for number, (ax, values, label) in enumerate(zip(axes, columns, labels, strict=True)):
        look = mark(number)
        face = look.color if number == 0 else "white"
        ax.barh(list(ways), values, height=0.6, facecolor=face, edgecolor=look.color)
        for patch in ax.patches:
            patch.set_hatch(look.hatch)
        ax.bar_label(ax.containers[0], fmt="%.3g", padding=4)
        ax.set_xlim(0, max(values) * 1.2)
        ax.set_xlabel(label)
        ax.grid(visible=False, axis="y")
        ax.tick_params(axis="y", colors=INK)
    axes[0].invert_yaxis()
    axes[0].set_title(title)
    figure.subplots_adjust(wspace=0.12)
    listed = "; ".join(f"{name} {mib:.3g} MiB, {ms:.3g} ms" for name, (mib, ms) in ways.items())
    return Drawing(
        figure, f"{title}: two bar charts, memory held and time for one token. {listed}."
    )


def draw_bounds(speeds: Mapping[str, tuple[float, float]]) -> Drawing:
    """Draw decoding speed inside the speed that memory alone would allow.

    speeds: {model: (tokens/s measured, tokens/s at most)}, the first on top.
    """
    require_some("speeds", speeds)
    figure, ax = new_axes(7.6, 0.5 * len(speeds) + 1.6)
    bound_look, look = mark(1), mark(0)
    names = list(speeds)
    measured, bounds = zip(*speeds.values(), strict=True)
    ax.barh(
        names,
        bounds,
        height=0.66,
        facecolor="white",
        edgecolor=bound_look.color,
        hatch=bound_look.hatch,
        label="memory alone would allow",
    )
    ax.barh(names, measured, height=0.34, facecolor=look.color, label="written")
    for name, (value, bound) in speeds.items():
        ax.annotate(
            f"{value:.3g} of {bound:.3g}",
            (max(value, bound), name),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    ax.set_xlim(0, max(*measured, *bounds) * 1.2)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", colors=INK)
    ax.set_xlabel("tokens per second, one answer at a time")
    ax.set_title("Decoding speed and its bound", pad=26)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    listed = "; ".join(
        f"{name} {value:.3g} of at most {bound:.3g}" for name, (value, bound) in speeds.items()
    )
    return Drawing(
        figure, f"Bar chart of decoding speed in tokens per second and the memory bound: {listed}."
    )


def draw_codes(
    weight: torch.Tensor, codes: Mapping[str, Sequence[float]], group_size: int = 64
) -> Drawing:
    """Draw where the levels of some grids stand below the weights that they serve.

    weight: [out, in], in a multiple of group_size; each group is divided by its largest magnitude.
    codes: {grid: its levels in [-1, 1]}.
    """
    groups = weight.detach().float().reshape(-1, group_size)
    parts = (groups / groups.abs().amax(dim=1, keepdim=True)).flatten().cpu().numpy()
    figure, ax = new_axes(7.6, 2.5 + 0.5 * len(codes))
    heights, _, _ = ax.hist(parts, bins=81, color=PALE)
    step = 0.14 * heights.max()
    for row, levels in enumerate(codes.values(), start=1):
        look = mark(row)
        ax.plot(levels, [-row * step] * len(levels), look.marker, ls="", color=look.color)
    ax.set_yticks(
        [heights.max() / 2, *(-row * step for row in range(1, len(codes) + 1))],
        ["weights", *codes],
    )
    ax.tick_params(axis="y", length=0, colors=INK)
    ax.set_ylim(bottom=-(len(codes) + 0.6) * step)
    ax.grid(visible=False)
    ax.set_xlabel(f"weight / largest magnitude in its group of {group_size}")
    ax.set_title("Where the levels stand")
    listed = "; ".join(
        f"{name}: {len(levels)} levels, {sum(abs(v) < 0.5 for v in levels)} of them between -0.5 "
        "and 0.5"
        for name, levels in codes.items()
    )
    return Drawing(
        figure,
        "Histogram of weights divided by the largest magnitude of their group: a bell around zero "
        f"with a spike at each end. Below it a row of marks for each grid. {listed}.",
    )
