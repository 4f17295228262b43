"""Score encoders: models that turn a text into a vector.

- `encode`: one vector a text. Everything below is made of these.
- `topics_accuracy`: from which article does a passage come? The model's weights stay as they are; a
  logistic regression on its vectors answers. It can learn to look past some damage.
- `retrieval_scores`: given a sentence, find the passage that it was taken out of, by the nearest
  vector. Nothing is trained, so it feels damage to the vectors first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import normalize

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import device_of, evaluating, pad_right, progress

if TYPE_CHECKING:
    from shrinkkit.sources.tasks import RetrievalTask, TopicsTask


@dataclass(frozen=True)
class TopicsScore:
    """Topic classification: `accuracy`, `macro_f1` (every topic counts the same), `n` passages."""

    accuracy: float
    macro_f1: float
    n: int


@dataclass(frozen=True)
class RetrievalScore:
    """Retrieval: `mrr_at_10` (mean of 1 / rank, 0 beyond 10), `recall_at_1`, `n` queries."""

    mrr_at_10: float
    recall_at_1: float
    n: int


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
    if isinstance(sentences, str) or not len(sentences):
        raise InputError("sentences must be a list with at least one text.")
    wrong = next((s for s in sentences if not isinstance(s, str)), None)
    if wrong is not None:
        raise InputError(f"sentences holds a {type(wrong).__name__}: give texts only.")
    require_int("batch_size", batch_size, 1)
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", max_length)
    cut = {"truncation": True, "max_length": min(require_int("max_length", max_length, 1), limit)}
    ids = [torch.tensor(tokenizer(text, **cut)["input_ids"]) for text in sentences]
    body = getattr(model, "base_model", model)  # without a language-model or classifier head
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # alike lengths: little padding
    vectors: list[torch.Tensor] = [torch.empty(0)] * len(ids)
    with evaluating(model):
        for start in progress(range(0, len(order), batch_size), "encoding"):
            part = order[start : start + batch_size]
            padded, mask = pad_right([ids[i] for i in part], device_of(model))  # [batch, seq_len]
            hidden = body(padded, attention_mask=mask).last_hidden_state.float()
            kept = mask[:, :, None]  # [batch, seq_len, 1]
            mean = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)  # [batch, hidden]
            for i, vector in zip(part, normalize(mean, dim=1).cpu(), strict=True):
                vectors[i] = vector
    return torch.stack(vectors)


def topics_accuracy(model: nn.Module, tokenizer: Any, task: TopicsTask) -> TopicsScore:
    """Score a frozen model's vectors by a logistic regression that tells topics apart.

    model: an encoder; tokenizer: its tokenizer.
    task: from load_task('topics').
    Returns TopicsScore(accuracy, macro_f1, n test passages). Deterministic.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score

    train = encode(model, tokenizer, task.train_passages).numpy()
    test = encode(model, tokenizer, task.test_passages).numpy()
    classifier = LogisticRegression(C=10.0, max_iter=1000).fit(train, task.train_labels)
    guess = classifier.predict(test)
    truth = task.test_labels
    macro_f1 = f1_score(truth, guess, average="macro")
    return TopicsScore(float(accuracy_score(truth, guess)), float(macro_f1), len(truth))


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
    return ranking_scores(queries @ passages.T, torch.as_tensor(task.targets))


def ranking_scores(similarity: torch.Tensor, targets: torch.Tensor) -> RetrievalScore:
    """Turn similarities into MRR@10 and recall@1.

    similarity: [n_queries, n_passages]; targets: [n_queries] index of the right passage.

    >>> ranking_scores(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    RetrievalScore(mrr_at_10=0.75, recall_at_1=0.5, n=2)
    """
    own = similarity.gather(1, targets[:, None])  # [n_queries, 1]
    rank = (similarity >= own).sum(1).double()  # [n_queries], the right one included
    reciprocal = torch.where(rank <= 10, 1 / rank, 0.0)
    return RetrievalScore(
        reciprocal.mean().item(), (rank == 1).double().mean().item(), len(targets)
    )
