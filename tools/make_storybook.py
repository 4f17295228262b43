"""Make the course's own language models, storybook and storybook-small, from children's books.

    python tools/make_storybook.py BOOKS [--encyclopedia FILE] [--work FOLDER]

BOOKS is a folder of .txt files; the models that the course ships were trained on the 63 books of
the ChiLit corpus (CLiC project), with some featured Wikipedia articles beside them. Both models
read the same windows in the same order for the same number of steps. Some two hours on two cores; a
killed run goes on where it was. A finished one is only measured and written again: data/storybook,
data/storybook-small, their pins in data/shipped.json, data/results/storybook*.json.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from storybook_card import write_card

from shrinkkit.measure import record
from shrinkkit.system.files import data_dir, sha256_of, write_atomically
from shrinkkit.train.lm import (
    PRESETS,
    Corpus,
    KneserNey,
    Run,
    read_corpus,
    train_lm,
    training_speed,
)
from shrinkkit.train.lm.corpus import in_hash_order

NAMES = ("storybook", "storybook-small")
HELD_OUT_BOOKS = 5
ENCYCLOPEDIA_BYTES = 3_000_000
PROMPT = "Once upon a time"


def gather(books: Path, encyclopedia: Path | None, target: Path) -> list[str]:
    """Lay the texts out as one folder; return the names of the books to hold out.

    The books held out are the first five in the order of the SHA-256 of their file names. The
    encyclopedia file holds articles separated by two blank lines; as many are taken, from its
    start, as fit in ENCYCLOPEDIA_BYTES.
    """
    (target / "books").mkdir()
    names = sorted(path.name for path in books.glob("*.txt"))
    for name in names:
        shutil.copyfile(books / name, target / "books" / name)
    if encyclopedia is not None:
        (target / "encyclopedia").mkdir()
        size = 0
        articles = encyclopedia.read_text(encoding="utf-8").split("\n\n\n")
        for number, article in enumerate(articles):
            size += len(article.encode("utf-8"))
            if size > ENCYCLOPEDIA_BYTES:
                break
            path = target / "encyclopedia" / f"{number:04d}.txt"
            path.write_text(article.strip(), encoding="utf-8")
    return [f"books/{name}" for name in in_hash_order(names)[:HELD_OUT_BOOKS]]


def counting_rows(corpus: Corpus) -> list[dict]:
    """Measure what counting and compressing reach on the held-out books, knowing the same text."""
    n_bytes = sum(document.n_bytes for document in corpus.held_out)
    n_grams = KneserNey(corpus.stream.numpy(), len(corpus.tokenizer), n=5)
    bits = 0.0
    for document in corpus.held_out:
        bits -= np.log2(n_grams.probabilities(document.ids.numpy())[1:]).sum()
    text = corpus.tokenizer.decode(corpus.stream.tolist()).encode("utf-8")
    aside = [corpus.tokenizer.decode(d.ids[1:].tolist()).encode("utf-8") for d in corpus.held_out]
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 26}]

    def squeezed(data: bytes) -> int:
        return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))

    xz = 8 * (squeezed(text + b"".join(aside)) - squeezed(text)) / n_bytes
    return [
        {"model": "5-gram Kneser-Ney", "bits_per_byte": bits / n_bytes},
        {"model": "xz", "bits_per_byte": xz},
    ]


def model_row(name: str, run: Run, corpus: Corpus) -> dict:
    """Put together what is recorded of one trained model."""
    settings = PRESETS[name]
    speed = training_speed(settings)
    return {
        "model": name,
        "bits_per_byte": run.bits_per_byte,
        "n_parameters": settings.n_parameters(),
        "steps": settings.steps,
        "train_tokens": settings.n_tokens(),
        "train_bytes": corpus.n_bytes,
        "corpus_tokens": len(corpus.stream),
        "held_out_bytes": sum(document.n_bytes for document in corpus.held_out),
        "train_seconds": run.seconds,
        "train_tokens_per_s": settings.n_tokens() / run.seconds,
        "step_tokens_per_s": speed.median,
        "file_bytes": (run.folder / "model.safetensors").stat().st_size,
        "sha256": sha256_of(run.folder / "model.safetensors"),
    }


def pin(row: dict) -> dict:
    """Return what data/shipped.json says of a model: its hash, and what it is in a sentence."""
    settings = PRESETS[row["model"]]
    twin = "" if row["model"] == NAMES[0] else f", {NAMES[0]}'s small twin without a teacher"
    return {
        "version": "1",
        "sha256": row["sha256"],
        "size_bytes": row["file_bytes"],
        "architecture": f"decoder (Llama): {settings.layers} layers, hidden {settings.hidden}, "
        f"{settings.heads} query and {settings.kv_heads} key-value heads, "
        f"{row['n_parameters'] / 1e6:.1f} M parameters, tied embeddings, "
        f"vocabulary {settings.vocab_size:,}",
        "licence": "Apache-2.0",
        "note": f"A small language model{twin}, trained from scratch on children's books by "
        "tools/make_storybook.py. Genuine fp32: its weights have never been quantized",
    }


def stories(run: Run, corpus: Corpus) -> list[str]:
    """Let the model write, once for each seed from 0 to 9, at temperature 0.7; nothing is picked.

    Each story is cut at its last full stop, so that it ends with a sentence.
    """
    prompt = corpus.tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)
    written = []
    for seed in range(10):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            ids = run.model.generate(
                **prompt, do_sample=True, temperature=0.7, top_k=0, max_new_tokens=90
            )
        text = " ".join(corpus.tokenizer.decode(ids[0], skip_special_tokens=True).split())
        end = max(text.rfind(mark) for mark in ('."', '!"', '?"', ". ", "! ", "? "))
        written.append(text[: end + 2].strip() if end > 0 else text)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("books", type=Path)
    parser.add_argument("--encyclopedia", type=Path)
    parser.add_argument("--work", type=Path, default=Path("build/storybook"))
    parser.add_argument("--only", choices=NAMES, help="train this one and stop")
    options = parser.parse_args()
    settings = PRESETS[NAMES[0]]
    with tempfile.TemporaryDirectory() as text:
        held_out = gather(options.books, options.encyclopedia, Path(text))
        shape = {"vocab_size": settings.vocab_size, "seq_len": settings.seq_len}
        corpus = read_corpus(text, held_out=held_out, **shape)
    if options.only:
        train_lm(corpus, PRESETS[options.only], options.work / options.only)
        return
    runs = {name: train_lm(corpus, PRESETS[name], options.work / name) for name in NAMES}
    rows = [model_row(name, run, corpus) for name, run in runs.items()]
    for row, run in zip(rows, runs.values(), strict=True):
        row |= {f"bits_per_byte_{Path(title).stem}": v for title, v in run.by_file.items()}
    record("storybook", rows + counting_rows(corpus), seed=settings.seed)
    record(
        "storybook_curve",
        [
            {"model": name, **row}
            for name, run in runs.items()
            for row in run.curve
            if "bits_per_byte" in row or row["step"] % 20 == 0 or row["step"] == 1
        ],
        key=("model", "step"),
        seed=settings.seed,
    )
    for name, run in runs.items():
        with write_atomically(data_dir() / name) as temporary:
            shutil.copytree(run.folder, temporary)
            told = json.dumps(stories(run, corpus), ensure_ascii=False, indent=1)
            (temporary / "stories.json").write_text(told + "\n", encoding="utf-8")
            write_card(name, temporary)
    pins = {row["model"]: pin(row) for row in rows}
    with write_atomically(data_dir() / "shipped.json") as temporary:
        temporary.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
