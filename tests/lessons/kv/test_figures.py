"""The figures of lesson 08 show the numbers that they are given, and say them in words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.lessons.kv.figures import (
    draw_bits,
    draw_channels,
    draw_growth,
    draw_sawtooth,
    draw_serving,
    kv_widget,
)


def test_growth_draws_each_cache_and_the_model():
    drawing = draw_growth({"16 bits": [(256, 5.0), (1024, 20.0)]}, 256.0, "one text")
    cache, model = drawing.figure.axes[0].lines
    assert list(cache.get_xdata()) == [256, 1024]
    assert list(cache.get_ydata()) == [5.0, 20.0]
    assert model.get_ydata()[0] == 256.0
    assert "16 bits 5 MiB at 256 and 20 at 1,024" in drawing.words


def test_channels_names_the_largest():
    keys = torch.ones(5, 4)
    keys[:, 2] = -6.0
    drawing = draw_channels(keys, torch.ones(5, 4), "layer 3")
    left, right = drawing.figure.axes
    assert [bar.get_height() for bar in left.patches] == [1.0, 1.0, 6.0, 1.0]
    assert [bar.get_height() for bar in right.patches] == [1.0] * 4
    assert "the largest keys channel, 2, is 6.0 times the median" in drawing.words


def test_sawtooth_draws_its_lines():
    drawing = draw_sawtooth({"g64": [(1, 1.5), (64, 3.6)]}, 3.5)
    assert list(drawing.figure.axes[0].lines[0].get_ydata()) == [1.5, 3.6]
    assert "g64 from 1.50 to 3.60, 3.60 at 64" in drawing.words


def test_bits_joins_its_points():
    drawing = draw_bits({"8 bits": (12.0, 20.1), "2 bits": (3.5, 90.0)}, 20.0)
    line = drawing.figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [12.0, 3.5]
    assert list(line.get_ydata()) == [20.1, 90.0]
    assert "8 bits 12.0 KiB 20.10, 2 bits 3.5 KiB 90.00" in drawing.words


def test_serving_counts_as_the_lesson_does():
    # Llama-2-7B: 2 * 32 layers * 32 heads * 128 numbers * 2 bytes = 512 KiB a token.
    drawing = draw_serving("Llama-2-7B", 4096, 4, 16)
    assert "takes 8 GiB" in drawing.words
    assert drawing.figure.axes[0].patches[1].get_width() == pytest.approx(8.0)


def test_the_widget_redraws_and_answers():
    widget = kv_widget()
    before = widget.picture.value
    assert widget.sentence.value.startswith("<p>The cache takes 0.6 times")
    widget.parts["bits"].value = 4
    assert widget.picture.value != before
    assert "0.2 times" in widget.sentence.value


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_growth({}, 1.0, ""),
        lambda: draw_sawtooth({}, 1.0),
        lambda: draw_bits({}, 1.0),
    ],
    ids=["growth", "sawtooth", "bits"],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(InputError, match="is empty"):
        draw()
