"""Simple rivals for encoders: what counting words reaches, and word vectors without a layer.

A small encoder that keeps 95 % of a large one's accuracy sounds like a success. On a task that
counting words solves nearly as well it may be a failure: then the share of the *lead* over counting
says more. So TF-IDF (Spärck Jones 1972) stands in every table of encoders. It has no parameters
that were trained on other text, and it reads a thousand texts in some milliseconds.

`WordVectors` is the other rival: the mean of a model's input embeddings, its layers left out. What
a small model has learned beyond the words it was given is what it reaches beyond this.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from shrinkkit.measure.tasks.encoders import (
    ClassificationScore,
    RetrievalScore,
    retrieval_of_vectors,
    score_guesses,
)
from shrinkkit.sources.tasks import ClassificationTask, Part, RetrievalTask

TFIDF = "TF-IDF"  # the name of its row


def _vectorizer(longest: int = 1) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # single letters too: "I" and "a" tell something, and so does "a must"
    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", ngram_range=(1, longest))


def tfidf_classification(task: ClassificationTask, part: str = "test") -> ClassificationScore:
    """Score counted words, weighted by their rarity, with a logistic regression on top.

    weight of a word in a text = (1 + ln count) * (ln((1 + texts) / (1 + texts with it)) + 1), rows
    at length 1; vocabulary and rarity from the training part. Where the task has a part `choice`,
    pairs of neighbouring words are counted too if they help there.

    task: from load_task('topics') or 'sentiment'; part: "test" or "choice".
    Raises InputError for an empty part.
    """
    judged = task.part(part)
    asked = [_asked(task, longest) for longest in ((1, 2) if len(task.choice) else (1,))]
    best = max(asked, key=lambda ask: ask(task.choice).accuracy) if len(asked) > 1 else asked[0]
    return best(judged)


def _asked(task: ClassificationTask, longest: int) -> Callable[[Part], ClassificationScore]:
    """Fit on the training part, counting runs of up to `longest` words; return what scores."""
    from sklearn.linear_model import LogisticRegression

    counts = _vectorizer(longest)
    train = counts.fit_transform(task.train.texts)
    classifier = LogisticRegression(C=10.0, max_iter=1000).fit(train, task.train.labels)
    return lambda part: score_guesses(classifier.predict(counts.transform(part.texts)), part.labels)


def tfidf_retrieval(task: RetrievalTask) -> RetrievalScore:
    """Score counted words, weighted by their rarity in the passages, compared by their angle.

    task: from load_task('retrieval').
    """
    counts = _vectorizer()
    passages = counts.fit_transform(task.passages)
    return retrieval_of_vectors(counts.transform(task.queries), passages, task)


class WordVectors(nn.Module):
    """A model's input embeddings alone, as an encoder: `encode` then takes their mean.

    >>> from types import SimpleNamespace
    >>> table = nn.Embedding.from_pretrained(torch.eye(3))
    >>> words = WordVectors(SimpleNamespace(get_input_embeddings=lambda: table))
    >>> words(torch.tensor([[2, 0]])).last_hidden_state.tolist()
    [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.table = model.get_input_embeddings()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None
    ) -> SimpleNamespace:
        """Look tokens up: [batch, seq_len] -> last_hidden_state [batch, seq_len, hidden]."""
        return SimpleNamespace(last_hidden_state=self.table(input_ids))
