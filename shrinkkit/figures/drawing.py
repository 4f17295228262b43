"""Draw a figure, say it in words, and put both into a widget that redraws them.

The three parts that every widget of the course is made of:

- `Drawing`: a figure and what it shows in words. `plotting.show(*drawing)` displays it in a lesson.
- `image_html`: the same as a picture for a web page, with the words as its alt text.
- `Explorer`: controls, a sentence and that picture in a column. A moved control redraws the
  picture, so a browser sees another image, and a test can compare the bytes.

Only ipywidgets' own controls are used, which both JupyterLab and Colab have.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import ipywidgets as ipw

from shrinkkit.figures import words as spoken
from shrinkkit.figures.style import PIXELS_PER_INCH, SHOWN_PER_INCH, course_style, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """Hold a figure and what it says in words; `plotting.show(*drawing)` displays both."""

    figure: Figure
    words: str


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of its own (unknown to pyplot, so that nothing draws it twice)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    course_style()
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # attaches itself; drawing needs it
    return figure, figure.add_subplot()


def plain_log(ax: Axes) -> None:
    """Write logarithmic ticks as 0.1, 1, 10 or 1 M, 1 B instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis, scale, limits in (
        (ax.xaxis, ax.get_xscale(), ax.get_xlim()),
        (ax.yaxis, ax.get_yscale(), ax.get_ylim()),
    ):
        if scale == "log":
            narrow = limits[1] / limits[0] < 1000
            subs = (1.0, 2.0, 5.0) if narrow else (1.0,)
            axis.set_major_locator(LogLocator(subs=subs, numticks=12))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(FuncFormatter(lambda value, _: spoken.count(value)))


class Explorer(ipw.VBox):
    """Put controls above a sentence and a picture, and redraw both when a control changes."""

    def __init__(self, parts: Mapping[str, ipw.Widget], draw: Callable[..., Drawing]) -> None:
        self.parts = dict(parts)
        self.draw = draw
        self.sentence, self.picture = ipw.HTML(), ipw.HTML()
        for part in self.parts.values():
            part.observe(self._redraw, names="value")
        self._redraw()
        rows = ipw.Layout(flex_flow="row wrap", display="flex")
        head = ipw.Box(list(self.parts.values()), layout=rows)
        super().__init__([head, self.sentence, self.picture])

    def __repr__(self) -> str:
        """Say what to do where a notebook is read without a kernel."""
        return "Run this cell to move the sliders of the figure above."

    def _redraw(self, _: Any = None) -> None:
        drawing = self.draw(**{name: part.value for name, part in self.parts.items()})
        # The picture's alt text holds all the words; their last sentence, the answer, is shown.
        self.sentence.value = f"<p>{html.escape(_answer(drawing.words))}</p>"
        self.picture.value = image_html(drawing)


def _answer(text: str) -> str:
    return text.rstrip(".").rsplit(". ", 1)[-1] + "."


def image_html(drawing: Drawing) -> str:
    """Write a drawing as an HTML image: a PNG inside the page, its words as alt text."""
    png = png_bytes(drawing.figure)
    width = int.from_bytes(png[16:20], "big")  # a PNG says its width there
    shown = round(width * SHOWN_PER_INCH / PIXELS_PER_INCH)
    encoded = base64.b64encode(png).decode("ascii")
    return (
        f'<img class="shrinkkit-figure" alt="{html.escape(drawing.words, quote=True)}" '
        f'style="max-width: 100%; width: {shown}px" src="data:image/png;base64,{encoded}">'
    )
