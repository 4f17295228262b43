"""Score encoders: models that turn a text into a vector.

- `encode`: one vector a text. Most below is made of these.
- `classification_score`: tell texts apart. A fine-tuned model answers by itself; for any other its
  weights stay as they are and a logistic regression on its vectors answers.
- `retrieval_scores`: given a sentence, find the passage that it was taken out of, by the nearest
  vector. Nothing is trained, so it feels damage to the vectors first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import device_of, evaluating, pad_right, progress

if TYPE_CHECKING:
    from shrinkkit.sources.tasks import ClassificationTask, RetrievalTask


@dataclass(frozen=True)
class ClassificationScore:
    """Telling texts apart: `accuracy`, `macro_f1` (every label counts the same), `n` texts.

    `right`: [n] bool, for `paired_interval`.
    """

    accuracy: float
    macro_f1: float
    n: int
    right: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)


@dataclass(frozen=True)
class RetrievalScore:
    """Retrieval: `mrr_at_10` (mean of 1 / rank, 0 beyond 10), `recall_at_1`, `n` queries.

    `reciprocal`: [n] float64, what the mean is of, for `paired_interval`.
    """

    mrr_at_10: float
    recall_at_1: float
    n: int
    reciprocal: torch.Tensor = field(
        default_factory=lambda: torch.empty(0), repr=False, compare=False
    )


def encode(
    model: nn.Module,
    tokenizer: Any,
    sentences: Sequence[str],
    batch_size: int = 32,
    max_length: int = 256,
) -> torch.Tensor:
    """Turn sentences into vectors of length 1: the mean of the last hidden states.

    Mean pooling as in Reimers and Gurevych 2019 (arXiv 1908.10084), section 3; padding is left out
    of the mean. A sentence's vector does not depend on the sentences it is encoded with.

    model: an encoder; a causal language model works too, by the states before its head.
    tokenizer: its tokenizer.
    sentences: texts; longer ones are cut at max_length tokens.
    Returns [n_sentences, hidden] float32 on the CPU.
    Raises InputError for no sentences, or one that is not text.
    """

    def mean_state(padded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = body(padded, attention_mask=mask).last_hidden_state.float()
        kept = mask[:, :, None]  # [batch, seq_len, 1]
        mean = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)  # [batch, hidden]
        return normalize(mean, dim=1)

    body = getattr(model, "base_model", model)  # without a language-model or classifier head
    return _in_batches(model, tokenizer, sentences, batch_size, max_length, mean_state, "encoding")


def label_scores(
    model: nn.Module,
    tokenizer: Any,
    sentences: Sequence[str],
    batch_size: int = 32,
    max_length: int = 256,
) -> torch.Tensor:
    """Ask a classifier for the score of each label.

    model: with a head over labels, such as `finetune` returns; other arguments as in `encode`.
    Returns [n_sentences, n_labels] float32 on the CPU: logits.
    Raises InputError as `encode` does.
    """

    def logits(padded: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return model(padded, attention_mask=mask).logits.float()

    return _in_batches(model, tokenizer, sentences, batch_size, max_length, logits, "reading")


def _in_batches(
    model: nn.Module,
    tokenizer: Any,
    sentences: Sequence[str],
    batch_size: int,
    max_length: int,
    look: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    label: str,
) -> torch.Tensor:
    """Give look(ids, mask) of each sentence, in their order; alike lengths go together."""
    if isinstance(sentences, str) or not len(sentences):
        raise InputError("sentences must be a list with at least one text.")
    wrong = next((s for s in sentences if not isinstance(s, str)), None)
    if wrong is not None:
        raise InputError(f"sentences holds a {type(wrong).__name__}: give texts only.")
    require_int("batch_size", batch_size, 1)
    ids = token_rows(model, tokenizer, sentences, max_length)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # alike lengths: little padding
    rows: list[torch.Tensor] = [torch.empty(0)] * len(ids)
    with evaluating(model):
        for start in progress(range(0, len(order), batch_size), label):
            part = order[start : start + batch_size]
            padded, mask = pad_right([ids[i] for i in part], device_of(model))  # [batch, seq_len]
            for i, row in zip(part, look(padded, mask).cpu(), strict=True):
                rows[i] = row
    return torch.stack(rows)


def token_rows(
    model: nn.Module, tokenizer: Any, sentences: Sequence[str], max_length: int
) -> list[torch.Tensor]:
    """Turn each sentence into token ids, cut at max_length and at what the model can hold."""
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", max_length)
    cut = {"truncation": True, "max_length": min(require_int("max_length", max_length, 1), limit)}
    return [torch.tensor(ids) for ids in tokenizer(list(sentences), **cut)["input_ids"]]


def is_classifier(model: nn.Module) -> bool:
    """Tell whether a model has a head over labels (transformers' ...ForSequenceClassification)."""
    return hasattr(model, "classifier") or hasattr(model, "score")


def classification_score(
    model: nn.Module, tokenizer: Any, task: ClassificationTask, part: str = "test"
) -> ClassificationScore:
    """Score how well a model tells a task's texts apart.

    A model with a head over labels answers by itself. Any other model's weights stay as they are,
    and a logistic regression on its vectors, fitted on task.train, answers: it can learn to look
    past some damage.

    model: a classifier (`finetune`) or an encoder; tokenizer: its tokenizer.
    task: from load_task('topics') or load_task('sentiment').
    part: "test", or "choice": what epochs and students are chosen on.
    Returns ClassificationScore(accuracy, macro_f1, n texts). Deterministic.
    Raises InputError: an empty part, a head over other labels.
    """
    judged = task.part(part)
    if is_classifier(model):
        logits = label_scores(model, tokenizer, judged.texts)
        if logits.shape[1] != len(task.label_names):
            raise InputError(
                f"The model chooses among {logits.shape[1]} labels and {task.name!r} has "
                f"{len(task.label_names)}: fine-tune one on this task."
            )
        return score_guesses(logits.argmax(1), judged.labels)
    from sklearn.linear_model import LogisticRegression

    classifier = LogisticRegression(C=10.0, max_iter=1000)
    classifier.fit(encode(model, tokenizer, task.train.texts).numpy(), task.train.labels)
    guesses = classifier.predict(encode(model, tokenizer, judged.texts).numpy())
    return score_guesses(guesses, judged.labels)


def score_guesses(guesses: Any, labels: Sequence[int]) -> ClassificationScore:
    """Compare guessed labels with the right ones.

    >>> score_guesses([0, 0, 1, 1], [0, 1, 1, 1])
    ClassificationScore(accuracy=0.75, macro_f1=0.733..., n=4)
    """
    from sklearn.metrics import f1_score

    guesses, truth = torch.as_tensor(guesses), torch.as_tensor(labels)
    right = guesses == truth
    macro_f1 = float(f1_score(truth, guesses, average="macro"))
    return ClassificationScore(right.double().mean().item(), macro_f1, len(truth), right)


def retrieval_scores(model: nn.Module, tokenizer: Any, task: RetrievalTask) -> RetrievalScore:
    """Score how well a model's vectors find the passage that a sentence was taken out of.

    rank of the right passage = number of passages at least as similar to the query, itself counted;
    so a model that gives every text one vector gets the last rank, not the first.
    mrr_at_10 = mean of (1 / rank if rank <= 10 else 0); recall_at_1 = mean of [rank = 1].

    model: an encoder; tokenizer: its tokenizer.
    task: from load_task('retrieval').
    Returns RetrievalScore(mrr_at_10, recall_at_1, n queries).
    """
    queries = encode(model, tokenizer, task.queries)  # [n_queries, hidden]
    passages = encode(model, tokenizer, task.passages)  # [n_passages, hidden]
    return retrieval_of_vectors(queries, passages, task)


def retrieval_of_vectors(queries: Any, passages: Any, task: RetrievalTask) -> RetrievalScore:
    """Score vectors of a retrieval task's queries and passages, round by round.

    queries, passages: [n_queries, hidden] and [n_passages, hidden], torch or scipy (sparse).
    """
    parts, targets = [], torch.as_tensor(task.targets)
    asked, offered = len(task.queries) // task.n_rounds, len(task.passages) // task.n_rounds
    for turn in range(task.n_rounds):
        rows = slice(turn * asked, (turn + 1) * asked)
        among = slice(turn * offered, (turn + 1) * offered)
        similarity = queries[rows] @ passages[among].T  # [asked, offered]
        similarity = similarity.toarray() if hasattr(similarity, "toarray") else similarity
        own = targets[rows] - turn * offered
        parts.append(ranking_scores(torch.as_tensor(similarity), own).reciprocal)
    return _of_reciprocals(torch.cat(parts))


def ranking_scores(similarity: torch.Tensor, targets: torch.Tensor) -> RetrievalScore:
    """Turn similarities into MRR@10 and recall@1.

    similarity: [n_queries, n_passages]; targets: [n_queries] index of the right passage.

    >>> ranking_scores(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    RetrievalScore(mrr_at_10=0.75, recall_at_1=0.5, n=2)
    """
    own = similarity.gather(1, targets[:, None])  # [n_queries, 1]
    rank = (similarity >= own).sum(1).double()  # [n_queries], the right one included
    return _of_reciprocals(torch.where(rank <= 10, 1 / rank, 0.0))


def _of_reciprocals(reciprocal: torch.Tensor) -> RetrievalScore:
    first = (reciprocal == 1).double().mean().item()
    return RetrievalScore(reciprocal.mean().item(), first, len(reciprocal), reciprocal)
