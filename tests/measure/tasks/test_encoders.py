"""Vectors of texts and the two tasks made of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import classification_score, encode, ranking_scores, retrieval_scores
from shrinkkit.sources.tasks import RetrievalTask
from tests.measure.conftest import topics

SENTENCES = ["A short one.", "Another, rather longer sentence.", "x", "Four words stand here."]


def test_encode_is_the_mean_of_the_last_states_at_length_one(tiny_bert, tiny_tokenizer):
    vectors = encode(tiny_bert, tiny_tokenizer, SENTENCES, batch_size=3)
    assert vectors.shape == (4, 32)
    for sentence, vector in zip(SENTENCES, vectors, strict=True):
        ids = torch.tensor([tiny_tokenizer(sentence)["input_ids"]])
        with torch.no_grad():
            mean = tiny_bert(ids).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_a_vector_does_not_depend_on_its_neighbours(tiny_bert, tiny_tokenizer, batch_size):
    together = encode(tiny_bert, tiny_tokenizer, SENTENCES, batch_size)
    alone = torch.cat([encode(tiny_bert, tiny_tokenizer, [text]) for text in SENTENCES])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_long_texts_are_cut(tiny_bert, tiny_tokenizer):
    long = "word " * 200  # 1,000 tokens of one byte; the model has 128 positions
    cut = encode(tiny_bert, tiny_tokenizer, [long])
    torch.testing.assert_close(cut, encode(tiny_bert, tiny_tokenizer, [long[:128]]))
    assert not torch.allclose(cut, encode(tiny_bert, tiny_tokenizer, [long], max_length=3))


def test_a_language_model_can_encode_too(tiny_llama, tiny_tokenizer):
    vectors = encode(tiny_llama, tiny_tokenizer, SENTENCES)
    assert vectors.shape == (4, 64)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("sentences", [[], "a text", [1, 2]], ids=["none", "bare-text", "numbers"])
def test_what_is_not_a_list_of_texts_is_refused(tiny_bert, tiny_tokenizer, sentences):
    with pytest.raises(InputError, match="sentences"):
        encode(tiny_bert, tiny_tokenizer, sentences)


@pytest.mark.parametrize(
    ("similarity", "targets", "mrr", "recall"),
    [
        # the right passages are 0, 1, 2: ranks 1, 2, 3
        (torch.tensor([[0.9, 0.5, 0.1]] * 3), [0, 1, 2], (1 + 1 / 2 + 1 / 3) / 3, 1 / 3),
        (torch.arange(12, 0, -1.0).repeat(12, 1), [*range(12)], 7381 / 2520 / 12, 1 / 12),
        (torch.ones(4, 20), [0, 5, 9, 19], 0.0, 0.0),
    ],
    ids=["by hand", "ranks beyond ten count nothing", "collapsed: the last rank, not the first"],
)
def test_ranking(similarity, targets, mrr, recall):
    scores = ranking_scores(similarity, torch.tensor(targets))
    assert (scores.mrr_at_10, scores.recall_at_1) == pytest.approx((mrr, recall))
    assert scores.n == len(targets)


class Counter(nn.Module):
    """An encoder that only counts letters: its vectors say which words a text has."""

    def forward(self, input_ids, attention_mask):
        states = nn.functional.one_hot(input_ids, 256).float()
        return SimpleNamespace(last_hidden_state=states)


def test_retrieval_finds_passages_by_their_letters(tiny_tokenizer):
    passages = ("aaaa bbbb", "cccc dddd", "eeee ffff", "gggg hhhh")
    task = RetrievalTask(queries=("dcdc", "hgg"), passages=passages, targets=(1, 3))
    scores = retrieval_scores(Counter(), tiny_tokenizer, task)
    assert (scores.mrr_at_10, scores.recall_at_1, scores.n) == (1.0, 1.0, 2)
    wrong = RetrievalTask(queries=("dcdc", "hgg"), passages=passages, targets=(3, 1))
    assert retrieval_scores(Counter(), tiny_tokenizer, wrong).recall_at_1 == 0.0


def test_topics_are_told_apart_by_letters(tiny_tokenizer):
    train = [("abab", 0), ("aabb", 0), ("cdcd", 1), ("ccdd", 1), ("efef", 2), ("eeff", 2)]
    test = [("baba", 0), ("dcdc", 1), ("fefe", 2), ("dd", 2)]  # the last one is labelled wrongly
    task = topics(train, test, ("ab", "cd", "ef"))
    score = classification_score(Counter(), tiny_tokenizer, task)
    assert score.accuracy == 0.75
    # F1 by hand: topic 0: 1; topic 1: precision 1/2, recall 1; topic 2: precision 1, recall 1/2
    assert score.macro_f1 == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert score.n == 4
    assert classification_score(Counter(), tiny_tokenizer, task) == score
