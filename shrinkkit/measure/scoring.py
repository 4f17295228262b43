"""Put models side by side: one row a model, the same columns for every technique of the course.

    scorecard(model, small, text.evaluation())
    scorecard({"fp32": model, "int8": int8, "int4": int4}, text.evaluation())

The first model is the reference. Columns carry their units; beside each stands its ratio to the
reference, with `_relative`: 0.25 in `saved_mib_relative` is a quarter of the file. What there is:

| measure | columns | costs |
| --- | --- | --- |
| quality | `perplexity`, `kl_nats`, `top1_agreement`; a column a task, and a text | a pass a text |
| size | `n_parameters`, `saved_mib`, `resident_mib`, `bits_per_weight` | nothing |
| speed | `decode_tokens_per_s`, `prefill_ms`, ... quartiles `_low` and `_high` | some answers |
| memory | `peak_mib`: own tensors and what reading a prompt adds to them | one pass |
| energy | `energy_joules` of one token written, `energy_source` | seconds |

Speeds are taken in turns, so that a busy moment falls on all models. `.frame` is the DataFrame, for
everything else; as the last line of a cell the card shows a table; `.figure()` draws size against
quality, and `record("table", card.frame)` keeps the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_choice, require_int
from shrinkkit.measure import size
from shrinkkit.measure.card import ScoreCard
from shrinkkit.measure.energy import measure_energy
from shrinkkit.measure.memory import peak_rss
from shrinkkit.measure.paired import times
from shrinkkit.measure.quality import TokenScores, token_scores
from shrinkkit.measure.speed import (
    decode_speed_paired,
    prefill_speed_paired,
    random_tokens,
    write_tokens,
)
from shrinkkit.measure.tasks.judging import Judged, beside, judge, judge_rival, reads_text
from shrinkkit.measure.tasks.rivals import TFIDF
from shrinkkit.measure.timing import Rate, Timing, time_paired
from shrinkkit.surgery.parts import output_head
from shrinkkit.surgery.running import (
    check_tokens,
    device_of,
    evaluating,
    progress,
)

if TYPE_CHECKING:
    from shrinkkit.sources.tasks import Task

OTHER_TEXTS = ("news", "stories")
MEASURES = ("quality", "size", "speed", "memory", "energy")
MIB = size.MIB


def scorecard(
    *models_and_tokens: nn.Module | Mapping[str, nn.Module] | torch.Tensor,
    tokens: torch.Tensor | None = None,
    also: Mapping[str, torch.Tensor] | None = None,
    tokenizer: Any = None,
    tasks: Sequence[Task] = (),
    measures: Sequence[str] = ("quality", "size", "speed"),
    n_questions: int = 60,
    n_new: int = 32,
    repeats: int = 3,
    rivals: bool = True,
    seed: int = 0,
) -> ScoreCard:
    """Measure a reference model and what was made from it, and put them side by side.

    models_and_tokens: the reference, then one or more compressed models, or one {name: model} with
        the reference first; then, for language models, windows of text [n_samples, seq_len].
    tokens: the windows, where they do not come last among the former.
    also: windows of other texts, {"news": ..., "stories": ...}: a perplexity of its own for each.
    tokenizer: needed for tasks.
    tasks: from load_task; an analogy task asks its sections capital-world and gram2-opposite.
    measures: which of quality, size, speed, memory, energy.
    n_questions: a section of an analogy task. n_new: tokens written to time decoding.
    repeats: turns of timing. seed: which questions are asked.
    rivals: give encoders' tasks a row of counted words (TF-IDF), and each model its share of the
        reference's lead over them.
    Returns ScoreCard.
    Raises InputError: no models, a name of a measure that there is not, quality of language models
        without tokens, tasks without a tokenizer, and what the single measurements refuse.
    """
    models, tokens = _sort_out(models_and_tokens, tokens)
    chosen = [measures] if isinstance(measures, str) else list(measures)
    for name in chosen:
        require_choice("measures", name, MEASURES)
    require_int("repeats", repeats, 1)
    writes = all(map(_writes, models.values()))
    rows: dict[str, dict[str, Any]] = {name: {"model": name} for name in models}
    rival: dict[str, dict[str, Any]] = {}
    if "quality" in chosen:
        _require(writes, tokens, tokenizer, tasks)
        if writes and tokens is not None:
            _read_text(rows, models, tokens)
        for name, windows in (also or {}).items():
            require_choice("also", name, OTHER_TEXTS)
            _perplexities(rows, f"perplexity_{name}", token_scores(models, windows))
        if rivals and any(map(reads_text, tasks)):
            rival[TFIDF] = {"model": TFIDF}
        for task in tasks:
            _do_task(rows, rival, models, tokenizer, task, n_questions, seed)
    if "size" in chosen:
        for name, model in models.items():
            rows[name].update(
                n_parameters=size.n_parameters(model),
                saved_mib=size.saved_bytes(model) / MIB,
                resident_mib=size.resident_bytes(model) / MIB,
                bits_per_weight=size.bits_per_weight(model),
            )
    sample = _sample(models, tokens)
    if "speed" in chosen:
        _speed(rows, models, sample, writes, n_new, repeats)
    if "memory" in chosen:
        for name, model in progress(models.items(), "memory", unit="model"):
            with evaluating(model):
                added = peak_rss(model, sample).increase_bytes
            # Not the process's peak: that holds all the models of this card, and Python.
            rows[name]["peak_increase_mib"] = added / MIB
            rows[name]["peak_mib"] = (size.resident_bytes(model) + added) / MIB
    if "energy" in chosen:
        _energy(rows, models, sample, writes, n_new)
    return ScoreCard.of([*rows.values(), *rival.values()])


def _sort_out(
    given: Sequence[object], tokens: torch.Tensor | None
) -> tuple[dict[str, nn.Module], torch.Tensor | None]:
    """Tell models from tokens among the positional arguments, and name the models."""
    *rest, last = given or (None,)
    if isinstance(last, torch.Tensor):
        if tokens is not None:
            raise InputError("tokens was given twice: last of all and by name. Give it once.")
        given, tokens = rest, last
    if len(given) == 1 and isinstance(given[0], Mapping):
        models = dict(given[0])
    elif len(given) == 2:
        models = dict(zip(("reference", "compressed"), given, strict=True))
    else:
        models = {f"compressed {i}" if i else "reference": m for i, m in enumerate(given)}
    wrong = [name for name, model in models.items() if not isinstance(model, nn.Module)]
    if not models or wrong:
        what = f"{wrong[0]!r} is a {type(models[wrong[0]]).__name__}" if wrong else "there is none"
        raise InputError(
            f"scorecard needs models, and {what}. Call it as scorecard(model, small, tokens) or "
            "scorecard({'fp32': model, 'int8': small}, tokens)."
        )
    return models, None if tokens is None else check_tokens(tokens)


def _writes(model: nn.Module) -> bool:
    """Tell a language model from an encoder: it generates, from a head over the vocabulary."""
    return callable(getattr(model, "generate", None)) and output_head(model) is not None


def _sample(models: Mapping[str, nn.Module], tokens: torch.Tensor | None) -> torch.Tensor:
    """Give one short input [1, up to 64] for speed, memory and energy."""
    first = next(iter(models.values()))
    if tokens is not None:
        return tokens[:1, :64].to(device_of(first))
    return random_tokens(first, 1, 32)


def _require(writes: bool, tokens: Any, tokenizer: Any, tasks: Sequence[Task]) -> None:
    """Refuse to judge quality without anything to judge it on."""
    if writes and tokens is None and not tasks:
        raise InputError(
            "tokens is missing: the quality of language models is measured on text. Give windows, "
            "such as load_text('wikipedia').evaluation(), or leave 'quality' out of measures."
        )
    if not writes and not tasks:
        raise InputError(
            "tasks is empty: the quality of encoders is measured on tasks. Give "
            "tasks=[load_task('topics')] and tokenizer, or leave 'quality' out of measures."
        )
    if tasks and tokenizer is None:
        raise InputError("tokenizer is missing: tasks are texts. Give load_tokenizer(name).")


def _read_text(rows: Any, models: Mapping[str, nn.Module], tokens: torch.Tensor) -> None:
    """Fill in perplexity, divergence and agreement, and how sure the ratio of perplexities is."""
    reference = next(iter(models))
    scores = token_scores(models, tokens, reference=reference)
    _perplexities(rows, "perplexity", scores)
    for name, found in scores.items():
        agreement = found.agreement  # None for the reference, which agrees with itself
        rows[name]["kl_nats"] = 0.0 if agreement is None else agreement.kl
        rows[name]["top1_agreement"] = 1.0 if agreement is None else agreement.top1


def _perplexities(rows: Any, column: str, scores: Mapping[str, TokenScores]) -> None:
    """Fill in a text's perplexities; beside all but the reference's, how sure their ratio is."""
    reference, *others = scores
    for name, found in scores.items():
        rows[name][column] = found.perplexity
        if name in others and len(found.losses) > 1:
            rows[name].update(beside(column, times, found.losses, scores[reference].losses))


def _do_task(
    rows: Any,
    rival: Any,
    models: Mapping[str, nn.Module],
    tokenizer: Any,
    task: Task,
    n_questions: int,
    seed: int,
) -> None:
    """Fill in a task's columns, with the interval of each ratio and of the share of the lead."""
    judged = {
        name: judge(model, tokenizer, task, n_questions, seed) for name, model in models.items()
    }
    counted: Judged | None = None
    for row in rival.values():
        counted = judge_rival(task)
        row.update(counted.columns if counted else {})
    reference, *others = models
    for name in models:
        rows[name].update(judged[name].columns)
    for name, row in [*((n, rows[n]) for n in others), *rival.items()]:
        other = counted if name in rival else judged[name]
        if other is not None:
            row.update(other.against(judged[reference], counted if name not in rival else None))


