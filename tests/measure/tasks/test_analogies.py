"""Questions with one right answer: the search for the likeliest candidate, and the interval."""

from __future__ import annotations

import copy
import math
import random
from statistics import NormalDist
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import analogy_accuracy, wilson_interval
from shrinkkit.measure.tasks.analogies import choose_candidates
from shrinkkit.sources.tasks import AnalogyQuestion, AnalogyTask
from tests.measure.conftest import TableModel
from tests.tiny import logits


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (1, 2), (34, 60), (571, 1000)])
def test_wilson_interval_equals_its_formula(successes, n, confidence):
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    middle, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    expected = (middle - spread) / (1 + z**2 / n), (middle + spread) / (1 + z**2 / n)
    assert wilson_interval(successes, n, confidence) == pytest.approx(expected, abs=1e-9)


def test_wilson_interval_is_exact_at_the_ends():
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((1, 0), "n must"), ((3, 2), "successes"), ((-1, 2), "successes"), ((1, 2, 95), "confidence")],
    ids=["no-trials", "more-than-n", "negative", "percent"],
)
def test_wilson_interval_refuses(arguments, words):
    with pytest.raises(InputError, match=words):
        wilson_interval(*arguments)


def brute_force(model, prompts, candidates):
    """Score every candidate behind every prompt in a forward pass of its own."""
    chosen = []
    for prompt in prompts:
        scores = []
        for candidate in candidates:
            log_p = logits(model, torch.tensor([[*prompt, *candidate]]))[0].log_softmax(-1)
            places = range(len(prompt) - 1, len(prompt) + len(candidate) - 1)
            scores.append(sum(log_p[i, t].item() for i, t in zip(places, candidate, strict=True)))
        chosen.append(max(range(len(scores)), key=scores.__getitem__))
    return chosen


@pytest.mark.parametrize("seed", range(4))
def test_choice_equals_scoring_every_candidate(tiny_llama, seed):
    draw = random.Random(seed)
    model = copy.deepcopy(tiny_llama)
    model.lm_head.weight.data *= 20  # sharper predictions, so that long candidates may win
    prompts = [draw.choices(range(256), k=draw.randint(1, 9)) for _ in range(5)]
    candidates = [draw.choices(range(256), k=k) for k in (1, 1, 1, 2, 2, 2, 3, 3, 4, 1, 2, 2)]
    candidates += [[candidates[0][0], 7], [candidates[3][0], 9, 9]]  # shared first tokens
    assert choose_candidates(model, prompts, candidates, 3) == brute_force(
        model, prompts, candidates
    )


def test_choice_among_long_candidates_only(tiny_llama):
    prompts, candidates = [[5, 6], [7]], [[1, 2], [3, 4, 5], [6, 7], [8, 9], [8, 1], [8, 2]]
    assert choose_candidates(tiny_llama, prompts, candidates) == brute_force(
        tiny_llama, prompts, candidates
    )


def test_a_long_candidate_beats_a_short_one_when_it_is_likelier():
    #      from 0: token 1 has 0.6, token 2 has 0.3; after 1 comes 3 with 0.9
    model = TableModel([[0.05, 0.6, 0.3, 0.05], [0.03, 0.03, 0.04, 0.9], [0.25] * 4, [0.25] * 4])
    assert choose_candidates(model, [[0]], [[2], [1, 3]]) == [1]  # 0.54 against 0.3
    assert choose_candidates(model, [[0]], [[2], [1, 2]]) == [0]  # 0.024 against 0.3


def test_of_equals_the_first_is_chosen():
    model = TableModel([[0.25] * 4] * 4)
    assert choose_candidates(model, [[0], [1]], [[3], [2], [1]]) == [0, 0]


def test_impossible_candidates_do_not_hang():
    model = TableModel([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert choose_candidates(model, [[0]], [[1, 1], [2, 2], [1, 2]]) == [0]


@pytest.mark.parametrize(
    ("prompts", "candidates"), [([], [[1]]), ([[1]], []), ([[]], [[1]]), ([[1]], [[1], []])]
)
def test_nothing_to_choose_is_refused(tiny_llama, prompts, candidates):
    with pytest.raises(InputError, match="empty"):
        choose_candidates(tiny_llama, prompts, candidates)


class Knowing(nn.Module):
    """A language model over bytes that has learnt two sentences by heart."""

    def __init__(self, tokenizer, sentences):
        super().__init__()
        self.known = [tokenizer(sentence)["input_ids"] for sentence in sentences]

    def forward(self, tokens):
        found = torch.zeros(*tokens.shape, 256)
        for b, row in enumerate(tokens.tolist()):
            for known in self.known:
                for i in range(len(row)):
                    if row[: i + 1] == known[: i + 1] and i + 1 < len(known):
                        found[b, i, known[i + 1]] = 9.0
        return SimpleNamespace(logits=found)


CANDIDATES = ("Greece", "Iraq", "Iran", "Peru")


@pytest.fixture
def task():
    facts = [("Athens", 0), ("Baghdad", 1), ("Tehran", 2), ("Lima", 3)]
    questions = [
        AnalogyQuestion(f"{city} is the capital of", CANDIDATES, answer) for city, answer in facts
    ]
    return AnalogyTask({"capitals": tuple(questions)})


def test_a_model_that_knows_half_of_the_answers_scores_half(tiny_tokenizer, task):
    sentences = ["Baghdad is the capital of Iraq", "Tehran is the capital of Iran"]
    sentences += ["Athens is the capital of Peru", "Lima is the capital of Iran"]  # mistaken
    score = analogy_accuracy(
        Knowing(tiny_tokenizer, sentences), tiny_tokenizer, task, "capitals", 4
    )
    assert (score.value, score.n) == (0.5, 4)
    assert (score.low, score.high) == wilson_interval(2, 4)
    assert str(score).startswith("50 % (")


def test_the_seed_chooses_the_questions(tiny_tokenizer, task):
    model = Knowing(tiny_tokenizer, ["Baghdad is the capital of Iraq"])
    scores = {
        seed: analogy_accuracy(model, tiny_tokenizer, task, "capitals", 1, seed).value
        for seed in range(8)
    }
    again = analogy_accuracy(model, tiny_tokenizer, task, "capitals", 1, 3).value
    assert scores[3] == again
    assert set(scores.values()) == {0.0, 1.0}


def test_unknown_sections_and_too_many_questions_are_refused(tiny_llama, tiny_tokenizer, task):
    with pytest.raises(InputError, match="capitals"):
        analogy_accuracy(tiny_llama, tiny_tokenizer, task, "capital")
    with pytest.raises(InputError, match="n_questions"):
        analogy_accuracy(tiny_llama, tiny_tokenizer, task, "capitals", 5)
