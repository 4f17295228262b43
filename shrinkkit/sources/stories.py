"""Excerpts of five children's books: a third kind of text, for evaluation only.

A compressed model is often calibrated and tuned on an encyclopedia, and then judged on an
encyclopedia. What it lost elsewhere cannot be seen there. These books (data/stories/README.md names
them) were kept from every training and calibration of the course.
"""

from __future__ import annotations

from shrinkkit.sources.articles import Article
from shrinkkit.sources.assets import ASSETS, asset_path


def story_articles() -> tuple[Article, ...]:
    """Read the excerpts, one article a book, an empty line between paragraphs.

    Raises AssetError: the file is missing or changed.
    """
    text = asset_path(ASSETS["stories"]).read_text(encoding="utf-8")
    books = (part.partition("\n") for part in text.removeprefix("# ").split("\n# "))
    return tuple(Article(title, body.strip().replace("\n", "\n\n")) for title, _, body in books)
