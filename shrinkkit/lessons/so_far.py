"""Draw every method so far in one figure: bits per weight against what is lost.

The same chart closes each lesson on weights, and grows from lesson to lesson: `TAUGHT` says which
lesson explains what, and a method appears once everything in its name was explained. What is new in
a lesson is called so in the legend. Filled marks are the course's benchmarks (tables
`quantization`, `smoothquant`, `gptq` and `low_bits`: 32 windows of Wikipedia each); hollow marks
are what the lessons measured and recorded at full pace, in table `so_far`, on fewer windows. Both
are divided by fp32's perplexity on the same windows, so that they can stand side by side. Bits are
those of the quantized linear layers, scales and zero points counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shrinkkit.errors import InputError
from shrinkkit.figures.drawing import Drawing
from shrinkkit.figures.tradeoff import Spot, tradeoff
from shrinkkit.measure import load_results

MODEL = "smollm2-135m"
TOP = 10.0  # a model that is worse than ten times fp32 would flatten the rest
NOT_SHOWN = "Wikipedia alone"  # the same method on other text: its mark would hide its twin's
LESSONS = ("03", "04", "05", "06", "07", "08")
TAUGHT = {  # the lesson that explains each word of a method's name
    "rounding": "03",
    "SmoothQuant": "04",
    "GPTQ": "05",
    "6-bit scales": "05",
    "AWQ": "06",
    "tuned": "07",
    "QAT": "07",
    "mixed precision": "07",
}
NOT_TAUGHT = ("fp8", "mxfp4")  # grids that the benchmarks measure and no lesson explains


@dataclass(frozen=True)
class Point:
    """One version of the model: `bits` per weight, perplexity as a multiple of fp32's (`times`).

    method: "rounding", "GPTQ" and so on; points of one method look alike.
    grid: the label, such as "int4 g64".
    measured_here: recorded by a lesson, not by a benchmark.
    """

    method: str
    grid: str
    bits: float
    times: float
    measured_here: bool = False


def recorded_points() -> list[Point]:
    """Read all versions that benchmarks and lessons have recorded: yours, else the course's own.

    Returns Points, without fp32 and without grids that no lesson explains; those of lessons at
    full pace only, for at quick pace a lesson quantizes a part of the model.
    """
    points = []
    rounding = _rows("quantization", model=MODEL)
    reference = next(r["perplexity_wikipedia"] for r in rounding if r["grid"] == "fp32")
    for row in rounding:
        if row["grid"] != "fp32" and not row["grid"].startswith(NOT_TAUGHT):
            grid = row["grid"].replace("rounded to nearest", "min-max")
            points.append(_point(row, "rounding", grid, reference))
    for row in _rows("smoothquant", model=MODEL, version="smoothed search, W8A8 per_token"):
        points.append(_point(row, "SmoothQuant", "W8A8", reference))
    for table in ("gptq", "low_bits"):
        rows = _rows(table, model=MODEL)
        for row in rows:
            shown_already = row["method"] in ("", "rounding")  # in the first table
            if not shown_already and not row["method"].endswith(NOT_SHOWN):
                reference = next(r["perplexity_wikipedia"] for r in rows if r["grid"] == "fp32")
                points.append(_point(row, row["method"], row["grid"], reference))
    for row in _rows("so_far", model=MODEL, pace="full"):
        point = row["method"], row["grid"], row["bits_per_weight"], row["times_fp32"]
        points.append(Point(*point, measured_here=True))
    return points


def _point(row: Mapping, method: str, grid: str, reference: float) -> Point:
    return Point(method, grid, row["bits_per_weight"], row["perplexity_wikipedia"] / reference)


def _rows(table: str, **wanted: str) -> list[dict]:
    """Return a table's rows that hold the wanted values; none for a table that is not there."""
    try:
        rows = load_results(table).to_dict(orient="records")
    except InputError:  # nothing recorded yet
        return []
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def lesson_of(method: str) -> str:
    """Say by which lesson everything in a method's name was taught; an own name's is the last.

    >>> lesson_of("AWQ, then GPTQ"), lesson_of("GPTQ, 6-bit scales, tuned"), lesson_of("mine")
    ('06', '07', '08')
    """
    return max((TAUGHT[word] for word in TAUGHT if word in method), default=LESSONS[-1])


def draw_so_far(points: Iterable[Point] | None = None, *, until: str = LESSONS[-1]) -> Drawing:
    """Draw perplexity, as a multiple of fp32's, against bits per weight.

    points: None for `recorded_points()`. Those beyond ten times fp32 are named below the figure.
    until: the lesson that shows it, "03" to "08": methods that later lessons teach are left out.
    Returns the figure and its words.
    Raises InputError for an unknown lesson, or nothing to draw.

    >>> draw_so_far([Point("rounding", "int4", 4.3, 1.3)]).words.split(". ")[1]
    'rounding: int4 4.30 bits, 1.30 times.'
    """
    if until not in LESSONS:
        raise InputError(f"until is {until!r}: give the number of a lesson, one of {LESSONS}.")
    given = recorded_points() if points is None else list(points)
    points = [point for point in given if lesson_of(point.method) <= until]
    # earlier lessons first, so that a method keeps its mark while the chart grows
    methods = sorted(dict.fromkeys(point.method for point in points), key=lesson_of)
    new = [method for method in methods if lesson_of(method) == until]
    shown: list[Spot] = []
    for p in points:
        if p.times <= TOP:
            label = "" if _stands_already(p, shown) else p.grid
            series = f"{p.method} (new)" if p.method in new else p.method
            shown.append(Spot(p.bits, p.times, label, series, hollow=p.measured_here))
    beyond = "; ".join(f"{p.method} {p.grid} × {p.times:,.0f}" for p in points if p.times > TOP)
    xlabel = "bits per weight of the linear layers, scales counted (logarithmic)"
    figure, ax = tradeoff(
        sorted(shown, key=lambda spot: methods.index(spot.series.removesuffix(" (new)"))),
        title=f"Every method until lesson {until} (dashed: fp32)",
        xlabel=f"{xlabel}\nbeyond the figure: {beyond}" if beyond else xlabel,
        ylabel="perplexity, times fp32's (logarithmic)",
        reference=1.0,
        log="xy",
        legend=True,
        hollow="in a lesson",
    )
    ax.yaxis.set_major_formatter("× {x:g}")
    return Drawing(figure, _words(points, methods, new))


def _stands_already(point: Point, shown: Sequence[Spot]) -> bool:
    """Say whether the same label stands beside a neighbour already."""
    return any(
        point.grid == other.label
        and abs(point.bits - other.x) < 0.02 * other.x
        and abs(point.times - other.y) < 0.03 * other.y
        for other in shown
    )


def _words(points: Sequence[Point], methods: Sequence[str], new: Sequence[str]) -> str:
    said = []
    for method in methods:
        listed = "; ".join(
            f"{p.grid} {p.bits:.2f} bits, {p.times:,.2f} times"
            + (" (in a lesson)" if p.measured_here else "")
            + (", beyond the figure" if p.times > TOP else "")
            for p in points
            if p.method == method
        )
        said.append(f"{method}{' (new)' if method in new else ''}: {listed}")
    return (
        "Scatter chart of perplexity as a multiple of fp32's against bits per weight, both "
        "logarithmic. "
        f"{'. '.join(said)}."
    )
