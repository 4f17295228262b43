"""Cut texts into windows of tokens: some to calibrate on, others to be judged by.

Compression methods look at a little text (calibration) and quality is measured on other text
(evaluation). The two must not share anything, or the measurement flatters the method. Here:

1. the articles are put in a fixed order (by the hash of their titles) and dealt alternately to
   the two halves, whatever the seed and however many windows are asked for;
2. each article is tokenised and cut into windows of `seq_len` tokens, none overlapping, none
   reaching across an article's end; what is left at the end is not used;
3. a seeded shuffle of a half's windows picks the first `n_samples`. So 8 windows are the first
   8 of 32, and a quick run measures a part of what the full run measures.

`stories` is for evaluation alone and has no calibration half.

Windows carry no special tokens. Tokenising one half of `wikipedia` takes about a second, once
per `Text`. Perplexity is per token, and tokens differ between tokenizers; `bytes_per_token`
turns it into bits per byte, which can be compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from shrinkkit.errors import InputError, did_you_mean, require_choice, require_int
from shrinkkit.sources.articles import (
    Article,
    articles_from_path,
    hub_articles,
    in_hash_order,
    lee_news_articles,
    wikipedia_articles,
)
from shrinkkit.sources.film_reviews import film_articles
from shrinkkit.sources.stories import story_articles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_EMBEDDED = {
    "wikipedia": wikipedia_articles,
    "lee-news": lee_news_articles,
    "film-reviews": film_articles,
    "stories": story_articles,
}
EMBEDDED_TEXTS = tuple(_EMBEDDED)
EVALUATION_ONLY = ("stories",)
Half = Literal["calibration", "evaluation"]


@dataclass(frozen=True)
class Text:
    """A named set of articles with the tokenizer that cuts them into windows."""

    name: str
    articles: tuple[Article, ...]
    tokenizer: PreTrainedTokenizerFast
    evaluation_only: bool = False
    _tokens: dict[Half, list[torch.Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __repr__(self) -> str:
        return f"Text({self.name!r}, {len(self.articles)} articles)"

    def calibration(self, n_samples: int = 32, seq_len: int = 256, seed: int = 0) -> torch.Tensor:
        """Return windows to calibrate on.

        n_samples: number of windows.
        seq_len: tokens in a window.
        seed: which windows of the calibration half.
        Returns [n_samples, seq_len] int64; token ids.
        Raises InputError: the half has not that many windows, or none that long.
        """
        return self._windows("calibration", n_samples, seq_len, seed)

    def evaluation(self, n_samples: int = 32, seq_len: int = 256, seed: int = 0) -> torch.Tensor:
        """Return windows to measure on, from articles that no calibration window comes from.

        Arguments, result and errors as in `calibration`.
        """
        return self._windows("evaluation", n_samples, seq_len, seed)

    def half(self, name: Half) -> tuple[Article, ...]:
        """Return the articles of the "calibration" or the "evaluation" half."""
        require_choice("half", name, ["calibration", "evaluation"])
        if self.evaluation_only:
            if name == "calibration":
                raise InputError(
                    f"{self.name!r} is for evaluation only: what was tuned on it could not be "
                    "judged on it. Calibrate on load_text('wikipedia') or 'film-reviews'."
                )
            return self.articles
        return split_articles(self.articles)[0 if name == "calibration" else 1]

    def bytes_per_token(self, half: Half = "evaluation") -> float:
        """Return UTF-8 bytes per token of a half: log2(perplexity) / this = bits per byte."""
        n_bytes = sum(len(article.text.encode("utf-8")) for article in self.half(half))
        return n_bytes / max(1, sum(len(tokens) for tokens in self._tokenised(half)))

    def _tokenised(self, half: Half) -> list[torch.Tensor]:
        if half not in self._tokens:
            texts = [article.text for article in self.half(half)]
            # verbose=False: a whole article is longer than the model's limit; windows are not.
            options = {"add_special_tokens": False, "verbose": False}
            ids = self.tokenizer(texts, **options)["input_ids"] if texts else []
            self._tokens[half] = [torch.tensor(row, dtype=torch.int64) for row in ids]
        return self._tokens[half]

    def _windows(self, half: Half, n_samples: int, seq_len: int, seed: int) -> torch.Tensor:
        n_samples = require_int("n_samples", n_samples, 1)
        seq_len = require_int("seq_len", seq_len, 2)
        seed = require_int("seed", seed, 0)
        tokens = self._tokenised(half)
        starts = [
            (article, start)
            for article, row in enumerate(tokens)
            for start in range(0, len(row) - seq_len + 1, seq_len)
        ]
        if len(starts) < n_samples:
            raise InputError(self._too_few(half, tokens, len(starts), n_samples, seq_len))
        order = torch.randperm(len(starts), generator=torch.Generator().manual_seed(seed))
        picked = [starts[i] for i in order[:n_samples].tolist()]
        return torch.stack([tokens[article][start : start + seq_len] for article, start in picked])

    def _too_few(
        self, half: Half, tokens: list[torch.Tensor], n_windows: int, n_samples: int, seq_len: int
    ) -> str:
        longest = max((len(row) for row in tokens), default=0)
        there = f"The {half} half of {self.name!r} has {len(tokens)} article(s)"
        if n_windows == 0:
            return (
                f"seq_len must be at most {longest:,}, the tokens of the longest article, but "
                f"{seq_len:,} was given. {there}, and windows never reach across an article's "
                "end. Choose a shorter seq_len or a longer text."
            )
        return (
            f"n_samples must be at most {n_windows:,} with seq_len={seq_len}, but {n_samples:,} "
            f"was given. {there} of at most {longest:,} tokens. Choose fewer or shorter windows."
        )


def split_articles(
    articles: tuple[Article, ...],
) -> tuple[tuple[Article, ...], tuple[Article, ...]]:
    """Deal articles to a calibration and an evaluation half, always in the same way.

    >>> calibration, evaluation = split_articles(tuple(Article(t, "") for t in "abcde"))
    >>> len(calibration), len(evaluation)
    (3, 2)
    """
    dealt = in_hash_order(articles, name=lambda article: article.title)
    return tuple(dealt[::2]), tuple(dealt[1::2])


def load_text(
    name: str | Path,
    tokenizer: str | Path | PreTrainedTokenizerFast = "smollm2-135m",
    *,
    config: str | None = None,
    split: str = "test",
    column: str = "text",
) -> Text:
    """Open a text: embedded, from .txt files, or a dataset of the hub.

    name: "wikipedia", "lee-news", "film-reviews" (of films that no task judges), "stories" (for
        evaluation only), the path of a .txt file or of a folder of them, or a hub dataset
        such as "Salesforce/wikitext".
    tokenizer: the model's name or folder whose tokenizer cuts the text, or a tokenizer.
    config: hub datasets only: which part; wikitext's default is "wikitext-2-raw-v1".
    split, column: hub datasets only; the column that holds the text.
    Raises InputError: unknown name (with the near matches), empty text; AssetError: an embedded
    file is missing or damaged, or the hub cannot be reached.
    """
    articles = _read(name, config, split, column)
    return Text(str(name), articles, _tokenizer(tokenizer), name in EVALUATION_ONLY)


def _tokenizer(tokenizer: Any) -> PreTrainedTokenizerFast:
    if isinstance(tokenizer, (str, Path)):
        from shrinkkit.sources.models import load_tokenizer

        return load_tokenizer(tokenizer)
    if not callable(tokenizer):
        raise InputError(
            "tokenizer must be a model's name or folder, or a transformers tokenizer, but "
            f"{tokenizer!r} was given. load_text(name, 'smollm2-135m') is the default."
        )
    return tokenizer


def _read(name: str | Path, config: str | None, split: str, column: str) -> tuple[Article, ...]:
    if not isinstance(name, (str, Path)) or not str(name).strip():
        raise InputError(f"name must be a text's name or path, but {name!r} was given. {_HELP}")
    if name in _EMBEDDED:
        return _EMBEDDED[str(name)]()
    if name in ("analogies", "topics", "retrieval", "sentiment", "last-words"):
        raise InputError(f"{name!r} is a task, not a text. Use load_task({name!r}).")
    path = Path(name).expanduser()
    if path.exists():
        return articles_from_path(path)
    is_hub_name = isinstance(name, str) and re.fullmatch(r"\w[\w.\-]*/\w[\w.\-]*", name)
    if is_hub_name and not str(name).endswith(".txt"):
        return hub_articles(str(name), config=config, split=split, column=column)
    hint = did_you_mean(name, EMBEDDED_TEXTS)
    raise InputError(f"Unknown text {str(name)!r}, and no such file or folder.{hint} {_HELP}")


_HELP = (
    f"Embedded texts: {', '.join(EMBEDDED_TEXTS)}. You can also give a .txt file, a folder of .txt "
    "files, or a hub dataset such as 'Salesforce/wikitext'."
)
