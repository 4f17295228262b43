"""Draw a figure, say it in words, and put both into a widget that redraws them.

The parts that every widget of the course is made of:

- `Drawing`: a figure and what it shows in words. `show(*drawing)` displays it in a lesson.
- `image_html`: the same as a picture for a web page, with the words as its alt text.
- `slider` and `menu`: controls whose names and values can be read whole.
- `Explorer`: controls, a sentence and that picture in a column. A moved control redraws the
  picture, so a browser sees another image, and a test can compare the bytes.

Only ipywidgets' own controls are used, which both JupyterLab and Colab have.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any, NamedTuple

import ipywidgets as ipw

from shrinkkit.errors import InputError
from shrinkkit.figures import words as spoken
from shrinkkit.figures.style import PIXELS_PER_INCH, SHOWN_PER_INCH, course_style, png_bytes

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


class Drawing(NamedTuple):
    """Hold a figure and what it says in words; `show(*drawing)` displays both."""

    figure: Figure
    words: str


def new_axes(width: float, height: float, *grid: int, **how: Any) -> tuple[Figure, Any]:
    """Make a figure of its own (unknown to pyplot, so that nothing draws it twice), and its axes.

    grid: rows and columns of axes, one without them; how: as for matplotlib's `subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    course_style()
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)  # attaches itself; drawing needs it
    return figure, figure.subplots(*grid, **how)


def require_some(name: str, rows: Sized, what: str = "entry") -> None:
    """Raise InputError where there is nothing to draw; what: one of the things to give."""
    if not len(rows):
        raise InputError(f"{name} is empty, so there is nothing to draw. Give at least one {what}.")


def log_ticks(axis: Axis, say: Callable[[float], str] = spoken.count) -> None:
    """Give a logarithmic axis as many plain ticks as its span needs; call it when limits are set.

    say: writes a tick; 0.1, 10, 1 k, 1 M where nothing else is said.
    """
    from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    span = high / low
    fine = (1.0, 1.1, 1.2, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
    steps = (1.0,) if span > 1000 else (1.0, 2.0, 5.0) if span > 6 else fine
    axis.set_major_locator(LogLocator(subs=steps, numticks=12) if span > 2 else AutoLocator())
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: say(value)))


def slider(
    label: str, values: Iterable[Any], start: Any, say: Callable[[Any], str] = "{:g}".format
) -> ipw.SelectionSlider:
    """Make a slider over some values; say: writes one beside it. It redraws once it rests."""
    options = [(say(value), value) for value in values]
    look = _look(label)
    return ipw.SelectionSlider(options=options, value=start, continuous_update=False, **look)


def menu(label: str, names: Iterable[str], start: str) -> ipw.Dropdown:
    """Make a menu of names."""
    return ipw.Dropdown(options=list(names), value=start, **_look(label))


def _look(label: str) -> dict[str, Any]:
    """Give all controls one width, and a label the room that it needs: ipywidgets cuts long ones.

    >>> _look("bits")["style"], _look("tokens of each text")["style"]
    ({'description_width': '8em'}, {'description_width': '11.4em'})
    """
    style = {"description_width": f"{max(8, 0.6 * len(label)):.3g}em"}
    return {"description": label, "style": style, "layout": ipw.Layout(width="24em")}


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
