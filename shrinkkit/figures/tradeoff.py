"""Size against quality: the chart that every method of the course ends in."""

from __future__ import annotations

from collections.abc import Mapping

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing, new_axes
from shrinkkit.figures.style import INK, mark


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
    few_log_ticks(ax.xaxis)
    ax.set_xlabel(f"{measure} (logarithmic); dashed: fp32, {_short(reference)}")
    ax.set_title(title)
    listed = ", ".join(f"{name} {_short(value)}" for name, value in costs.items())
    return Drawing(
        figure,
        f"{title}: a bar from fp32 to each {measure}, on a logarithmic scale. {listed}. A dashed "
        f"line marks fp32 at {_short(reference)}.",
    )


def draw_sweep(points: Mapping[str, tuple[float, float]], reference: float) -> Drawing:
    """Draw perplexity, on a logarithmic scale, against bits per weight, joined in order.

    points: {label: (bits per weight, perplexity)}.
    """
    require_some("points", points)
    figure, ax = new_axes(7.6, 4.2)
    across, up = zip(*points.values(), strict=True)
    ax.plot(across, up, marker=mark(0).marker, color=mark(0).color)
    ax.axhline(reference, color=mark(1).color, ls="--", marker="")
    ax.set_yscale("log")
    least, most = min(reference, *up), max(up)
    ax.set_ylim(least / 1.5, most * max(2, (most / least) ** 0.15))
    ax.set_xlim(min(across) - 0.4, max(across) + 0.8)
    few_log_ticks(ax.yaxis)
    ax.set_xlabel("bits per weight, scales and zero points counted")
    ax.set_ylabel("perplexity (logarithmic)")
    ax.set_title(f"What each bit buys (dashed: fp32, {_short(reference)})")
    for label, (x, y) in points.items():  # the line falls to the right, so above is free
        ax.annotate(label, (x, y), xytext=(5, 8), textcoords="offset points")
    listed = ", ".join(f"{label} {_short(value)}" for label, (_, value) in points.items())
    return Drawing(
        figure,
        "Line chart of perplexity, logarithmic, against bits per weight. "
        f"{listed}. A dashed line marks fp32 at {_short(reference)}.",
    )


def _short(value: float) -> str:
    """Write a perplexity with as many digits as help.

    >>> _short(18.66), _short(470637.6)
    ('18.7', '470,638')
    """
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def few_log_ticks(axis) -> None:
    """Write a logarithmic axis with as many plain ticks as its span needs."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    ratio = high / low
    subs = (1.0,) if ratio > 100 else (1.0, 2.0, 5.0) if ratio > 6 else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.1f}".removesuffix(".0")))


def require_some(name: str, rows: Mapping) -> None:
    if not rows:
        raise InputError(f"{name} is empty, so there is nothing to draw. Give at least one entry.")
