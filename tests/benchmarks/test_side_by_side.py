"""The comparison with other libraries: everything but the libraries themselves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from shrinkkit.measure import last_word_scores, perplexity
from shrinkkit.quant import fake_quantize, int_format
from shrinkkit.sources.tasks import LastWord, LastWordTask
from shrinkkit.surgery.parts import find_linears
from tests.processes import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:  # scripts import their neighbours by plain names
    import common
    import environments
    import side_by_side
finally:
    sys.path.remove(str(BENCHMARKS))

LIBRARIES = {library.name: library for library in environments.LIBRARIES}


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_every_library_is_pinned_has_a_driver_and_keeps_the_torch(library, tmp_path):
    assert "==" in library.package
    assert all("==" in other for other in library.others)
    assert (BENCHMARKS / "drivers" / f"use_{library.name}.py").is_file()
    assert library.name in side_by_side.METHODS
    first, second, *others = environments.commands(library, tmp_path, tmp_path / "python")
    assert "venv" in first
    assert second[-1] == environments.TORCH
    held = str(tmp_path / "held.txt")
    assert all(command[command.index("--constraint") + 1] == held for command in [second, *others])
    assert library.package in others[-1]


def _pretend(monkeypatch, fails: str | None = None) -> list[list[str]]:
    """Let the commands do nothing but touch the python they make; `fails` marks one that fails."""
    ran = []

    def run(command, stdout, **options):
        ran.append(command)
        if "venv" in command:
            python = Path(command[-1]) / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()
        if fails in command:
            stdout.write("Collecting it\nERROR: no matching distribution\nhint: look elsewhere\n")
        return subprocess.CompletedProcess(command, int(fails in command))

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments.os, "name", "posix")
    return ran


def test_an_environment_is_made_once(monkeypatch, tmp_path):
    ran = _pretend(monkeypatch)
    python, why_not = environments.make(LIBRARIES["hqq"], tmp_path)
    assert (python.is_file(), why_not) == (True, "")
    assert (tmp_path / "hqq" / "held.txt").read_text() == environments.TORCH + "\n"
    n_commands = len(ran)
    assert environments.make(LIBRARIES["hqq"], tmp_path) == (python, "")
    assert len(ran) == n_commands


def test_an_environment_that_fails_says_why_and_is_tried_again(monkeypatch, tmp_path):
    ran = _pretend(monkeypatch, fails=LIBRARIES["hqq"].package)
    for _ in range(2):
        found = environments.make(LIBRARIES["hqq"], tmp_path)
        assert found == (None, "ERROR: no matching distribution")
    assert [LIBRARIES["hqq"].package in command for command in ran].count(True) == 2


@pytest.fixture
def drive(tmp_path):
    """Run some code as a driver."""

    def drive(code):
        (tmp_path / "driver.py").write_text(code)
        return side_by_side.drive(sys.executable, tmp_path / "driver.py", [], {})

    return drive


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('loading'); print('RESULT {\"seconds\": 2.5}')", {"seconds": 2.5}),
        ("raise ValueError('no kernel for this')", {"why_not": "ValueError: no kernel for this"}),
        ("raise SystemExit('it has no 3-bit type')", {"why_not": "it has no 3-bit type"}),
        ("print('RESULT {}'); raise SystemExit(1)", {"why_not": "no output"}),
        ("pass", {"why_not": "no output"}),
    ],
    ids=["result", "error", "exit", "result-then-failure", "silent"],
)
def test_a_driver_gives_a_report_or_a_reason(drive, code, expected):
    assert drive(code) == expected


def test_what_a_driver_leaves_lying_is_removed(drive, tmp_path):
    report = drive(
        "import json, pathlib\n"
        "pathlib.Path('run.log').write_text('...')\n"
        "print('RESULT ' + json.dumps({'at': str(pathlib.Path.cwd())}))"
    )
    place = Path(report["at"])
    assert place not in (Path.cwd(), tmp_path)
    assert not place.exists()


def test_a_driver_that_takes_too_long_is_ended(drive, monkeypatch):
    monkeypatch.setattr(side_by_side, "TIME_LIMIT_S", 0.5)
    assert "it took more than" in drive("import time; time.sleep(60)")["why_not"]


def _rounded(model, bits):
    fmt = int_format(bits, group_size=32)
    layers = find_linears(model).items()
    return {name: fake_quantize(layer.weight.detach(), fmt) for name, layer in layers}


def test_weights_are_put_into_a_copy(tiny_llama):
    weights = _rounded(tiny_llama, 4)
    small = side_by_side.with_weights(tiny_llama, weights)
    name = "model.layers.1.mlp.up_proj"
    assert torch.equal(small.get_submodule(name).weight, weights[name])
    assert not torch.equal(tiny_llama.get_submodule(name).weight, weights[name])
    with pytest.raises(ValueError, match=f"1 layers are missing or unknown, {name}"):
        side_by_side.with_weights(tiny_llama, {k: w for k, w in weights.items() if k != name})
    with pytest.raises(ValueError, match="shape"):
        side_by_side.with_weights(tiny_llama, weights | {name: torch.zeros(2, 2)})


def test_norms_that_took_up_scales_are_put_back_too(tiny_llama):
    weights = {name: layer.weight.detach() for name, layer in find_linears(tiny_llama).items()}
    norm = "model.layers.1.input_layernorm"
    weights[norm] = torch.full((64,), 3.0)
    small = side_by_side.with_weights(tiny_llama, weights)
    assert torch.equal(small.get_submodule(norm).weight, weights[norm])
    assert side_by_side.most_values({norm: torch.arange(64.0)}, 32) == 0  # norms are not rounded


@pytest.mark.parametrize("bits", [4, 3])
def test_a_rounded_group_holds_as_many_values_as_its_grid(tiny_llama, bits):
    assert side_by_side.most_values(_rounded(tiny_llama, bits), 32) <= 2**bits
    plain = {"a": torch.randn(8, 64, generator=torch.Generator().manual_seed(0))}
    assert side_by_side.most_values(plain, 32) == 32


def test_rows_are_measured_or_say_why_not(tiny_llama, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setitem(side_by_side.GRIDS, "int4 g64", (4, 32))
    texts = ("wikipedia", "news", "stories")
    windows = {text: torch.arange(64).view(2, 32) + i for i, text in enumerate(texts)}
    words = LastWordTask(tuple(LastWord(f"{i} foxes", "fox", str(i)) for i in range(3)))
    judge = common.Judge(windows, words, tiny_tokenizer)
    judge.read("fp32", tiny_llama)
    file = tmp_path / "weights.safetensors"
    start = {"grid": "int4 g64", "version": "1.0"}

    def row(weights, report):
        save_file(weights, file)
        return side_by_side.measured_row(start, report, tiny_llama, judge, file)

    found = row(_rounded(tiny_llama, 4), {"seconds": 1.0, "version": "1.1"})
    assert found["version"] == "1.1"
    assert found["perplexity_wikipedia"] > 1
    assert found["perplexity_news"] > 1
    small = side_by_side.with_weights(tiny_llama, _rounded(tiny_llama, 4))
    for text, tokens in windows.items():
        assert found[f"perplexity_{text}"] == pytest.approx(perplexity(small, tokens))
        ratio = perplexity(small, tokens) / perplexity(tiny_llama, tokens)
        assert found[f"perplexity_{text}_vs_fp32"].startswith(f"{ratio:.3f} (")
    expected = last_word_scores(small, tiny_tokenizer, words)
    assert found["last_word_perplexity"] == pytest.approx(expected.perplexity)
    assert "why_not" not in found
    assert found["values_in_a_group"] <= 16
    unrounded = {name: layer.weight.detach() for name, layer in find_linears(tiny_llama).items()}
    assert row(unrounded, {})["why_not"] == "a group holds 32 values, not 16"
    assert "missing" in row({"other": torch.zeros(2, 32)}, {})["why_not"]
    file.unlink()
    failed = side_by_side.measured_row(start, {"why_not": "no"}, tiny_llama, judge, file)
    assert failed == start | {"why_not": "no"}
    assert json.dumps(failed)


def test_options_name_what_they_know(tmp_path, capsys):
    options = side_by_side.options_of(["--only", "hqq, ours", "--cache", str(tmp_path)])
    assert (options.only, options.cache, options.quick) == ({"hqq", "ours"}, tmp_path, False)
    assert options.grid is None
    assert side_by_side.options_of(["--grid", "int3 g64"]).grid == "int3 g64"
    for wrong, words in ((["--only", "hqqq"], "not hqqq"), (["--grid", "int5"], "int3 g64")):
        with pytest.raises(SystemExit):
            side_by_side.options_of(wrong)
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "x 1 depends on torch>=9\nyou asked for 8\nERROR: impossible\n",
            "x 1 depends on torch>=9",
        ),
        ("ERROR: first\nERROR: second\nhint\n", "ERROR: second"),
        ("Traceback\n  File\nKeyError: 'a'\n", "KeyError: 'a'"),
        ("", "no output"),
    ],
    ids=["conflict", "pip", "traceback", "nothing"],
)
def test_the_reason_is_the_line_that_says_most(output, reason):
    assert environments.last_line(output) == reason
