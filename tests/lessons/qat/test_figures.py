"""The figures of lesson 07 hold the numbers that they were given, and so do their words."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.lessons.qat.figures import (
    draw_methods,
    draw_staircase,
    draw_step_gradient,
    staircase_widget,
)


def test_the_staircase_has_as_many_levels_as_bits_say():
    drawing = draw_staircase(0.5, 2)
    above, below = drawing.figure.axes
    rounded = above.get_lines()[0].get_ydata()
    assert sorted(set(rounded)) == [-1.0, -0.5, 0.0, 0.5]
    weights, passed = below.get_lines()[1].get_data()
    inside = [w for w, gradient in zip(weights, passed, strict=True) if gradient]
    assert (min(inside), max(inside)) == pytest.approx((-1.0, 0.5), abs=3e-3)
    assert set(passed) == {0.0, 1.0}
    assert "from -1 to 0.5" in drawing.words


def test_the_saw_has_the_papers_teeth():
    places, slope = draw_step_gradient(2).figure.axes[0].get_lines()[0].get_data()
    for v, d in zip(places, slope, strict=True):
        if v < -2.001 or v > 1.001:
            assert d == pytest.approx(-2 if v < 0 else 1, abs=1e-5)
        elif abs(v % 1 - 0.5) > 1e-3 and -1.999 < v < 0.999:
            assert d == pytest.approx(round(v) - v, abs=1e-4)


def test_moving_a_slider_redraws():
    widget = staircase_widget()
    before = widget.picture.value, widget.sentence.value
    widget.parts["bits"].value = 3
    assert widget.picture.value != before[0]
    assert "1 from -2 to 1.5" in widget.sentence.value


def test_every_method_is_named():
    points = {"2 bits": ("rounding", 2.3, 90.0), "ternary": ("QAT", 2.0, 40.0)}
    drawing = draw_methods(points, 30.0, "its own text")
    texts = [text.get_text() for text in drawing.figure.axes[0].texts]
    assert set(points) <= set(texts)
    assert "ternary (QAT) 2.00 bits, 40.0" in drawing.words


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="is empty"):
        draw_methods({}, 1.0, "text")
