"""Fine-tune an encoder: put a head for labels on it and let all of it learn a task.

BERT's recipe (Devlin et al. 2019, arXiv 1810.04805, section 4.1): one linear layer on the pooled
first token, cross-entropy, a small learning rate for every weight, few epochs. The model is one of
transformers' own classes, so it saves, loads and compresses like any other.

What to look at while choosing (how many epochs, which student) is the task's part `choice`: after
each epoch it is read, and the model of the best epoch is what comes back. The test part is not
touched here.

Reviews of one sentence have 5 to 60 tokens. Padding them all to the longest of a batch wastes a
third of the work, so each epoch is shuffled, cut into runs of many batches, and each run sorted by
length before it is cut into batches, which are then shuffled.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.tasks.encoders import classification_score, token_rows
from shrinkkit.sources.tasks import ClassificationTask
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.running import device_of, pad_right
from shrinkkit.train.descent import Schedule, descend

_RUN = 16  # batches that are sorted by length together


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model and how it got there.

    epochs: one row an epoch: `epoch`, mean `loss`, accuracy on the part `choice`, `seconds` so far.
    best_epoch: the one that `model` is of, chosen on `choice`.
    """

    model: nn.Module
    epochs: tuple[dict[str, float], ...]
    best_epoch: int


def finetune(
    model: nn.Module,
    tokenizer: Any,
    task: ClassificationTask,
    *,
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    warm_up: float = 0.1,
    max_length: int = 64,
    n_train: int | None = None,
    seed: int = 0,
) -> FineTuned:
    """Fine-tune a float encoder, or a classifier, on a task.

    Devlin et al. 2019 (arXiv 1810.04805), section 4.1 and appendix A.3.

    model: such as load_model('minilm-l6'); it is left as it is. One that has a head over as many
        labels keeps it.
    tokenizer: its tokenizer.
    task: load_task('sentiment') or 'topics'.
    epochs: times that the training part is read. batch_size: texts a step.
    learning_rate: the peak, for every weight; it rises over `warm_up` of the steps, then falls.
    max_length: longer texts are cut there, in tokens.
    n_train: learn from the first so many texts only; None: from all.
    seed: of the head's first weights, the order of the texts and dropout.
    Returns FineTuned, its model in eval mode. The same seed on the same machine, the same model.
    Raises InputError: a compressed model, no such texts, numbers out of range, a loss that stops
    being finite.
    """
    refuse_unfit(model)
    require_int("epochs", epochs, 1)
    n = require_int("n_train", n_train, 1, len(task.train)) if n_train else len(task.train)
    n_steps = -(-n // batch_size) if require_int("batch_size", batch_size, 1) else 0
    schedule = Schedule(epochs * n_steps, batch_size, learning_rate, warm_up, seed)
    began, rows = time.perf_counter(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        learner = with_head(model, task)
        ids = token_rows(learner, tokenizer, task.train.texts[:n], max_length)
        labels = torch.tensor(task.train.labels[:n], device=device_of(learner))
        best, best_at, losses = None, -1.0, []

        def loss_of(chosen: torch.Tensor) -> torch.Tensor:
            padded, mask = pad_right([ids[i] for i in chosen.tolist()], device_of(learner))
            logits = learner(padded, attention_mask=mask).logits  # [batch, n_labels]
            return cross_entropy(logits.float(), labels[chosen])

        def on_step(row: dict[str, Any]) -> None:
            nonlocal best, best_at
            losses.append(row["loss"])
            if row["step"] % n_steps:
                return
            found = {"epoch": row["step"] // n_steps, "loss": sum(losses) / len(losses)}
            if len(task.choice):
                found["choice"] = classification_score(learner, tokenizer, task, "choice").accuracy
            rows.append(found | {"seconds": time.perf_counter() - began})
            losses.clear()
            if found.get("choice", row["step"]) > best_at:
                best_at = found.get("choice", row["step"])
                best = (found["epoch"], copy.deepcopy(learner.state_dict()))

        learner.train()
        descend(
            schedule,
            torch.arange(n),
            [(list(learner.parameters()), 1.0)],
            loss_of,
            label="fine-tuning",
            clip=1.0,
            rows=_batches([len(row) for row in ids], batch_size, epochs, seed),
            on_step=on_step,
        )
    best_epoch, weights = best
    learner.load_state_dict(weights)
    return FineTuned(learner.eval(), tuple(rows), best_epoch)


def with_head(model: nn.Module, task: ClassificationTask) -> nn.Module:
    """Return a copy of an encoder with transformers' own head over a task's labels.

    The head's first weights come from torch's global generator.
    Raises InputError for a model that transformers has no such class for.
    """
    from transformers import AutoModelForSequenceClassification

    if getattr(model, "classifier", None) is not None:
        if model.config.num_labels == len(task.label_names):
            return copy.deepcopy(model)
        model = model.base_model
    names = dict(enumerate(task.label_names))
    config = copy.deepcopy(model.config)
    config.id2label, config.label2id = names, {name: i for i, name in names.items()}
    try:
        learner = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        raise InputError(
            f"transformers has no classifier for {type(model).__name__}: give an encoder, such as "
            "load_model('minilm-l6')."
        ) from None
    learner.base_model.load_state_dict(model.state_dict())
    return learner.to(device=device_of(model), dtype=model.dtype)


def _batches(lengths: list[int], batch_size: int, epochs: int, seed: int) -> list[torch.Tensor]:
    """Return each step's row numbers: every text once an epoch, alike lengths together.

    >>> [sorted(torch.cat(_batches([3, 1, 2], 2, 1, 0)).tolist())]
    [[0, 1, 2]]
    """
    generator = torch.Generator().manual_seed(seed)
    batches: list[torch.Tensor] = []
    length = torch.tensor(lengths)
    for _ in range(epochs):
        order = torch.randperm(len(lengths), generator=generator)
        runs = [run[length[run].argsort(stable=True)] for run in order.split(_RUN * batch_size)]
        here = [batch for run in runs for batch in run.split(batch_size)]
        batches += [here[i] for i in torch.randperm(len(here), generator=generator).tolist()]
    return batches
