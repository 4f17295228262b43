"""Show a score card: a tidy DataFrame that renders as a compact table and as a figure.

The frame keeps every digit; the table rounds to what can be read, and writes the ratio to the
reference (first) row beneath each number. The figure draws one quality against one size: down and
to the left is what compression is after, and the models that no other beats in both respects are
joined by a line, the frontier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from shrinkkit.errors import InputError, require_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Column:
    """How a column is shown: heading, unit, Python format, which way is better."""

    title: str
    unit: str
    form: str
    better: str  # "lower", "higher" or ""


COLUMNS: dict[str, Column] = {
    "perplexity": Column("Perplexity", "", ".2f", "lower"),
    "kl_nats": Column("KL", "nats", ".3f", "lower"),
    "top1_agreement": Column("Same top token", "", ".1%", "higher"),
    "capital_world_accuracy": Column("Capitals", "", ".0%", "higher"),
    "gram2_opposite_accuracy": Column("Opposites", "", ".0%", "higher"),
    "topics_accuracy": Column("Topics", "accuracy", ".1%", "higher"),
    "topics_macro_f1": Column("Topics", "macro F1", ".3f", "higher"),
    "retrieval_mrr_at_10": Column("Retrieval", "MRR@10", ".3f", "higher"),
    "retrieval_recall_at_1": Column("Retrieval", "recall@1", ".1%", "higher"),
    "n_parameters": Column("Parameters", "", ",.0f", ""),
    "saved_mib": Column("Saved", "MiB", ".1f", "lower"),
    "resident_mib": Column("In memory", "MiB", ".1f", "lower"),
    "bits_per_weight": Column("Bits per weight", "", ".2f", "lower"),
    "decode_tokens_per_s": Column("Decode", "tokens/s", ".1f", "higher"),
    "prefill_ms": Column("Prefill", "ms", ".1f", "lower"),
    "time_to_first_token_ms": Column("First token", "ms", ".1f", "lower"),
    "latency_ms": Column("Latency", "ms", ".1f", "lower"),
    "peak_mib": Column("Peak memory", "MiB", ".0f", "lower"),
    "peak_increase_mib": Column("Peak increase", "MiB", ".1f", "lower"),
    "energy_joules": Column("Energy", "J", ".2f", "lower"),
    "energy_source": Column("Energy from", "", "s", ""),
}
# A ratio to the reference says nothing here: the reference is 0, or the value is one already.
WITHOUT_RATIO = ("kl_nats", "top1_agreement", "energy_source", "peak_increase_mib")
# In the frame only; the table would grow too wide.
NOT_IN_TABLE = (
    "n_parameters",
    "resident_mib",
    "peak_increase_mib",
    "topics_macro_f1",
    "retrieval_recall_at_1",
)
SIZES = ("saved_mib", "bits_per_weight", "resident_mib", "n_parameters")
QUALITIES = (
    "perplexity",
    "capital_world_accuracy",
    "retrieval_mrr_at_10",
    "topics_accuracy",
    "kl_nats",
    "top1_agreement",
)


@dataclass(frozen=True)
class ScoreCard:
    """Models side by side; `.frame` has one row a model, the reference first."""

    frame: pd.DataFrame

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> ScoreCard:
        """Make a card from one mapping a model, the reference first; adds the ratios to it.

        >>> card = ScoreCard.of(
        ...     [{"model": "a", "saved_mib": 8.0}, {"model": "b", "saved_mib": 2.0}]
        ... )
        >>> card.frame["saved_mib_relative"].tolist()
        [1.0, 0.25]
        """
        import pandas as pd

        frame = pd.DataFrame(list(rows))
        for name in [name for name in frame if name in COLUMNS and name not in WITHOUT_RATIO]:
            values = pd.to_numeric(frame[name])
            reference = values.iloc[0]
            ratio = values / reference if reference else values * float("nan")
            frame.insert(frame.columns.get_loc(name) + 1, f"{name}_relative", ratio)
        return cls(frame)

    def _shown(self) -> list[str]:
        return [name for name in self.frame if name in COLUMNS and name not in NOT_IN_TABLE]

    def _cell(self, row: Mapping[str, Any], name: str) -> tuple[str, str]:
        """Give a cell's number and, where there is one, its ratio to the reference."""
        value = row[name]
        if value is None or value != value:
            return "not available", ""
        ratio = row.get(f"{name}_relative", float("nan"))
        is_reference = row["model"] == self.frame["model"].iloc[0]
        beside = "" if is_reference or ratio != ratio else f"×{ratio:.2f}"
        return format(value, COLUMNS[name].form).replace("%", " %"), beside

    def __repr__(self) -> str:
        """Give the table as aligned text."""
        lines = [["model", *(_heading(name) for name in self._shown())]]
        for row in self.frame.to_dict(orient="records"):
            cells = (" ".join(filter(None, self._cell(row, name))) for name in self._shown())
            lines.append([str(row["model"]), *cells])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def _repr_html_(self) -> str:
        """Give the table for a notebook: rounded, with the ratio to the reference underneath."""
        align = 'style="text-align:right;vertical-align:top"'
        head = "".join(
            f'<th scope="col" {align}>{escape(_heading(name))}</th>' for name in self._shown()
        )
        body = []
        for row in self.frame.to_dict(orient="records"):
            cells = []
            for name in self._shown():
                number, beside = self._cell(row, name)
                small = f"<br><small>{escape(beside)}</small>" if beside else ""
                cells.append(f"<td {align}>{escape(number)}{small}</td>")
            left = 'style="text-align:left;vertical-align:top;white-space:nowrap"'
            name = f'<th scope="row" {left}>{escape(str(row["model"]))}</th>'
            body.append(f"<tr>{name}{''.join(cells)}</tr>")
        reference = escape(str(self.frame["model"].iloc[0]))
        return (
            f'<table><caption style="caption-side:bottom;text-align:left">× is the ratio to '
            f"{reference}. ↓ lower is better, ↑ higher is better.</caption>"
            f'<thead><tr><th scope="col" style="text-align:left">Model</th>{head}</tr></thead>'
            f"<tbody>{''.join(body)}</tbody></table>"
        )

    def figure(self, x: str | None = None, y: str | None = None) -> Figure:
        """Draw a size against a quality, one labelled mark a model.

        x, y: columns of the frame; None takes the file size and the perplexity, or what there is.
        Returns a matplotlib figure; show it with `plotting.show(fig, card.alt())`, or both in one
            by `card.show()`.
        Raises InputError for a column that the card does not have.
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import PercentFormatter

        from shrinkkit.figures.style import label_points, mark

        x, y = self._axes(x, y)
        frame = self.frame.dropna(subset=[x, y])
        fig, ax = plt.subplots(figsize=(7.0, 4.2))
        line = _frontier(frame[x].tolist(), frame[y].tolist(), COLUMNS[y].better)
        if len(line) > 1:
            places = frame.iloc[line]
            ax.plot(places[x], places[y], color="#8c8c8c", lw=1.2, marker="", ls=":", zorder=1)
        for i, (_, row) in enumerate(frame.iterrows()):
            look = mark(i)
            style = {"color": look.color, "markersize": 10, "linestyle": "none", "mec": "white"}
            ax.plot(row[x], row[y], look.marker, **style)
        ax.margins(0.14, 0.2)
        if frame[x].min() >= 0:
            ax.set_xlim(left=0)
        for axis, name in ((ax.xaxis, x), (ax.yaxis, y)):
            axis.set_label_text(_described(name))
            if "%" in COLUMNS[name].form:
                axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        fig.tight_layout()
        label_points(ax, frame[x].tolist(), frame[y].tolist(), frame["model"].tolist())
        return fig

    def alt(self, x: str | None = None, y: str | None = None) -> str:
        """Describe the figure in words, numbers included."""
        x, y = self._axes(x, y)
        said = [
            f"{row['model']} {self._cell(row, x)[0]} and {self._cell(row, y)[0]}"
            for row in self.frame.to_dict(orient="records")
        ]
        return f"Models; across: {_described(x)}; up: {_described(y)}. {'; '.join(said)}."

    def show(self, x: str | None = None, y: str | None = None) -> None:
        """Display the figure with its description."""
        from shrinkkit.figures.style import show

        show(self.figure(x, y), self.alt(x, y))

    def _axes(self, x: str | None, y: str | None) -> tuple[str, str]:
        numbers = [name for name in self.frame if name in COLUMNS and name != "energy_source"]
        chosen = []
        for argument, given, usual in (("x", x, SIZES), ("y", y, QUALITIES)):
            there = given or next((name for name in usual if name in numbers), None)
            if there is None:
                raise InputError(
                    f"{argument}: the card has none of {', '.join(usual)} to draw. Measure "
                    "quality and size, or name a column that it has: " + ", ".join(numbers) + "."
                )
            chosen.append(require_choice(argument, there, numbers))
        return chosen[0], chosen[1]


def _heading(name: str) -> str:
    """Give a column's heading with unit and arrow.

    >>> _heading("saved_mib")
    'Saved (MiB) ↓'
    """
    column = COLUMNS[name]
    unit = f" ({column.unit})" if column.unit else ""
    arrow = {"lower": " ↓", "higher": " ↑", "": ""}[column.better]
    return column.title + unit + arrow


def _described(name: str) -> str:
    """Give a column's heading in words, for an axis.

    >>> _described("saved_mib")
    'Saved (MiB), lower is better'
    """
    column = COLUMNS[name]
    unit = f" ({column.unit})" if column.unit else ""
    return column.title + unit + (f", {column.better} is better" if column.better else "")


def _frontier(x: Sequence[float], y: Sequence[float], better: str) -> list[int]:
    """Give the points that no other beats both in being small and in being good, by size.

    >>> _frontier([1.0, 2.0, 3.0, 3.5], [9.0, 5.0, 6.0, 4.0], "lower")
    [0, 1, 3]
    """
    best, kept = None, []
    sign = -1 if better == "higher" else 1
    for i in sorted(range(len(x)), key=lambda i: (x[i], sign * y[i])):
        if best is None or sign * y[i] < best:
            best = sign * y[i]
            kept.append(i)
    return kept
