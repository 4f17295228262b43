"""Bars show the numbers they were given, and so do their words."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures.bars import draw_bars

VALUES = {"fp32": 15.0, "int8": 40.0}


def test_bars_are_as_long_as_the_values_and_first_is_on_top():
    ax = draw_bars(VALUES, title="Speed", xlabel="tokens/s").figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [15.0, 40.0]
    first, second = (ax.transData.transform((0, bar.get_y()))[1] for bar in ax.patches)
    assert first > second  # pixels count upwards
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fp32", "int8"]


def test_spread_and_limits_are_drawn_where_they_are():
    drawing = draw_bars(
        VALUES,
        title="Speed",
        xlabel="tokens/s",
        spread={"fp32": (14.0, 16.0), "int8": (30.0, 45.0)},
        limits={"fp32": 20.0, "int8": 70.0},
    )
    lines = [list(line.get_xdata()) for line in drawing.figure.axes[0].lines]
    assert lines == [[14.0, 16.0], [20.0, 20.0], [30.0, 45.0], [70.0, 70.0]]
    assert drawing.words == (
        "Bars, Speed, in tokens/s: fp32 15.00, limit 20.0; int8 40.00, limit 70.0."
    )
    assert drawing.figure.axes[0].get_xlim()[1] > 70.0


def test_texts_stand_at_the_ends_inside_the_figure():
    texts = {"fp32": "15 tokens/s (slowest of all)", "int8": "40 tokens/s (fastest of all)"}
    drawing = draw_bars(VALUES, title="Speed", xlabel="tokens/s", texts=texts)
    ax = drawing.figure.axes[0]
    drawing.figure.canvas.draw()
    frame = ax.get_window_extent()
    shown = {text.get_text(): text.get_window_extent() for text in ax.texts}
    assert set(shown) == set(texts.values())
    assert all(box.x1 <= frame.x1 + 1 for box in shown.values())
    assert "fastest of all" in drawing.words


@pytest.mark.parametrize(
    ("values", "more", "named"),
    [
        ({}, {}, "values"),
        (VALUES, {"texts": {"fp32": "x"}}, "texts lacks int8"),
        (VALUES, {"spread": {"fp32": (1.0, 2.0)}}, "spread lacks int8"),
        (VALUES, {"limits": {}}, "limits lacks fp32, int8"),
    ],
    ids=["nothing", "texts", "spread", "limits"],
)
def test_wrong_input(values, more, named):
    with pytest.raises(InputError, match=named):
        draw_bars(values, title="Speed", xlabel="tokens/s", **more)
