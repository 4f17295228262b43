"""The chart of size against quality: what stands where, what is named, and its ticks."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import log_ticks, new_axes, slider
from shrinkkit.figures.tradeoff import Spot, tradeoff

WORDS = {"title": "T", "xlabel": "bits", "ylabel": "loss"}
SPOTS = [
    Spot(4.0, 20.0, "int4", "rounding"),
    Spot(2.0, 90.0, "int2", "rounding"),
    Spot(4.0, 19.0, "", "GPTQ", hollow=True),
]


def test_each_series_has_its_marks_and_its_name():
    _, ax = tradeoff(SPOTS, legend=True, hollow="here", reference=18.0, **WORDS)
    rounding, gptq, fp32 = ax.lines
    assert (list(rounding.get_xdata()), list(rounding.get_ydata())) == ([4.0, 2.0], [20.0, 90.0])
    assert gptq.get_markerfacecolor() == "white"
    assert set(fp32.get_ydata()) == {18.0}
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["rounding", "GPTQ, here", "fp32"]
    assert [text.get_text() for text in ax.texts] == ["int4", "int2"]
    assert ax.get_ylim()[0] < 18.0


def test_no_label_covers_the_legend():
    corner = [Spot(1.0, 1.0, "small", "a"), Spot(7.4, 75.0, "large and lossy", "b")]
    figure, ax = tradeoff(corner, legend=True, **WORDS)
    figure.canvas.draw()
    legend = ax.get_legend().get_window_extent()
    assert not any(text.get_window_extent().overlaps(legend) for text in ax.texts)


def test_a_path_joins_the_spots_that_it_names():
    _, ax = tradeoff(SPOTS, path=(1, 2), **WORDS)
    (path,) = (line for line in ax.lines if line.get_linestyle() == ":")
    assert list(path.get_xdata()) == [2.0, 4.0]


def test_nothing_to_draw_is_said():
    with pytest.raises(InputError, match="points is empty"):
        tradeoff([], **WORDS)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        pytest.param((5, 2e5), ["10", "100", "1 k", "10 k", "100 k"], id="decades"),
        pytest.param((3, 60), ["5", "10", "20", "50"], id="one, two, five"),
        pytest.param((0.95, 2.1), ["1", "1.1", "1.2", "1.5", "2"], id="near"),
        pytest.param((23.8, 26.1), ["24", "24.5", "25", "25.5", "26"], id="very near"),
    ],
)
def test_a_logarithmic_axis_has_plain_ticks_whatever_it_spans(limits, expected):
    figure, ax = new_axes(6, 3)
    ax.set(xscale="log", xlim=limits)
    log_ticks(ax.xaxis)
    figure.canvas.draw()
    low, high = limits
    shown = [tick for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    assert [tick.label1.get_text() for tick in shown] == expected
    assert not ax.xaxis.get_minorticklocs().size


def test_a_sliders_values_are_written_out():
    control = slider("tokens", (256, 4096), 4096, "{:,}".format)
    assert control.options == (("256", 256), ("4,096", 4096))
    assert (control.value, control.description) == (4096, "tokens")
    assert not control.continuous_update
