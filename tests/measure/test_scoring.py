"""The score card: every column agrees with the single measurement, and the card reads well."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.measure import (
    Energy,
    ScoreCard,
    bits_per_weight,
    classification_score,
    last_word_scores,
    load_results,
    next_token_agreement,
    paired_interval,
    perplexity,
    record,
    resident_bytes,
    saved_bytes,
    scorecard,
    tfidf_classification,
    times,
    token_scores,
)
from shrinkkit.measure.columns import COLUMNS
from shrinkkit.quant import quantize_model
from shrinkkit.sources.tasks import AnalogyQuestion, AnalogyTask, LastWord, LastWordTask
from tests.measure.conftest import topics

# `shrinkkit.measure.scoring` is the function; its module goes by the same name.
MODULE = importlib.import_module("shrinkkit.measure.scoring")


@pytest.fixture(scope="module")
def small(tiny_llama):
    return quantize_model(tiny_llama, 4, 32)


def test_quality_and_size_agree_with_the_single_functions(tiny_llama, small, tokens):
    frame = scorecard(tiny_llama, small, tokens, measures=("quality", "size")).frame
    assert frame["model"].tolist() == ["reference", "compressed"]
    assert frame["perplexity"].tolist() == [perplexity(m, tokens) for m in (tiny_llama, small)]
    agreement = next_token_agreement(tiny_llama, small, tokens)
    assert frame["kl_nats"].tolist() == [0.0, agreement.kl]
    assert frame["top1_agreement"].tolist() == [1.0, agreement.top1]
    assert frame["saved_mib"].tolist() == [saved_bytes(m) / 2**20 for m in (tiny_llama, small)]
    assert frame["bits_per_weight"].tolist() == [32.0, bits_per_weight(small)]
    ratio = saved_bytes(small) / saved_bytes(tiny_llama)
    assert frame["saved_mib_relative"].tolist() == pytest.approx([1.0, ratio])
    assert not any("decode" in name for name in frame)


def test_names_come_from_the_mapping_and_speed_has_a_spread(tiny_llama, small, tokens):
    models = {"fp32": tiny_llama, "int4": small}
    frame = scorecard(models, tokens[:1], measures="speed", n_new=4, repeats=2).frame
    assert frame["model"].tolist() == ["fp32", "int4"]
    for name in ("decode_tokens_per_s", "prefill_ms"):
        assert (frame[f"{name}_low"] <= frame[name]).all()
        assert (frame[name] <= frame[f"{name}_high"]).all()
    ratio = frame["decode_tokens_per_s"][1] / frame["decode_tokens_per_s"][0]
    assert frame["decode_tokens_per_s_relative"].tolist() == pytest.approx([1.0, ratio])


def test_three_models_get_three_names(tiny_llama, small):
    frame = scorecard(tiny_llama, small, small, measures=("size",)).frame
    assert frame["model"].tolist() == ["reference", "compressed 1", "compressed 2"]


def test_one_model_alone_is_a_baseline(tiny_llama, tokens):
    frame = scorecard({"fp32": tiny_llama}, tokens=tokens, measures=["quality"]).frame
    assert frame["perplexity_relative"].tolist() == [1.0]


def test_memory_and_energy(tiny_llama, tokens, monkeypatch):
    energy = Energy(8.0, "rapl", "", 1.0, 1)
    monkeypatch.setattr(MODULE, "measure_energy", lambda fn: (fn(), energy)[1])
    models = {"fp32": tiny_llama}
    frame = scorecard(models, tokens, measures=("memory", "energy"), n_new=4).frame
    (row,) = frame.to_dict(orient="records")
    assert row["energy_joules"] == 2.0  # 8 J for 4 tokens
    assert row["energy_source"] == "rapl"
    own = resident_bytes(tiny_llama) / 2**20
    assert row["peak_mib"] == pytest.approx(own + row["peak_increase_mib"])
    assert row["peak_increase_mib"] >= 0


def test_energy_that_is_not_available_is_said_and_not_zero(tiny_llama, tokens, monkeypatch):
    unknown = Energy(None, "not available", "", 1.0, 1)
    monkeypatch.setattr(MODULE, "measure_energy", lambda fn: unknown)
    card = scorecard({"fp32": tiny_llama}, tokens, measures="energy")
    assert math.isnan(card.frame["energy_joules"].astype(float)[0])
    assert "not available" in card._repr_html_()


def test_an_encoder_is_scored_on_tasks_and_latency(tiny_bert, tiny_tokenizer):
    train = [("aaaa", 0), ("aaab", 0), ("zzzz", 1), ("zzzy", 1)]
    task = topics(train, [("abaa", 0), ("zyzz", 1)], ("a", "z"))
    models = {"a": tiny_bert, "b": tiny_bert}
    frame = scorecard(models, tokenizer=tiny_tokenizer, tasks=[task], repeats=2).frame
    expected = classification_score(tiny_bert, tiny_tokenizer, task)
    assert frame["model"].tolist() == ["a", "b", "TF-IDF"]
    counted = tfidf_classification(task).accuracy
    assert frame["topics_accuracy"].tolist() == [expected.accuracy, expected.accuracy, counted]
    assert "perplexity" not in frame
    assert (frame["latency_ms"][:2] > 0).all()


def test_analogies_bring_their_interval(tiny_llama, tiny_tokenizer):
    words = ("one", "two")
    sections = {
        name: (AnalogyQuestion("say", words, 0), AnalogyQuestion("tell", words, 1))
        for name in ("capital-world", "gram2-opposite")
    }
    (row,) = scorecard(
        {"fp32": tiny_llama},
        tokenizer=tiny_tokenizer,
        tasks=[AnalogyTask(sections)],
        measures="quality",
        n_questions=2,
    ).frame.to_dict(orient="records")
    for name in ("capital_world_accuracy", "gram2_opposite_accuracy"):
        assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1


def test_the_frame_can_be_recorded(tiny_llama, small, tokens, tmp_path, monkeypatch):
    monkeypatch.setenv("SHRINKKIT_RESULTS", str(tmp_path))
    card = scorecard(tiny_llama, small, tokens, measures=("quality", "size"))
    record("scorecard", card.frame, seed=0, n_samples=len(tokens))
    back = load_results("scorecard")
    assert back["perplexity"].tolist() == card.frame["perplexity"].tolist()


ROWS = [
    {"model": "fp32 <b>", "perplexity": 18.684, "kl_nats": 0.0, "saved_mib": 513.132},
    {"model": "int4", "perplexity": 24.039, "kl_nats": 0.2512, "saved_mib": 92.4},
]


def test_the_table_rounds_and_shows_ratios():
    html = ScoreCard.of(ROWS)._repr_html_()
    assert "24.04<br><small>×1.29</small>" in html
    assert "92.4<br><small>×0.18</small>" in html
    assert "Saved (MiB) ↓" in html
    assert "0.251</td>" in html  # the reference is 0: no ratio
    assert "fp32 &lt;b&gt;</th>" in html
    assert "fp32 <b>" not in html


def test_the_text_form_is_aligned():
    lines = repr(ScoreCard.of(ROWS)).splitlines()
    assert len(lines) == 3
    assert "Perplexity ↓" in lines[0]
    assert "24.04 ×1.29" in lines[2]
    assert "×" not in lines[1]  # the reference is not compared with itself
    assert lines[1].index("18.68") + len("18.68") == lines[2].index("×1.29") + len("×1.29")


def test_every_measured_column_is_known_to_the_table(tiny_llama, small, tokens):
    card = scorecard(tiny_llama, small, tokens[:1], n_new=3, repeats=1)
    unknown = [
        name
        for name in card.frame
        if name not in COLUMNS and not name.endswith(("_relative", "_low", "_high"))
    ]
    assert unknown == ["model"]


def test_the_figure_marks_and_names_every_model():
    import matplotlib.pyplot as plt

    card = ScoreCard.of([*ROWS, {"model": "int8", "perplexity": 18.8, "saved_mib": 136.0}])
    fig = card.figure()
    (ax,) = fig.axes
    texts = {text.get_text() for text in ax.texts}
    assert {"fp32 <b>", "int4", "int8"} <= texts
    points = [line for line in ax.lines if line.get_linestyle() == "None"]
    assert len({line.get_marker() for line in points}) == 3  # told apart without colour
    assert len({line.get_color() for line in points}) == 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "Saved (MiB), lower is better",
        "Perplexity, lower is better",
    )
    (frontier,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert list(frontier.get_xdata()) == [92.4, 136.0, 513.132]
    plt.close(fig)


def test_the_figure_is_described_with_its_numbers(capsys):
    card = ScoreCard.of(ROWS)
    assert "int4 92.4 and 24.04" in card.alt()
    card.show(y="kl_nats")
    assert "KL (nats), lower is better" in capsys.readouterr().out


def test_a_figure_needs_its_columns(tiny_llama):
    card = scorecard({"fp32": tiny_llama}, measures="size")
    with pytest.raises(InputError, match="Measure quality"):
        card.figure()
    with pytest.raises(InputError, match="saved_mib"):
        card.figure(y="saved_mb")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        ((), {}, "needs models"),
        ((3,), {"measures": "size"}, "'reference' is a int"),
        (({"a": 3},), {"measures": "size"}, "'a' is a int"),
        (("llama",), {"measures": "quality"}, "tokens is missing"),
        (("llama", "tokens"), {"measures": "tempo"}, "measures must be one of"),
        (("llama", "tokens"), {"tokens": torch.zeros(2, 2).long()}, "given twice"),
        (("bert",), {"measures": "quality"}, "tasks is empty"),
        (("llama",), {"measures": "quality", "tasks": [1]}, "tokenizer is missing"),
    ],
    ids=["nothing", "number", "mapping", "no-text", "measure", "twice", "no-task", "no-tokenizer"],
)
def test_bad_calls_are_refused(tiny_llama, tiny_bert, tokens, arguments, options, words):
    known = {"llama": tiny_llama, "bert": tiny_bert, "tokens": tokens}
    given = [known.get(a, a) if isinstance(a, str) else a for a in arguments]
    with pytest.raises(InputError, match=words):
        scorecard(*given, **options)


def test_ratios_bring_their_interval(tiny_llama, small, tokens):
    card = scorecard(tiny_llama, small, tokens, measures=["quality"])
    scores = token_scores({"a": tiny_llama, "b": small}, tokens, reference="a")
    found = paired_interval(times, scores["b"].losses, scores["a"].losses)
    row = card.frame.iloc[1]
    assert row["perplexity_relative"] == pytest.approx(found.value)
    assert (row["perplexity_relative_low"], row["perplexity_relative_high"]) == pytest.approx(
        (found.low, found.high)
    )
    assert f"({found.low:.3f}–{found.high:.3f})" in repr(card)
    assert "by drawing items again" in card._repr_html_()


def test_a_card_says_undecided_and_the_part_of_the_lead() -> None:
    rows = [{"model": "teacher", "sentiment_accuracy": 0.83}]
    for name, accuracy, low, high in (("near", 0.825, 0.98, 1.01), ("far", 0.78, 0.92, 0.96)):
        ratio = {"sentiment_accuracy_relative_low": low, "sentiment_accuracy_relative_high": high}
        rows.append({"model": name, "sentiment_accuracy": accuracy, **ratio})
        rows[-1]["sentiment_accuracy_lead"] = (accuracy - 0.77) / (0.83 - 0.77)
    near, far = repr(ScoreCard.of(rows)).splitlines()[-2:]
    assert near.split("82.5 % ")[1] == "×0.994 (0.980–1.010) undecided lead 92%"
    assert far.split("78.0 % ")[1] == "×0.940 (0.920–0.960) lead 17%"
    shown = ScoreCard.of(rows)._repr_html_()
    assert "<small>×0.994<br>(0.980–1.010)<br>undecided, lead 92%</small>" in shown
    assert "teacher's lead over counted words" in shown


def test_rivals_can_be_left_out(tiny_bert, tiny_tokenizer):
    task = topics([("aa", 0), ("zz", 1)], [("ab", 0), ("zy", 1)], ("a", "z"))
    card = scorecard(tiny_bert, tokenizer=tiny_tokenizer, tasks=[task], rivals=False, repeats=2)
    assert card.frame["model"].tolist() == ["reference"]


def test_last_words_stand_in_the_card(tiny_llama, small, tiny_tokenizer):
    items = tuple(LastWord(f"said the hare {i} to the", "hare", str(i)) for i in range(6))
    task = LastWordTask(items)
    frame = scorecard(
        tiny_llama, small, tokenizer=tiny_tokenizer, tasks=[task], measures=["quality"]
    ).frame
    expected = [last_word_scores(m, tiny_tokenizer, task).perplexity for m in (tiny_llama, small)]
    assert frame["last_word_perplexity"].tolist() == pytest.approx(expected)
    low, value, high = (
        frame[f"last_word_perplexity_relative{end}"][1] for end in ("_low", "", "_high")
    )
    assert low <= value <= high


def test_other_texts_have_a_perplexity_each(tiny_llama, small, tokens):
    stories = tokens.flip(0)[:3]
    card = scorecard(tiny_llama, small, tokens, also={"stories": stories}, measures=["quality"])
    expected = [perplexity(model, stories) for model in (tiny_llama, small)]
    assert card.frame["perplexity_stories"].tolist() == pytest.approx(expected)
    assert card.frame["perplexity_stories_relative_low"][1] < expected[1] / expected[0]
    with pytest.raises(InputError, match="also must be one of 'news', 'stories'"):
        scorecard(tiny_llama, tokens, also={"tales": stories}, measures=["quality"])
