"""Figures: described, closed, told apart without colour, and labelled without collisions."""

from __future__ import annotations

import itertools
import random
import struct

import matplotlib as mpl
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from shrinkkit.errors import InputError
from shrinkkit.figures.style import PALETTE, course_style, label_points, mark, show

ALT = "A rising line: perplexity against the number of bits."


@pytest.fixture(autouse=True)
def own_settings():
    with mpl.rc_context():
        yield
    plt.close("all")


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_no_two_series_look_alike_without_colour():
    for field in ("color", "marker", "hatch", "linestyle"):
        assert len({getattr(m, field) for m in PALETTE}) == len(PALETTE)


def test_colours_are_seen_on_white():
    for m in PALETTE:
        assert 1.05 / (luminance(m.color) + 0.05) > 2.0


def test_fourteen_series_are_all_different():
    looks = [mark(i) for i in range(14)]
    assert len({m.marker for m in looks}) == 14  # by shape alone: colours come round
    assert looks[:7] == list(PALETTE)


def test_the_style_sets_colour_and_marker_cycles_together():
    course_style()
    cycle = mpl.rcParams["axes.prop_cycle"].by_key()
    assert cycle["color"] == [m.color for m in PALETTE]
    assert cycle["marker"] == [m.marker for m in PALETTE]
    _, ax = plt.subplots()
    lines = [ax.plot([0, 1], [i, i])[0] for i in range(7)]
    assert len({line.get_marker() for line in lines}) == 7
    assert len({line.get_linestyle() for line in lines}) >= 4


def test_show_publishes_the_picture_with_its_words_and_closes_it(monkeypatch):
    published = []
    monkeypatch.setattr("shrinkkit.figures.style._in_ipython", lambda: True)
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, *, raw, metadata: published.append((data, metadata, raw)),
    )
    fig, ax = plt.subplots(figsize=(5, 3))
    ax.plot([1, 2])
    show(fig, ALT)
    ((data, metadata, raw),) = published
    assert raw is True
    assert data["text/plain"] == ALT
    assert metadata["image/png"]["alt"] == ALT
    png = data["image/png"]
    assert png.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1.5 * metadata["image/png"]["width"] > 1.5 * metadata["image/png"]["height"] > 0
    assert height > metadata["image/png"]["height"]
    assert not plt.fignum_exists(fig.number)


def test_outside_a_notebook_the_words_are_printed(monkeypatch, capsys):
    monkeypatch.setattr("shrinkkit.figures.style._in_ipython", lambda: False)
    fig, _ = plt.subplots()
    show(fig, ALT)
    assert capsys.readouterr().out == ALT + "\n"
    assert not plt.get_fignums()


def test_the_same_figure_gives_the_same_bytes():
    from shrinkkit.figures.style import png_bytes

    def draw():
        fig, ax = plt.subplots()
        ax.plot([1, 3, 2])
        return png_bytes(fig)

    assert draw() == draw()


@pytest.mark.parametrize("alt", ["", "  ", "figure", "a plot", None, 3], ids=repr)
def test_a_figure_without_words_is_refused(alt):
    fig, _ = plt.subplots()
    with pytest.raises(InputError, match="describe the figure"):
        show(fig, alt)


def labels_of(ax, names):
    renderer = ax.figure.canvas.get_renderer()
    notes = {text.get_text(): text for text in ax.texts}
    return {name: notes[name].get_window_extent(renderer) for name in names}


def labelled_apart(x, y, names):
    """Draw points with their labels, which must not overlap; return the axes and the boxes."""
    _, ax = plt.subplots(figsize=(7, 4))
    ax.plot(x, y, "o")
    label_points(ax, x, y, names)
    boxes = labels_of(ax, names)
    for one, other in itertools.combinations(boxes.values(), 2):
        assert not one.overlaps(other)
    return ax, boxes


@pytest.mark.parametrize("seed", range(5))
def test_labels_do_not_collide(seed):
    draw = random.Random(seed)
    x = [draw.random() for _ in range(9)]
    y = [draw.random() for _ in range(9)]
    ax, boxes = labelled_apart(x, y, [f"model {i}" for i in range(9)])
    for px, py in ax.transData.transform(list(zip(x, y, strict=True))):
        assert not any(box.contains(px, py) for box in boxes.values())


def test_models_at_one_place_get_three_readable_labels():
    names = ["int4 group 64", "int4 group 32", "nf4", "fp32"]
    labelled_apart([1, 1, 1, 5], [1, 1, 1, 5], names)


def test_labels_stay_inside_the_axes():
    _, ax = plt.subplots(figsize=(7, 4))
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    corners = [(0.99, 0.98), (0.01, 0.02), (0.99, 0.02)]
    label_points(ax, *zip(*corners, strict=True), ["upper right", "lower left", "lower right"])
    frame = ax.get_window_extent()
    for box in labels_of(ax, ["upper right", "lower left", "lower right"]).values():
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1
        assert frame.y0 <= box.y0
        assert box.y1 <= frame.y1


def test_one_label_for_each_point():
    _, ax = plt.subplots()
    with pytest.raises(InputError, match="one label for each point"):
        label_points(ax, [1, 2], [1, 2], ["a"])
