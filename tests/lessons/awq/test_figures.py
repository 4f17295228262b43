"""The figures of lesson 06 hold the numbers that they were given, and so do their words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.lessons.awq.figures import (
    LARGE,
    draw_ranked,
    draw_scaling,
    sample_layer,
    scaling_widget,
)


def test_ranked_sizes_fall_and_are_told_by_their_median():
    values = torch.tensor([1.0, 2.0, 40.0, 2.0, 4.0])
    drawing = draw_ranked({"inputs": values}, "Channels")
    drawn = drawing.figure.axes[0].get_lines()[0].get_ydata().tolist()
    assert drawn == [20.0, 2.0, 1.0, 1.0, 0.5]
    assert "the largest is 20 times the median" in drawing.words
    assert "the last is 0.5 times" in drawing.words


def error_in(words: str) -> float:
    return float(words.rstrip(".").rsplit(" ", 1)[1].rstrip("%"))


def test_the_right_scale_lies_in_the_middle():
    small, right, large = (error_in(draw_scaling(s, size=10.0).words) for s in (1.0, 2.5, 12.0))
    assert right < small / 2
    assert right < large / 2


def test_two_scales_share_an_axis_that_holds_both():
    before, after = (draw_scaling(scale).figure.axes[0] for scale in (1.0, 2.5))
    assert before.get_ylim() == after.get_ylim()
    assert before.get_ylim()[1] > max(bar.get_height() for bar in before.patches + after.patches)


def test_the_error_is_that_of_torchs_rounding():
    x, weight = sample_layer(10.0)
    s = torch.ones(12)
    s[LARGE] = 2.0
    step = (weight * s).abs().amax(dim=1) / 3
    zeros = torch.zeros(8, dtype=torch.int32)
    rounded = torch.fake_quantize_per_channel_affine(weight * s, step, zeros, 0, -3, 3) / s
    error = ((x @ (rounded - weight).T).norm() / (x @ weight.T).norm()).item()
    assert error_in(draw_scaling(2.0).words) == pytest.approx(100 * error, abs=0.06)


def test_moving_a_slider_redraws():
    widget = scaling_widget()
    before = widget.picture.value, widget.sentence.value
    widget.parts["scale"].value = 2.5
    assert widget.picture.value != before[0]
    assert "With its column times 2.5 before rounding" in widget.sentence.value


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="sizes is empty"):
        draw_ranked({}, "T")
