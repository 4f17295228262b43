"""What an encoder is good for, beside what counting words reaches: three tasks, with intervals.

    python benchmarks/tasks.py [--quick] [--json FILE]

all-MiniLM-L6-v2 on `sentiment` (film reviews, split by film), `topics` and `retrieval` (passages of
Wikipedia). Rivals: always the commoner label, counted words (TF-IDF), the mean of the model's own
word vectors. On `sentiment` the model is used as it is (its weights frozen, a logistic regression
on its vectors) and fine-tuned from three seeds, two epochs each, the better one chosen on the part
`choice`; the test part is read once a row.

Intervals: 95 %, items drawn again in groups (films, paragraphs, passages), trainings drawn too. "Of
the lead" is the part of the lead that fine-tuning has over counted words on `sentiment`. Seconds
are those of one fine-tuning. The rows land in data/results/tasks.json.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from common import arguments, finish

from shrinkkit import load_model, load_task, load_tokenizer
from shrinkkit.measure import (
    WordVectors,
    classification_score,
    lead,
    paired_interval,
    retrieval_scores,
    tfidf_classification,
    tfidf_retrieval,
)
from shrinkkit.train.finetune import finetune

SEEDS = (0, 1, 2)
TUNED = "MiniLM, fine-tuned"


def mean(x: Any) -> Any:
    """Return a mean as it is: what an interval of one model's score is about."""
    return x


def interval(items: torch.Tensor, groups: Any) -> str:
    """Write the 95 % interval of a mean score in per cent or as a number."""
    found = paired_interval(mean, items, groups=groups)
    return f"{found.low:.3f}-{found.high:.3f}"


def sentiment(options: Any, model: Any, tokenizer: Any) -> list[dict]:
    """Return a row for each way of telling fresh from rotten."""
    task = load_task("sentiment")
    n_train = 320 if options.quick else None
    labels = torch.tensor(task.test.labels)
    commoner = int(torch.tensor(task.train.labels).float().mean() > 0.5)
    right = {
        "the commoner label": (labels == commoner)[None],
        "TF-IDF": tfidf_classification(task).right[None],
        "MiniLM's word vectors, mean": classification_score(
            WordVectors(model), tokenizer, task
        ).right[None],
        "MiniLM, frozen": classification_score(model, tokenizer, task).right[None],
    }
    runs, seconds, chosen = [], [], []
    for seed in SEEDS:
        began = time.perf_counter()
        tuned = finetune(model, tokenizer, task, epochs=2, n_train=n_train, seed=seed)
        seconds.append(time.perf_counter() - began)
        chosen.append([row["choice"] for row in tuned.epochs])
        runs.append(classification_score(tuned.model, tokenizer, task).right)
        print(f"seed {seed}: {tuned.epochs}, test {runs[-1].double().mean():.4f}", flush=True)
    right[TUNED] = torch.stack(runs)
    rows = []
    for name, found in right.items():
        items = found.double()
        row = {"model": name, "sentiment_accuracy": items.mean().item(), "n_sentiment": len(labels)}
        row["sentiment_interval"] = interval(items, task.test.groups)
        if name not in ("TF-IDF", TUNED):
            three = items, right[TUNED].double(), right["TF-IDF"].double()
            row["sentiment_lead"] = paired_interval(lead, *three, groups=task.test.groups).value
        rows.append(row)
    rows[-1] |= {
        "sentiment_by_seed": right[TUNED].double().mean(1).tolist(),
        "choice_by_epoch_and_seed": chosen,
        "sentiment_lead": 1.0,
        "seconds": sum(seconds) / len(seconds),
        "seconds_by_seed": seconds,
    }
    return rows


def passages(options: Any, model: Any, tokenizer: Any) -> dict[str, dict]:
    """Return for each encoder what it reaches on topics and retrieval."""
    topics = load_task("topics", n_test=2 if options.quick else None)
    retrieval = load_task("retrieval", n_passages=40 if options.quick else None)
    scores = {
        "TF-IDF": (tfidf_classification(topics), tfidf_retrieval(retrieval)),
        **{
            name: (
                classification_score(encoder, tokenizer, topics),
                retrieval_scores(encoder, tokenizer, retrieval),
            )
            for name, encoder in (
                ("MiniLM's word vectors, mean", WordVectors(model)),
                ("MiniLM, frozen", model),
            )
        },
    }
    return {
        name: {
            "topics_accuracy": told.accuracy,
            "topics_interval": interval(told.right.double(), topics.test.groups),
            "n_topics": told.n,
            "retrieval_mrr_at_10": found.mrr_at_10,
            "retrieval_interval": interval(found.reciprocal, retrieval.groups),
            "n_retrieval": found.n,
        }
        for name, (told, found) in scores.items()
    }


if __name__ == "__main__":
    options = arguments(__doc__)
    model, tokenizer = load_model("minilm-l6"), load_tokenizer("minilm-l6")
    others = passages(options, model, tokenizer)
    rows = [row | others.get(row["model"], {}) for row in sentiment(options, model, tokenizer)]
    finish("tasks", rows, options, key=("model",), seed=0, n_samples=rows[0]["n_sentiment"])
