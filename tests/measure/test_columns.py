"""The columns of results: the tables name what rows hold, and write all of it."""

from __future__ import annotations

import pytest

from shrinkkit.measure import load_results
from shrinkkit.measure.columns import TABLES


@pytest.mark.parametrize("name", TABLES)
def test_every_column_is_recorded_and_can_be_written(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SHRINKKIT_RESULTS", str(tmp_path))  # the course's own rows
    table, columns = load_results(name), TABLES[name]
    assert len({column.name for column in columns}) == len(columns)
    assert {column.name for column in columns} <= set(table.columns)
    for row in table.to_dict(orient="records"):
        assert all(isinstance(column.write(row[column.name]), str) for column in columns)
