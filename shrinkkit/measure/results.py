"""Keep what was measured: one JSON file a table, one row a model.

A number without its circumstances cannot be compared. `record` therefore stamps every row with the
machine (processor, cores, threads used, memory), the versions of Python, torch, transformers and
shrinkkit, the date, the pace, and the seed and the number of samples that the caller gives.

Running a lesson twice must not leave two rows for one model, so a row replaces the earlier row
that has the same key and the same pace. Everything else in the file stays as it was. Two notebooks
may record at once: the file is locked while it is read and rewritten, and replaced as a whole.

`load_results` reads a table back as a pandas DataFrame: the reader's own rows where there are any,
else those that came with the course.
"""

from __future__ import annotations

import datetime
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shrinkkit.errors import InputError, ShrinkkitError, did_you_mean
from shrinkkit.system.files import data_dir, lock, results_dir, write_atomically
from shrinkkit.system.hardware import usable_cores
from shrinkkit.system.pace import pace

if TYPE_CHECKING:
    import pandas as pd


def record(
    table: str,
    rows: Sequence[Mapping[str, Any]] | pd.DataFrame,
    *,
    key: Sequence[str] = ("model",),
    seed: int | None = None,
    n_samples: int | None = None,
) -> Path:
    """Add rows to a table of results, each with the machine and versions it was measured on.

    table: name of the table, lower-case letters, digits and underscores: the file's name.
    rows: one mapping a row, or a DataFrame. Units belong in the column names (`saved_mib`).
    key: the columns that tell rows apart; a row with the same key and pace is replaced.
    seed, n_samples: what the measurement used; written into each row that does not say so itself.

    Returns the path of the table's file, in `files.results_dir()`.

    Raises InputError for a table name that is not a plain name, for no rows, for a row without its
    key columns, for two rows with one key, and for a value that JSON cannot hold.
    """
    path = _table_path(results_dir(), table)
    given = {"seed": _plain(seed, "seed", 0), "n_samples": _plain(n_samples, "n_samples", 0)}
    stamp = {"pace": pace(), **given, **_circumstances()}
    key_columns = (key,) if isinstance(key, str) else tuple(key)
    fresh: dict[tuple, dict] = {}
    for number, row in enumerate(_as_dicts(rows)):
        clean = {str(name): _plain(value, name, number) for name, value in row.items()}
        missing = [name for name in key_columns if clean.get(name) is None]
        if missing:
            raise InputError(
                f"rows[{number}] has no {', '.join(missing)}, which key={key_columns} asks for. "
                f"It has: {', '.join(clean) or 'nothing'}. Add it to the row, or choose another "
                "key."
            )
        stamped = {**clean, **{k: v for k, v in stamp.items() if clean.get(k) is None}}
        identity = _identity(stamped, key_columns)
        if identity in fresh:
            raise InputError(
                f"two of the rows have {dict(zip(key_columns, identity, strict=False))}: one would "
                "silently replace the other. Name more columns in key: key=('model', 'bits')."
            )
        fresh[identity] = stamped
    if not fresh:
        raise InputError("rows is empty: there is nothing to record. Give at least one row.")

    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path):
        merged = []
        for row in _read(path) if path.exists() else []:
            merged.append(fresh.pop(_identity(row, key_columns), row))  # replaced where it stood
        merged += fresh.values()
        text = json.dumps({"table": table, "rows": merged}, indent=1, ensure_ascii=False)
        with write_atomically(path) as temporary:
            Path(temporary).write_text(text + "\n", encoding="utf-8")
    return path


def load_results(table: str) -> pd.DataFrame:
    """Read a table of results: yours where you have recorded any, else the course's own.

    Returns one row a record, in the order they were first recorded.

    Raises InputError when there is no such table, naming those that there are.
    """
    import pandas as pd

    folders = [results_dir(), data_dir() / "results"]
    for folder in folders:
        path = _table_path(folder, table)
        if path.exists():
            return pd.DataFrame(_read(path))
    known = sorted({path.stem for folder in folders for path in Path(folder).glob("*.json")})
    raise InputError(
        f"table {table!r} has no recorded results.{did_you_mean(table, known)} "
        f"There are: {', '.join(known) or 'none yet'}. "
        "Run the lesson that measures it, or record rows with measure.record(...)."
    )


def machine() -> dict[str, Any]:
    """Describe this machine: processor, cores this process may use, threads torch uses, memory.

    >>> sorted(machine())
    ['cores', 'cpu', 'memory_gib', 'system', 'threads']
    """
    import psutil
    import torch

    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _circumstances() -> dict[str, Any]:
    stamp = {"recorded_on": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}
    stamp.update(machine())
    stamp["python"] = platform.python_version()
    for package in ("torch", "transformers", "shrinkkit"):
        try:
            stamp[package] = version(package)
        except PackageNotFoundError:  # run from a folder that was never installed
            stamp[package] = "not installed"
    return stamp


def _cpu_name() -> str:
    """Ask the system for the processor's marketing name; each system keeps it elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
        if found:
            return found.group(1).strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        import subprocess

        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.stdout.strip():
            return answer.stdout.strip()
    return platform.processor() or platform.machine() or "unknown"


def _table_path(folder: Path, table: str) -> Path:
    if not isinstance(table, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_]*", table):
        raise InputError(
            f"table is {table!r}: give a plain name of lower-case letters, digits and underscores, "
            "such as 'scorecard' (it becomes the file's name)."
        )
    return Path(folder).expanduser() / f"{table}.json"


def _as_dicts(rows: Any) -> list[Mapping[str, Any]]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # a DataFrame
        return rows.to_dict(orient="records")
    if isinstance(rows, Mapping) or not isinstance(rows, Sequence) or isinstance(rows, str):
        raise InputError(
            f"rows is a {type(rows).__name__}: give a list with one mapping a row, or a DataFrame."
        )
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"rows[{number}] is a {type(row).__name__}: each row is a mapping.")
    return list(rows)


def _plain(value: Any, name: object, number: int) -> Any:
    """Turn numpy and torch scalars into Python's, and what is not a number (NaN, inf) into None."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry, name, number) for entry in value]
    raise InputError(
        f"rows[{number}][{name!r}] is a {type(value).__name__}, which a JSON file cannot hold: "
        "give a number, text, a list of those, or None."
    )


def _identity(row: Mapping[str, Any], key: Sequence[str]) -> tuple:
    values = [row.get(name) for name in (*key, "pace")]
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)


def _read(path: Path) -> list[dict]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if not all(isinstance(row, dict) for row in rows):
            raise TypeError("rows")
    except (ValueError, KeyError, TypeError) as problem:
        raise ShrinkkitError(
            f"{path} is not a table of results (damaged, or edited by hand). "
            "Delete it and run the lesson again, or restore it from the repository."
        ) from problem
    return rows
