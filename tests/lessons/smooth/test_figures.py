"""The figures of lesson 04 hold the numbers that they were given, and so do their words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.lessons.smooth.figures import (
    draw_channels,
    draw_smoothing,
    sample_layer,
    smoothing_widget,
)


def test_channels_have_a_line_each_and_their_ratio_in_words():
    values = torch.tensor([1.0, 1.0, 8.0, 2.0, 0.5])
    drawing = draw_channels({"activations": values, "weights": values / 2}, "Before")
    assert len(drawing.figure.axes) == 2
    segments = drawing.figure.axes[0].collections[0].get_segments()
    assert [segment[1][1] for segment in segments] == values.tolist()
    assert "activations: largest 8, median 1, ratio 8.0" in drawing.words


def test_alpha_half_makes_both_sides_equal():
    drawing = draw_smoothing(*sample_layer(), alpha=0.5)
    activations, weights = (line.get_ydata() for line in drawing.figure.axes[0].lines)
    assert len(activations) == 16
    assert activations.tolist() == pytest.approx(weights.tolist(), rel=1e-4)


def test_the_middle_errs_less_than_both_ends():
    x, weight = sample_layer(30.0)

    def error(alpha):
        words = draw_smoothing(x, weight, alpha).words
        return float(words.rstrip(".").rsplit(" ", 1)[1].rstrip("%"))

    assert error(0.5) < error(0.0) / 2
    assert error(0.5) < error(1.0) / 2


def test_moving_a_slider_redraws():
    widget = smoothing_widget()
    before = widget.picture.value, widget.sentence.value
    widget.parts["alpha"].value = 0.5
    assert widget.picture.value != before[0]
    assert widget.sentence.value != before[1]
    assert "At alpha 0.5 the output" in widget.sentence.value


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="is empty"):
        draw_channels({}, "T")
