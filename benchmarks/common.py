"""What the benchmarks share: options, the windows of both texts, the table, where rows go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from shrinkkit import load_text
from shrinkkit.cli.report import show_rows, write_rows
from shrinkkit.measure import perplexity, record
from shrinkkit.measure.columns import TABLES, TEXTS

TUNING = {"steps": 24, "batch_size": 4, "learning_rate": 5e-3}  # of `tune_scales`


def evaluation_windows(n_samples: int) -> dict[str, torch.Tensor]:
    """Return windows of 256 tokens: n_samples of Wikipedia and half as many of the news."""
    return {
        "wikipedia": load_text("wikipedia").evaluation(n_samples, seq_len=256),
        "news": load_text("lee-news").evaluation(n_samples // 2, seq_len=256),
    }


def calibration_windows(n_samples: int) -> torch.Tensor:
    """Return windows of 256 tokens of Wikipedia, from articles that no evaluation window has."""
    return load_text("wikipedia").calibration(n_samples, seq_len=256)


def scores(model: nn.Module, tokens: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return {"perplexity_TEXT": perplexity of the model on its windows}."""
    return {f"perplexity_{text}": perplexity(model, windows, 8) for text, windows in tokens.items()}


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
