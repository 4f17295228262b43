"""The decode benchmark on a tiny model: its rows, not its speeds."""

from __future__ import annotations

import json
import shutil

import pytest

from shrinkkit import measure
from shrinkkit.cli.bench import bench_decode
from shrinkkit.cli.report import show_rows, write_rows
from shrinkkit.errors import InputError
from shrinkkit.loading import load_model
from shrinkkit.measure.columns import Column
from shrinkkit.quant import quantize_model
from tests.processes import succeed


@pytest.fixture(autouse=True)
def _small_buffer(monkeypatch):
    """Measure the bandwidth of 1 MiB: the number is wrong, its use is what is tested."""
    measured = measure.memory_bandwidth
    monkeypatch.setattr(measure, "memory_bandwidth", lambda: measured(2**20, repeats=1))


def test_rows_hold_speeds_ratios_and_bounds(tiny_checkpoint):
    rows = bench_decode(str(tiny_checkpoint), n_new=3, prompt_tokens=5, repeats=1)
    assert [row["version"] for row in rows] == ["fp32", "int8", "int4", "int4, fused"]
    assert rows[0]["decode_vs_fp32"] == rows[0]["prefill_speed_vs_fp32"] == 1
    model = load_model(str(tiny_checkpoint))
    for row, version in zip(rows, (model, quantize_model(model, bits=8)), strict=False):
        assert row["read_mib"] == measure.bytes_per_token(version) / 2**20
        bound = row["bandwidth_gb_per_s"] * 1e9 / (row["read_mib"] * 2**20)
        assert row["bound_tokens_per_s"] == pytest.approx(bound)
    assert rows[0]["read_mib"] > rows[1]["read_mib"] > rows[2]["read_mib"]
    assert rows[3]["read_mib"] == rows[2]["read_mib"]  # the same matrices, stacked


@pytest.mark.parametrize("wrong", [{"n_new": 1}, {"repeats": 0}, {"prompt_tokens": 1.5}], ids=str)
def test_wrong_counts_are_named_before_anything_is_loaded(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        bench_decode("no-such-model", **wrong)


def test_a_missing_compiler_is_named_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler"):
        bench_decode("no-such-model", compiled=True)


def test_the_command_prints_a_table_and_writes_the_rows(tiny_checkpoint, tmp_path):
    path = tmp_path / "rows.json"
    assert "int4" in succeed("bench", "decode", tiny_checkpoint, "--quick", "--json", path)
    versions = [row["version"] for row in json.loads(path.read_text())]
    assert versions == ["fp32", "int8", "int4", "int4, fused"]


def test_tables_write_numbers_as_their_column_says_and_dashes(capsys, tmp_path):
    columns = Column("a", "what"), Column("b", "x", ".1f"), Column("c", "y", ".1f")
    show_rows("speed", [{"a": "int8", "b": 12.3456, "c": None}], columns)
    printed = capsys.readouterr().out
    assert "12.3" in printed
    assert "12.34" not in printed
    assert "-" in printed
    assert json.loads(write_rows([{"a": 1.5}], tmp_path / "deep" / "x.json").read_text()) == [
        {"a": 1.5}
    ]
