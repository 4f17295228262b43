"""`shrinkkit finetune` with a tiny encoder and a tiny task in place of the large ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification
from typer.testing import CliRunner

import shrinkkit.cli.finetune as command
from shrinkkit.cli.app import app
from tests.measure.conftest import topics


@pytest.fixture
def folder(tiny_bert, tiny_tokenizer, tmp_path: Path) -> str:
    tiny_bert.save_pretrained(tmp_path / "encoder")
    tiny_tokenizer.save_pretrained(tmp_path / "encoder")
    return str(tmp_path / "encoder")


def test_it_teaches_saves_and_judges(folder, tmp_path: Path, monkeypatch) -> None:
    train = [(letters * n, label) for n in (2, 3, 4) for label, letters in enumerate(("ab", "xy"))]
    test = [("abba", 0), ("xyyx", 1), ("aab", 0), ("yyx", 1)]
    task = topics(train, test, ("ab", "xy"), choice=train)
    monkeypatch.setattr(command, "load_task", lambda name: task)
    out = tmp_path / "made"
    arguments = ["finetune", folder, "--out", str(out), "--epochs", "6", "--batch-size", "2"]
    done = CliRunner().invoke(app, [*arguments, "--learning-rate", "0.005"])
    assert done.exit_code == 0, done.output
    assert done.output.count("epoch ") == 7  # a line each, and which one was chosen
    assert "test, 4 texts: 100.0%" in done.output
    assert "counted words (TF-IDF) 50.0%; ahead by 50.0 points" in done.output
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert model.config.id2label == {0: "ab", 1: "xy"}
    assert (out / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "sentimental"], "Did you mean 'sentiment'"),
        (["--epochs", "0"], "epochs must be a whole number of at least 1"),
    ],
)
def test_it_says_what_is_wrong(folder, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["finetune", folder, "--out", str(tmp_path / "x"), *arguments])
    assert done.exit_code == 1
    assert words in done.output
    assert not (tmp_path / "x").exists()


def test_a_language_model_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["finetune", str(tiny_checkpoint), "--out", str(tmp_path / "x")])
    assert done.exit_code == 1
    assert "is a language model: give an encoder" in done.output
