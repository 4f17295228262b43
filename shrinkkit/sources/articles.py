"""Where texts come from: readers that turn a name, a folder or a hub dataset into articles.

An `Article` is a title and its text: one Wikipedia page, one news story, one .txt file, one row
of a dataset. Splits are made by article, so that no window of the evaluation text was ever seen
in calibration, not even its neighbour.

`wikipedia` is a shortened dump that ships with gensim's test data: 206 pages, half of them
redirects. gensim's own reader (`segment_wiki`) cuts pages into sections and removes most of the
markup; this file then keeps the prose: lists, reference sections and left-over marks go, because
a language model is judged here on sentences, not on bibliographies. It takes some three seconds,
so the articles are kept in the cache as JSON lines.
"""

from __future__ import annotations

import bz2
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shrinkkit.errors import AssetError, InputError
from shrinkkit.sources.assets import ASSETS, asset_path
from shrinkkit.system.cache import cached_folder
from shrinkkit.system.files import cache_dir

T = TypeVar("T")


@dataclass(frozen=True)
class Article:
    """One document: splits never cut through it."""

    title: str
    text: str


_SKIPPED_SECTIONS = re.compile(
    r"(references?|external links|see also|further reading|(foot)?notes.*|bibliography|sources|"
    r"citations|works cited|literature|filmography|discography|selected works|list of .*)",
    re.IGNORECASE,
)
_MIN_ARTICLE_CHARACTERS = 200
# Part of the manifest's source: raise the number when the cleaning changes.
_CLEANED = "cleaned 2 of sha256 "


def wikipedia_articles() -> tuple[Article, ...]:
    """Read the embedded Wikipedia articles, prose only (CC BY-SA).

    Raises AssetError: gensim is not installed, or its file is damaged.
    """
    asset = ASSETS["wikipedia"]
    folder = cache_dir() / "text" / f"wikipedia-{asset.sha256[:12]}"

    def build(target: Path) -> None:
        with open(target / "articles.jsonl", "w", encoding="utf-8") as stream:
            for article in _read_dump(asset_path(asset)):
                line = {"title": article.title, "text": article.text}
                stream.write(json.dumps(line, ensure_ascii=False) + "\n")

    cached_folder(folder, build, source=_CLEANED + asset.sha256, needed_bytes=8_000_000)
    with open(folder / "articles.jsonl", encoding="utf-8") as stream:
        return tuple(Article(**json.loads(line)) for line in stream)


def _read_dump(path: Path) -> Iterator[Article]:
    try:
        from gensim.scripts.segment_wiki import extract_page_xmls, segment
    except ImportError as error:  # gensim's files are there, but it does not import
        raise AssetError(
            f"gensim's Wikipedia reader cannot be imported ({error}). "
            f"Run `{ASSETS['wikipedia'].fix}`."
        ) from error
    # gensim's own loop uses a pool of processes; two seconds of work do not need one, and a
    # pool started inside a notebook is one more thing to go wrong.
    with bz2.open(path) as stream:
        for page in extract_page_xmls(stream):
            title, sections = segment(page)
            text = "\n\n".join(
                cleaned
                for heading, body in sections
                if not _SKIPPED_SECTIONS.fullmatch(heading.strip("= "))
                and (cleaned := clean_wiki_text(body))
            )
            if len(text) >= _MIN_ARTICLE_CHARACTERS:
                yield Article(title, text)


def clean_wiki_text(body: str) -> str:
    """Keep the prose of a wiki section: no lists, headings, bold marks or emptied brackets.

    >>> clean_wiki_text(
    ...     "===Name===\\n'''Asia''' (; ) is the largest , and the most populous.\\n* no"
    ... )
    'Asia is the largest, and the most populous.'
    """
    if body.lstrip().lower().startswith("#redirect"):
        return ""
    paragraphs = []
    for line in body.splitlines():
        line = re.sub(r"'{2,}", "", line).strip()
        # A list item, an indented quotation, a table row, a heading: not a sentence.
        if line and line[0] in "*#:;|!{}=+<[&":
            continue
        line = re.sub(r"\(\s*[,;:\s]*\)", "", line)  # "( , )": a template was here
        line = re.sub(r"([(])[,;\s]+", r"\1", line)
        line = re.sub(r"[,;\s]+([)])", r"\1", line)
        line = re.sub(r"\s+([,.;:])", r"\1", line)
        line = re.sub(r"\s{2,}", " ", line).strip()
        # Captions and stray cells have no full stop at their end.
        if len(line) >= 40 and line[-1] in ".!?\"”')":
            paragraphs.append(line)
    return "\n\n".join(paragraphs)


