"""Find the last word of a passage, for language models: a task made from the held-out stories.

Paperno et al. 2016 (LAMBADA, arXiv 1606.06031) asked people for the last word of passages of
novels; a model has to have understood what came sentences before. Here nobody was asked. Instead
the last word is one that stood in the passage before, so that it can be found by reading, and is no
word of the everyday kind that fits anywhere.

A passage ends where a sentence or a clause does; it begins with the sentence that makes it at least
MIN_WORDS long. Passages overlap, so those of one stretch of a book are a group and are drawn
together where an interval is asked for.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from shrinkkit.errors import InputError
from shrinkkit.sources.articles import Article
from shrinkkit.sources.stories import story_articles
from shrinkkit.sources.tasks.sentences import split_sentences

MIN_WORDS, MAX_WORDS = 60, 140
STRETCH = 2_000  # characters of a book that make one group

# A word behind a space, with a mark behind it that ends a sentence or a clause.
_ENDINGS = re.compile(r"(?<=\S) ([A-Za-z]{3,})(?=[.,;:!?]|--|[\"”])")

# Words that end sentences everywhere; to find one of them says little about the passage.
_EVERYDAY = """
    about above after again ago all alone also always among and another any anything are away back
    because been before behind being below best better between both but came can come could day
    did do does done down each either else enough even ever every everything far few first for
    from gave get give go going gone good got great had half has have head her here hers herself
    him himself his home how indeed into it its itself just know known last least left less let
    life like little long made make man many may me men might mine more morning most much must
    myself near never next night no none nor not nothing now off often old on once one only other
    others our ours ourselves out over own people place put rather right round said same saw say
    see seen shall she should side since so some something soon still such sure take taken tell
    than that the their theirs them themselves then there these they thing things think this those
    though thought through time times to together told too took two under until up upon us very
    was water way we well went were what when where which while who whole whom why will with
    without word words work world would year years yes yet you young your yours yourself
"""


@dataclass(frozen=True)
class LastWord:
    """A passage without its last word: `word` stood in `passage` before; `group` is its stretch."""

    passage: str
    word: str
    group: str


@dataclass(frozen=True)
class LastWordTask:
    """Passages of stories, each to be completed by one word."""

    items: tuple[LastWord, ...] = field(repr=False)
    name: str = "last-words"


def last_words(*, n_passages: int | None, seed: int) -> LastWordTask:
    """Make the task `last-words`; see `load_task`."""
    found = [item for book in story_articles() for item in passages_of(book)]
    if n_passages is None:
        return LastWordTask(tuple(found))
    if n_passages > len(found):
        raise InputError(
            f"n_passages must be at most {len(found)}, the passages of the stories, but "
            f"{n_passages} was given."
        )
    chosen = sorted(random.Random(seed).sample(range(len(found)), n_passages))
    return LastWordTask(tuple(found[i] for i in chosen))


def passages_of(book: Article) -> list[LastWord]:
    """Cut every passage out of a book whose last word stood in it before.

    >>> text = "The hare ran home. " + "It rained and rained. " * 14 + '"Stop!" said the hare.'
    >>> [item] = passages_of(Article("t", text))
    >>> item.word, item.passage[-16:]
    ('hare', '"Stop!" said the')
    """
    before: list[str] = []  # the sentences so far, each with the gap before it
    items, position = [], 0
    for paragraph in book.text.split("\n\n"):
        for number, sentence in enumerate(split_sentences(paragraph)):
            gap = " " if number else "\n\n"
            for ending in _ENDINGS.finditer(sentence):
                group = f"{book.title}, {position // STRETCH}"
                item = _item(before, gap + sentence[: ending.start()], ending[1], group)
                if item is not None:
                    items.append(item)
            position += len(sentence)
            before.append(gap + sentence)
    return items


def _item(before: list[str], start: str, word: str, group: str) -> LastWord | None:
    """Make a passage of the sentences before and this one's start; None where it does not do."""
    if word.casefold() in _EVERYDAY.split():
        return None
    passage, n_words = start, len(start.split())
    for sentence in reversed(before):
        if n_words >= MIN_WORDS:
            break
        passage = sentence + passage
        n_words += len(sentence.split())
    said = {part.casefold() for part in re.findall(r"[A-Za-z]+", passage)}
    if not MIN_WORDS <= n_words <= MAX_WORDS or word.casefold() not in said:
        return None
    return LastWord(passage.strip(), word, group)
