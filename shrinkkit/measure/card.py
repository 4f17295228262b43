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
from shrinkkit.measure.columns import COLUMNS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


SIZES = ("saved_mib", "bits_per_weight", "resident_mib", "n_parameters")
QUALITIES = (
    "perplexity",
    "last_word_perplexity",
    "sentiment_accuracy",
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
        for name in [name for name in frame if name in COLUMNS and COLUMNS[name].ratio]:
            values = pd.to_numeric(frame[name])
            reference = values.iloc[0]
            ratio = values / reference if reference else values * float("nan")
            frame.insert(frame.columns.get_loc(name) + 1, f"{name}_relative", ratio)
        return cls(frame)

    def _cell(self, row: Mapping[str, Any], name: str) -> tuple[str, str]:
        """Give a cell's number and, where there is one, its ratio to the reference."""
        number = COLUMNS[name].write(row[name], "not available").replace("%", " %")
        ratio = row.get(f"{name}_relative", float("nan"))
        is_reference = row["model"] == self.frame["model"].iloc[0]
        if is_reference or ratio != ratio:
            return number, ""
        low, high = (row.get(f"{name}_relative_{end}", float("nan")) for end in ("low", "high"))
        if low != low or low is None:
            return number, f"×{ratio:.2f}"
        unsure = " undecided" if low <= 1 <= high else ""
        part = row.get(f"{name}_lead", float("nan"))
        of_lead = f" lead {part:.0%}" if part == part and part is not None else ""
        return number, f"×{ratio:.3f} ({low:.3f}–{high:.3f}){unsure}{of_lead}"

    def _cells(self) -> pd.DataFrame:
        """Write the table: a row a model, in each cell a number and its ratio to the reference."""
        import pandas as pd

        rows = self.frame.to_dict(orient="records")
        shown = [name for name in self.frame if name in COLUMNS and not COLUMNS[name].detail]
        cells = {
            COLUMNS[name].heading: [" ".join(self._cell(row, name)).strip() for row in rows]
            for name in shown
        }
        return pd.DataFrame(cells, index=list(self.frame["model"])).rename_axis(columns="Model")

    def __repr__(self) -> str:
        """Give the table as aligned text."""
        return self._cells().to_string()

    def _repr_html_(self) -> str:
        """Give the table for a notebook: rounded, with the ratio to the reference underneath."""
        from pandas.io.formats.style import Styler

        names = {"text-align": "left", "white-space": "nowrap"}
        looks = {
            "caption": {"caption-side": "bottom", "text-align": "left"},
            "th, td": {"text-align": "right", "vertical-align": "top"},
            "td": {"white-space": "nowrap"},
            "th.row_heading, th.index_name": names,
        }
        reference = escape(str(self.frame["model"].iloc[0]))
        return (
            Styler(self._cells(), uuid="shrinkkit-card", cell_ids=False)
            .format(_two_lines, escape="html")
            .format_index(escape="html")
            .set_caption(_caption(reference, self.frame))
            .set_table_styles(
                [{"selector": part, "props": list(how.items())} for part, how in looks.items()]
            )
            .to_html()
        )

    def figure(self, x: str | None = None, y: str | None = None) -> Figure:
        """Draw a size against a quality, one labelled mark a model.

        x, y: columns of the frame; None takes the file size and the perplexity, or what there is.
        Returns a matplotlib figure; show it with `show(fig, card.alt())`, or both in one
            by `card.show()`.
        Raises InputError for a column that the card does not have.
        """
        from matplotlib.ticker import PercentFormatter

        from shrinkkit.figures.tradeoff import Spot, tradeoff

        x, y = self._axes(x, y)
        frame = self.frame.replace(float("inf"), float("nan")).dropna(subset=[x, y])
        places = list(zip(frame[x], frame[y], frame["model"], strict=True))
        figure, ax = tradeoff(
            [Spot(*place, series=str(number)) for number, place in enumerate(places)],
            title="",
            xlabel=COLUMNS[x].described,
            ylabel=COLUMNS[y].described,
            log="",
            left=0.0 if frame[x].min() >= 0 else None,
            path=_frontier(frame[x].tolist(), frame[y].tolist(), COLUMNS[y].better),
        )
        for axis, name in ((ax.xaxis, x), (ax.yaxis, y)):
            if "%" in COLUMNS[name].form:
                axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        return figure

    def alt(self, x: str | None = None, y: str | None = None) -> str:
        """Describe the figure in words, numbers included."""
        x, y = self._axes(x, y)
        said = [
            f"{row['model']} {self._cell(row, x)[0]} and {self._cell(row, y)[0]}"
            for row in self.frame.to_dict(orient="records")
        ]
        axes = f"across: {COLUMNS[x].described}; up: {COLUMNS[y].described}"
        return f"Models; {axes}. {'; '.join(said)}."

    def show(self, x: str | None = None, y: str | None = None) -> None:
        """Display the figure with its description."""
        from shrinkkit.figures.style import show

        show(self.figure(x, y), self.alt(x, y))

    def _axes(self, x: str | None, y: str | None) -> tuple[str, str]:
        numbers = [name for name in self.frame if name in COLUMNS and COLUMNS[name].form != "s"]
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


def _caption(reference: str, frame: pd.DataFrame) -> str:
    """Explain the signs that the table uses."""
    said = [f"× is the ratio to {reference}. ↓ lower is better, ↑ higher is better."]
    if any(name.endswith("_relative_low") for name in frame):
        said.append(
            "In brackets: its 95 % interval, by drawing items again; undecided: no difference fits "
            "it too."
        )
    if any(name.endswith("_lead") for name in frame):
        said.append(f"lead: the part of {reference}'s lead over counted words that is left.")
    return " ".join(said)


def _two_lines(cell: str) -> str:
    """Put the ratio under its number, in small print, its interval and what is said of it below."""
    number, times, ratio = str(cell).partition(" ×")
    if not times:
        return number
    ratio, bracket, said = ratio.partition(" (")
    interval, _, words = said.partition(")")
    lines = [f"×{ratio}"]
    if bracket:
        lines += [f"({interval})", words.strip().replace(" lead", ", lead")]
    return f"{number}<br><small>{'<br>'.join(filter(None, lines))}</small>"


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
