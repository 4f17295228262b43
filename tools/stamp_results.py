"""Write the recorded results into README.md, between its two markers.

    python tools/stamp_results.py           write
    python tools/stamp_results.py --check   fail if README does not show what data/results/ holds

The figures in README come from here and nowhere else, so they are always some run's figures.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from shrinkkit.measure.columns import TABLES
from shrinkkit.system.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
START = "<!-- results:start (python tools/stamp_results.py) -->"
END = "<!-- results:end -->"

CAPTIONS = {
    "quantization": (
        "`python benchmarks/quantization.py`: rounding to nearest, without any data; perplexity on "
        "{n_samples} windows of 256 tokens of Wikipedia and half as many of news, seed {seed}"
    ),
    "gptq": (
        "`python benchmarks/gptq.py`: the same grids with better integers, calibrated on "
        "{n_samples} windows of Wikipedia; output head in float; the same evaluation windows"
    ),
    "low_bits": (
        "`python benchmarks/low_bits.py`: the best that the package reaches at no more than 4.35, "
        "3.35 and 2.7 bits a weight; calibrated on {n_samples} windows of three kinds of text, "
        "tuned on three times as many; judged on Wikipedia, news, stories that nothing saw, and "
        "the last words of their passages; in brackets the 95 % interval, paired by window or "
        "passage"
    ),
    "side_by_side": (
        "`python benchmarks/side_by_side.py`: the same model, windows and bits through other "
        "libraries, each in an environment of its own, judged by the same code"
    ),
    "tasks": (
        "`python benchmarks/tasks.py`: all-MiniLM-L6-v2 and its simple rivals on {n_samples:,} "
        "film reviews (split by film; fine-tuned from three seeds), on topics and on retrieval; "
        "intervals by drawing films, paragraphs, passages and trainings again"
    ),
    "streaming": (
        "`python benchmarks/streaming.py`: GPTQ to 4 bits from disk to disk, random weights of "
        "TinyLlama-1.1B's shape, on {threads} threads"
    ),
    "kv_cache": (
        "`python benchmarks/kv_cache.py`: what SmolLM2 keeps for {context:,} tokens of Wikipedia, "
        "against a cache in 16 bits; perplexity on {n_samples} windows read through the cache"
    ),
    "storybook": (
        "`python tools/make_storybook.py`: the course's own language models, and what counting and "
        "compressing reach, on five held-out books"
    ),
    "decode": (
        "`python benchmarks/decode.py`, or `shrinkkit bench decode`: batch 1 through `generate`, "
        "on {cpu}, {threads} threads, memory read at {bandwidth_gb_per_s:.0f} GB/s"
    ),
}


def results_file(name: str) -> Path:
    """Return where a table's rows are recorded; a table that was never measured has no file."""
    return ROOT / "data" / "results" / f"{name}.json"


def table(name: str) -> str:
    """Return one table of data/results/ as Markdown: rows of the full pace only."""
    columns = [column for column in TABLES[name] if not column.detail]
    rows = json.loads(results_file(name).read_text("utf-8"))["rows"]
    rows = [row for row in rows if row["pace"] == "full"]
    lines = [
        "| " + " | ".join(column.title for column in columns) + " |",
        "| --- |" + " ---: |" * (len(columns) - 1),
    ]
    for row in rows:
        cells = (column.write(row.get(column.name)) for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return CAPTIONS[name].format(**rows[-1]) + ":\n\n" + "\n".join(lines)


def stamped(readme: str) -> str:
    """Return README's text with today's tables between the markers."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    tables = "\n\n".join(table(name) for name in CAPTIONS if results_file(name).exists())
    return f"{before}{START}\n{tables}\n{END}{after}"


def main() -> None:
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    new = stamped(old)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if old == new else "README.md is stale: run python tools/stamp_results.py")
    with write_atomically(path) as temporary:
        temporary.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
