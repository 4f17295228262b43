"""Draw a few series over the same places, so that series that coincide can still be told apart.

Two models that are nearly as good give two curves that lie on top of each other, which is the point
of the figure. So each later series gets smaller marks than the one before and stays visible inside
it, beside its own colour, marker and line style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes
from shrinkkit.figures.style import mark


def draw_lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    joined: bool = True,
    doubling: bool = False,
    log_y: bool = False,
) -> Drawing:
    """Draw each series over x, from zero upwards unless y is logarithmic.

    x: [n]; where the values lie.
    series: {name: [n] values}.
    title, xlabel, ylabel: of the figure; units belong into the labels.
    joined: False leaves the marks without a line between them.
    doubling: x is drawn in powers of two, with each of its values as a tick.
    log_y: y is drawn logarithmically, for values of very different size.
    Returns the figure and its description, which gives each series' ends and extremes.
    Raises InputError for no series, one that is not as long as x, or log_y with values up to 0.

    >>> draw_lines([1, 2], {"A": [3.0, 4.0]}, title="T", xlabel="step", ylabel="ms").words
    'T. ms against step: A goes from 3 at 1 to 4 at 2, lowest 3, highest 4.'
    """
    places = [float(place) for place in x]
    values = {name: [float(value) for value in row] for name, row in series.items()}
    wrong = [name for name, row in values.items() if len(row) != len(places)]
    if not values or not places or wrong:
        raise InputError(
            f"series must hold at least one {{name: values}}, each with as many values as x "
            f"({len(places)}); wrong: {', '.join(wrong) or 'there is nothing to draw'}."
        )
    figure, ax = new_axes(7.2, 3.6)
    for index, (name, row) in enumerate(values.items()):
        look = mark(index)
        ax.plot(
            places,
            row,
            label=name,
            color=look.color,
            marker=look.marker,
            markersize=max(10 - 4 * index, 3),
            linestyle=look.linestyle if joined else "",
        )
    if doubling:
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [f"{place:g}" for place in places])
        ax.minorticks_off()
    elif all(place == int(place) for place in places):
        ax.xaxis.get_major_locator().set_params(integer=True)
    top = max(max(row) for row in values.values())
    if log_y:
        if min(min(row) for row in values.values()) <= 0:
            raise InputError("log_y needs values above 0 in every series.")
        ax.set_yscale("log")
        log_ticks(ax.yaxis)
        ylabel += ", logarithmic"
    else:
        ax.set_ylim(0, 1.08 * top if top > 0 else None)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.set_title(title)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the axes: it covers nothing
    said = [
        f"{name} goes from {row[0]:.3g} at {places[0]:g} to {row[-1]:.3g} at {places[-1]:g}, "
        f"lowest {min(row):.3g}, highest {max(row):.3g}"
        for name, row in values.items()
    ]
    return Drawing(figure, f"{title}. {ylabel} against {xlabel}: {'; '.join(said)}.")
