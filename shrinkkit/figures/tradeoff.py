"""Size against quality: the chart that every method of the course ends in.

`tradeoff` draws it: size to the right, loss upwards, so that down and to the left is what one is
after. The lessons' own charts and the score card's are this one with other words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes, require_some
from shrinkkit.figures.style import INK, label_points, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARK_SIZES = (9, 9, 13, 8, 8, 11, 8, 13, 9)  # a method and the one made from it often coincide
plain = "{:,.12g}".format  # a tick of a perplexity: 1.5, 1,000


class Spot(NamedTuple):
    """Where one version of a model stands; spots of one `series` look alike, hollow ones paler."""

    x: float
    y: float
    label: str
    series: str = ""
    hollow: bool = False


def tradeoff(
    spots: Iterable[Spot],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    reference: float | None = None,
    log: str = "y",
    left: float | None = None,
    joined: bool = False,
    legend: bool = False,
    hollow: str = "",
    path: Sequence[int] = (),
) -> tuple[Figure, Axes]:
    """Draw a mark and its label for each spot, so that no label covers a mark or a label.

    title, xlabel, ylabel: of the figure; units belong into the labels.
    reference: fp32's y, a dashed line.
    log: the axes that are logarithmic, "xy", "y" or "".
    left: where the axis of sizes starts; None for just before the smallest.
    joined: the spots of a series are joined in order.
    legend: name each series, for charts where several spots share one; hollow: what the hollow
        ones of a series are called beside its name.
    path: numbers of spots that a thin dotted line joins.
    Returns the figure and its axes. Raises InputError for no spots.
    """
    spots = list(spots)
    require_some("points", spots)
    figure, ax = new_axes(*((8.4, 6.4) if legend else (7.6, 4.2)))
    across, up, labels, _, _ = zip(*spots, strict=True)
    names = list(dict.fromkeys(spot.series for spot in spots))
    for number, name in enumerate(names):
        look = mark(number)
        for open_ in (False, True):
            mine = [spot for spot in spots if spot.series == name and spot.hollow is open_]
            if mine:
                ax.plot(
                    [spot.x for spot in mine],
                    [spot.y for spot in mine],
                    look.marker,
                    color=look.color,
                    markerfacecolor="white" if open_ else look.color,
                    markeredgecolor=look.color if open_ else "white",
                    markersize=MARK_SIZES[number % len(MARK_SIZES)] if legend else 10,
                    linestyle="-" if joined else "",
                    label=f"{name}, {hollow}" if open_ else name,
                )
    if len(path) > 1:
        stops = [across[i] for i in path], [up[i] for i in path]
        ax.plot(*stops, color="#8c8c8c", lw=1.2, marker="", ls=":", zorder=1)
    if reference is not None:
        ax.axhline(reference, color=INK, ls="--", marker="", lw=1.2, label="fp32")
        up = (*up, reference)
    ax.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    ax.set_xlim(_room(across, "x" in log))
    ax.set_xlim(left=left)
    ax.set_ylim(_room(up, "y" in log))
    if "x" in log:
        log_ticks(ax.xaxis, plain)
    if "y" in log:
        log_ticks(ax.yaxis, plain)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title)
    if legend:  # large and lossy: what stands there is no use to anybody, so there is room
        ax.legend(loc="upper right", fontsize=9.5)
    label_points(ax, across, up[: len(spots)], labels, fontsize=10 if len(spots) < 10 else 8.5)
    return figure, ax


def _room(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Give limits that leave room around values, more of it above, where labels stand.

    >>> _room([1.0, 3.0], log=False), [round(end, 2) for end in _room([1.0, 100.0], log=True)]
    ((0.84, 3.32), [0.69, 208.93])
    """
    low, high = min(values), max(values)
    if log:
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or 1.0
    ends = low - 0.08 * span, high + 0.16 * span
    return (10 ** ends[0], 10 ** ends[1]) if log else ends


def draw_cost(
    costs: Mapping[str, float], reference: float, title: str, measure: str = "perplexity"
) -> Drawing:
    """Draw how far each variant lies from the reference, on a logarithmic scale.

    costs: {variant: cost}, the first on top.
    """
    require_some("costs", costs)
    figure, ax = new_axes(7.6, 0.42 * len(costs) + 1.3)
    look = mark(0)
    for name, value in costs.items():
        ax.plot([reference, value], [name, name], color=look.color, marker="", ls="-", lw=3)
        ax.plot([value], [name], look.marker, color=look.color, markersize=9)
        ax.annotate(
            _short(value), (value, name), xytext=(9, 0), textcoords="offset points", va="center"
        )
    ax.axvline(reference, color=mark(1).color, ls="--", marker="")
    ax.set_xscale("log")
    least, most = min(reference, *costs.values()), max(reference, *costs.values())
    ax.set_xlim(least / (most / least) ** 0.06, most * (most / least) ** 0.16)
    ax.set_ylim(len(costs) - 0.4, -0.6)  # the first on top
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", colors=INK)
    log_ticks(ax.xaxis, plain)
    ax.set_xlabel(f"{measure} (logarithmic); dashed: fp32, {_short(reference)}")
    ax.set_title(title)
    listed = ", ".join(f"{name} {_short(value)}" for name, value in costs.items())
    return Drawing(
        figure,
        f"{title}: a bar from fp32 to each {measure}, on a logarithmic scale. {listed}. A dashed "
        f"line marks fp32 at {_short(reference)}.",
    )


def draw_sweep(
    points: Mapping[str, tuple[float, float]], reference: float, top: float | None = None
) -> Drawing:
    """Draw perplexity, on a logarithmic scale, against bits per weight, joined in order.

    points: {label: (bits per weight, perplexity)}.
    top: points above this perplexity would flatten the rest; they are named in title and words
        only. None draws all.
    Raises InputError when no point is left to draw.
    """
    beyond = {name: spot for name, spot in points.items() if top is not None and spot[1] > top}
    aside = ", ".join(f"{name} {_short(value)}" for name, (_, value) in beyond.items())
    figure, _ = tradeoff(
        (Spot(*spot, label) for label, spot in points.items() if label not in beyond),
        title=f"What each bit buys (dashed: fp32, {_short(reference)})"
        + (f"\nfar above: {aside}" if aside else ""),
        xlabel="bits per weight, scales and zero points counted",
        ylabel="perplexity (logarithmic)",
        reference=reference,
        joined=True,
    )
    listed = ", ".join(
        f"{label} {_short(value)}" for label, (_, value) in points.items() if label not in beyond
    )
    return Drawing(
        figure,
        "Line chart of perplexity, logarithmic, against bits per weight. "
        f"{listed}. A dashed line marks fp32 at {_short(reference)}."
        + (f" Far above and not drawn: {aside}." if aside else ""),
    )


def _short(value: float) -> str:
    """Write a perplexity with as many digits as help.

    >>> _short(18.66), _short(470637.6)
    ('18.7', '470,638')
    """
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
