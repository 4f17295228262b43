"""The columns of results: what each is called, and how its numbers are written.

A row of results is a mapping, and a column of it is declared here, once. `COLUMNS` are those of a
score card. `TABLES` are the benchmarks' tables, as a terminal and README show them: a column of the
card keeps its numbers' format there unless it says another, and is called by what the table
measures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Column:
    """How a column is shown: its name in a row, its title, how a number is written (Python).

    better: "lower" or "higher"; "" where neither is.
    ratio: False where the ratio to a reference says nothing: the reference is 0, or the value is a
        ratio already.
    detail: left out of a card and of README, which would grow too wide.
    """

    name: str
    title: str
    form: str = ""
    unit: str = ""
    better: str = ""
    ratio: bool = True
    detail: bool = False

    @property
    def heading(self) -> str:
        """Title, unit and arrow.

        >>> COLUMNS["saved_mib"].heading
        'Saved (MiB) ↓'
        """
        return self._named + {"lower": " ↓", "higher": " ↑", "": ""}[self.better]

    @property
    def described(self) -> str:
        """The heading in words, for an axis.

        >>> COLUMNS["saved_mib"].described
        'Saved (MiB), lower is better'
        """
        return self._named + (f", {self.better} is better" if self.better else "")

    @property
    def _named(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def write(self, value: Any, missing: str = "") -> str:
        """Write a value; None and NaN as `missing`.

        >>> COLUMNS["perplexity"].write(22.539), COLUMNS["perplexity"].write(None, "-")
        ('22.54', '-')
        """
        return missing if value is None or value != value else format(value, self.form)


COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        Column("perplexity", "Perplexity", ".2f", "", "lower"),
        Column("perplexity_news", "News", ".2f", "perplexity", "lower"),
        Column("perplexity_stories", "Stories", ".2f", "perplexity", "lower"),
        Column("kl_nats", "KL", ".3f", "nats", "lower", ratio=False),
        Column("top1_agreement", "Same top token", ".1%", "", "higher", ratio=False),
        Column("capital_world_accuracy", "Capitals", ".0%", "", "higher"),
        Column("gram2_opposite_accuracy", "Opposites", ".0%", "", "higher"),
        Column("last_word_perplexity", "Last word", ".1f", "perplexity", "lower"),
        Column("last_word_accuracy", "Last word", ".1%", "accuracy", "higher", detail=True),
        Column("topics_accuracy", "Topics", ".1%", "accuracy", "higher"),
        Column("topics_macro_f1", "Topics", ".3f", "macro F1", "higher", detail=True),
        Column("sentiment_accuracy", "Sentiment", ".1%", "accuracy", "higher"),
        Column("sentiment_macro_f1", "Sentiment", ".3f", "macro F1", "higher", detail=True),
        Column("retrieval_mrr_at_10", "Retrieval", ".3f", "MRR@10", "higher"),
        Column("retrieval_recall_at_1", "Retrieval", ".1%", "recall@1", "higher", detail=True),
        Column("n_parameters", "Parameters", ",.0f", detail=True),
        Column("saved_mib", "Saved", ".1f", "MiB", "lower"),
        Column("resident_mib", "In memory", ".1f", "MiB", "lower", detail=True),
        Column("bits_per_weight", "Bits per weight", ".2f", "", "lower"),
        Column("decode_tokens_per_s", "Decode", ".1f", "tokens/s", "higher"),
        Column("prefill_ms", "Prefill", ".1f", "ms", "lower"),
        Column("time_to_first_token_ms", "First token", ".1f", "ms", "lower"),
        Column("latency_ms", "Latency", ".1f", "ms", "lower"),
        Column("peak_mib", "Peak memory", ".0f", "MiB", "lower"),
        Column(
            "peak_increase_mib", "Peak increase", ".1f", "MiB", "lower", ratio=False, detail=True
        ),
        Column("energy_joules", "Energy", ".2f", "J", "lower"),
        Column("energy_source", "Energy from", "s", ratio=False),
    )
}


def _called(name: str, title: str, form: str = "") -> Column:
    """Give a column of the card under another title."""
    column = COLUMNS[name]
    return replace(column, title=title, form=form or column.form, detail=False)


_GRID = Column("grid", "weights in")
_MODEL = Column("model", "model")
_METHOD = Column("method", "method")
_VERSION = Column("version", "version")
_BITS = _called("bits_per_weight", "bits a weight")
_SECONDS = Column("seconds", "seconds", ".0f")
TEXTS = tuple(Column(f"perplexity_{n.lower()}", n, ".2f") for n in ("Wikipedia", "news"))
_BOTH = tuple(
    column for text in TEXTS for column in (text, Column(f"{text.name}_vs_fp32", "x fp32", ".3f"))
)
_JUDGED = tuple(
    column
    for name, title, form in (
        ("perplexity_wikipedia", "Wikipedia", ".2f"),
        ("perplexity_news", "news", ".2f"),
        ("perplexity_stories", "stories", ".2f"),
        ("last_word_perplexity", "last word", ".1f"),
    )
    for column in (Column(name, title, form), Column(f"{name}_vs_fp32", "x fp32"))
)
_WHY_NOT = Column("why_not", "why not")
_TOOK = replace(_SECONDS, detail=True)
_AT_MOST = Column("at_most_bits", "at most", ".2f", detail=True)

TABLES: dict[str, tuple[Column, ...]] = {
    "quantization": (
        _GRID,
        _BITS,
        Column("linears_vs_fp32", "linears x fp32", ".1%", detail=True),
        Column("saved_vs_fp32", "file", ".1%"),
        *TEXTS,
    ),
    "gptq": (_GRID, _METHOD, _BITS, *_BOTH, _TOOK),
    "low_bits": (
        _GRID,
        _METHOD,
        _AT_MOST,
        _BITS,
        *_JUDGED,
        Column("tuned_vs_untuned", "x untuned, where it gained least"),
        _TOOK,
    ),
    "tasks": (
        _MODEL,
        Column("sentiment_accuracy", "sentiment", ".1%"),
        Column("sentiment_interval", "95 %"),
        Column("sentiment_lead", "of the lead", ".0%"),
        Column("topics_accuracy", "topics", ".1%"),
        Column("topics_interval", "95 %"),
        Column("retrieval_mrr_at_10", "retrieval, MRR@10", ".3f"),
        Column("retrieval_interval", "95 %"),
        _SECONDS,
    ),
    "smoothquant": (
        _MODEL,
        _VERSION,
        _BITS,
        *TEXTS,
        Column("prefill_speed_vs_fp32", "prefill x fp32", ".2f"),
        Column("cosine_to_fp32", "cosine", ".4f"),
        Column("latency_speed_vs_fp32", "sentence x fp32", ".2f"),
    ),
    "side_by_side": (_GRID, _METHOD, _VERSION, _BITS, *TEXTS, _SECONDS, _WHY_NOT),
    "streaming": (
        Column("run", "run"),
        Column("n_layers", "layers", detail=True),
        Column("checkpoint_mib", "checkpoint, MiB", ",.0f"),
        _called("saved_mib", "int4, MiB", ",.0f"),
        Column("peak_rss_mib", "peak memory of the process, MiB", ",.0f"),
        _SECONDS,
        Column("blocks_before_kill", "blocks before the kill", detail=True),
        Column("same_bytes", "same bytes"),
    ),
    "kv_cache": (
        Column("cache", "cache"),
        Column("bytes_per_token", "bytes a token", ",.0f"),
        Column("bytes_smaller", "times smaller", ".2f"),
        Column("bytes_mean_smaller", "mean of 64", ".2f", detail=True),
        Column("bytes_fp32_model_smaller", "smaller than fp32", ".2f", detail=True),
        _called("perplexity", "Wikipedia"),
        Column("perplexity_vs_float", "x float", ".4f"),
    ),
    "storybook": (
        _MODEL,
        _called("n_parameters", "parameters"),
        Column("bits_per_byte", "bits a byte", ".3f"),
    ),
    "decode": (
        replace(_VERSION, title="weights in"),
        _called("decode_tokens_per_s", "decode, tokens/s"),
        Column("decode_vs_fp32", "x fp32", ".2f"),
        Column("bound_tokens_per_s", "memory's bound", ".0f"),
        Column("read_mib", "MiB read a token", ".0f", detail=True),
        _called("prefill_ms", "prefill of 64, ms", ".0f"),
        Column("prefill_speed_vs_fp32", "speed x fp32", ".2f"),
    ),
}
