"""A few short stories and a settings that trains on them in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shrinkkit.train.lm import Corpus, Settings, read_corpus

WHO = ("the cat", "a small boy", "the old queen", "my aunt", "the fox")
WHAT = ("ran to", "looked for", "sang about", "was afraid of", "sat beside")
WHERE = ("the river", "the garden wall", "a lamp", "the wood", "the kitchen fire")


def story(seed: int, sentences: int = 60) -> str:
    """Tell something simple and regular, wrapped as a printed page is."""
    draw = random.Random(seed)
    lines = []
    for _ in range(sentences):
        who, what, where = (draw.choice(words) for words in (WHO, WHAT, WHERE))
        lines.append(f"{who.capitalize()} {what} {where}, and then went on\nto the next day.")
    return "\n\n".join(lines)


@pytest.fixture(scope="session")
def story_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six text files."""
    folder = tmp_path_factory.mktemp("stories")
    for number in range(6):
        (folder / f"story-{number}.txt").write_text(story(number), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def corpus(story_folder: Path) -> Corpus:
    return read_corpus(story_folder, vocab_size=300, seq_len=32)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """A model of 40,000 weights, for 12 steps."""
    return Settings(
        hidden=32,
        layers=2,
        heads=2,
        kv_heads=1,
        intermediate=64,
        vocab_size=300,
        seq_len=32,
        steps=12,
        batch_size=4,
        micro_batch=2,
    )
