"""Write the model cards of storybook and storybook-small, from recorded results alone.

    python tools/storybook_card.py      write both cards and curves again

Every figure comes from data/results/storybook.json and storybook_curve.json; the stories are those
in the model's folder.
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl

from shrinkkit.figures.style import course_style, mark
from shrinkkit.system.files import data_dir
from shrinkkit.train.lm import PRESETS

# Short runs before the long one, each repeatable with `shrinkkit train-lm` and these options; bits
# per byte at the end of the run (small runs on the first two held-out books, long ones on all five).
TRIED = """| run | tokens | bits per byte |
| --- | ---: | ---: |
| storybook, AdamW 3e-3 | 1.2 M | 2.32 |
| storybook, Muon 5e-3 | 1.2 M | 2.05 |
| storybook, Muon 1e-2, batches of 8 | 0.4 M | 2.249 |
| storybook, Muon 2e-2, batches of 8 | 0.4 M | 2.259 |
| storybook, Muon 1e-2, stopped at step 640 of 1,600 | 3.9 M | 1.814 |
| storybook-small, Muon 1e-2, 1,600 steps | 9.8 M | 1.690 |"""

OTHER = {"storybook": "storybook-small", "storybook-small": "storybook"}


def rows(table: str) -> list[dict]:
    path = data_dir() / "results" / f"{table}.json"
    found = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return [row for row in found if row["pace"] == "full"]


def draw_curve(path: Path) -> None:
    """Draw held-out bits per byte over tokens read, for both models, with the two baselines."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    course_style()
    fig, ax = plt.subplots(figsize=(7.2, 4.2))
    for number, name in enumerate(OTHER):
        points = [
            r for r in rows("storybook_curve") if r["model"] == name and r.get("bits_per_byte")
        ]
        look = mark(number)
        x, y = [r["tokens"] / 1e6 for r in points], [r["bits_per_byte"] for r in points]
        ax.plot(x, y, color=look.color, marker=look.marker, linestyle=look.linestyle, label=name)
    figures = {row["model"]: row["bits_per_byte"] for row in rows("storybook")}
    ngram = figures["5-gram Kneser-Ney"]
    ax.axhline(ngram, color=mark(6).color, linestyle=mark(6).linestyle, marker="")
    ax.annotate(
        f"5-gram Kneser-Ney {ngram:.2f}",
        (1.0, ngram),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
    )
    ax.set_xlabel("tokens read, millions")
    ax.set_ylabel("bits per byte, held-out books")
    ax.set_title("What it cannot guess, while it learns")
    ax.legend(loc="upper right", bbox_to_anchor=(1.0, 0.95))
    fig.tight_layout()
    fig.savefig(path)
    plt.close(fig)


