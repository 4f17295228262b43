"""Draw how language models grew and shrank: two charts made from data/frontier/models.csv.

Weak figures are drawn hollow, so that a chart never looks surer than its sources are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from shrinkkit.figures import words
from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes, require_some
from shrinkkit.figures.style import INK, MUTED, label_points, mark
from shrinkkit.lessons.frontier.published import MMLU, gpt3_class, record_holders

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

KINDS = ("decoder", "encoder", "encoder-decoder", "mixture of experts")


def draw_growth(models: pd.DataFrame) -> Drawing:
    """Draw every model's parameters over its date; hollow marks are weak figures.

    models: what `load_models()` returns, or some of its rows.
    """
    require_some("models", models, "row of what load_models() returns")
    first, last = models["released"].min(), models["released"].max()
    smallest = models.loc[models["parameters"].idxmin()]
    figure, ax = new_axes(10.4, 8.2)
    for number, kind in enumerate(KINDS):
        rows = models[models["kind"] == kind]
        _scatter(ax, rows, mark(number), label=kind)
    _dates_and_sizes(ax, models)
    ax.set_title(f"Language models, {first:%Y} to {last:%Y}: up, and down as well")
    ax.legend(loc="upper left", fontsize=9.5)
    _names(ax, models, list(models["name"]))
    said = (
        f"Scatter chart of {len(models)} language models, each with its name. Across: the month of "
        f"publication, {first:%Y} to {last:%Y}. Up, on a logarithmic scale: parameters. The "
        f"largest of each year: {_largest_each_year(models)}. The smallest of all: "
        f"{smallest['name']} {words.count(smallest['parameters'])} ({smallest['released']:%Y})."
    )
    return Drawing(figure, said)


def draw_records(models: pd.DataFrame) -> Drawing:
    """Draw the smallest model so far that scores at least GPT-3's MMLU, as a falling staircase."""
    require_some("models", models, "row of what load_models() returns")
    able = gpt3_class(models)
    holders = record_holders(able)
    figure, ax = new_axes(9.8, 6.6)
    others = able[~able["name"].isin(holders["name"])]
    _scatter(ax, others, mark(6), label="reaches GPT-3's score", size=38)
    _scatter(ax, holders, mark(1), label="smallest so far", size=75)
    stairs = _staircase(holders, until=able["released"].max())
    ax.plot(*stairs, color=mark(1).color, linestyle="-", marker="", linewidth=1.4, zorder=1)
    _dates_and_sizes(ax, able)
    bar = able.loc[able["name"] == "GPT-3", "score"].iloc[0]
    ax.set_title(f"Models that score {bar} or more on {MMLU.split(',')[0]} (GPT-3's score)")
    ax.legend(loc="lower left", fontsize=9.5)
    names = [f"{row['name']} ({row['score']})" for _, row in able.iterrows()]
    _names(ax, able, names, avoid=stairs)
    first, last = holders.iloc[0], holders.iloc[-1]
    said = (
        f"Scatter chart of {len(able)} models that reach GPT-3's score of {bar} on MMLU with five "
        "examples. Across: month of publication. Up, on a logarithmic scale: parameters. A "
        f"staircase joins the smallest so far; it falls from {first['name']} with "
        f"{words.count(first['parameters'])} parameters in {first['released']:%B %Y} to "
        f"{last['name']} with {words.count(last['parameters'])} in {last['released']:%B %Y}."
    )
    return Drawing(figure, said)


