"""Draw a handful of measurements as bars: the value written out, its spread, and its limit.

Bars lie on their side, so that names can be read and values stand at their ends. A thin black line
on a bar holds the middle half of repeated measurements; a dashed line across a bar marks the most
that was possible (a bound), if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing, new_axes, require_some
from shrinkkit.figures.style import INK, mark


def draw_bars(
    values: Mapping[str, float],
    *,
    title: str,
    xlabel: str,
    texts: Mapping[str, str] | None = None,
    spread: Mapping[str, tuple[float, float]] | None = None,
    limits: Mapping[str, float] | None = None,
    alike: bool = False,
) -> Drawing:
    """Draw one bar a name, the first on top.

    values: {name: length of its bar}.
    title, xlabel: of the figure; the unit belongs into xlabel.
    texts: {name: what stands at the end of the bar}; None writes the value.
    spread: {name: (low, high)}; a thin line on the bar.
    limits: {name: bound}; a dashed line across the bar's row.
    alike: one colour for all bars, for many of a kind.
    Returns the figure and its description.
    Raises InputError when there is nothing to draw, or texts, spread or limits lack a name.

    >>> draw_bars({"fp32": 4.0, "int8": 1.0}, title="Size", xlabel="bytes").words
    'Bars, Size, in bytes: fp32 4.00; int8 1.00.'
    """
    require_some("values", values, "{name: number}")
    for argument, given in (("texts", texts), ("spread", spread), ("limits", limits)):
        missing = [name for name in values if given is not None and name not in given]
        if missing:
            raise InputError(f"{argument} lacks {', '.join(missing)}, which values has.")
    texts = texts or {name: f"{value:.3g}" for name, value in values.items()}
    figure, ax = new_axes(7.2, 0.9 + 0.38 * len(values) + (0.3 if limits else 0.0))
    ends = []
    for row, (name, value) in enumerate(values.items()):
        look = mark(0 if alike else row)
        ax.barh(row, value, 0.62, color=look.color, hatch=look.hatch, edgecolor="white")
        end = value
        if spread:
            ax.plot(spread[name], [row, row], color=INK, lw=1.4, ls="-", marker="|", ms=8)
            end = max(end, spread[name][1])
        if limits:
            ax.plot([limits[name]] * 2, [row - 0.42, row + 0.42], color=INK, ls="--", marker="")
            end = max(end, limits[name])
        ends.append(end)
    for row, (name, end) in enumerate(zip(values, ends, strict=True)):
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        ax.text(end + 0.015 * max(ends), row, texts[name], va="center", bbox=behind)
    longest = max(len(text) for text in texts.values())
    ax.set_xlim(0, max(ends) * (1.08 + 0.022 * longest))
    ax.set_yticks(range(len(values)), list(values), color=INK)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(values) - 0.45, -0.55)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(xlabel)
    ax.set_title(title)
    said = [f"{name} {_words(values[name], texts[name], limits, name)}" for name in values]
    return Drawing(figure, f"Bars, {title}, in {xlabel}: {'; '.join(said)}.")


def _words(value: float, text: str, limits: Mapping[str, float] | None, name: str) -> str:
    said = text if any(sign.isalpha() for sign in text) else f"{value:,.2f}"
    return f"{said}, limit {limits[name]:,.1f}" if limits else said
