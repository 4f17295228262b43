"""Asked without training: the likelier answer, worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from shrinkkit import load_task
from shrinkkit.errors import InputError
from shrinkkit.measure import scorecard, zero_shot_score
from tests.measure.conftest import topics


def test_the_likelier_answer_is_the_guess(tiny_llama, tiny_tokenizer) -> None:
    rows = [("a good film", 0), ("xyz", 1), ("what a bore", 1), ("q", 0)]
    task = topics(rows, rows, ("rotten", "fresh"), choice=rows[:2])
    task = dataclasses.replace(task, prompt="{} It was", answers=("bad", "great"))
    guesses = []
    for text, _ in rows:
        start = tiny_tokenizer(f"{text} It was")["input_ids"]
        scores = []
        for word in task.answers:
            ending = tiny_tokenizer(f" {word}")["input_ids"]
            with torch.no_grad():
                log_p = tiny_llama(torch.tensor([start + ending])).logits[0].log_softmax(-1)
            scores.append(sum(log_p[len(start) - 1 + i, t] for i, t in enumerate(ending)).item())
        guesses.append(scores.index(max(scores)))
    expected = [guess == label for guess, (_, label) in zip(guesses, rows, strict=True)]
    assert zero_shot_score(tiny_llama, tiny_tokenizer, task).right.tolist() == expected
    assert zero_shot_score(tiny_llama, tiny_tokenizer, task, "choice").n == 2


def test_a_task_without_a_prompt_cannot_be_asked(tiny_llama, tiny_tokenizer) -> None:
    with pytest.raises(InputError, match="'topics', part 'test', has no prompt"):
        zero_shot_score(tiny_llama, tiny_tokenizer, load_task("topics", n_topics=2, n_test=2))


def test_a_card_asks_language_models_so(tiny_llama, tiny_tokenizer) -> None:
    task = load_task("sentiment", n_test=6)
    task = dataclasses.replace(task, train=load_task("topics", n_topics=2, n_test=1).train)
    frame = scorecard(
        tiny_llama, tokenizer=tiny_tokenizer, tasks=[task], measures=["quality"], rivals=False
    ).frame
    score = zero_shot_score(tiny_llama, tiny_tokenizer, task)
    assert frame["sentiment_accuracy"].tolist() == [score.accuracy]
