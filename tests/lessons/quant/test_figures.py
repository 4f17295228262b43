"""The figures of lesson 03 show the numbers that they are given, and say them in words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.figures.tradeoff import draw_cost, draw_sweep
from shrinkkit.lessons.quant.figures import draw_bounds, draw_codes, draw_levels_in_use, draw_ways
from shrinkkit.quant import NF4, Format, fake_quantize


def annotations(drawing) -> list[str]:
    return [text.get_text() for ax in drawing.figure.axes for text in ax.texts]


def test_levels_in_use_marks_every_level_that_a_weight_falls_on():
    # scale = 7 / 7 = 1: the levels in use are 0, 1 and 7; three of the five weights fall on zero.
    weight = torch.tensor([[0.2, -0.4, 0.3, 1.1, 7.0]])
    rounded = fake_quantize(weight, Format(4, True, "per_tensor"))
    drawing = draw_levels_in_use(weight, rounded)
    lines = sorted(line.get_xdata()[0] for line in drawing.figure.axes[0].lines)
    assert lines == [0.0, 1.0, 7.0]
    assert "3 levels in use; 60.0% of the weights fall on zero" in drawing.words


def test_cost_draws_each_variant_from_the_reference_first_on_top():
    drawing = draw_cost({"a": 40.0, "b": 4000.0}, 20.0, "Some grids")
    ax = drawing.figure.axes[0]
    marks = {
        line.get_ydata()[0]: line.get_xdata()[0] for line in ax.lines if line.get_ls() == "None"
    }
    assert marks == {"a": 40.0, "b": 4000.0}
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first entry stands on top"
    assert ax.get_xlim()[0] < 20.0
    assert ax.get_xlim()[1] > 4000.0
    assert annotations(drawing) == ["40.0", "4,000"]
    assert "a 40.0, b 4,000" in drawing.words
    assert "fp32 at 20.0" in drawing.words


def test_ways_draws_both_columns():
    drawing = draw_ways({"fp32": (108.0, 9.0), "int4": (15.2, 1.5)}, "One matrix")
    left, right = drawing.figure.axes
    assert [bar.get_width() for bar in left.patches] == [108.0, 15.2]
    assert [bar.get_width() for bar in right.patches] == [9.0, 1.5]
    assert "int4 15.2 MiB, 1.5 ms" in drawing.words


def test_bounds_draws_the_measured_bar_inside_its_bound():
    drawing = draw_bounds({"fp32": (15.0, 20.0), "int4": (50.0, 45.0)})
    ax = drawing.figure.axes[0]
    assert [bar.get_width() for bar in ax.patches] == [20.0, 45.0, 15.0, 50.0]
    assert ax.get_xlim()[1] > 50.0, "a model that beats its bound still fits into the picture"
    assert annotations(drawing) == ["15 of 20", "50 of 45"]


def test_codes_stand_at_their_levels():
    weight = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    drawing = draw_codes(weight, {"NF4": NF4.code, "even": [-1.0, 0.0, 1.0]})
    rows = [list(line.get_xdata()) for line in drawing.figure.axes[0].lines]
    assert rows == [list(NF4.code), [-1.0, 0.0, 1.0]]
    assert "even: 3 levels, 1 of them between -0.5 and 0.5" in drawing.words


def test_sweep_joins_its_points():
    drawing = draw_sweep({"8 bits": (8.4, 20.1), "2 bits": (2.3, 25000.0)}, 20.0)
    line = drawing.figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [8.4, 2.3]
    assert list(line.get_ydata()) == [20.1, 25000.0]
    assert annotations(drawing) == ["8 bits", "2 bits"]
    assert "8 bits 20.1, 2 bits 25,000" in drawing.words


def test_sweep_names_what_lies_beyond_the_top_and_does_not_draw_it():
    points = {"8 bits": (8.4, 20.1), "3 bits": (3.3, 70.0), "2 bits": (2.3, 25000.0)}
    drawing = draw_sweep(points, 20.0, top=200.0)
    ax = drawing.figure.axes[0]
    assert list(ax.lines[0].get_ydata()) == [20.1, 70.0]
    assert ax.get_ylim()[1] < 200.0
    assert annotations(drawing) == ["8 bits", "3 bits"]
    assert ax.get_title(loc="left").endswith("far above: 2 bits 25,000")
    assert drawing.words.endswith("Far above and not drawn: 2 bits 25,000.")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_cost({}, 1.0, "Nothing"),
        lambda: draw_ways({}, "Nothing"),
        lambda: draw_bounds({}),
        lambda: draw_sweep({}, 1.0),
        lambda: draw_sweep({"2 bits": (2.3, 900.0)}, 1.0, top=10.0),
    ],
    ids=["cost", "ways", "bounds", "sweep", "all_beyond"],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(InputError, match="is empty"):
        draw()
