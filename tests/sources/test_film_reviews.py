"""Film reviews: what the source holds, counted, and films that stay on one side."""

from __future__ import annotations

from collections import Counter

import pytest

from shrinkkit import load_task, load_text
from shrinkkit.errors import InputError
from shrinkkit.sources.film_reviews import film_articles, film_reviews, reviews_by_part


def test_the_reviews_are_those_of_the_file() -> None:
    reviews = film_reviews()
    assert len(reviews) == 12_752
    assert len({review.text for review in reviews}) == 12_752
    assert len({review.film for review in reviews}) == 507
    assert all(review.text == " ".join(review.text.split()) for review in reviews)
    fresh = [review for review in reviews if review.text == "An absorbing documentary."]
    assert [review.fresh for review in fresh] == [True]  # it stands in the file three times


def test_a_film_is_in_one_part_and_no_review_is_lost() -> None:
    parts = reviews_by_part()
    films = {name: {review.film for review in part} for name, part in parts.items()}
    assert sum(map(len, films.values())) == 507 == len(set().union(*films.values()))
    assert sum(map(len, parts.values())) == 12_752
    sizes = {name: len(part) for name, part in parts.items()}
    assert sizes == {"train": 8_023, "choice": 1_517, "test": 3_212}


def test_the_task_has_the_parts_and_their_labels() -> None:
    task = load_task("sentiment")
    assert (len(task.train), len(task.choice), len(task.test)) == (8_023, 1_517, 3_212)
    assert task.label_names == ("rotten", "fresh")
    by_text = {review.text: review for review in film_reviews()}
    for part in (task.train, task.choice, task.test):
        for text, label, film in zip(part.texts, part.labels, part.groups, strict=True):
            assert (bool(label), film) == (by_text[text].fresh, by_text[text].film)
    assert Counter(task.test.labels)[1] == 1_779


def test_the_text_holds_training_films_alone() -> None:
    judged = set(load_task("sentiment").test.texts) | set(load_task("sentiment").choice.texts)
    articles = film_articles()
    lines = [line for article in articles for line in article.text.split("\n\n")]
    assert len(lines) == 8_023
    assert judged.isdisjoint(lines)
    text = load_text("film-reviews")
    assert text.calibration(8).shape == text.evaluation(8).shape == (8, 256)


def test_a_sample_of_the_test_part() -> None:
    few, all_ = load_task("sentiment", n_test=50), load_task("sentiment")
    assert len(few.test) == 50
    assert set(few.test.texts) <= set(all_.test.texts)
    assert few.train == all_.train
    assert few != load_task("sentiment", n_test=50, seed=1)
    with pytest.raises(InputError, match="n_test must be at most 3212"):
        load_task("sentiment", n_test=4_000)
