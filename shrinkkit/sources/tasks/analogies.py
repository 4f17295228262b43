"""Google's analogy questions as sentences to be completed, for language models.

Mikolov et al. 2013, "Efficient Estimation of Word Representations in Vector Space", section 4:
"Athens is the capital of Greece. Baghdad is the capital of". The candidates are all answers of the
section.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shrinkkit.errors import require_choice, require_int
from shrinkkit.sources.assets import ASSETS, asset_path


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


def analogies() -> AnalogyTask:
    """Read the question file."""
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
