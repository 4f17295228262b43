"""Windows: the right tokens, disjoint halves, fixed by seed; and texts that cannot be cut."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch

from shrinkkit.errors import AssetError, InputError
from shrinkkit.sources import articles as sources
from shrinkkit.sources.articles import (
    Article,
    clean_wiki_text,
    lee_news_articles,
    wikipedia_articles,
)
from shrinkkit.sources.assets import ASSETS
from shrinkkit.sources.text import Text, load_text, split_articles


@pytest.fixture(scope="module")
def text(tiny_tokenizer) -> Text:
    """Ten articles; every byte is one token, so windows can be read back."""
    articles = [Article(f"article {k}", f"{k}" * (20 + 10 * k) + "tail") for k in range(10)]
    return Text("digits", tuple(articles), tiny_tokenizer)


@pytest.fixture(scope="module")
def wikipedia() -> Text:
    return load_text("wikipedia")


def as_strings(text: Text, windows: torch.Tensor) -> list[str]:
    return [text.tokenizer.decode(row) for row in windows]


# Windows of a text whose tokens can be read back.


def test_windows_by_hand(tiny_tokenizer) -> None:
    articles = (Article("a", "abcdefgh"), Article("b", "ABCDE"))
    text = Text("t", articles, tiny_tokenizer)
    first, second = split_articles(articles)
    found = as_strings(text, torch.cat([text.calibration(1, 5), text.evaluation(1, 5)]))
    assert found == [article.text[:5] for article in (*first, *second)]
    # seq_len 4: two windows in "abcdefgh", one in "ABCDE", whose last letter is left over.
    both = [*as_strings(text, text.calibration(2, 4, seed=0))] if first[0].title == "a" else []
    both = both or as_strings(text, text.evaluation(2, 4, seed=0))
    assert sorted(both) == ["abcd", "efgh"]


def test_windows_stay_inside_articles_and_do_not_overlap(text: Text) -> None:
    for half in ("calibration", "evaluation"):
        n_windows = sum(len(article.text) // 8 for article in text.half(half))
        windows = as_strings(text, getattr(text, half)(n_windows, 8))
        assert len(windows) == n_windows
        expected = [
            article.text[start : start + 8]
            for article in text.half(half)
            for start in range(0, len(article.text) - 7, 8)
        ]
        assert sorted(windows) == sorted(expected)  # each of them once


def test_halves_share_no_article(text: Text) -> None:
    calibration, evaluation = text.half("calibration"), text.half("evaluation")
    assert len(calibration) == len(evaluation) == 5
    assert set(calibration).isdisjoint(evaluation)
    for seed in range(3):
        digits = [
            set("".join(as_strings(text, windows))) & set("0123456789")
            for windows in (text.calibration(8, 16, seed), text.evaluation(8, 16, seed))
        ]
        assert digits[0].isdisjoint(digits[1])


def test_seed_picks_windows_and_fewer_are_the_first_of_more(text: Text) -> None:
    eight = text.evaluation(8, 8, seed=3)
    assert eight.dtype == torch.int64
    assert eight.shape == (8, 8)
    assert torch.equal(eight, text.evaluation(8, 8, seed=3))
    assert torch.equal(eight[:3], text.evaluation(3, 8, seed=3))
    assert not torch.equal(eight, text.evaluation(8, 8, seed=4))


def test_the_global_seed_is_left_alone(text: Text) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    text.calibration(4, 8, seed=9)
    assert torch.equal(torch.rand(1), expected)


def test_the_split_does_not_depend_on_the_order_of_articles(text: Text) -> None:
    assert split_articles(text.articles[::-1]) == split_articles(text.articles)


def test_tokenised_once(text: Text, tiny_tokenizer) -> None:
    calls = []

    class Counting:
        def __call__(self, texts: list[str], **options: object) -> object:
            calls.append(len(texts))
            return tiny_tokenizer(texts, **options)

    counted = Text("t", text.articles, Counting())  # type: ignore[arg-type]
    assert calls == []
    for seed in range(3):
        counted.calibration(2, 8, seed)
    assert calls == [5]


def test_bytes_per_token(text: Text, tiny_tokenizer) -> None:
    assert text.bytes_per_token() == 1.0
    accented = (Article("a", "éé"), Article("b", "éé"))
    assert Text("t", accented, tiny_tokenizer).bytes_per_token("calibration") == 1.0  # per byte


# What cannot be cut.


def test_window_longer_than_the_text(text: Text) -> None:
    longest = max(len(article.text) for article in text.half("evaluation"))
    with pytest.raises(
        InputError, match=rf"seq_len must be at most {longest}, .*but 5,000 was given.*5 article"
    ):
        text.evaluation(1, 5000)
    assert text.evaluation(1, longest).shape == (1, longest)


def test_more_windows_than_there_are(text: Text) -> None:
    n = sum(len(article.text) // 8 for article in text.half("calibration"))
    with pytest.raises(InputError, match=f"n_samples must be at most {n} with seq_len=8, but 999"):
        text.calibration(999, 8)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 8), "n_samples"), ((1.5, 8), "n_samples"), ((1, 1), "seq_len"), ((1, 8, -1), "seed")],
    ids=str,
)
def test_arguments_are_checked(text: Text, arguments: tuple[int, ...], name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} must be a whole number"):
        text.evaluation(*arguments)


def test_unknown_half(text: Text) -> None:
    with pytest.raises(InputError, match="'calibration', 'evaluation', but 'test' was given"):
        text.half("test")  # type: ignore[arg-type]


# Own files.


def test_a_folder_of_files(tmp_path: Path, tiny_tokenizer) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt"):
        (tmp_path / name).write_text(name * 10)
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "notes.md").write_text("not read")
    text = load_text(tmp_path, tiny_tokenizer)
    assert [article.title for article in text.articles] == ["a.txt", "b.txt", "sub/c.txt"]
    assert text.calibration(2, 10).shape == (2, 10)


@pytest.mark.parametrize(
    ("body", "halves"),
    [
        ("one one\n\ntwo\ntwo two", ["one one", "two\ntwo two"]),
        ("first line\nsecond line", ["first line", "second line"]),
        ("a b c d", ["a b", "c d"]),
        ("\ufeffwith bom", ["with", "bom"]),
    ],
    ids=["paragraphs", "lines", "words", "byte order mark"],
)
def test_one_file_gives_two_halves(
    body: str, halves: list[str], tmp_path: Path, tiny_tokenizer
) -> None:
    path = tmp_path / "book.txt"
    path.write_text(body, encoding="utf-8")
    text = load_text(str(path), tiny_tokenizer)
    assert [article.text for article in text.articles] == halves
    assert {len(text.half("calibration")), len(text.half("evaluation"))} == {1}


def test_files_that_hold_no_text(tmp_path: Path, tiny_tokenizer) -> None:
    with pytest.raises(InputError, match=r"holds no \.txt files"):
        load_text(tmp_path, tiny_tokenizer)
    path = tmp_path / "a.txt"
    path.write_text(" \n\n ")
    with pytest.raises(InputError, match=r"is empty: no text in 1 file"):
        load_text(path, tiny_tokenizer)
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 3\)"):
        load_text(path, tiny_tokenizer)
    path.write_text("word")
    with pytest.raises(InputError, match=r"seq_len must be at most"):
        load_text(path, tiny_tokenizer).evaluation(1, 8)


# Names.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wikipeda", "Did you mean 'wikipedia'"),
        ("news", "Embedded texts: wikipedia, lee-news"),
        ("no/such/file.txt", "no such file or folder"),
        ("analogies", "is a task, not a text. Use load_task"),
        ("", "must be a text's name or path"),
        (None, "must be a text's name or path"),
    ],
)
def test_unknown_names(name: object, message: str, tiny_tokenizer) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_text(name, tiny_tokenizer)  # type: ignore[arg-type]


def test_unknown_tokenizer() -> None:
    with pytest.raises(InputError, match="tokenizer must be a model's name"):
        load_text("lee-news", 5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Did you mean 'smollm2-135m'"):
        load_text("lee-news", "smollm2-135")


def test_hub_dataset_offline(tiny_tokenizer) -> None:
    with pytest.raises(AssetError, match=r"'no-one/nothing'.*could not be opened.*embedded texts"):
        load_text("no-one/nothing", tiny_tokenizer)


# The embedded texts.


def test_wikipedia_has_room(wikipedia: Text) -> None:
    assert len(wikipedia.articles) == 97
    assert wikipedia.calibration(128, 256).shape == (128, 256)
    assert wikipedia.calibration(1, 2048).shape == (1, 2048)
    assert wikipedia.evaluation(64, 256).shape == (64, 256)
    assert 4 < wikipedia.bytes_per_token() < 5


def test_wikipedia_is_prose(wikipedia: Text) -> None:
    whole = "\n".join(article.text for article in wikipedia.articles)
    assert len(whole) > 2_000_000
    assert not re.search(r"'''|\{\{|\}\}|\[\[|\]\]|<ref|^[*#=|]", whole, re.MULTILINE)
    assert not re.search(r"\(\s*\)", whole)
    titles = {article.title for article in wikipedia.articles}
    assert len(titles) == 97
    assert {"Albert Einstein", "Algeria", "Amphibian"} < titles


def test_wikipedia_is_read_once(isolated_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [Article("one", "text"), Article("two", "more\ntext – é")]
    reads = []
    monkeypatch.setattr(sources, "_read_dump", lambda path: reads.append(path) or expected)
    for _ in range(2):
        assert wikipedia_articles() == tuple(expected)
    assert len(reads) == 1
    (kept,) = isolated_cache.rglob("articles.jsonl")
    kept.write_text(kept.read_text()[:10])
    assert wikipedia_articles() == tuple(expected)
    assert len(reads) == 2


def test_gensim_missing(isolated_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    for name in ("wikipedia", "lee-news"):
        gone = dataclasses.replace(ASSETS[name], package="no-such-gensim")
        monkeypatch.setitem(ASSETS, name, gone)
    for read in (wikipedia_articles, lee_news_articles):
        with pytest.raises(AssetError, match=r"'no-such-gensim'.*pip install"):
            read()


def test_lee_news() -> None:
    articles = lee_news_articles()
    assert len(articles) == 300
    assert articles[0].text.startswith("Hundreds of people have been forced to vacate")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("#REDIRECT [[Other]]", ""),
        ("A '''bold''' and ''slanted'' word in one sentence.",) * 2,
        ("Asphalt (, , occasionally ), is a black, sticky and viscous liquid.",) * 2,
        ("Too short.", ""),
        ("A caption without a full stop, which is long enough otherwise", ""),
    ],
    ids=["redirect", "marks", "brackets", "short", "caption"],
)
def test_clean_wiki_text(body: str, expected: str) -> None:
    expected = (
        expected.replace("'''", "")
        .replace("''", "")
        .replace(" (, , occasionally )", " (occasionally)")
    )
    assert clean_wiki_text(body) == expected


def test_a_text_can_be_copied(text: Text) -> None:
    twin = copy.copy(text)
    assert torch.equal(twin.evaluation(2, 8), text.evaluation(2, 8))
    assert repr(text) == "Text('digits', 10 articles)"
