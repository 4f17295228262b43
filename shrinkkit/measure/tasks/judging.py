"""Let a model do a task, item by item, and compare two models on the same items.

What a score card shows of a task: its columns; beside each, how sure the ratio to the reference is;
and for encoders the share of the reference's lead over counted words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure.paired import lead, paired_interval, share, times
from shrinkkit.measure.tasks.analogies import analogy_accuracy
from shrinkkit.measure.tasks.encoders import classification_score, retrieval_scores
from shrinkkit.measure.tasks.last_words import last_word_scores
from shrinkkit.measure.tasks.rivals import tfidf_classification, tfidf_retrieval
from shrinkkit.measure.tasks.zero_shot import zero_shot_score
from shrinkkit.sources.tasks import ClassificationTask, LastWordTask, RetrievalTask, Task
from shrinkkit.surgery.parts import output_head

ANALOGY_SECTIONS = ("capital-world", "gram2-opposite")


@dataclass(frozen=True)
class Judged:
    """What a model reached on a task: `columns` of the card, and what they are made of.

    items: {column: [n] results}, and how two models' means are compared (`share` or `times`).
    groups: which items belong together.
    """

    columns: Mapping[str, float]
    items: Mapping[str, tuple[Any, Callable[..., Any]]]
    groups: Sequence[Any] | None = None

    def against(self, reference: Judged, rival: Judged | None = None) -> dict[str, float | None]:
        """Give the interval of each ratio to a reference, and the share of its lead over a rival.

        Columns: `X_relative_low`, `X_relative_high`; `X_lead`, `X_lead_low`, `X_lead_high`.
        """
        found: dict[str, float | None] = {}
        for column, (ours, of) in self.items.items():
            theirs = reference.items[column][0]
            found.update(beside(column, of, ours, theirs, groups=self.groups))
            if rival is not None and of is share:
                three = ours, theirs, rival.items[column][0]
                found.update(beside(column, lead, *three, groups=self.groups, suffix="_lead"))
        return found


def beside(
    column: str,
    of: Callable[..., Any],
    *items: Any,
    groups: Sequence[Any] | None = None,
    suffix: str = "_relative",
) -> dict[str, float | None]:
    """Give a comparison's interval as columns; None where nothing can be said (one item, 0 / 0)."""
    names = f"{column}{suffix}_low", f"{column}{suffix}_high"
    if suffix != "_relative":  # the card works out ratios itself
        names = (f"{column}{suffix}", *names)
    try:
        found = paired_interval(of, *items, groups=groups)
    except InputError:
        return dict.fromkeys(names)
    return dict(zip(reversed(names), (found.high, found.low, found.value), strict=False))


def reads_text(task: Task) -> bool:
    """Tell the encoders' tasks, which counting words can do too."""
    return isinstance(task, (ClassificationTask, RetrievalTask))


def judge(model: nn.Module, tokenizer: Any, task: Task, n_questions: int, seed: int) -> Judged:
    """Let a model do a task.

    n_questions, seed: how many questions of each of two sections of an analogy task, and which.
    """
    if isinstance(task, ClassificationTask):
        asked = (
            zero_shot_score
            if task.prompt and output_head(model) is not None
            else classification_score
        )
        return _classified(task, asked(model, tokenizer, task))
    if isinstance(task, RetrievalTask):
        return _retrieved(task, retrieval_scores(model, tokenizer, task))
    if isinstance(task, LastWordTask):
        found = last_word_scores(model, tokenizer, task)
        columns = {
            "last_word_perplexity": found.perplexity,
            "last_word_accuracy": found.accuracy,
        }
        items = {
            "last_word_perplexity": (found.losses, times),
            "last_word_accuracy": (found.right, share),
        }
        return Judged(columns, items, [item.group for item in task.items])
    columns, items = {}, {}
    for section in ANALOGY_SECTIONS:
        score = analogy_accuracy(model, tokenizer, task, section, n_questions, seed)
        name = section.replace("-", "_") + "_accuracy"
        columns.update({name: score.value, f"{name}_low": score.low, f"{name}_high": score.high})
        items[name] = (score.right, share)
    return Judged(columns, items)


def judge_rival(task: Task) -> Judged | None:
    """Let counted words do a task; None for one that they cannot do."""
    if isinstance(task, ClassificationTask):
        return _classified(task, tfidf_classification(task))
    if isinstance(task, RetrievalTask):
        return _retrieved(task, tfidf_retrieval(task))
    return None


def _classified(task: ClassificationTask, score: Any) -> Judged:
    name = f"{task.name}_accuracy"
    columns = {name: score.accuracy, f"{task.name}_macro_f1": score.macro_f1}
    return Judged(columns, {name: (score.right, share)}, task.test.groups)


def _retrieved(task: RetrievalTask, score: Any) -> Judged:
    columns = {
        "retrieval_mrr_at_10": score.mrr_at_10,
        "retrieval_recall_at_1": score.recall_at_1,
    }
    items = {"retrieval_mrr_at_10": (score.reciprocal, share)}
    return Judged(columns, items, task.groups or None)
