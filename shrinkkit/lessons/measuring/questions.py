"""Answer a task's questions one by one, so that two models can be compared question by question.

`measure.analogy_accuracy` gives the score of one model with an interval of its own. Two such
intervals say little about a difference, for most questions are easy for both models or hard for
both. With the answers themselves, `paired_interval` compares the models on the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from shrinkkit.measure.tasks.analogies import choose_candidates

if TYPE_CHECKING:
    from shrinkkit.sources.tasks import AnalogyQuestion


def right_answers(
    model: nn.Module, tokenizer: Any, questions: Sequence[AnalogyQuestion]
) -> list[bool]:
    """Say for each question of one section whether the model finds the right candidate likeliest.

    model: a causal language model; tokenizer: its tokenizer.
    questions: from `load_task("analogies").questions(...)`.
    Returns one bool a question; their mean is `analogy_accuracy`'s value.
    Raises InputError for no questions.
    """
    prompts = [tokenizer(question.prompt)["input_ids"] for question in questions]
    candidates = questions[0].candidates if questions else ()
    endings = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in candidates]
    chosen = choose_candidates(model, prompts, endings)
    return [c == question.answer for c, question in zip(chosen, questions, strict=True)]
