"""The figures of lesson 05 hold the numbers that they were given, and so do their words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.widgets.gptq import (
    correlations,
    draw_related,
    draw_two_weights,
    round_two,
    surgery_widget,
)


def test_correlations_are_torchs_where_the_mean_is_zero():
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    x = (x @ torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).double()
    x -= x.mean(dim=0)
    expected = torch.corrcoef(x.T).fill_diagonal_(0.0)
    torch.testing.assert_close(correlations(x.T @ x), expected)


def test_the_pair_that_goes_together_most_is_drawn():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(2))
    x[:, 6] = -2 * x[:, 3]
    drawing = draw_related(x, "Inputs")
    assert "inputs 3 and 6 over 50 tokens, correlation -1.00" in drawing.words
    assert "28 pairs" in drawing.words
    (dots,) = drawing.figure.axes[0].get_lines()
    assert dots.get_ydata() == pytest.approx(-2 * dots.get_xdata())


@pytest.mark.parametrize(
    ("w", "correlation", "expected"),
    [
        # 0.4 -> 0 leaves 0.4; the second becomes 0.4 + 0.4 * 0.8 = 0.72 -> 1
        pytest.param((0.4, 0.4), 0.8, (0.0, 1.0), id="together"),
        pytest.param((0.4, 0.4), 0.0, (0.0, 0.0), id="strangers"),
        # 0.6 -> 1 leaves -0.4; the second becomes 0.4 + -0.4 * -0.9 = 0.76 -> 1
        pytest.param((0.6, 0.4), -0.9, (1.0, 1.0), id="against each other"),
    ],
)
def test_two_weights_by_hand(w, correlation, expected):
    found = round_two(w, correlation)
    assert found["GPTQ"] == expected
    assert found["rounding"] == (round(w[0]), round(w[1]))


def test_the_best_is_never_worse():
    for first in (0.1, 0.3, 0.7):
        for correlation in (-0.9, -0.3, 0.6):
            words = draw_two_weights(first, 0.4, correlation).words
            rounding, gptq, best = (
                float(part.split(" with error ")[1].split(",")[0].rstrip("."))
                for part in words.split(" gives ")[1:]
            )
            assert best <= min(rounding, gptq)


def test_moving_a_slider_redraws():
    widget = surgery_widget()
    before = widget.picture.value, widget.sentence.value
    assert "GPTQ gives (0, 1) with error 0.14" in widget.sentence.value
    widget.parts["correlation"].value = 0.0
    assert widget.picture.value != before[0]
    assert "GPTQ gives (0, 0) with error 0.32" in widget.sentence.value