def _speed(rows, models, sample, writes: bool, n_new: int, repeats: int) -> None:
    if not writes:
        mask = torch.ones_like(sample)
        fns = {name: partial(model, sample, attention_mask=mask) for name, model in models.items()}
        with evaluating(*models.values()):
            for name, timing in time_paired(fns, 2, max(repeats, 5)).items():
                rows[name].update(_with_quartiles("latency_ms", timing))
        return
    decode = decode_speed_paired(models, sample[:, :16], n_new, repeats=repeats)
    prefill = prefill_speed_paired(models, sample, repeats=max(repeats, 3))
    for name in models:
        rows[name].update(_with_quartiles("decode_tokens_per_s", decode[name].tokens_per_s))
        rows[name].update(_with_quartiles("prefill_ms", prefill[name].timing))
        rows[name]["time_to_first_token_ms"] = decode[name].first_token.median_ms


def _with_quartiles(column: str, measured: Rate | Timing) -> dict[str, float]:
    """Give a column with the quartiles beside it, as `_low` and `_high`."""
    median, low, high, *_ = vars(measured).values()
    return {column: median, f"{column}_low": low, f"{column}_high": high}


def _energy(rows, models, sample, writes: bool, n_new: int) -> None:
    for name, model in progress(models.items(), "energy", unit="model"):
        with evaluating(model):
            work = partial(write_tokens, model, sample[:, :16], n_new) if writes else None
            energy = measure_energy(work or partial(model, sample))
        per = n_new if writes else 1  # a token written, or a sentence read
        rows[name]["energy_joules"] = None if energy.joules is None else energy.joules / per
        rows[name]["energy_source"] = energy.source
