"""What the benchmarks share: options, the windows of the texts, the table, where rows go."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from shrinkkit import load_task, load_text, load_tokenizer
from shrinkkit.cli.report import show_rows, write_rows
from shrinkkit.measure import (
    Interval,
    last_word_scores,
    paired_interval,
    perplexity,
    record,
    times,
    token_scores,
)
from shrinkkit.measure.columns import TABLES, TEXTS
from shrinkkit.sources.tasks import LastWordTask
from shrinkkit.train.mixture import mixed_windows

TUNING = {"steps": 24, "batch_size": 4, "learning_rate": 2e-3}  # of `tune_scales`


def evaluation_windows(n_samples: int) -> dict[str, torch.Tensor]:
    """Return windows of 256 tokens: n_samples of Wikipedia and half as many of the news."""
    return {
        "wikipedia": load_text("wikipedia").evaluation(n_samples, seq_len=256),
        "news": load_text("lee-news").evaluation(n_samples // 2, seq_len=256),
    }


def calibration_windows(n_samples: int) -> torch.Tensor:
    """Return windows of 256 tokens of Wikipedia, from articles that no evaluation window has."""
    return load_text("wikipedia").calibration(n_samples, seq_len=256)


def mixture(model: nn.Module, n_samples: int) -> torch.Tensor:
    """Return windows of 256 tokens of Wikipedia, film reviews and the model's own, in turns."""
    return mixed_windows(model, load_tokenizer("smollm2-135m"), n_samples, seq_len=256)


def scores(model: nn.Module, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return {"perplexity_TEXT": perplexity of the model on its windows}."""
    return {f"perplexity_{text}": perplexity(model, windows, 8) for text, windows in tokens.items()}


class Judge:
    """Three kinds of text and the last words of stories: what low bits are judged on.

    Wikipedia, news, and the stories that nothing is calibrated or tuned on. The losses of every
    model are kept by its name, window by window and passage by passage, so that any two models can
    be compared in pairs.
    """

    def __init__(
        self, windows: Mapping[str, torch.Tensor], words: LastWordTask, tokenizer: Any
    ) -> None:
        self.windows, self.words, self.tokenizer = windows, words, tokenizer
        self.losses: dict[str, dict[str, torch.Tensor]] = {}

    @classmethod
    def of(cls, n_samples: int, n_passages: int | None = None) -> Judge:
        """Load the texts: n_samples windows each (of news half as many), all passages or some."""
        windows = evaluation_windows(n_samples)
        windows["stories"] = load_text("stories").evaluation(n_samples, seq_len=256)
        words = load_task("last-words", n_passages=n_passages)
        return cls(windows, words, load_tokenizer("smollm2-135m"))

    def read(self, name: str, model: nn.Module) -> dict[str, Any]:
        """Read everything with a model, keep its losses under a name, return the row's columns.

        The first model that is read is what the others are compared with.
        """
        losses = {
            f"perplexity_{text}": token_scores({"": model}, windows, 8)[""].losses
            for text, windows in self.windows.items()
        }
        words = last_word_scores(model, self.tokenizer, self.words)
        losses["last_word_perplexity"] = words.losses
        self.losses[name] = losses
        row: dict[str, Any] = {column: math.exp(each.mean()) for column, each in losses.items()}
        row["last_word_accuracy"] = words.accuracy
        first = next(iter(self.losses))
        for column, found in self.compared(name, first).items():
            row[f"{column}_vs_fp32"] = written(found) if name != first else "1"
            row[f"{column}_vs_fp32_high"] = found.high
        return row

    def compared(self, name: str, with_name: str) -> dict[str, Interval]:
        """Return for each column how many times the other's perplexity a model has."""
        groups = {"last_word_perplexity": [item.group for item in self.words.items]}
        return {
            column: paired_interval(
                times, each, self.losses[with_name][column], groups=groups.get(column)
            )
            for column, each in self.losses[name].items()
        }


def written(found: Interval) -> str:
    """Write a ratio with its interval for a table.

    >>> written(Interval(1.0812, 1.07, 1.0936, 32))
    '1.081 (1.070-1.094)'
    """
    return f"{found.value:.3f} ({found.low:.3f}-{found.high:.3f})"


def against_first(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row how many times the first row's perplexity it has, on each text."""
    for row in rows:
        for text in TEXTS:
            row[f"{text.name}_vs_fp32"] = row[text.name] / rows[0][text.name]


def arguments(description: str, parts: Iterable[str] = ()) -> argparse.Namespace:
    """Read --quick and --json FILE; --quick also sets the pace that the rows are stamped with.

    parts: what the rows can be limited to by --only, which may be given several times.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer samples, rougher figures")
    parser.add_argument("--json", metavar="FILE", help="write the rows to this file too")
    if parts := list(parts):
        parser.add_argument("--only", action="append", choices=parts, help="these rows alone")
    options = parser.parse_args()
    os.environ["SHRINKKIT_PACE"] = "quick" if options.quick else "full"
    return options


def finish(
    table: str,
    rows: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
    **recorded: Any,
) -> None:
    """Print the rows, record them in data/results/ and write the JSON file that was asked for."""
    show_rows(table, rows, TABLES[table])
    record(table, rows, **recorded)
    if options.json:
        write_rows(rows, options.json)
