"""The stories, and the task made of them: the last word can be found in the passage."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from shrinkkit import load_task, load_text
from shrinkkit.errors import InputError
from shrinkkit.sources.articles import Article
from shrinkkit.sources.stories import story_articles
from shrinkkit.sources.tasks.last_words import MAX_WORDS, MIN_WORDS, passages_of


def test_five_books_in_prose() -> None:
    books = story_articles()
    assert [book.title for book in books] == [
        "The Tale Of Benjamin Bunny",
        "The Fifth Form at Saint Dominic's",
        "Jackanapes",
        "The Happy Prince",
        "King Solomon's Mines",
    ]
    assert sum(len(book.text.encode()) for book in books) < 400_000
    for book in books:
        assert not re.search(r"[_\[\]]|CHAPTER|\n\n\n|  ", book.text)


def test_stories_are_for_evaluation_only() -> None:
    stories = load_text("stories")
    assert stories.evaluation(300).shape == (300, 256)
    assert stories.bytes_per_token() > 3
    with pytest.raises(InputError, match="'stories' is for evaluation only"):
        stories.calibration(2)


def test_the_last_word_stood_in_the_passage_and_in_the_book_there() -> None:
    task = load_task("last-words")
    assert len(task.items) >= 800
    books = {book.title: " ".join(book.text.split()) for book in story_articles()}
    for item in task.items:
        words = [word.casefold() for word in re.findall(r"[A-Za-z]+", item.passage)]
        assert item.word.casefold() in words
        assert MIN_WORDS <= len(item.passage.split()) <= MAX_WORDS
        title = item.group.rpartition(", ")[0]
        assert " ".join(f"{item.passage} {item.word}".split()) in books[title]
    assert Counter(item.word.casefold() for item in task.items).most_common(1)[0][1] < 60
    assert len({item.group for item in task.items}) > 150


def test_a_passage_by_hand() -> None:
    first = "Once there was a fox in the wood. "
    rain = " ".join(f"drop {chr(97 + i % 26)}{i}" for i in range(24))
    text = f"{first}Then {rain}. Nobody saw him: not a soul, not the fox."
    (item,) = passages_of(Article("Rain", text))
    assert (item.word, item.group) == ("fox", "Rain, 0")
    assert item.passage == text.removesuffix(" fox.")


@pytest.mark.parametrize(
    "end",
    ["not the hen.", "in time.", "not the Fox-", "not the foxes.", "fox"],
    ids=["new word", "everyday word", "no mark", "another form", "no mark at all"],
)
def test_no_passage(end: str) -> None:
    rain = " ".join(f"drop {chr(97 + i % 26)}{i}" for i in range(24))
    text = f"Once there was a fox in the wood, a long time ago. Then {rain}. Nobody saw {end}"
    assert passages_of(Article("Rain", text)) == []


def test_samples() -> None:
    few = load_task("last-words", n_passages=20, seed=1)
    assert len(few.items) == 20
    assert set(few.items) <= set(load_task("last-words").items)
    assert few == load_task("last-words", n_passages=20, seed=1)
    assert few != load_task("last-words", n_passages=20, seed=2)
    with pytest.raises(InputError, match="n_passages must be at most"):
        load_task("last-words", n_passages=10_000)
