"""Lesson 01's figures and widgets, without a browser: moving a control changes the picture."""

from __future__ import annotations

import base64
import re

import ipywidgets as ipw
import pytest

from shrinkkit.errors import InputError
from shrinkkit.figures import words
from shrinkkit.figures.drawing import image_html
from shrinkkit.lessons.frontier import drivers, history, training
from shrinkkit.lessons.frontier import widgets as explore
from shrinkkit.lessons.frontier.published import load_devices, load_models

WIDGETS = {
    "load": explore.load_widget,
    "serve": explore.serve_widget,
    "training": explore.training_widget,
    "fit": explore.fit_widget,
}
PNG = b"\x89PNG\r\n\x1a\n"


def values_of(control: ipw.Widget) -> list:
    """List what a slider or menu can be set to."""
    return [option[1] if isinstance(option, tuple) else option for option in control.options]


def picture_bytes(widget: explore.Explorer) -> bytes:
    """Give the PNG that a widget shows now."""
    return base64.b64decode(widget.picture.value.split("base64,", 1)[1].split('"', 1)[0])


@pytest.fixture(scope="module", params=WIDGETS)
def widget(request):
    return WIDGETS[request.param]()


def test_every_control_redraws_the_picture(widget):
    picture = picture_bytes(widget)
    assert picture.startswith(PNG)
    for name, control in widget.parts.items():
        control.value = next(v for v in reversed(values_of(control)) if v != control.value)
        moved = picture_bytes(widget)
        assert moved.startswith(PNG)
        assert moved != picture, name
        picture = moved


def test_same_position_same_picture():
    widget = explore.load_widget()
    bits, picture = widget.parts["bits"], picture_bytes(widget)
    bits.value = 4.5
    assert picture_bytes(widget) != picture
    bits.value = 16
    assert picture_bytes(widget) == picture


def test_picture_is_an_image_with_words(widget):
    page = widget.picture.value
    assert page.startswith("<img ")
    assert 'src="data:image/png;base64,' in page
    alt = re.search(r'alt="([^"]+)"', page).group(1)
    assert len(alt.split()) > 15


def test_only_core_controls(widget):
    """JupyterLab and Colab have ipywidgets' own controls, and no others for certain."""
    for control in widget.parts.values():
        assert type(control).__module__.startswith("ipywidgets.")
        assert control.description
    assert widget._view_module.startswith("@jupyter-widgets/")


def test_plain_text_tells_a_reader_without_kernel_what_to_do(widget):
    assert "Run this cell" in repr(widget)


@pytest.mark.parametrize("place", [0, -1], ids=["all low", "all high"])
def test_ends_of_every_slider_draw(widget, place):
    ends = {name: values_of(part)[place] for name, part in widget.parts.items()}
    drawing = widget.draw(**ends)
    drawing.figure.canvas.draw()
    assert len(drawing.words.split()) > 15


def test_sentence_follows_the_sum():
    """7 billion parameters: 13 GiB at 16 bits; at 4 and half a bit of scales 4.5 / 16 of that."""
    widget = explore.load_widget()
    assert "fit on 5 of 11 devices" in widget.sentence.value
    widget.parts["bits"].value = 4.5  # 3.7 GiB go into 70 % of a 6 GiB phone
    assert f"fit on {len(load_devices())} of" in widget.sentence.value
    assert "3.67 GiB" in widget.picture.value


def test_drawings_say_the_numbers_they_show():
    models = load_models().set_index("name", drop=False)
    devices = load_devices().set_index("name", drop=False)
    served = drivers.draw_serve(
        models.loc["LLaMA-7B"],
        devices.loc["A100 80 GB"],
        bits=16,
        kv_bits=16,
        context_tokens=4096,
        n_users=8,
    )
    # 0.5 MiB a token x 4,096 tokens = 2 GiB a user; (72 - 12.5) / 2 = 29 users
    assert "2 GiB for each user" in served.words
    assert "29 users fit" in served.words
    fit = drivers.draw_fit(devices.loc["H100 80 GB"], models.loc[["GPT-3"]], bits=16)
    assert "0 of 1 models fit" in fit.words