def draw_kept(kept_percent: Mapping[str, float], claimed_percent: float, *, what: str) -> Drawing:
    """Draw what a small model keeps on each task, beside the average that was claimed for all.

    kept_percent: task -> share of the large model's score, in per cent.
    what: whose share of what, for the axis and the words.
    """
    tasks = sorted(kept_percent, key=kept_percent.get)
    values = [float(kept_percent[task]) for task in tasks]
    figure, ax = new_axes(7.2, 0.28 * len(tasks) + 1.2)
    ax.axvline(claimed_percent, color=mark(1).color, linestyle="--", marker="")
    ax.plot(values, tasks, linestyle="", marker=mark(0).marker, markersize=9, color=mark(0).color)
    for task, value in zip(tasks, values, strict=True):
        ax.annotate(
            f"{value:.1f}",
            (value, task),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    ax.set_xlim(min(*values, claimed_percent) - 3, max(*values, claimed_percent) + 4)
    ax.set_xlabel(f"{what}, in % (dashed: the claimed {claimed_percent:g})")
    ax.set_title(f"One average, {len(tasks)} tasks")
    said = (
        f"Dot chart of {what} on {len(tasks)} tasks, from {values[0]:.1f} % ({tasks[0]}) to "
        f"{values[-1]:.1f} % ({tasks[-1]}), with a dashed line at the claimed "
        f"{claimed_percent:g} %."
    )
    return Drawing(figure, said)


def _largest_each_year(models: pd.DataFrame) -> str:
    """Name the largest model of each year: '2018 BERT-large 340 M, 2019 T5-11B 11 B, ...'."""
    largest = models.loc[models.groupby(models["released"].dt.year)["parameters"].idxmax()]
    return ", ".join(
        f"{row['released']:%Y} {row['name']} {words.count(row['parameters'])}"
        for _, row in largest.iterrows()
    )


def _scatter(ax: Axes, rows: pd.DataFrame, look, *, label: str, size: float = 55) -> None:
    weak = rows["confidence"] == "weak"
    for some, filled in ((rows[~weak], True), (rows[weak], False)):
        ax.scatter(
            some["released"],
            some["parameters"],
            s=size,
            marker=look.marker,
            facecolor=look.color if filled else "white",
            edgecolor=look.color,
            linewidth=1.6,
            label=label if filled else None,
            zorder=3,
        )


def _staircase(holders: pd.DataFrame, until) -> tuple[list[float], list[float]]:
    """Give points along the staircase that joins the record holders, close to each other."""
    import numpy as np
    from matplotlib.dates import date2num

    days = [*date2num(holders["released"]), date2num(until)]
    sizes = [float(number) for number in holders["parameters"]]
    x: list[float] = []
    y: list[float] = []
    for step, level in enumerate(sizes):
        along = np.linspace(days[step], days[step + 1], 25)
        x.extend(along.tolist())
        y.extend([level] * len(along))
        if step + 1 < len(sizes):
            down = np.geomspace(level, sizes[step + 1], 25)
            x.extend([float(days[step + 1])] * len(down))
            y.extend(down.tolist())
    return x, y


def _names(
    ax: Axes, rows: pd.DataFrame, names: Sequence[str], avoid: tuple[list, list] = ([], [])
) -> None:
    """Write names beside their points, clear of the points in `avoid`."""
    from matplotlib.dates import date2num

    dates = [float(day) for day in date2num(rows["released"])] + avoid[0]
    sizes = [float(number) for number in rows["parameters"]] + avoid[1]
    label_points(ax, dates, sizes, [*names, *[""] * len(avoid[0])], fontsize=8.5)


def _dates_and_sizes(ax: Axes, models: pd.DataFrame) -> None:
    import pandas as pd
    from matplotlib.dates import DateFormatter, YearLocator

    ax.scatter([], [], facecolor="white", edgecolor=INK, marker="o", label="hollow: weak source")
    ax.set_yscale("log")
    early, late = pd.Timedelta(days=200), pd.Timedelta(days=420)  # room for names on the right
    ax.set_xlim(models["released"].min() - early, models["released"].max() + late)
    ax.set_ylim(models["parameters"].min() / 2.5, models["parameters"].max() * 2.5)
    ax.xaxis.set_major_locator(YearLocator())
    ax.xaxis.set_major_formatter(DateFormatter("%Y"))
    log_ticks(ax.yaxis)
    ax.set_xlabel("published")
    ax.set_ylabel("parameters (logarithmic)")
    ax.tick_params(colors=MUTED)
