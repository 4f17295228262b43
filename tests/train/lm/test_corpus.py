"""From files to windows: what is kept apart, what comes in which order, what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.sources.articles import Article
from shrinkkit.train.lm import Corpus, read_corpus, train_tokenizer, unwrap
from shrinkkit.train.lm.corpus import END, split_held_out

ABC = [Article(f"{name}.txt", name) for name in "abc"]


def test_wrapped_prose_is_joined_and_verse_is_not() -> None:
    wrapped = (
        "It had been a close and sultry day--one of the hottest of the\n"
        "dog-days.\r\n\r\n\r\n   The fox\n  ran\n\n\t\n"
    )
    expected = (
        "It had been a close and sultry day--one of the hottest of the dog-days.\n\nThe fox\nran"
    )
    assert unwrap(wrapped) == expected
    assert unwrap(expected) == expected


def test_held_out_files_are_the_first_in_the_order_of_their_hash() -> None:
    articles = [Article(f"{name}.txt", name) for name in "abcdefghijklmnopqrstuvwxyz"]
    kept, aside = split_held_out(articles, None)  # a twelfth of 26
    order = sorted(articles, key=lambda a: hashlib.sha256(a.title.encode()).hexdigest())
    assert {a.title for a in aside} == {a.title for a in order[:2]}
    assert len(kept) == 24
    assert not {a.title for a in kept} & {a.title for a in aside}


def test_held_out_by_name() -> None:
    kept, aside = split_held_out(ABC, ["b.txt"])
    assert [a.title for a in kept] == ["a.txt", "c.txt"]
    assert [a.title for a in aside] == ["b.txt"]


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        pytest.param(["B.txt"], r"'B\.txt', which is no file.*Did you mean 'b\.txt'", id="name"),
        pytest.param(3, "leaves 0 of 3 files", id="all"),
        pytest.param([], "0 to judge by", id="none"),
        pytest.param(0, "held_out must be a whole number", id="zero"),
        pytest.param(1.5, "held_out must be a whole number", id="not whole"),
    ],
)
def test_impossible_held_out(held_out: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        split_held_out(ABC, held_out)


def test_the_tokenizer_writes_any_text_and_gives_it_back() -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat. " * 20], vocab_size=280)
    assert len(tokenizer) <= 280
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert tokenizer.bos_token == END
    for text in ("the cat", "naïve\n\n  “quoted”", "数字 123 \x00", "  two  spaces "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("the cat")["input_ids"]) < len("the cat")


def test_the_tokenizer_saw_no_held_out_file(story_folder: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(story_folder.iterdir())):
        (tmp_path / f"{number}.txt").write_text(path.read_text())
    (tmp_path / "odd.txt").write_text("zqxzqxzqx zqxzqx " * 400)
    corpus = read_corpus(tmp_path, vocab_size=300, seq_len=32, held_out=["odd.txt"])
    assert not any("zq" in token for token in corpus.tokenizer.get_vocab())


def test_the_stream_is_the_training_files_end_first(corpus: Corpus, story_folder: Path) -> None:
    parts = corpus.tokenizer.decode(corpus.stream.tolist()).split(END)
    texts = [unwrap((story_folder / title).read_text()) for title in corpus.titles]
    assert parts == ["", *texts]
    assert corpus.n_bytes == sum(len(text.encode()) for text in texts)
    (document,) = corpus.held_out
    assert document.title not in corpus.titles
    assert document.ids[0] == 0
    assert corpus.tokenizer.decode(document.ids[1:]) == unwrap(
        (story_folder / document.title).read_text()
    )


def test_each_pass_reads_every_window_once(corpus: Corpus) -> None:
    numbered = dataclasses.replace(corpus, stream=torch.arange(5_000, dtype=torch.int32))
    n, seq_len = numbered.n_windows(32), 32
    passes = [
        torch.stack(
            [numbered.batch(step, 1, seq_len, seed=0)[0] for step in range(k * n, k * n + n)]
        )
        for k in (0, 1)
    ]
    for windows in passes:
        starts = windows[:, 0].sort().values
        assert (windows == windows[:, :1] + torch.arange(seq_len)).all()  # each is one run of text
        assert (starts.diff() == seq_len).all()  # side by side, none twice
        assert starts[0] < seq_len
    assert not torch.equal(*passes)
    both = numbered.batch(n // 8, 8, seq_len, seed=0)  # reaches from one pass into the next
    assert both.shape == (8, seq_len)


def test_a_batch_depends_on_its_step_alone(corpus: Corpus, story_folder: Path) -> None:
    far = corpus.batch(1000, 4, 32, seed=3)
    fresh = read_corpus(story_folder, vocab_size=300, seq_len=32)
    for step in range(3):
        fresh.batch(step, 4, 32, seed=3)
    assert torch.equal(fresh.batch(1000, 4, 32, seed=3), far)
    assert not torch.equal(fresh.batch(1000, 4, 32, seed=4), far)
    assert fresh.sha256 == corpus.sha256


def test_a_single_file_gives_both_parts(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("\n\n".join(f"Sentence number {i} of this text." for i in range(200)))
    corpus = read_corpus(path, vocab_size=280, seq_len=16)
    assert corpus.titles != ()
    assert len(corpus.held_out) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("no/such folder", "There is no folder or file 'no/such folder'", id="nowhere"),
        pytest.param("EMPTY", "holds no .txt files", id="empty folder"),
        pytest.param("SHORT", "tokens for training, and a window takes 64", id="too short"),
    ],
)
def test_impossible_sources(source: str, words: str, tmp_path: Path) -> None:
    if source == "SHORT":
        (tmp_path / "a.txt").write_text("A very short text.")
        (tmp_path / "b.txt").write_text("Another one.")
    path = tmp_path if source.isupper() else source
    with pytest.raises(InputError, match=words):
        read_corpus(path, vocab_size=280, seq_len=64)


def test_a_vocabulary_smaller_than_the_bytes() -> None:
    with pytest.raises(InputError, match="vocab_size must be a whole number from 257"):
        train_tokenizer(["text"], vocab_size=200)
