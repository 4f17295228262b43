"""Draw lesson 02's roofline: how fast a machine can compute at most, and where a model stands.

Work that does few operations for each byte that it fetches waits for memory; work that does many
waits for the processor's arithmetic. Drawn on two logarithmic axes, the first limit is a slope and
the second a flat roof (Williams et al. 2009).
"""

from __future__ import annotations

from collections.abc import Mapping

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes, require_some
from shrinkkit.figures.style import INK, label_points, mark


def draw_roofline(
    points: Mapping[str, tuple[float, float]], bandwidth: float, peak: float
) -> Drawing:
    """Draw attainable operations a second against operations a byte, and measured work as marks.

    attainable = min(peak, bandwidth * operations a byte)

    points: {name: (operations a byte fetched, operations a second)}, as measured.
    bandwidth: bytes a second that memory delivers. peak: operations a second of the arithmetic.
    Returns the figure and its words, which give each point's share of what was attainable.
    Raises InputError for no points, or numbers that are not above 0.

    >>> drawing = draw_roofline({"decode": (0.5, 4e9)}, bandwidth=20e9, peak=100e9)
    >>> drawing.words.split(". ")[-1]
    'decode does 4 billion a second at 0.5 a byte, 40% of the roof.'
    """
    require_some("points", points, "{name: (operations a byte, operations a second)}")
    numbers = [bandwidth, peak, *(number for point in points.values() for number in point)]
    if not all(number > 0 for number in numbers):
        raise InputError("points, bandwidth and peak must be above 0: the axes are logarithmic.")
    across, up = zip(*points.values(), strict=True)
    bend = peak / bandwidth  # operations a byte from which on arithmetic is the limit
    left, right = min(*across, bend) / 4, max(*across, bend) * 4
    figure, ax = new_axes(7.6, 4.4)
    ax.plot([left, bend, right], [bandwidth * left, peak, peak], color=INK, ls="-", marker="", lw=2)
    for number, (place, speed) in enumerate(points.values()):
        look = mark(number)
        ax.plot([place], [speed], look.marker, color=look.color, markersize=10, ls="")
    ax.set(xscale="log", yscale="log")
    ax.set_xlim(left, right)
    ax.set_ylim(min(*up, bandwidth * left) / 2, max(*up, peak) * 2.5)
    log_ticks(ax.xaxis, "{:g}".format)
    log_ticks(ax.yaxis, lambda value: f"{value / 1e9:,.12g}")
    ax.set_xlabel("operations for each byte fetched (logarithmic)")
    ax.set_ylabel("billion operations a second (logarithmic)")
    ax.set_title("The roofline: memory's slope, arithmetic's flat roof")
    shares = {name: speed / min(peak, bandwidth * place) for name, (place, speed) in points.items()}
    labels = [f"{name}: {share:.0%} of the roof" for name, share in shares.items()]
    label_points(ax, across, up, labels)
    said = [
        f"{name} does {speed / 1e9:.3g} billion a second at {place:.3g} a byte, "
        f"{shares[name]:.0%} of the roof"
        for name, (place, speed) in points.items()
    ]
    return Drawing(
        figure,
        "Roofline chart, both axes logarithmic, of operations a second against operations for each "
        f"byte fetched. A line rises with memory's {bandwidth / 1e9:.3g} GB/s up to {bend:.3g} "
        f"operations a byte and is flat from there on, at {peak / 1e9:.3g} billion operations a "
        f"second. {'. '.join(said)}.",
    )