def lee_news_articles() -> tuple[Article, ...]:
    """Read the embedded news stories, one a line (300 short stories of 2000-2001).

    Raises AssetError: gensim is not installed, or its file is damaged.
    """
    lines = asset_path(ASSETS["lee-news"]).read_text(encoding="utf-8").splitlines()
    return tuple(Article(f"story {i:03d}", line.strip()) for i, line in enumerate(lines) if line)


def in_hash_order(things: Iterable[T], name: Callable[[T], str] = str) -> list[T]:
    """Sort by the SHA-256 of names: an order without meaning, which new names do not disturb.

    >>> in_hash_order(["a", "b", "c"])
    ['c', 'b', 'a']
    """
    return sorted(things, key=lambda thing: hashlib.sha256(name(thing).encode("utf-8")).digest())


def articles_from_path(path: Path) -> tuple[Article, ...]:
    """Read a .txt file, or every .txt file of a folder (one article each, in order of name).

    A single file is cut into two articles at the paragraph end nearest to its middle, so that
    it still has a calibration and an evaluation half.

    Raises InputError: no .txt files, not UTF-8, or nothing in them.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.txt"))
    if not files:
        raise InputError(f"The folder {path} holds no .txt files. Put one file per article there.")
    articles = []
    for file in files:
        try:
            text = file.read_text(encoding="utf-8-sig").strip()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file} is not UTF-8 text (byte {error.start}). Save it as UTF-8 and try again."
            ) from None
        if text:
            title = file.name if path.is_file() else file.relative_to(path).as_posix()
            articles.append(Article(title, text))
    if not articles:
        raise InputError(
            f"{path} is empty: no text in {len(files)} file(s). Give a file with text."
        )
    return _in_two(articles[0]) if len(articles) == 1 else tuple(articles)


def _in_two(article: Article) -> tuple[Article, ...]:
    middle = len(article.text) // 2
    for pattern in (r"\n\s*\n", r"\n", r"\s+"):
        gaps = list(re.finditer(pattern, article.text))
        if gaps:
            gap = min(gaps, key=lambda found: abs(found.start() - middle))
            first, second = article.text[: gap.start()], article.text[gap.end() :]
            return (
                Article(f"{article.title} (first half)", first),
                Article(f"{article.title} (second half)", second),
            )
    return (article,)


def hub_articles(
    name: str, *, config: str | None = None, split: str = "test", column: str = "text"
) -> tuple[Article, ...]:
    """Read a dataset of the Hugging Face hub, one row an article.

    Wikitext has one row a line; its articles are put together again at their headings.

    name: such as "Salesforce/wikitext" or "stanfordnlp/sst2".
    config: which part of the dataset; wikitext's default is "wikitext-2-raw-v1".
    split: "test", "validation" or "train".
    column: the column that holds the text.
    Raises AssetError: the hub cannot be reached and the dataset is not in its cache; InputError: no
    such column, or no text.
    """
    import datasets

    is_wikitext = name.lower().endswith("wikitext")
    config = config or ("wikitext-2-raw-v1" if is_wikitext else None)
    try:
        rows = datasets.load_dataset(name, config, split=split)
    except Exception as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        unreachable = isinstance(error, ConnectionError) or "offline" in str(error).lower()
        raise (AssetError if unreachable else InputError)(
            f"The hub dataset {name!r} (config {config!r}, split {split!r}) could not be opened: "
            f"{detail} Check its name, config and split; offline, use one of the embedded texts: "
            "wikipedia, lee-news."
        ) from error
    if column not in rows.column_names:
        raise InputError(
            f"column must be one of {', '.join(map(repr, rows.column_names))} in {name!r}, but "
            f"{column!r} was given."
        )
    lines: Iterable[str] = (str(line) for line in rows[column])
    articles = (
        _join_wikitext(lines)
        if is_wikitext
        else [Article(f"row {i}", line.strip()) for i, line in enumerate(lines) if line.strip()]
    )
    if not articles:
        raise InputError(f"The hub dataset {name!r}, split {split!r}, holds no text.")
    return tuple(articles)


def _join_wikitext(lines: Iterable[str]) -> list[Article]:
    """Put wikitext's lines together; " = Title = " opens an article, " = = Part = = " does not."""
    articles: list[Article] = []
    title, parts = "", []
    for line in [*lines, " = end = "]:
        heading = re.fullmatch(r"= ([^=].*[^=]) =", line.strip())
        if heading is None:
            if not line.strip().startswith("= ="):
                parts.append(line.strip())
            continue
        text = "\n".join(part for part in parts if part)
        if text:
            articles.append(Article(title, text))
        title, parts = heading[1], []
    return articles
