"""Print rows as a table in the terminal, and write them to a file: for commands and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shrinkkit.system.files import write_atomically


def show_rows(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """Print some columns of the rows as a table, numbers to three digits.

    rows: one mapping a row; columns: {key: heading}, in order. A missing value prints as a dash.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for number, heading in enumerate(columns.values()):
        table.add_column(heading.strip(), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in columns))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write rows to a JSON file, whole or not at all; returns its path.

    Raises StorageError where the file cannot be written.
    """
    path = Path(path)
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")
    return path
