"""Counted words against the formula, and word vectors against a mean by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.measure import WordVectors, encode, tfidf_classification, tfidf_retrieval
from shrinkkit.sources.tasks import RetrievalTask
from tests.measure.conftest import topics


def test_words_that_tell_labels_apart() -> None:
    train = [("a good film", 1), ("good fun", 1), ("a bad film", 0), ("bad bore", 0)]
    test = [("good", 1), ("bad", 0), ("bad film", 0), ("good good bore", 0)]
    score = tfidf_classification(topics(train, test, ("rotten", "fresh")))
    assert score.right.tolist() == [True, True, True, False]
    assert score.accuracy == 0.75


def test_pairs_of_words_are_counted_where_they_help_to_choose() -> None:
    train = [("not good", 0), ("good not", 1)] * 8
    test = [("so not good", 0), ("so good not", 1)]
    alone = tfidf_classification(topics(train, test, ("rotten", "fresh")))
    chosen = tfidf_classification(topics(train, test, ("rotten", "fresh"), choice=test))
    assert alone.accuracy == 0.5  # both texts hold the same words
    assert chosen.accuracy == 1.0
    with pytest.raises(InputError, match="has no part 'choice'"):
        tfidf_classification(topics(train, test, ("rotten", "fresh")), part="choice")


def test_retrieval_by_the_formula() -> None:
    passages = ("the fox ran", "the hen sat", "the fox and the hen")
    queries = ("the fox", "hen hen sat", "and")
    task = RetrievalTask(queries, passages, targets=(0, 1, 2))
    words = sorted({word for text in passages for word in text.split()})

    def vector(text: str) -> np.ndarray:
        weights = []
        for word in words:
            count = text.split().count(word)
            rarity = math.log(4 / (1 + sum(word in p.split() for p in passages))) + 1
            weights.append((1 + math.log(count)) * rarity if count else 0.0)
        return np.array(weights) / np.linalg.norm(weights)

    similar = np.array([[vector(q) @ vector(p) for p in passages] for q in queries])
    ranks = [int((row >= row[i]).sum()) for i, row in enumerate(similar)]
    assert tfidf_retrieval(task).reciprocal.tolist() == [1 / rank for rank in ranks]


def test_rounds_are_apart() -> None:
    """The first query's words stand in a passage of the second round, which it does not see."""
    passages = ("one two", "three four", "five one", "six two")
    queries = ("two five", "three", "five", "six two")
    together = RetrievalTask(queries, passages, targets=(0, 1, 2, 3))
    apart = RetrievalTask(queries, passages, targets=(0, 1, 2, 3), n_rounds=2)
    assert tfidf_retrieval(together).reciprocal[0] < 1
    assert tfidf_retrieval(apart).reciprocal.tolist() == [1, 1, 1, 1]


def test_word_vectors_are_the_mean_of_the_table(tiny_bert, tiny_tokenizer) -> None:
    found = encode(WordVectors(tiny_bert), tiny_tokenizer, ["abc", "fox"])
    table = tiny_bert.get_input_embeddings().weight.detach()
    for text, row in zip(["abc", "fox"], found, strict=True):
        mean = table[tiny_tokenizer(text)["input_ids"]].mean(0)
        torch.testing.assert_close(row, mean / mean.norm())
