"""Tasks of telling texts apart: `topics` (made from the articles) and `sentiment` (film reviews).

`topics`: which of 40 articles does a passage of two sentences come from? The words of the article's
title are replaced by "…", else spotting one word would do. Training and test passages come from
different paragraphs.

`sentiment`: does a critic recommend the film? A film's reviews are all in one part.

Both have groups: passages of one paragraph, reviews of one film. They are drawn together where an
interval is asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from shrinkkit.errors import InputError, require_choice
from shrinkkit.sources.articles import wikipedia_articles
from shrinkkit.sources.film_reviews import FilmReview, reviews_by_part
from shrinkkit.sources.tasks.sentences import mask_title, paragraphs_of
from shrinkkit.sources.text import split_articles


@dataclass(frozen=True)
class Part:
    """Labelled texts: `labels[i]` is an index into the task's names; `groups[i]` what it is of."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @classmethod
    def of(cls, rows: Iterable[tuple[str, int, str]]) -> Part:
        """Make a part of (text, label, group); none is an empty part."""
        columns = tuple(zip(*rows, strict=True)) or ((), (), ())
        return cls(*columns)


@dataclass(frozen=True)
class ClassificationTask:
    """Texts to tell apart: learn on `train`, choose on `choice` (may be empty), judge on `test`.

    prompt, answers: how a language model is asked without any training, such as "{} It was", and
        the word for each label that it chooses among; None for a task that cannot be asked so.
    """

    name: str
    label_names: tuple[str, ...]
    train: Part
    choice: Part
    test: Part
    prompt: str | None = None
    answers: tuple[str, ...] | None = None

    def part(self, name: str) -> Part:
        """Return the part "test" or "choice"; raises InputError for another, or an empty one."""
        part = getattr(self, require_choice("part", name, ["choice", "test"]))
        if not len(part):
            raise InputError(f"The task {self.name!r} has no part {name!r}.")
        return part


def topics(*, n_topics: int, n_train: int, n_test: int | None, seed: int) -> ClassificationTask:
    """Make the task `topics`; see `load_task`."""
    rng = random.Random(seed)
    usable = []
    for article in split_articles(wikipedia_articles())[1]:
        train, test = _two_sides(article, n_train, rng)
        if len(train) >= n_train and len(test) >= (n_test or 1):
            kept = test if n_test is None else rng.sample(test, n_test)
            usable.append((article.title, rng.sample(train, n_train), kept))
    if len(usable) < n_topics:
        sizes = f"n_train={n_train}" + (f" and n_test={n_test}" if n_test is not None else "")
        raise InputError(
            f"n_topics must be at most {len(usable)} with {sizes}, but {n_topics} was given: only "
            "so many articles have that many passages."
        )
    usable = sorted(rng.sample(usable, n_topics))

    def part(side: int) -> Part:
        return Part.of(
            (mask_title(passage, row[0]), label, f"{row[0]}, paragraph {number}")
            for label, row in enumerate(usable)
            for passage, number in row[side]
        )

    names = tuple(title for title, _, _ in usable)
    return ClassificationTask("topics", names, part(1), Part.of(()), part(2))


def _two_sides(article, n_train: int, rng: random.Random) -> tuple[list, list]:
    """Cut an article into (passage, paragraph number): enough to train on, and all the rest.

    Whole paragraphs go to one side: neighbours tell too much about each other.
    """
    numbered = [
        [(" ".join(sentences[i : i + 2]), number) for i in range(0, len(sentences) - 1, 2)]
        for number, sentences in enumerate(paragraphs_of(article))
    ]
    rng.shuffle(numbered)
    sides: tuple[list, list] = ([], [])
    for passages in filter(None, numbered):
        sides[len(sides[0]) >= n_train].extend(passages)
    return sides


# Chosen among five on the first 240 reviews of the part `choice`.
_PROMPT, _ANSWERS = "{} In one word: it was", ("terrible", "great")


def sentiment(*, n_test: int | None, seed: int) -> ClassificationTask:
    """Make the task `sentiment`; see `load_task`."""
    parts = reviews_by_part()
    test = parts["test"]
    if n_test is not None:
        if n_test > len(test):
            raise InputError(
                f"n_test must be at most {len(test)}, the reviews of the part, but {n_test} was "
                "given."
            )
        test = tuple(random.Random(seed).sample(test, n_test))
    return ClassificationTask(
        "sentiment",
        ("rotten", "fresh"),
        _labelled(parts["train"]),
        _labelled(parts["choice"]),
        _labelled(test),
        _PROMPT,
        _ANSWERS,
    )


def _labelled(reviews: Iterable[FilmReview]) -> Part:
    return Part.of((review.text, int(review.fresh), review.film) for review in reviews)
