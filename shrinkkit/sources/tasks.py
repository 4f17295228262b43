"""Three small tasks made from the embedded texts, to judge a model by more than perplexity.

`topics` (encoders): which of 40 articles does a passage of two sentences come from? The words of
the article's title are replaced by "…", else spotting one word would do. Training and test
passages come from different paragraphs. Accuracy and macro-F1.

`retrieval` (encoders): the inverse cloze task (Lee et al. 2019, "Latent Retrieval for Weakly
Supervised Open Domain Question Answering", section 4). A sentence is taken out of a passage; the
model has to find, among a thousand passages, the one that it was taken from. MRR@10 and recall@1.

`analogies` (decoders): Google's analogy questions (Mikolov et al. 2013, "Efficient Estimation of
Word Representations in Vector Space", section 4) as sentences to be completed: "Athens is the
capital of Greece. Baghdad is the capital of". The candidates are all answers of the section.

All are built when loaded, from a seed, in under a second. `topics` and `retrieval` use only the
evaluation half of `wikipedia`: calibrating on the other half gives nothing away. They are made
here and known to nobody else, so compare models with each other, not with published tables.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shrinkkit.errors import InputError, require_choice, require_int
from shrinkkit.sources.articles import Article, wikipedia_articles
from shrinkkit.sources.assets import ASSETS, asset_path
from shrinkkit.sources.text import split_articles

TASKS = ("topics", "retrieval", "analogies")


@dataclass(frozen=True)
class TopicsTask:
    """Passages with the index of their article in `label_names`."""

    train_passages: tuple[str, ...]
    train_labels: tuple[int, ...]
    test_passages: tuple[str, ...]
    test_labels: tuple[int, ...]
    label_names: tuple[str, ...]
    name: str = "topics"


@dataclass(frozen=True)
class RetrievalTask:
    """Query i was taken out of `passages[targets[i]]`."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    targets: tuple[int, ...]
    name: str = "retrieval"


@dataclass(frozen=True)
class AnalogyQuestion:
    """A sentence to complete: the right word is `candidates[answer]`."""

    prompt: str
    candidates: tuple[str, ...] = field(repr=False)
    answer: int


@dataclass(frozen=True)
class AnalogyTask:
    """The sections of the question file, each with its questions in file order."""

    sections: Mapping[str, tuple[AnalogyQuestion, ...]] = field(repr=False)
    name: str = "analogies"

    def questions(
        self, section: str, n_questions: int | None = None, seed: int = 0
    ) -> tuple[AnalogyQuestion, ...]:
        """Return a seeded sample of a section's questions.

        A prompt's last word repeats over many questions of the file; the sample uses each one
        once before it repeats any, so the answers are as independent as they can be.

        section: such as "capital-world" or "gram2-opposite".
        n_questions: how many; None for all.
        seed: which.
        Raises InputError: unknown section (with the near matches), or more than there are.
        """
        pool = list(self.sections[require_choice("section", section, self.sections)])
        if n_questions is None:
            n_questions = len(pool)
        n_questions = require_int("n_questions", n_questions, 1, len(pool))
        random.Random(require_int("seed", seed, 0)).shuffle(pool)
        seen: dict[int, int] = {}
        rounds = []
        for question in pool:
            seen[question.answer] = seen.get(question.answer, 0) + 1
            rounds.append(seen[question.answer])
        order = sorted(range(len(pool)), key=rounds.__getitem__)  # stable: keeps the shuffle
        return tuple(pool[i] for i in order[:n_questions])


