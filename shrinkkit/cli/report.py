"""Print rows as a table in the terminal, and write them to a file: for commands and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from shrinkkit.measure.columns import Column
from shrinkkit.system.files import write_atomically


def show_rows(title: str, rows: Sequence[Mapping[str, Any]], columns: Iterable[Column]) -> None:
    """Print some columns of the rows as a table.

    rows: one mapping a row; columns: in order. A missing value prints as a dash.
    """
    from rich.console import Console
    from rich.table import Table

    table, columns = Table(title=title), list(columns)
    for number, column in enumerate(columns):
        table.add_column(column.title, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(column.write(row.get(column.name), "-") for column in columns))
    Console().print(table)


def write_rows(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Write rows to a JSON file, whole or not at all; returns its path.

    Raises StorageError where the file cannot be written.
    """
    path = Path(path).expanduser()
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")
    return path
