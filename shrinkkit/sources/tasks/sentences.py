"""Cut paragraphs into sentences, and hide an article's title in them."""

from __future__ import annotations

import re

from shrinkkit.sources.articles import Article

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


def paragraphs_of(article: Article) -> list[list[str]]:
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
