"""The number-line explorer: what it draws is what the package rounds to, and controls redraw it."""

from __future__ import annotations

import base64
import io
import re

import ipywidgets as ipw
import pytest
import torch
from PIL import Image

from shrinkkit.errors import InputError
from shrinkkit.lessons.quant.number_line import (
    BITS,
    LARGEST,
    draw_number_line,
    number_line_widget,
    sample_row,
)
from shrinkkit.quant import Format, fake_quantize


def drawn(drawing):
    """Return (weights, landed, grid) as they stand in the picture."""
    ax = drawing.figure.axes[0]
    circles, squares = (line for line in ax.lines if line.get_linestyle() == "None")
    ticks = ax.collections[0].get_segments()
    return (
        torch.tensor(circles.get_xdata()),
        torch.tensor(squares.get_xdata()),
        [segment[0][0] for segment in ticks],
    )


def test_two_bits_by_hand():
    # scale = 3 / 1, levels -3, 0, 3: only 2.0 is nearer to 3 than to 0.
    drawing = draw_number_line(torch.tensor([-1.0, 0.5, 2.0, 3.0]), 2)
    weights, landed, grid = drawn(drawing)
    assert weights.tolist() == [-1.0, 0.5, 2.0, 3.0]
    assert landed.tolist() == [0.0, 0.0, 3.0, 3.0]
    assert grid == [-3.0, 0.0, 3.0]
    # errors 1, -0.5, 1, 0: rms = sqrt(2.25 / 4) = 0.75
    assert "scale 3, zero_point 0: the rms rounding error is 0.75" in drawing.words
    assert "2 of 4 weights became exactly zero" in drawing.words


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("bits", BITS)
def test_picture_shows_what_the_package_rounds_to(bits, symmetric):
    row = sample_row(6.0)
    _, landed, grid = drawn(draw_number_line(row, bits, symmetric))
    fmt = Format(bits, symmetric, "per_channel", scale_bits=32)
    assert torch.equal(landed, fake_quantize(row[None], fmt)[0])
    assert len(grid) == fmt.qmax - fmt.qmin + 1
    gap = (landed[:, None] - torch.tensor(grid)[None]).abs().amin(dim=1)
    assert gap.max() < 1e-5, "a weight landed beside every tick"


def test_widget_shows_alt_text_a_sentence_and_a_picture():
    widget = number_line_widget()
    sentence, picture = widget.children[1:]
    alt = re.search(r'alt="([^"]+)"', picture.value).group(1)
    assert "15 levels of a 4-bit symmetric grid" in alt
    assert re.sub("</?p>", "", sentence.value) in alt
    png = base64.b64decode(picture.value.split("base64,", 1)[1].split('"', 1)[0])
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert len(image.convert("L").getcolors()) > 10, "the picture is empty"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("bits", 2, "2-bit"), ("symmetric", False, "asymmetric"), ("largest", 12.0, "from -12 to 12")],
    ids=["bits", "symmetric", "largest"],
)
def test_each_control_redraws(name, value, expected):
    widget = number_line_widget()
    before = widget.children[-1].value
    widget.parts[name].value = value
    after = widget.children[-1].value
    assert expected in after
    assert expected not in before


def test_a_larger_outlier_costs_the_others():
    errors = []
    for largest in LARGEST:
        row = sample_row(largest)
        _, landed, _ = drawn(draw_number_line(row, 4))
        errors.append((landed - row)[:-1].square().mean().item())
    assert errors[-1] > 10 * errors[0]


def test_only_core_widgets():
    def walk(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    views = {widget._view_module for widget in walk(number_line_widget())}
    assert views == {"@jupyter-widgets/controls"}  # no view that a browser would have to install
    assert isinstance(number_line_widget(), ipw.VBox)


@pytest.mark.parametrize(
    "weights", [torch.ones(2, 2), [1.0, 2.0], torch.tensor([1.0, float("nan")])], ids=str
)
def test_what_is_not_a_row_of_numbers_is_refused(weights):
    with pytest.raises(InputError, match="weight"):
        draw_number_line(weights, 4)


def test_bits_out_of_range_are_refused():
    with pytest.raises(InputError, match="bits must be a whole number from 2 to 8"):
        draw_number_line(torch.ones(3), 9)
