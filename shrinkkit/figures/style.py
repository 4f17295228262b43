"""Draw the course's figures so that everyone can read them.

Three habits, kept in one place:

1. **Nothing is told by colour alone.** `PALETTE` pairs each colour with a marker, a hatch and a
   line style, so that a figure still works in grey, in print, and for the one reader in twelve
   who confuses red and green. The colours are Okabe and Ito's (2008), without the yellow, which
   vanishes on white.
2. **Every figure has words.** `show(fig, alt)` refuses an empty description. The description goes
   into the output's metadata, where nbconvert and GitHub look for alt text, and into its plain
   text form, which a terminal or a screen reader gets.
3. **Labels stand beside their points.** `label_points` writes names next to the marks and moves
   them apart where they would collide, so that a reader need not look up a legend.

Call `course_style()` once at the top of a notebook; it only changes matplotlib's defaults.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from shrinkkit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1a1a"  # text and axes
MUTED = "#595959"  # secondary text: 7:1 against white
GRID = "#e3e3e3"
PIXELS_PER_INCH = 160  # of the saved picture; shown at 96 per inch, so crisp on dense screens
SHOWN_PER_INCH = 96


@dataclass(frozen=True)
class Mark:
    """Say how one series looks: never a colour alone."""

    color: str
    marker: str
    hatch: str
    linestyle: str | tuple[int, tuple[int, ...]]


PALETTE: tuple[Mark, ...] = (
    Mark("#0072b2", "o", "", "-"),  # blue
    Mark("#d55e00", "s", "///", "--"),  # vermilion
    Mark("#009e73", "^", "...", "-."),  # green
    Mark("#cc79a7", "D", "xxx", ":"),  # purple
    Mark("#e69f00", "v", "\\\\\\", (0, (5, 1, 1, 1, 1, 1))),  # orange
    Mark("#56b4e9", "P", "++", (0, (8, 2))),  # sky blue
    Mark("#1a1a1a", "X", "ooo", (0, (1, 2))),  # black
)

MORE_MARKERS = ("*", "<", "p", ">", "h", "8", "d")  # of series 7 to 13, which share those colours


def mark(index: int) -> Mark:
    """Give the look of series number `index`; after seven the colours come round again.

    >>> mark(0).color, mark(7).color, mark(7).marker == mark(0).marker
    ('#0072b2', '#0072b2', False)
    """
    base = PALETTE[index % len(PALETTE)]
    turn = index // len(PALETTE)
    if turn == 0:
        return base
    # A second turn keeps the colour, has markers of its own, another series' hatch and line.
    other = PALETTE[(index + turn) % len(PALETTE)]
    marker = MORE_MARKERS[index % len(PALETTE)] if turn == 1 else other.marker
    return Mark(base.color, marker, other.hatch, other.linestyle)


def course_style() -> None:
    """Set matplotlib's defaults for the course: readable sizes, quiet axes, safe colours."""
    import matplotlib as mpl
    from cycler import cycler

    marks = PALETTE[:7]
    mpl.rcParams.update(
        {
            "figure.figsize": (7.0, 4.0),
            "figure.dpi": SHOWN_PER_INCH,
            "savefig.dpi": PIXELS_PER_INCH,
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 11.0,
            "axes.titlesize": 12.5,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 12.0,
            "axes.labelsize": 11.0,
            "axes.labelcolor": INK,
            "axes.edgecolor": "#8c8c8c",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "lines.linewidth": 2.0,
            "lines.markersize": 7.0,
            "hatch.linewidth": 0.8,
            "legend.frameon": False,
            "axes.prop_cycle": cycler(
                color=[m.color for m in marks],
                marker=[m.marker for m in marks],
                linestyle=[m.linestyle for m in marks],
            ),
        }
    )


def show(fig: Figure, alt: str) -> None:
    """Display a figure with its description, and close it.

    The notebook output holds the PNG, with `alt` in its metadata, and `alt` itself as plain text.
    Outside a notebook (a script, a doctest) the description is printed.

    alt: what the figure shows, in a sentence or two: the axes, and what a reader should see.

    Raises InputError when `alt` is missing or only a word or two.
    """
    if not isinstance(alt, str) or len(alt.split()) < 4:
        raise InputError(
            f"alt is {alt!r}: describe the figure for someone who cannot see it. "
            "Give a sentence that says what is on the axes and what there is to see."
        )
    import matplotlib.pyplot as plt

    png = png_bytes(fig)
    plt.close(fig)  # or the notebook's inline backend would draw it a second time, without words
    if not _in_ipython():
        print(alt)
        return
    from IPython.display import display

    width, height = struct.unpack(">II", png[16:24])  # a PNG says its size in bytes 16 to 24
    scale = SHOWN_PER_INCH / PIXELS_PER_INCH
    about = {"alt": alt, "width": round(width * scale), "height": round(height * scale)}
    display(
        {"image/png": png, "text/plain": alt},
        raw=True,
        metadata={"image/png": about},
    )


