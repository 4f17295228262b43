"""The roofline of lesson 02 bends where it should, and says each point's share of it."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.lessons.measuring.figures import draw_roofline

POINTS = {"decode": (0.5, 5e9), "prefill": (32.0, 60e9)}


def test_the_roof_rises_with_bandwidth_and_ends_at_the_peak():
    roof, *marks = draw_roofline(POINTS, bandwidth=20e9, peak=100e9).figure.axes[0].lines
    left, bend, right = roof.get_xdata()
    assert left < 0.5 < bend == 5.0 < 32.0 < right
    assert list(roof.get_ydata()) == [20e9 * left, 100e9, 100e9]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in marks] == list(POINTS.values())
    assert len({line.get_marker() for line in marks}) == 2


def test_shares_are_of_the_roof_above_each_point():
    drawing = draw_roofline(POINTS, bandwidth=20e9, peak=100e9)
    written = [text.get_text() for text in drawing.figure.axes[0].texts]
    # memory allows 0.5 * 20e9 = 10e9, arithmetic 100e9
    assert {"decode: 50% of the roof", "prefill: 60% of the roof"} <= set(written)
    assert "decode does 5 billion a second at 0.5 a byte, 50% of the roof" in drawing.words
    assert "up to 5 operations a byte" in drawing.words


def test_points_above_the_roof_are_shown():
    drawing = draw_roofline({"int8": (100.0, 300e9)}, bandwidth=20e9, peak=100e9)
    assert drawing.figure.axes[0].get_ylim()[1] > 300e9
    assert "300% of the roof" in drawing.words


@pytest.mark.parametrize(
    ("points", "says"),
    [({}, "is empty"), ({"decode": (0.5, 0.0)}, "above 0"), ({"decode": (-1.0, 1.0)}, "above 0")],
    ids=["nothing", "no speed", "negative"],
)
def test_wrong_input(points, says):
    with pytest.raises(InputError, match=says):
        draw_roofline(points, bandwidth=20e9, peak=100e9)


def test_a_roof_is_needed():
    with pytest.raises(InputError, match="above 0"):
        draw_roofline(POINTS, bandwidth=0.0, peak=100e9)
