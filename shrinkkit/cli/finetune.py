"""`shrinkkit finetune`: teach an encoder a task, and say what it is worth beside counted words."""

from __future__ import annotations

from typing import Any

from shrinkkit.errors import InputError, require_choice
from shrinkkit.measure import (
    classification_score,
    difference,
    mcnemar,
    paired_interval,
    tfidf_classification,
)
from shrinkkit.sources.models import load_tokenizer
from shrinkkit.sources.tasks import load_task
from shrinkkit.surgery.parts import output_head
from shrinkkit.train.finetune import finetune

TASKS = ("sentiment", "topics")
_WRITTEN = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def run(model: str, task_name: str, out: str, echo: Any, **settings: Any) -> None:
    """Fine-tune, save, and print one line an epoch and the verdict on the test part.

    model: embedded name, folder or hub name. task_name: of TASKS. out: the folder to write.
    echo: takes a line of text. settings: those of `finetune`.
    Raises InputError for an unknown task, a language model, or what `finetune` refuses.
    """
    from shrinkkit.loading import load_model
    from shrinkkit.system.files import write_atomically

    task = load_task(require_choice("task", task_name, TASKS))
    encoder, tokenizer = load_model(model), load_tokenizer(model)
    if output_head(encoder) is not None:
        raise InputError(f"{model} is a language model: give an encoder, such as minilm-l6.")
    tuned = finetune(encoder, tokenizer, task, **settings)
    for row in tuned.epochs:
        chosen = f", choice {row['choice']:.1%}" if "choice" in row else ""
        echo(f"epoch {row['epoch']}: loss {row['loss']:.3f}{chosen}, {row['seconds']:.0f} s")
    with write_atomically(out, replaces=_WRITTEN) as folder:
        tuned.model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    score, counted = classification_score(tuned.model, tokenizer, task), tfidf_classification(task)
    groups = task.test.groups
    ahead = paired_interval(difference, score.right, counted.right, groups=groups)
    p = mcnemar(score.right, counted.right).p
    echo(
        f"test, {score.n:,} texts: {score.accuracy:.1%}, epoch {tuned.best_epoch}; counted words "
        f"(TF-IDF) {counted.accuracy:.1%}; ahead by {100 * ahead.value:.1f} points "
        f"({100 * ahead.low:.1f} to {100 * ahead.high:.1f}; McNemar p = {p:.1g})."
    )
    echo(f"{out}: AutoModelForSequenceClassification.from_pretrained({out!r}) opens it.")
