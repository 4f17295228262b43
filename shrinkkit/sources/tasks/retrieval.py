"""Find the passage that a sentence was taken out of: the inverse cloze task, for encoders.

Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain Question Answering", section 4.
A passage has four sentences. In each of four rounds every passage loses another one of them, and
the sentences that were lost ask, each, which passage of that round it came from. So every sentence
of every passage is a query once, and length gives nothing away.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from shrinkkit.errors import InputError
from shrinkkit.sources.articles import wikipedia_articles
from shrinkkit.sources.tasks.sentences import paragraphs_of
from shrinkkit.sources.text import split_articles

SENTENCES = 4  # of a passage


@dataclass(frozen=True)
class RetrievalTask:
    """Query i was taken out of `passages[targets[i]]`.

    n_rounds: queries and passages are cut into as many equal parts, one behind the other; a query
        looks among the passages of its own part.
    groups: [n_queries]; which passage, before it lost a sentence, a query is of. Empty: each of
        its own.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    targets: tuple[int, ...]
    n_rounds: int = 1
    groups: tuple[int, ...] = ()
    name: str = "retrieval"


def retrieval(*, n_passages: int | None, n_rounds: int, seed: int) -> RetrievalTask:
    """Make the task `retrieval`; see `load_task`."""
    rng = random.Random(seed)
    pool = [
        sentences[i : i + SENTENCES]
        for article in split_articles(wikipedia_articles())[1]
        for sentences in paragraphs_of(article)
        for i in range(0, len(sentences) - SENTENCES + 1, SENTENCES)
    ]
    n = len(pool) if n_passages is None else n_passages
    if n > len(pool):
        raise InputError(
            f"n_passages must be at most {len(pool)}, the passages of the text, but {n} was given."
        )
    if n_rounds > SENTENCES:
        raise InputError(
            f"n_rounds must be at most {SENTENCES}, the sentences of a passage, but {n_rounds} was "
            "given: in each round a passage loses another one."
        )
    chosen = rng.sample(pool, n)
    orders = [rng.sample(range(SENTENCES), SENTENCES) for _ in chosen]
    queries, passages = [], []
    for turn in range(n_rounds):
        for sentences, order in zip(chosen, orders, strict=True):
            lost = order[turn]
            queries.append(sentences[lost])
            passages.append(" ".join(s for i, s in enumerate(sentences) if i != lost))
    groups = tuple(range(n)) * n_rounds
    targets = tuple(range(len(passages)))
    return RetrievalTask(tuple(queries), tuple(passages), targets, n_rounds, groups)
