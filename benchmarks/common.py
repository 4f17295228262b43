"""What every benchmark script shares: its two options, the table it prints, where rows go."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shrinkkit.measure import record
from shrinkkit.report import show_rows, write_rows


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
    columns: Mapping[str, str],
    options: argparse.Namespace,
    **recorded: Any,
) -> None:
    """Print the rows, record them in data/results/ and write the JSON file that was asked for."""
    show_rows(table, rows, columns)
    record(table, rows, **recorded)
    if options.json:
        write_rows(rows, options.json)
