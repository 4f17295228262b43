"""Turn a folder of text into what a language model is trained on, and what it is judged by.

1. Read the files and undo their line wrapping: books from scanned editions break lines at 70
   characters, and a model should not spend itself on guessing where.
2. Set some whole files aside. They are chosen by the hash of their names, so nobody picked them,
   and by file, so that no chapter of a held-out book was ever seen.
3. Learn a byte-level BPE tokenizer from the rest: it starts from the 256 bytes and merges the
   commonest pair, again and again. It can write any text; frequent words become one token.
4. Join the training files to one stream, `<|endoftext|>` before each, and cut windows from it.

A window of step 1,000 is a function of the seed and the number 1,000 alone: nothing has to be
remembered for a run that was killed to go on with the very window that it would have seen. Each
pass over the text shifts the cuts, so that a second reading has other edges.

It costs seconds for 20 MB. Large trainings tokenise once into memory-mapped files instead.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from shrinkkit.errors import InputError, did_you_mean, require_int
from shrinkkit.sources.articles import Article, articles_from_path, hub_articles, in_hash_order

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
_VERSE_CHARACTERS = 55  # a paragraph whose full lines are shorter is verse: its breaks are meant


@dataclass(frozen=True)
class Document:
    """One held-out file: token ids [n_tokens] int64, END first, and the bytes of its text."""

    title: str
    ids: torch.Tensor
    n_bytes: int


@dataclass(frozen=True)
class Corpus:
    """A text ready for training: the tokenizer, the training stream and the held-out files.

    stream: [n_tokens] int32; the training files one after another, END before each.
    n_bytes: UTF-8 bytes of the training files (unwrapped).
    """

    tokenizer: PreTrainedTokenizerFast
    stream: torch.Tensor
    n_bytes: int
    titles: tuple[str, ...]
    held_out: tuple[Document, ...]

    @cached_property
    def sha256(self) -> str:
        """Digest of every token of both parts: two runs agree on their text or they do not."""
        digest = hashlib.sha256(self.stream.numpy().tobytes())
        for document in self.held_out:
            digest.update(document.ids.numpy().tobytes())
        return digest.hexdigest()

    def n_windows(self, seq_len: int) -> int:
        """Return how many windows of `seq_len` tokens one pass over the text has."""
        return (len(self.stream) - seq_len) // seq_len

    def batch(self, step: int, batch_size: int, seq_len: int, seed: int) -> torch.Tensor:
        """Return the windows of one step, whatever was or was not asked for before.

        step: 0, 1, 2 ...; batch_size, seq_len: windows and their tokens; seed: the order.
        Returns [batch_size, seq_len] int64.
        """
        n = self.n_windows(seq_len)
        rows = []
        for k in range(step * batch_size, (step + 1) * batch_size):
            order, shift = self._pass(k // n, n, seq_len, seed)
            start = shift + int(order[k % n]) * seq_len
            rows.append(self.stream[start : start + seq_len])
        return torch.stack(rows).long()

    def _pass(self, number: int, n: int, seq_len: int, seed: int) -> tuple[torch.Tensor, int]:
        """Return the order of the windows in one pass, and where its first window starts."""
        key = (number, n, seq_len, seed)
        cache = self.__dict__.setdefault("_passes", {})
        if key not in cache:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
            shift = int(torch.randint(seq_len, (), generator=generator))
            while len(cache) > 1:  # a batch can reach from one pass into the next
                cache.pop(next(iter(cache)))
            cache[key] = torch.randperm(n, generator=generator), shift
        return cache[key]


def unwrap(text: str) -> str:
    """Join the lines of each paragraph to one, except in verse; paragraphs stay apart.

    >>> unwrap(
    ...     "A long line of prose, wrapped where the page of the printed book\\nended.\\n\\n\\nB."
    ... )
    'A long line of prose, wrapped where the page of the printed book ended.\\n\\nB.'
    >>> unwrap("Tiger, tiger,\\n  burning bright")
    'Tiger, tiger,\\nburning bright'
    """
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        lines = [" ".join(line.split()) for line in paragraph.strip().split("\n")]
        verse = all(len(line) <= _VERSE_CHARACTERS for line in lines)
        joined = ("\n" if verse else " ").join(line for line in lines if line)
        if joined:
            paragraphs.append(joined)
    return "\n\n".join(paragraphs)


def split_held_out(
    articles: Sequence[Article], held_out: int | Sequence[str] | None
) -> tuple[list[Article], list[Article]]:
    """Set whole files aside: (for training, held out).

    articles: the files.
    held_out: how many, taken in the order of the SHA-256 of their names; or their names; None
        takes a twelfth, at least one.
    Raises InputError for a name that is not there, or for nothing left to train on.
    """
    if held_out is None:
        held_out = max(1, len(articles) // 12)
    if isinstance(held_out, (int, float)):
        n = require_int("held_out", held_out, 1)
        names = in_hash_order(a.title for a in articles)[:n]
    else:
        names = list(held_out)
        for name in names:
            if name not in {a.title for a in articles}:
                hint = did_you_mean(name, [a.title for a in articles])
                raise InputError(f"held_out names {name!r}, which is no file of the text.{hint}")
    kept = [a for a in articles if a.title not in names]
    if not kept or not names:
        raise InputError(
            f"held_out={held_out!r} leaves {len(kept)} of {len(articles)} files for training and "
            f"{len(names)} to judge by; at least one of each is needed."
        )
    return kept, [a for a in articles if a.title in names]


def train_tokenizer(
    texts: Iterable[str], vocab_size: int = 4096, *, seq_len: int = 512
) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv 1508.07909; GPT-2's bytes).

    texts: what it learns from.
    vocab_size: tokens in all: END, the 256 bytes, and as many merges as fit; from 257.
    seq_len: the longest input that the model takes, written into the tokenizer.
    Returns a transformers tokenizer whose bos, eos and pad token is END.
    Raises InputError for a vocabulary smaller than the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    require_int("vocab_size", vocab_size, 257, 2**20)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        model_max_length=seq_len,
        clean_up_tokenization_spaces=False,
    )


def encode_document(tokenizer: PreTrainedTokenizerFast, title: str, text: str) -> Document:
    """Tokenise one text for judging; the tokenizer's bos is put before it."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    ids = torch.tensor([tokenizer.bos_token_id, *ids])
    return Document(title, ids, len(text.encode("utf-8")))