def test_weak_figures_are_drawn_hollow():
    models = load_models()
    weak = models[models["confidence"] == "weak"].head(1)
    hollow = history.draw_growth(weak.assign(kind="decoder"))
    faces = [c.get_facecolor() for c in hollow.figure.axes[0].collections if len(c.get_offsets())]
    drawn = [tuple(face[0]) for face in faces if len(face)]
    assert (1.0, 1.0, 1.0, 1.0) in drawn
    assert "hollow: weak source" in str(
        [text.get_text() for text in hollow.figure.axes[0].get_legend().get_texts()]
    )


def test_no_label_of_the_history_charts_covers_another():
    for drawing in (history.draw_growth(load_models()), history.draw_records(load_models())):
        drawing.figure.canvas.draw()
        renderer = drawing.figure.canvas.get_renderer()
        axes = drawing.figure.axes[0]
        boxes = [t.get_window_extent(renderer) for t in axes.texts if t.get_text()]
        legend = axes.get_legend().get_window_extent(renderer)
        assert len(boxes) > 10
        for number, box in enumerate(boxes):
            assert not box.overlaps(legend)
            assert not any(box.overlaps(other) for other in boxes[:number])


def test_every_dot_of_the_charts_of_models_has_its_name():
    models = load_models()
    told = [text.get_text() for text in history.draw_growth(models).figure.axes[0].texts]
    assert sorted(filter(None, told)) == sorted(models["name"])
    gpu = load_devices().set_index("name", drop=False).loc["A100 80 GB"]
    costs = {"utilisation": 0.5, "dollars_per_gpu_hour": 2, "pue": 1.1, "kg_co2_per_kwh": 0.4}
    drawing = training.draw_training(7e9, 2e12, gpu=gpu, models=models, **costs)
    dots = drawing.figure.axes[0].collections[0].get_offsets()
    told = [text.get_text() for text in drawing.figure.axes[0].texts]
    named = [name for name in told if name in set(models["name"])]
    assert len(named) == len(dots) == len(training.SHOWN)


def test_growth_chart_says_the_years_that_its_table_has():
    models = load_models()
    drawing = history.draw_growth(models[models["released"] < "2021"])
    assert "2018 to 2020" in drawing.figure.axes[0].get_title(loc="left")
    assert "2019 T5-11B 11 B, 2020 GPT-3 175 B. " in drawing.words
    assert "smallest of all: TinyBERT-4 14.5 M (2019)" in drawing.words


def test_a_logarithmic_axis_carries_dots_and_no_bars():
    """A bar's length would say nothing there: no zero to start from."""
    drawing = drivers.draw_load(7_000_000_000, 16, load_devices())
    ax = drawing.figure.axes[0]
    assert ax.get_xscale() == "log"
    assert not ax.patches
    dots = [line for line in ax.lines if line.get_marker() not in ("", "None")]
    hollow = [dot for dot in dots if dot.get_markerfacecolor() == "white"]
    assert (len(dots), len(hollow)) == (11, 6)  # 5 of 11 can load it


def test_kept_chart_orders_tasks_and_names_both_ends():
    drawing = history.draw_kept({"a": 99.0, "b": 80.0, "c": 105.0}, 97, what="share kept")
    assert "from 80.0 % (b) to 105.0 % (c)" in drawing.words
    assert "claimed 97 %" in drawing.words
    ticks = [tick.get_text() for tick in drawing.figure.axes[0].get_yticklabels()]
    assert ticks == ["b", "a", "c"]


def test_speed_chart_draws_the_bound_of_the_roofline():
    # 1,000 weights of 32 bits are 4,000 bytes: at 40,000 a second 10 times; at 2 bits 160 times
    drawing = drivers.draw_speed(1000, 40_000, {32: 7.0}, name="a toy")
    limits = drawing.figure.axes[0].lines[0]
    assert list(limits.get_xdata())[::7] == [32, 2]
    assert list(limits.get_ydata())[::7] == pytest.approx([10, 160])
    assert "7 at 32 bits" in drawing.words


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="models is empty"):
        history.draw_growth(load_models().head(0))


def test_alt_text_is_escaped():
    figure, axes = history.new_axes(2, 2)
    axes.plot([0, 1])
    page = image_html(history.Drawing(figure, 'more "bits" < fewer'))
    assert 'alt="more &quot;bits&quot; &lt; fewer"' in page


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (999, "999"),
        (1000, "1 k"),
        (999_960, "1 M"),
        (0.25, "0.25"),
        (1_234_567, "1.23 M"),
        (0, "0"),
    ],
)
def test_counts_round_across_units(number, said):
    assert words.count(number) == said
