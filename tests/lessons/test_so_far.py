"""The figure of all methods so far: what it reads, what it draws, what it says."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest

from shrinkkit.errors import InputError
from shrinkkit.lessons.so_far import LESSONS, TAUGHT, Point, draw_so_far, lesson_of, recorded_points
from shrinkkit.measure import load_results, record


@pytest.fixture(autouse=True)
def _own_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of the course, and an empty folder for those of this test."""
    monkeypatch.setenv("SHRINKKIT_RESULTS", str(tmp_path))


def test_the_courses_own_rows_are_points_divided_by_fp32():
    points = recorded_points()
    table = load_results("gptq").set_index(["grid", "method"])["perplexity_wikipedia"]
    (gptq,) = [p for p in points if (p.method, p.grid, p.measured_here) == ("GPTQ", "int4 g64", 0)]
    assert gptq.times == pytest.approx(table["int4 g64", "GPTQ"] / table["fp32", ""])
    assert {"rounding", "SmoothQuant", "GPTQ", "AWQ, then GPTQ"} <= {p.method for p in points}
    assert all(p.bits < 32 for p in points)


@pytest.mark.parametrize(("pace", "n_more"), [("full", 1), ("quick", 0)])
def test_a_lessons_row_joins_at_full_pace(monkeypatch, pace: str, n_more: int):
    monkeypatch.setenv("SHRINKKIT_PACE", pace)
    row = {"model": "smollm2-135m", "method": "mine", "grid": "int4", "lesson": "99"}
    record("so_far", [row | {"bits_per_weight": 4.5, "times_fp32": 1.25}], key=("method", "grid"))
    mine = [p for p in recorded_points() if p.method == "mine"]
    assert mine == [Point("mine", "int4", 4.5, 1.25, measured_here=True)] * n_more


def test_points_stand_where_they_belong_and_are_named():
    points = [
        Point("rounding", "int4", 4.0, 1.5),
        Point("GPTQ", "int4", 4.0, 1.2),
        Point("GPTQ", "int4", 4.0, 1.21, measured_here=True),
        Point("rounding", "int2", 2.0, 500.0),
    ]
    drawing = draw_so_far(points)
    ax = drawing.figure.axes[0]
    marks = {line.get_label(): line for line in ax.get_lines() if line.get_marker() != "None"}
    assert list(marks["rounding"].get_ydata()) == [1.5]  # the other lies beyond the figure
    assert marks["GPTQ, in a lesson"].get_markerfacecolor() == "white"
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["int4", "int4"]
    assert "int2 2.00 bits, 500.00 times, beyond the figure" in drawing.words
    assert ax.get_xlabel().endswith("beyond the figure: rounding int2 × 500")


def test_every_recorded_method_has_a_lesson_and_the_chart_grows():
    assert all(any(word in p.method for word in TAUGHT) for p in recorded_points())
    expected = {
        "rounding": "03",
        "SmoothQuant": "04",
        "GPTQ": "05",
        "GPTQ, 6-bit scales": "05",
        "AWQ, then GPTQ": "06",
        "GPTQ, 6-bit scales, tuned": "07",
        "mixed precision, GPTQ": "07",
    }
    assert {method: lesson_of(method) for method in expected} == expected
    names = [_legend(draw_so_far(until=lesson)) for lesson in LESSONS]
    assert names[0] == ["rounding (new)", "fp32"]
    for before, after in pairwise(names):  # a method keeps its place, and so its mark
        kept = [name.replace(" (new)", "") for name in before[:-1]]
        assert after[: len(kept)] == kept
    assert not any("(new)" in name for name in names[-1])  # lesson 08 leaves weights alone


def test_methods_differ_by_shape_and_labels_do_not_collide():
    figure = draw_so_far().figure
    (ax,) = figure.axes
    marks = [line for line in ax.get_lines() if line.get_marker() not in ("None", "")]
    shapes = {line.get_label().split(", in a lesson")[0]: line.get_marker() for line in marks}
    assert len(set(shapes.values())) == len(shapes) > 7
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_grids_that_no_lesson_teaches_are_left_out():
    assert not any(p.grid.startswith(("fp8", "mxfp4")) for p in recorded_points())
    assert any(p.grid.startswith("nf4") for p in recorded_points())


def test_an_unknown_lesson_is_refused():
    for lesson in ("01", "7", "09", 7):
        with pytest.raises(InputError, match=r"until is .*one of \('03'"):
            draw_so_far(until=lesson)


def test_points_that_a_later_lesson_teaches_leave_nothing_to_draw():
    with pytest.raises(InputError, match="points is empty"):
        draw_so_far([Point("GPTQ", "int4", 4.0, 1.2)], until="04")


def _legend(drawing) -> list[str]:
    return [text.get_text() for text in drawing.figure.axes[0].get_legend().get_texts()]


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="points is empty"):
        draw_so_far([])
