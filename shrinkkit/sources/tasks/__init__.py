"""Tasks made from the embedded texts, to judge a model by more than perplexity.

| task | for | what | judged on |
| --- | --- | --- | --- |
| `topics` | encoders | which of 40 articles is a passage from? | some 3,700 passages |
| `retrieval` | encoders | which passage was a sentence taken out of? | some 5,400 sentences |
| `sentiment` | both | does the critic recommend the film? | some 3,200 sentences |
| `analogies` | decoders | "Athens is the capital of Greece. Baghdad ..." | as many as asked for |
| `last-words` | decoders | the last word of a passage of a story | some 900 passages |

All are built when loaded, the same for the same seed, in a second or two. `topics` and `retrieval`
use only the evaluation half of `wikipedia`, `last-words` the stories that nothing is calibrated on,
`sentiment` has a part for training, one for choosing and one for judging: calibrating on the texts
of the course gives nothing away. The tasks are made here and known to nobody else, so compare
models with each other, not with published tables. `topics` and `retrieval` are largely about words:
counting them (TF-IDF) goes a long way, and stands beside every model.
"""

from __future__ import annotations

from typing import Any

from shrinkkit.errors import require_choice, require_int
from shrinkkit.sources.tasks.analogies import AnalogyQuestion, AnalogyTask, analogies
from shrinkkit.sources.tasks.classification import ClassificationTask, Part, sentiment, topics
from shrinkkit.sources.tasks.last_words import LastWord, LastWordTask, last_words
from shrinkkit.sources.tasks.retrieval import RetrievalTask, retrieval

Task = ClassificationTask | RetrievalTask | AnalogyTask | LastWordTask

# What a task is made of, the sizes that it takes, and which of them may be None (all there are).
_MADE = {
    "topics": (topics, {"n_topics": 40, "n_train": 8, "n_test": None}),
    "retrieval": (retrieval, {"n_passages": None, "n_rounds": 4}),
    "sentiment": (sentiment, {"n_test": None}),
    "analogies": (analogies, {}),
    "last-words": (last_words, {"n_passages": None}),
}
_WITHOUT_LUCK = ("analogies",)  # always the same: no seed
TASKS = tuple(_MADE)


def load_task(name: str, *, seed: int = 0, **sizes: int | None) -> Task:
    """Build a task from the embedded texts.

    name: "topics", "retrieval", "sentiment", "analogies" or "last-words".
    seed: which passages and sentences (not used by "analogies", whose sample is drawn by
        `AnalogyTask.questions`). The parts of "sentiment" are fixed; a seed picks from its test.
    sizes: None takes all there are. For "topics" `n_topics` (40), `n_train` (8) and `n_test` (None)
        passages per topic; for "retrieval" `n_passages` (None) and `n_rounds` (4), in each of which
        every passage loses another sentence; for "sentiment" `n_test` (None); for "last-words"
        `n_passages` (None).
    Returns a ClassificationTask, RetrievalTask, AnalogyTask or LastWordTask.
    Raises InputError: unknown name or size, or more passages than the text has; AssetError: an
    embedded file is not installed, or damaged.
    """
    require_choice("task", name, TASKS)
    seed = require_int("seed", seed, 0)
    make, defaults = _MADE[name]
    for size, value in sizes.items():
        require_choice(f"a size of the task {name!r}", size, list(defaults))
        if value is not None or defaults[size] is not None:
            require_int(size, value, 2 if size == "n_topics" else 1)
    options: dict[str, Any] = {**defaults, **sizes}
    return make(**options) if name in _WITHOUT_LUCK else make(seed=seed, **options)
