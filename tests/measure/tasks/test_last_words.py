"""The last word's probability, by hand and passage by passage."""

from __future__ import annotations

import math

import pytest
import torch

from shrinkkit.measure import last_word_scores
from shrinkkit.sources.tasks import LastWord, LastWordTask
from tests.measure.conftest import TableModel


class Letters:
    """A tokenizer of three letters: a = 0, b = 1, space = 2."""

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": ["ab ".index(letter) for letter in text]}


def test_by_hand() -> None:
    # after a: b with 1/2; after b: a with 1/4; after a space: a with 1/2
    model = TableModel([[0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    items = (LastWord("ab", "ab", "0"), LastWord("a b", "ba", "1"))
    score = last_word_scores(model, Letters(), LastWordTask(items), batch_size=2)
    # " ab": space after b 1/2, a after space 1/2, b after a 1/2; " ba": 1/2 * 1/4 * 1/4
    assert score.losses.tolist() == pytest.approx([math.log(8), math.log(32)])
    assert score.right.tolist() == [True, False]
    assert (score.perplexity, score.accuracy, score.n) == pytest.approx((16.0, 0.5, 2))


def test_batches_change_nothing(tiny_llama, tiny_tokenizer) -> None:
    words = ("the fox", "a goose in the wood", "x", "foxes and foxes and foxes")
    items = tuple(LastWord(text, "fox", str(i)) for i, text in enumerate(words))
    scores = [
        last_word_scores(tiny_llama, tiny_tokenizer, LastWordTask(items), batch_size=n)
        for n in (1, 3, 4)
    ]
    for score in scores[1:]:
        torch.testing.assert_close(score.losses, scores[0].losses, atol=1e-5, rtol=1e-5)
    for item, loss in zip(items, scores[0].losses, strict=True):
        start = tiny_tokenizer(item.passage)["input_ids"]
        word = tiny_tokenizer(" fox")["input_ids"]
        ids = torch.tensor([[*start, *word]])
        with torch.no_grad():
            log_p = tiny_llama(ids).logits[0].log_softmax(-1)
        each = [log_p[len(start) - 1 + i, token] for i, token in enumerate(word)]
        assert loss.item() == pytest.approx(-sum(each).item(), rel=1e-5)
