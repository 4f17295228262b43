"""Ask a language model to tell texts apart, without any training: zero-shot.

"An absorbing documentary. In one word: it was" - is "great" likelier than "terrible"? The model has
never seen the task; it has read how people write. Which prompt is asked matters by ten points and
more, so it was chosen on the task's part `choice`, and the test part is read with that one alone.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure.tasks.analogies import choose_candidates
from shrinkkit.measure.tasks.encoders import ClassificationScore, score_guesses
from shrinkkit.sources.tasks import ClassificationTask


def zero_shot_score(
    model: nn.Module, tokenizer: Any, task: ClassificationTask, part: str = "test"
) -> ClassificationScore:
    """Score a causal language model on a task by the answer that it finds likelier.

    guess = argmax over answers of log p(answer | task.prompt with the text in it)

    model: a causal language model; tokenizer: its tokenizer.
    task: load_task('sentiment'), or another with a prompt and answers; part: "test" or "choice".
    Returns ClassificationScore.
    Raises InputError: a task that cannot be asked so, an empty part.
    """
    if task.prompt is None or task.answers is None:
        raise InputError(f"The task {task.name!r}, part {part!r}, has no prompt.")
    judged = task.part(part)
    plain = {"add_special_tokens": False}
    prompts = [tokenizer(task.prompt.format(text), **plain)["input_ids"] for text in judged.texts]
    answers = [tokenizer(f" {word}", **plain)["input_ids"] for word in task.answers]
    return score_guesses(choose_candidates(model, prompts, answers), judged.labels)
