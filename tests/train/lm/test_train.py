"""The loop learns, says what it does, and goes on exactly where it was killed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from shrinkkit import load_model, load_tokenizer
from shrinkkit.errors import AssetError, InputError, StorageError
from shrinkkit.measure import bits_per_byte
from shrinkkit.system.files import lock
from shrinkkit.train.lm import Corpus, Run, Settings, train_lm, training_speed
from shrinkkit.train.lm.build import new_model
from shrinkkit.train.lm.state import latest
from shrinkkit.train.lm.train import new_accelerator, train_step
from tests.processes import kill_once, run_python, start_python
from tests.tiny import same_tensors


@pytest.fixture(scope="module")
def finished(corpus: Corpus, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train_lm(corpus, settings, tmp_path_factory.mktemp("finished"), judge_every=4)


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def on_step(row: dict) -> None:
        if row["step"] == step:
            raise Interrupted

    return on_step


def test_it_learns_the_stories(corpus: Corpus, settings: Settings, tmp_path: Path) -> None:
    run = train_lm(corpus, settings.with_(steps=120, hidden=64), tmp_path)
    untrained = new_model(settings.with_(hidden=64)).eval()
    documents = [(d.ids, d.n_bytes) for d in corpus.held_out]
    assert run.curve[0]["loss"] == pytest.approx(torch.tensor(300.0).log().item(), abs=0.3)
    assert run.bits_per_byte < 0.45 * bits_per_byte(untrained, documents)


def test_a_run_says_what_it_did(finished: Run, corpus: Corpus, settings: Settings) -> None:
    assert [row["step"] for row in finished.curve] == list(range(1, 13))
    assert [row["step"] for row in finished.curve if "bits_per_byte" in row] == [4, 8, 12]
    assert finished.curve[-1]["tokens"] == settings.n_tokens() == 12 * 4 * 32
    assert finished.seconds >= finished.curve[-1]["seconds"] > 0
    again = bits_per_byte(finished.model, [(d.ids, d.n_bytes) for d in corpus.held_out])
    assert finished.bits_per_byte == pytest.approx(again)
    assert list(finished.by_file) == [d.title for d in corpus.held_out]


def test_the_saved_model_is_the_trained_one(finished: Run, corpus: Corpus) -> None:
    assert same_tensors(load_model(finished.folder), finished.model)
    text = "The old queen sang about the river"
    assert load_tokenizer(finished.folder)(text)["input_ids"] == corpus.tokenizer(text)["input_ids"]
    names = {path.name for path in finished.folder.iterdir()}
    assert "model.safetensors" in names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_the_same_settings_give_the_same_tensors(
    finished: Run, corpus: Corpus, settings: Settings, tmp_path: Path
) -> None:
    assert same_tensors(train_lm(corpus, settings, tmp_path).model, finished.model)
    other = train_lm(corpus, settings.with_(seed=1), tmp_path / "other")
    assert not same_tensors(other.model, finished.model)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_interrupted_run_goes_on_exactly(
    corpus: Corpus, settings: Settings, tmp_path: Path, optimizer: str
) -> None:
    settings = settings.with_(optimizer=optimizer)
    whole = train_lm(corpus, settings, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train_lm(corpus, settings, tmp_path / "cut", save_every=3, on_step=interrupt_at(8))
    assert latest(tmp_path / "cut").name == "checkpoint-000006"
    first = []
    resumed = train_lm(corpus, settings, tmp_path / "cut", save_every=3, on_step=first.append)
    assert first[0]["step"] == 7
    assert same_tensors(resumed.model, whole.model)
    losses = [[row["loss"] for row in run.curve] for run in (whole, resumed)]
    assert losses[0] == losses[1]
    assert [path.name for path in (tmp_path / "cut").glob("checkpoint*")] == ["checkpoint-000012"]


@pytest.mark.slow
def test_killed_outright_it_goes_on_exactly(
    story_folder: Path, finished: Run, tmp_path: Path, settings: Settings
) -> None:
    """SIGKILL, in another process, through the command line; the file's bytes are compared."""
    fields = ("hidden", "layers", "heads", "kv_heads", "intermediate", "vocab_size", "seq_len")
    shape = [f"--{name.replace('_', '-')}={getattr(settings, name)}" for name in fields]
    command = ["-m", "shrinkkit", "train-lm", story_folder, *shape]
    command += ["--preset=tiny", "--steps=60", "--batch-size=4", "--save-every=1", "--out"]

    with start_python(*command, tmp_path / "cut") as process:
        kill_once(process, lambda: latest(tmp_path / "cut") is not None)
    killed_at = json.loads((latest(tmp_path / "cut") / "state.json").read_text())["step"]
    assert killed_at < 60
    assert not (tmp_path / "cut" / "model").exists()

    for folder in ("cut", "whole"):
        assert run_python(*command, tmp_path / folder).returncode == 0
    files = [tmp_path / folder / "model" / "model.safetensors" for folder in ("cut", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_finished_run_is_not_trained_again(
    finished: Run, corpus: Corpus, settings: Settings
) -> None:
    steps = []
    again = train_lm(corpus, settings, finished.folder.parent, on_step=steps.append)
    assert steps == []
    assert same_tensors(again.model, finished.model)
    assert again.bits_per_byte == finished.bits_per_byte


def test_other_settings_or_text_is_refused(
    corpus: Corpus, settings: Settings, tmp_path: Path, story_folder: Path
) -> None:
    train_lm(corpus, settings.with_(steps=2), tmp_path)
    with pytest.raises(InputError, match=r"another run: steps was 2 and is 3.*--restart"):
        train_lm(corpus, settings.with_(steps=3), tmp_path)
    other = dataclasses.replace(corpus, stream=corpus.stream.flip(0))
    with pytest.raises(InputError, match="another text or tokenizer"):
        train_lm(other, settings.with_(steps=2), tmp_path)
    assert len(train_lm(corpus, settings.with_(steps=3), tmp_path, restart=True).curve) == 3


def test_a_damaged_checkpoint_is_named(corpus: Corpus, settings: Settings, tmp_path: Path) -> None:
    train_lm(corpus, settings.with_(steps=2), tmp_path)
    file = latest(tmp_path) / "optimizer.safetensors"
    os.truncate(file, 100)
    with pytest.raises(AssetError, match="is damaged"):
        train_lm(corpus, settings.with_(steps=2), tmp_path)


def test_two_processes_do_not_train_in_one_folder(
    corpus: Corpus, settings: Settings, tmp_path: Path
) -> None:
    with lock(tmp_path / "training"), pytest.raises(StorageError, match="by another process"):
        train_lm(corpus, settings, tmp_path)


def test_a_vocabulary_that_does_not_fit(corpus: Corpus, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="smaller than the tokenizer"):
        train_lm(corpus, settings.with_(vocab_size=280), tmp_path)


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_a_steps_gradient_is_that_of_the_whole_batch(settings: Settings, micro_batch: int) -> None:
    settings = settings.with_(micro_batch=micro_batch)
    batch = torch.full((4, 32), 7)  # one token over and over: a gradient worth clipping
    batch[1:, ::3] = torch.tensor([[1], [2], [3]])
    plain = new_model(settings)
    loss = cross_entropy(plain(batch).logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    assert norm > 1.0  # else the clipping would not be seen
    model = new_model(settings)
    assert train_step(model, [], batch, settings, new_accelerator(settings)) == pytest.approx(
        loss.item(), rel=1e-5
    )
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


def test_training_speed_is_a_rate(settings: Settings) -> None:
    rate = training_speed(settings, repeats=3)
    assert 0 < rate.low <= rate.median <= rate.high
    assert rate.n == 3
