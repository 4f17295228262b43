"""Recorded rows: stamped, merged by key and pace, never half-written, read back."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.measure import load_results, machine, record
from shrinkkit.measure.columns import TABLES
from shrinkkit.system import files


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SHRINKKIT_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SHRINKKIT_PACE", "quick")
    return tmp_path / "results"


def test_a_row_comes_back_with_its_circumstances(folder):
    path = record("speed", [{"model": "a", "decode_ms": 1.5}], seed=3, n_samples=32)
    assert path == folder / "speed.json"
    (row,) = load_results("speed").to_dict(orient="records")
    assert (row["model"], row["decode_ms"], row["seed"], row["n_samples"]) == ("a", 1.5, 3, 32)
    assert row["pace"] == "quick"
    assert row["torch"] == torch.__version__
    for name, value in machine().items():
        assert row[name] == value
    assert len(row["recorded_on"]) == 10


def test_the_same_key_and_pace_replaces_in_place():
    record("t", [{"model": "a", "x": 1}, {"model": "b", "x": 2}])
    record("t", [{"model": "a", "x": 10}, {"model": "c", "x": 3}])
    frame = load_results("t")
    assert frame["model"].tolist() == ["a", "b", "c"]
    assert frame["x"].tolist() == [10, 2, 3]


def test_paces_stand_side_by_side(monkeypatch):
    record("t", [{"model": "a", "x": 1}])
    monkeypatch.setenv("SHRINKKIT_PACE", "full")
    record("t", [{"model": "a", "x": 2}])
    frame = load_results("t")
    assert list(zip(frame["pace"], frame["x"], strict=True)) == [("quick", 1), ("full", 2)]


def test_a_longer_key_tells_more_rows_apart():
    rows = [{"model": "a", "bits": bits} for bits in (4, 8)]
    with pytest.raises(InputError, match="silently replace"):
        record("t", rows)
    record("t", rows, key=("model", "bits"))
    record("t", [{"model": "a", "bits": 8, "x": 5}], key=("model", "bits"))
    assert len(load_results("t")) == 2


def test_a_frame_and_library_numbers_become_plain_json(folder):
    frame = pd.DataFrame({"model": ["a", "b"], "x": [np.float32(0.5), np.nan], "n": [1, 2]})
    path = record("t", frame, n_samples=np.int64(7))
    first, second = json.loads(path.read_text())["rows"]
    assert (first["x"], first["n"], first["n_samples"]) == (0.5, 1, 7)
    assert second["x"] is None  # JSON has no NaN
    record("u", [{"model": "a", "x": torch.tensor(2.0), "y": math.inf, "z": [1, np.int8(2)]}])
    row = json.loads((folder / "u.json").read_text())["rows"][0]
    assert (row["x"], row["y"], row["z"]) == (2.0, None, [1, 2])


def test_a_row_that_says_its_own_seed_keeps_it():
    record("t", [{"model": "a", "seed": 5}, {"model": "b"}], seed=1)
    assert load_results("t")["seed"].tolist() == [5, 1]


def test_many_writers_lose_nothing():
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: record("t", [{"model": f"m{i}"}]), range(16)))
    assert sorted(load_results("t")["model"]) == sorted(f"m{i}" for i in range(16))


def test_a_failed_write_leaves_the_old_table(folder, monkeypatch):
    path = record("t", [{"model": "a"}])
    before = path.read_text()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(ShrinkkitError, match="disk is full"):
        record("t", [{"model": "b"}])
    assert path.read_text() == before
    assert [p.name for p in folder.iterdir() if p.suffix not in {".lock"}] == ["t.json"]


def test_own_results_come_before_those_of_the_course(tmp_path, monkeypatch):
    course = tmp_path / "course"
    monkeypatch.setattr("shrinkkit.measure.results.data_dir", lambda: course)
    (course / "results").mkdir(parents=True)
    shipped = {"table": "t", "rows": [{"model": "shipped"}]}
    (course / "results" / "t.json").write_text(json.dumps(shipped))
    assert load_results("t")["model"].tolist() == ["shipped"]
    record("t", [{"model": "mine"}])
    assert load_results("t")["model"].tolist() == ["mine"]


def test_an_unknown_table_names_those_that_there_are():
    record("scorecard", [{"model": "a"}])
    with pytest.raises(InputError, match="Did you mean 'scorecard'") as caught:
        load_results("scorecards")
    assert "There are:" in str(caught.value)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_of_the_courses_tables_is_recorded_and_can_be_written(name):
    table, columns = load_results(name), TABLES[name]
    assert len({column.name for column in columns}) == len(columns)
    assert {column.name for column in columns} <= set(table.columns)
    for row in table.to_dict(orient="records"):
        assert all(isinstance(column.write(row[column.name]), str) for column in columns)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"rows": 3}', '{"rows": [1]}'], ids=repr)
def test_a_damaged_table_is_named_and_not_overwritten(folder, damage):
    folder.mkdir()
    (folder / "t.json").write_text(damage)
    with pytest.raises(ShrinkkitError, match=r"t\.json is not a table"):
        load_results("t")
    with pytest.raises(ShrinkkitError, match=r"t\.json is not a table"):
        record("t", [{"model": "a"}])
    assert (folder / "t.json").read_text() == damage


@pytest.mark.parametrize("table", ["../t", "T", "a b", "", "a.json", 3], ids=repr)
def test_only_plain_names_are_tables(table):
    with pytest.raises(InputError, match="plain name"):
        record(table, [{"model": "a"}])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "empty"),
        ({"model": "a"}, "list with one mapping a row"),
        (["a"], r"rows\[0\] is a str"),
        ([{"x": 1}], "has no model"),
        ([{"model": "a", "x": object()}], "cannot hold"),
        ([{"model": "a", "x": torch.zeros(2)}], "cannot hold"),
    ],
    ids=["none", "one-mapping", "text", "no-key", "object", "tensor"],
)
def test_bad_rows_are_refused_and_nothing_is_written(folder, rows, words):
    with pytest.raises(InputError, match=words):
        record("t", rows)
    assert not (folder / "t.json").exists()