def load_task(
    name: str, *, seed: int = 0, **sizes: int
) -> TopicsTask | RetrievalTask | AnalogyTask:
    """Build a task from the embedded texts.

    name: "topics", "retrieval" or "analogies".
    seed: which passages and sentences (not used by "analogies", whose sample is drawn by
        `AnalogyTask.questions`).
    sizes: for "topics" `n_topics` (40), `n_train` (8) and `n_test` (8) passages per topic; for
        "retrieval" `n_queries` (300) and `n_passages` (1000).
    Raises InputError: unknown name or size, or more passages than the text has; AssetError: gensim
    is not installed, or its file is damaged.
    """
    require_choice("task", name, TASKS)
    seed = require_int("seed", seed, 0)
    defaults = {
        "topics": {"n_topics": 40, "n_train": 8, "n_test": 8},
        "retrieval": {"n_queries": 300, "n_passages": 1000},
        "analogies": {},
    }[name]
    for size, value in sizes.items():
        require_choice(f"a size of the task {name!r}", size, list(defaults))
        require_int(size, value, 2 if size == "n_topics" else 1)
    sizes = {**defaults, **sizes}
    if name == "topics":
        return _topics(seed=seed, **sizes)
    if name == "retrieval":
        return _retrieval(seed=seed, **sizes)
    return _analogies()


_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "st", "prof", "vol", "c", "ca", "e.g", "i.e", "vs"}


def split_sentences(paragraph: str) -> list[str]:
    """Cut a paragraph after full stops, but not after initials and common abbreviations.

    >>> split_sentences('Dr. A. Smith left. He was "tired." It rained.')
    ['Dr. A. Smith left.', 'He was "tired."', 'It rained.']
    """
    sentences, start = [], 0
    for stop in re.finditer(r"[.!?]+([\"”’')\]]*)\s+(?=[\"“‘'(\[]*[A-Z0-9])", paragraph):
        words = paragraph[start : stop.start()].split()
        last = words[-1].lstrip("(\"“'").casefold() if words else ""
        short = last in _ABBREVIATIONS or len(last) == 1
        if last == "no":  # "No. 5" goes on, "He said no. She left." does not
            short = paragraph[stop.end()].isdigit()
        if short and not stop[1]:
            continue
        sentences.append(paragraph[start : stop.end()].strip())
        start = stop.end()
    rest = paragraph[start:].strip()
    return [*sentences, rest] if rest else sentences


def _paragraphs(article: Article) -> list[list[str]]:
    """Return the article's paragraphs as lists of sentences of ordinary length."""
    cut = (split_sentences(paragraph) for paragraph in article.text.split("\n\n"))
    return [[s for s in sentences if 40 <= len(s) <= 400] for sentences in cut]


def mask_title(passage: str, title: str) -> str:
    """Replace the title's words, and longer forms of them, by "…".

    >>> mask_title("Algeria borders Libya; Algerian coasts are long.", "Algeria")
    '… borders Libya; … coasts are long.'
    """
    stems = []
    for word in re.findall(r"\w+", title):
        if len(word) > 3 or word[0].isupper():
            # "Algeria" also hides "Algerian", "Astronomer" also "astronomy".
            stems.append(re.escape(word[:-2] if len(word) > 6 else word))
    long_stems = [stem + (r"\w*" if len(stem) > 3 else "") for stem in stems]
    if not long_stems:
        return passage
    return re.sub(rf"\b({'|'.join(long_stems)})\b", "…", passage, flags=re.IGNORECASE)


def _topics(*, n_topics: int, n_train: int, n_test: int, seed: int) -> TopicsTask:
    rng = random.Random(seed)
    usable: list[tuple[str, list[str], list[str]]] = []
    for article in split_articles(wikipedia_articles())[1]:
        paragraphs = [
            [" ".join(sentences[i : i + 2]) for i in range(0, len(sentences) - 1, 2)]
            for sentences in _paragraphs(article)
        ]
        rng.shuffle(paragraphs)
        # Whole paragraphs go to one side: neighbours tell too much about each other.
        sides: tuple[list[str], list[str]] = ([], [])
        for passages in filter(None, paragraphs):
            behind = len(sides[0]) * n_test > len(sides[1]) * n_train
            sides[behind].extend(passages)
        if len(sides[0]) >= n_train and len(sides[1]) >= n_test:
            usable.append(
                (article.title, rng.sample(sides[0], n_train), rng.sample(sides[1], n_test))
            )
    if len(usable) < n_topics:
        raise InputError(
            f"n_topics must be at most {len(usable)} with n_train={n_train} and n_test={n_test}, "
            f"but {n_topics} was given: only so many articles have that many passages."
        )
    usable = sorted(rng.sample(usable, n_topics))
    train = [(mask_title(p, title), i) for i, (title, ps, _) in enumerate(usable) for p in ps]
    test = [(mask_title(p, title), i) for i, (title, _, ps) in enumerate(usable) for p in ps]
    return TopicsTask(
        train_passages=tuple(passage for passage, _ in train),
        train_labels=tuple(label for _, label in train),
        test_passages=tuple(passage for passage, _ in test),
        test_labels=tuple(label for _, label in test),
        label_names=tuple(title for title, _, _ in usable),
    )