def label_points(
    ax: Axes,
    x: Sequence[float],
    y: Sequence[float],
    labels: Sequence[str],
    *,
    fontsize: float = 10.0,
) -> None:
    """Write each label beside its point, so that no label covers a point or another label.

    Points are labelled in the order given. For each, the places around it are tried from near to
    far (right, left, above, below, corners), and the first free one inside the axes is taken, off
    the lines that are drawn; a label that had to move away gets a thin line back to its point. Call
    it last, when the axes' limits and scales are set.

    x, y: [n]; data coordinates of the points.
    labels: [n]; what to write; nothing beside a point whose label is empty.

    Raises InputError when the three lengths differ.
    """
    if not len(x) == len(y) == len(labels):
        raise InputError(
            f"x, y and labels have {len(x)}, {len(y)} and {len(labels)} entries: "
            "give one label for each point."
        )
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    fig = ax.figure
    fig.canvas.draw()  # positions are known only after a draw
    renderer = fig.canvas.get_renderer()
    per_point = fig.dpi / 72.0  # pixels in a typographic point
    centers = ax.transData.transform(list(zip(x, y, strict=True)))  # [n, 2] pixels
    half = 6.0 * per_point
    taken = [Bbox.from_extents(cx - half, cy - half, cx + half, cy + half) for cx, cy in centers]
    inside = ax.get_window_extent(renderer)
    if ax.get_legend():
        taken.append(ax.get_legend().get_window_extent(renderer))
    inked = _points_on_lines(ax)  # [m, 2] pixels
    halo = [withStroke(linewidth=3.0, foreground="white")]  # keeps text readable on a line

    for (cx, cy), px, py, text in zip(centers, x, y, labels, strict=True):
        if not text:  # a point that the others' labels keep clear of
            continue
        note = ax.annotate(
            text,
            (px, py),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=fontsize,
            color=INK,
            ha="center",
            va="center",
            annotation_clip=False,
            path_effects=halo,
        )
        box = note.get_window_extent(renderer)
        half_width, half_height = box.width / 2, box.height / 2
        best, best_cost = None, float("inf")
        for dx, dy, far in _places(half_width, half_height, half, per_point):
            here = Bbox.from_extents(
                cx + dx - half_width,
                cy + dy - half_height,
                cx + dx + half_width,
                cy + dy + half_height,
            )
            cost = sum(_overlap(here, other) for other in taken) + 2 * _outside(here, inside)
            cost += 20.0 * sum(here.count_contains(line) for line in inked)
            if cost < best_cost:
                best, best_cost = (dx, dy, far, here), cost
            if cost == 0:
                break
        dx, dy, far, here = best
        note.set_position((dx / per_point, dy / per_point))
        if far:
            ax.annotate(
                "",
                (px, py),
                xytext=(dx / per_point, dy / per_point),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": "#8c8c8c", "lw": 0.8, "shrinkB": 6},
                zorder=1,
            )
        taken.append(here.padded(2.0 * per_point))  # neighbours keep a little air


def _places(half_width, half_height, half_mark, per_point):
    """Yield (dx, dy, far) pixel offsets of a label's centre from its point, nearest first."""
    for step in range(7):
        gap = half_mark + (2.0 + 13.0 * step) * per_point
        side, up = gap + half_width, gap + half_height
        low = max(half_mark, step * 13.0 * per_point)
        around = [(side, 0), (-side, 0), (0, up), (0, -up)]
        around += [(side, low), (side, -low), (-side, low), (-side, -low)]
        for dx, dy in around:
            yield dx, dy, step > 0


def _points_on_lines(ax: Axes) -> list:
    """Give pixel positions along every drawn line, [n, 2] a line, a few pixels apart."""
    import numpy as np

    found = []
    for line in ax.get_lines():
        if line.get_linestyle() == "None":
            continue
        path = line.get_transform().transform(line.get_xydata())  # [n, 2] pixels
        for start, end in pairwise(path):
            if not np.isfinite([start, end]).all():
                continue
            n = min(int(np.hypot(*(end - start)) / 3) + 2, 1000)
            found.append(np.linspace(start, end, n))
    return found


def _overlap(a, b) -> float:
    """Give the area in pixels that two boxes share."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0.0) * max(height, 0.0)


def _outside(a, frame) -> float:
    """Give the area in pixels of `a` that lies outside `frame`."""
    return a.width * a.height - _overlap(a, frame)


def png_bytes(fig: Figure) -> bytes:
    """Save a figure as PNG, cropped to what it shows; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    fig.savefig(
        buffer,
        format="png",
        dpi=PIXELS_PER_INCH,
        bbox_inches="tight",
        pad_inches=0.1,
        metadata={"Software": None},
    )
    return buffer.getvalue()


def _in_ipython() -> bool:
    """Say whether a notebook kernel or an IPython shell is running this."""
    try:
        from IPython import get_ipython
    except ImportError:  # matplotlib alone: a plain script
        return False
    return get_ipython() is not None