def read_corpus(
    source: str | Path,
    *,
    vocab_size: int = 4096,
    seq_len: int = 512,
    held_out: int | Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerFast | None = None,
    config: str | None = None,
    split: str = "train",
    column: str = "text",
) -> Corpus:
    """Read, split and tokenise a text.

    source: a folder of .txt files, one .txt file, or a hub data set ("owner/name").
    vocab_size: tokens of the tokenizer that is learnt from the training files.
    seq_len: tokens of a window; the text must have a few of them.
    held_out: as for `split_held_out`.
    tokenizer: use this one instead of learning one (its bos token must be set).
    config, split, column: hub data sets only, as for `shrinkkit.load_text`.
    Raises InputError: no such text, not UTF-8, too short, a name in held_out that is not there.
    """
    path = Path(source).expanduser()
    if path.exists():
        articles = articles_from_path(path)
    elif isinstance(source, str) and re.fullmatch(r"\w[\w.\-]*/\w[\w.\-]*", source):
        articles = hub_articles(source, config=config, split=split, column=column)
    else:
        raise InputError(
            f"There is no folder or file {str(source)!r}. Give a folder of .txt files, one .txt "
            "file, or a hub data set such as 'roneneldan/TinyStories'."
        )
    articles = [Article(a.title, unwrap(a.text)) for a in articles]
    kept, aside = split_held_out(articles, held_out)
    if tokenizer is None:
        tokenizer = train_tokenizer((a.text for a in kept), vocab_size, seq_len=seq_len)
    documents = [encode_document(tokenizer, a.title, a.text) for a in kept]
    stream = torch.cat([document.ids for document in documents]).to(torch.int32)
    if len(stream) < 2 * seq_len:
        raise InputError(
            f"The text has {len(stream):,} tokens for training, and a window takes {seq_len}; give "
            f"at least {2 * seq_len:,} tokens of text, or choose a shorter seq_len."
        )
    return Corpus(
        tokenizer=tokenizer,
        stream=stream,
        n_bytes=sum(document.n_bytes for document in documents),
        titles=tuple(document.title for document in documents),
        held_out=tuple(encode_document(tokenizer, a.title, a.text) for a in aside),
    )
