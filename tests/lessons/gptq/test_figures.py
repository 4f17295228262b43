"""The figures of lesson 05 hold the numbers that they were given, and so do their words."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.lessons.gptq.figures import (
    draw_related,
    draw_two_weights,
    left_of_an_error,
    round_two,
    surgery_widget,
)


def test_what_is_left_is_the_residual_of_a_regression_on_the_others():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(500, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    shares = left_of_an_error(x, damping=0.0)
    for p in range(6):
        others = x[:, [j for j in range(6) if j != p]]
        fitted = others @ torch.linalg.lstsq(others, x[:, p]).solution
        expected = (x[:, p] - fitted).square().sum() / x[:, p].square().sum()
        assert shares[p].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_pair_that_goes_together_most_is_drawn():
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(2)) + 1
    x[:, 6] = -2 * x[:, 3]
    x[:, 5] = 9 - 2 * x[:, 1]  # correlated fully, but no multiple: an error cannot be undone
    drawing = draw_related(x, "Inputs")
    assert "inputs 3 and 6 over 50 tokens, cosine -1.00" in drawing.words
    assert "where 6 is -2.00 times 3" in drawing.words
    dots = drawing.figure.axes[0].get_lines()[0]
    assert dots.get_ydata() == pytest.approx(-2 * dots.get_xdata(), abs=1e-5)


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
