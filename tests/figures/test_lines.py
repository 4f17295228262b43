"""Lines show the numbers they were given, coinciding ones too, and so do their words."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures.lines import draw_lines

NAMES = {"title": "Reading", "xlabel": "call", "ylabel": "ms"}


def test_lines_hold_the_values():
    drawing = draw_lines([1, 2, 3], {"A": [9.0, 5.0, 6.0], "B": [9.0, 5.0, 6.0]}, **NAMES)
    first, second = drawing.figure.axes[0].lines
    assert list(first.get_xdata()) == [1.0, 2.0, 3.0]
    assert list(first.get_ydata()) == list(second.get_ydata()) == [9.0, 5.0, 6.0]
    assert first.get_markersize() > second.get_markersize()
    assert first.get_marker() != second.get_marker()
    assert "B goes from 9 at 1 to 6 at 3, lowest 5, highest 9" in drawing.words


def test_nothing_is_cut_off_and_zero_is_shown():
    ax = draw_lines([1, 2], {"A": [3.0, 40.0]}, **NAMES).figure.axes[0]
    low, high = ax.get_ylim()
    assert low == 0
    assert high > 40


def test_doubling_puts_a_tick_at_every_place():
    ax = draw_lines([8, 16, 64], {"A": [3.0, 2.0, 1.0]}, doubling=True, **NAMES).figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["8", "16", "64"]
    assert ax.get_xscale() == "log"


def test_unjoined_marks_have_no_line():
    ax = draw_lines([1, 2], {"A": [3.0, 4.0]}, joined=False, **NAMES).figure.axes[0]
    assert ax.lines[0].get_linestyle() == "None"


def test_logarithmic_y_is_said_and_ticks_are_plain_numbers():
    drawing = draw_lines([1, 2, 3], {"A": [400.0, 80.0, 75.0]}, log_y=True, **NAMES)
    ax = drawing.figure.axes[0]
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "ms, logarithmic"
    drawing.figure.canvas.draw()
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert "100" in shown
    assert not any("^" in text for text in shown)
    with pytest.raises(InputError, match="above 0"):
        draw_lines([1], {"A": [0.0]}, log_y=True, **NAMES)


def test_whole_numbers_get_whole_ticks():
    drawing = draw_lines([1, 2, 3, 4], {"A": [1.0, 2.0, 3.0, 4.0]}, **NAMES)
    assert all(tick == int(tick) for tick in drawing.figure.axes[0].get_xticks())


@pytest.mark.parametrize(
    ("x", "series"),
    [([1, 2], {}), ([], {"A": []}), ([1, 2], {"A": [1.0]})],
    ids=["no series", "nothing", "too short"],
)
def test_wrong_input(x, series):
    with pytest.raises(InputError, match="as many values as x"):
        draw_lines(x, series, **NAMES)
