"""Right answers, question by question: the same ones that the score counts."""

from __future__ import annotations

import pytest

from shrinkkit import load_task
from shrinkkit.errors import InputError
from shrinkkit.measure import analogy_accuracy
from shrinkkit.measure.tasks.analogies import right_answers


class Letters:
    """A tokenizer of one token a letter, without a token for the start."""

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) % 96 for letter in text]}


def test_their_mean_is_the_score(tiny_llama):
    task = load_task("analogies")
    questions = task.questions("gram2-opposite", 40)
    right = right_answers(tiny_llama, Letters(), questions)
    score = analogy_accuracy(tiny_llama, Letters(), task, "gram2-opposite", 40)
    assert len(right) == 40
    assert sum(right) / 40 == score.value
    last = right_answers(tiny_llama, Letters(), questions[30:])
    assert last == right[30:]


def test_no_questions_are_refused(tiny_llama):
    with pytest.raises(InputError, match="candidates"):
        right_answers(tiny_llama, Letters(), [])
