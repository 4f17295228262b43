"""Make data/stories/stories.txt: excerpts of five books, to judge models on a third kind of text.

    python tools/make_stories.py FOLDER_OF_BOOKS

The books are those that no model of the course was trained on (tools/make_storybook.py holds them
out). Their lines are joined to paragraphs; headings, verses, notes and marks of italics go; of the
two long novels the first chapters are taken, up to EXCERPT_BYTES. The result is prose, a paragraph
a line, under a line "# title" for each book, and always the same for the same books; its SHA-256,
which this script prints, is pinned in shrinkkit/sources/assets.py. data/stories/README.md names the
sources.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from shrinkkit.errors import InputError
from shrinkkit.system.files import data_dir, sha256_of, write_atomically

EXCERPT_BYTES = 118_000
BOOKS = ("bunny", "dominics", "jackanapes", "prince", "solomons")  # files; line 1 is the title
FRONT_MATTER_ENDS = re.compile(r"^CHAPTER (I|1)\b.*$", re.MULTILINE)  # a preface is no story


def prose(book: str) -> list[str]:
    """Return a book's paragraphs of prose, each on one line.

    >>> prose('THE TITLE\\n\\n"I _am_ late," said\\nthe hare, and ran as fast as he could.\\n')
    ['"I am late," said the hare, and ran as fast as he could.']
    """
    paragraphs = []
    book = re.sub(r"\[[^\]]*\]", "", book)  # captions and footnotes, some of several paragraphs
    for block in re.split(r"\n\s*\n", book):
        lines = block.splitlines()
        indented = sum(line.startswith("   ") for line in lines)
        if not lines or indented * 2 > len(lines):  # verse, a letter's head, a caption
            continue
        text = re.sub(r"\s+", " ", block.replace("_", "")).strip()
        is_heading = not text or text == text.upper() or re.match(r"(CHAPTER|BOOK) ", text)
        if not is_heading and text[-1] in ".!?\"'”’":
            paragraphs.append(text)
    return paragraphs


def excerpt(book: str) -> str:
    """Return a book's title, and the start of its prose: whole paragraphs, up to EXCERPT_BYTES."""
    title, _, book = book.partition("\n")
    if found := FRONT_MATTER_ENDS.search(book):
        book = book[found.end() :]
    kept, size = [f"# {title.strip()}"], 0
    for paragraph in prose(book):
        size += len(paragraph.encode("utf-8")) + 1
        if size > EXCERPT_BYTES:
            break
        kept.append(paragraph)
    return "\n".join(kept) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("books", type=Path, help="the folder with bunny.txt, dominics.txt ...")
    folder = parser.parse_args().books
    parts = []
    for name in BOOKS:
        source = folder / f"{name}.txt"
        if not source.is_file():
            raise InputError(f"{source} is not there: give the folder that holds the five books.")
        parts.append(excerpt(source.read_text(encoding="utf-8")))
        print(f"{name}: {len(parts[-1].encode('utf-8')):,} bytes")
    target = data_dir() / "stories" / "stories.txt"
    with write_atomically(target) as temporary:
        Path(temporary).write_text("\n".join(parts), encoding="utf-8")
    print(f"{target}: {target.stat().st_size:,} bytes, SHA-256 {sha256_of(target)}")


if __name__ == "__main__":
    main()