def card(name: str, folder: Path) -> str:
    """Return the text of a model card."""
    table = {row["model"]: row for row in rows("storybook")}
    row, other, settings = table[name], table[OTHER[name]], PRESETS[name]
    ngram, xz = table["5-gram Kneser-Ney"], table["xz"]
    books = {
        k.removeprefix("bits_per_byte_"): v
        for k, v in row.items()
        if k.startswith("bits_per_byte_")
    }
    held_out = "\n".join(f"| {book}.txt | {value:.3f} |" for book, value in books.items())
    stories = json.loads((folder / "stories.json").read_text(encoding="utf-8"))
    told = "\n".join(f"{seed}. {text}" for seed, text in enumerate(stories))
    gain = {k: 1 - row["bits_per_byte"] / v["bits_per_byte"] for k, v in (("n", ngram), ("x", xz))}
    twin = (
        "It is the small twin of `storybook`: the same tokenizer, the same windows in the same "
        "order, the same number of steps, and no teacher. A distilled student of its size has to "
        "beat it at equal steps."
        if name == "storybook-small"
        else "`storybook-small`, a fifth of its size, was trained beside it on the same windows."
    )
    return f"""---
language: en
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
tags: [shrinkkit, children's books, course]
---

# {name}

A language model of {row["n_parameters"] / 1e6:.2f} million parameters that has read children's books of the
19th and early 20th century. It is genuine fp32: trained from random weights and never quantized,
so that what a compression method costs is what it costs. {twin}

```python
from shrinkkit import load_model, load_tokenizer
model, tokenizer = load_model("{name}"), load_tokenizer("{name}")
```

`transformers.AutoModelForCausalLM.from_pretrained` opens this folder as well.

## Who made it, and from what

The shrinkkit project made it for its course, with `tools/make_storybook.py`, which is
`shrinkkit train-lm` twice. Text:

- 63 children's books, plain text, from the ChiLit corpus of the CLiC project
  (repository mahlberg-lab/corpora, texts from Project Gutenberg), in the public domain. Five of them
  were kept out of training, the first five in the order of the SHA-256 of their file names:
  {", ".join(f"{book}.txt" for book in books)}.
- the first 3 MB of a shuffled collection of featured English Wikipedia articles (CC BY-SA),
  without the articles of the course's own `wikipedia` text, so that the model can be judged and
  retrained on that one.

Line breaks inside paragraphs were joined; {row["train_bytes"] / 1e6:.1f} MB of text make
{row["corpus_tokens"] / 1e6:.2f} million tokens of a byte-level BPE tokenizer with
{settings.vocab_size:,} entries, learnt from the same text.

## How

| | |
| --- | --- |
| architecture | Llama: {settings.layers} layers, hidden {settings.hidden}, {settings.heads} query and {settings.kv_heads} key-value heads, intermediate {settings.intermediate}, tied embeddings, context {settings.seq_len} |
| parameters | {row["n_parameters"]:,} (fp32, {row["file_bytes"] / 1e6:.1f} MB) |
| steps | {row["steps"]:,} of {settings.batch_size} x {settings.seq_len} tokens: {row["train_tokens"] / 1e6:.1f} million, {row["train_tokens"] / row["corpus_tokens"]:.1f} passes over the text |
| optimizer | {"Muon for the blocks' matrices (peak learning rate " + f"{settings.matrix_learning_rate:g}" + ", AdamW's scale), AdamW for the rest (" + f"{settings.learning_rate:g})" if settings.optimizer == "muon" else f"AdamW, peak learning rate {settings.learning_rate:g}"} |
| schedule | {settings.warm_up:.0%} of the steps up, then down in a straight line to zero; weight decay {settings.weight_decay:g}; gradients clipped at norm 1 |
| seed | {settings.seed} |
| machine | {row["cpu"]}, no GPU, torch {row["torch"]}, fp32 |
| time | {row["train_seconds"]:,.0f} s on one or two threads of a machine that did other work at the same time ({row["train_tokens_per_s"]:,.0f} tokens a second, checkpoints and looks at the held-out books included); forward and backward alone, measured later on {row["threads"]} threads: {row["step_tokens_per_s"]:,.0f} tokens a second |

![Held-out bits per byte while training: {name} and its twin fall steeply over the first million tokens, then slowly to the end; the line of the 5-gram model is crossed on the way](curve.png)

What was tried before, by short runs:

{TRIED}

Muon learns from the same tokens what AdamW needs far more of. At a peak of 1e-2 the large model led at
first and fell level with the small one after 300 steps, so it got half of that. Hidden 320 with 4
layers is a quarter faster than 256 with 6, and was ahead after the same tokens. bfloat16 arithmetic is
slower than fp32 on a CPU without units for it.

## How good

Bits per byte on the five held-out books ({row["held_out_bytes"] / 1e6:.2f} MB, every byte counted, each token
guessed from at least {settings.seq_len // 2} tokens before it where there are that many):

| | bits per byte |
| --- | ---: |
| **{name}** | **{row["bits_per_byte"]:.3f}** |
| {OTHER[name]} | {other["bits_per_byte"]:.3f} |
| 5-gram Kneser-Ney on the same tokens and text | {ngram["bits_per_byte"]:.3f} |
| xz -9 that has read the same text (64 MiB dictionary) | {xz["bits_per_byte"]:.3f} |

That is {gain["n"]:.1%} below the 5-gram model and {gain["x"]:.1%} below xz. Book by book:

| held-out book | bits per byte |
| --- | ---: |
{held_out}

What it writes after "Once upon a time", at temperature 0.7, seeds 0 to 9, each cut at its last
sentence, none left out:

{told}

## What it is not for

It is for studying compression: it trains, prunes and distils within a lesson. It knows no facts, follows
no instructions, and must not be used to inform, advise or talk with anyone, least of all children. It
repeats the manners of its books, which include the prejudices of their time about peoples, classes,
women and faith. It was not filtered for that, and nothing was added to restrain it.
"""


def write_card(name: str, folder: Path) -> None:
    """Write README.md and curve.png into a model's folder."""
    draw_curve(folder / "curve.png")
    (folder / "README.md").write_text(card(name, folder), encoding="utf-8")


if __name__ == "__main__":
    for name in OTHER:
        write_card(name, data_dir() / name)