def _retrieval(*, n_queries: int, n_passages: int, seed: int) -> RetrievalTask:
    rng = random.Random(seed)
    pool = [
        sentences[i : i + 4]
        for article in split_articles(wikipedia_articles())[1]
        for sentences in _paragraphs(article)
        for i in range(0, len(sentences) - 3, 4)
    ]
    if n_passages > len(pool):
        raise InputError(
            f"n_passages must be at most {len(pool)}, the passages of the text, but {n_passages} "
            "was given."
        )
    if n_queries > n_passages:
        raise InputError(
            f"n_queries must be at most n_passages ({n_passages}), but {n_queries} was given: "
            "each query is taken out of a passage of its own."
        )
    chosen = [list(sentences) for sentences in rng.sample(pool, n_passages)]
    # Every passage loses a sentence, also those that nobody asks about: else length would tell.
    taken = [sentences.pop(rng.randrange(len(sentences))) for sentences in chosen]
    targets = sorted(rng.sample(range(n_passages), n_queries))
    return RetrievalTask(
        queries=tuple(taken[target] for target in targets),
        passages=tuple(" ".join(sentences) for sentences in chosen),
        targets=tuple(targets),
    )


# How a section's four words a, b, c, d become a sentence whose last word, d, is to be completed.
_PROMPTS = {
    "capital-common-countries": "{a} is the capital of {b}. {c} is the capital of",
    "capital-world": "{a} is the capital of {b}. {c} is the capital of",
    "currency": "The currency of {a} is the {b}. The currency of {c} is the",
    "city-in-state": "{a} is a city in {b}. {c} is a city in",
    "family": "The female word for {a} is {b}. The female word for {c} is",
    "gram1-adjective-to-adverb": "The adverb of {a} is {b}. The adverb of {c} is",
    "gram2-opposite": "The opposite of {a} is {b}. The opposite of {c} is",
    "gram3-comparative": "The comparative of {a} is {b}. The comparative of {c} is",
    "gram4-superlative": "The superlative of {a} is {b}. The superlative of {c} is",
    "gram5-present-participle": "The -ing form of {a} is {b}. The -ing form of {c} is",
    "gram6-nationality-adjective": "A person from {a} is {b}. A person from {c} is",
    "gram7-past-tense": "The past tense of {a} is {b}. The past tense of {c} is",
    "gram8-plural": "The plural of {a} is {b}. The plural of {c} is",
    "gram9-plural-verbs": "The third person of {a} is {b}. The third person of {c} is",
}


def _analogies() -> AnalogyTask:
    rows: dict[str, list[list[str]]] = {}
    section = ""
    for line in asset_path(ASSETS["analogies"]).read_text(encoding="utf-8").splitlines():
        if line.startswith(":"):
            section = line[1:].strip()
        elif len(words := line.split()) == 4:
            rows.setdefault(section, []).append(words)
    sections = {}
    for section, template in _PROMPTS.items():
        candidates = tuple(sorted({d for _, _, _, d in rows[section]}))
        index = {word: i for i, word in enumerate(candidates)}
        sections[section] = tuple(
            AnalogyQuestion(template.format(a=a, b=b, c=c), candidates, index[d])
            for a, b, c, d in rows[section]
        )
    return AnalogyTask(MappingProxyType(sections))
