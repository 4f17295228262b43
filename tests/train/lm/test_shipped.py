"""The two language models that the course ships: what the card says of them is so."""

from __future__ import annotations

import json

import pytest
import torch

from shrinkkit import load_model, load_text, load_tokenizer
from shrinkkit.measure import load_results
from shrinkkit.measure.bits import bits_per_byte, token_bits
from shrinkkit.sources.assets import shipped_models
from shrinkkit.surgery.parts import find_linears
from shrinkkit.system.files import data_dir, sha256_of
from shrinkkit.train.lm import PRESETS
from tools import storybook_card

NAMES = ("storybook", "storybook-small")


@pytest.fixture(scope="module")
def table():
    return load_results("storybook").set_index("model")


def test_both_are_there() -> None:
    assert tuple(shipped_models()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_pinned_one_and_small(name: str, table) -> None:
    path = data_dir() / name / "model.safetensors"
    pin = shipped_models()[name]
    assert sha256_of(path) == pin["sha256"] == table.loc[name, "sha256"]
    assert path.stat().st_size == pin["size_bytes"] <= 25e6


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_settings_model_in_genuine_fp32(name: str) -> None:
    model = load_model(name)
    settings = PRESETS[name]
    parameters = {id(p): p for p in model.parameters()}.values()
    assert sum(p.numel() for p in parameters) == settings.n_parameters()
    assert {p.dtype for p in parameters} == {torch.float32}
    assert model.config.tie_word_embeddings
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert len(load_tokenizer(name)) == settings.vocab_size == 4096
    for layer in find_linears(model).values():  # no grid: hardly two weights of a row are equal
        row = layer.weight[0]
        assert len(row.unique()) > 0.98 * len(row)
        assert not torch.equal(row, row.bfloat16().float())


def test_it_opens_in_plain_transformers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = data_dir() / "storybook"
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("Once upon a time", return_tensors="pt").input_ids
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, load_model("storybook")(ids).logits)


def test_recorded_quality_is_what_was_asked_of_it(table) -> None:
    large, small = (table.loc[name, "bits_per_byte"] for name in NAMES)
    assert large <= 1.60
    assert large < small
    assert large <= 0.85 * table.loc["xz", "bits_per_byte"]
    assert large < table.loc["5-gram Kneser-Ney", "bits_per_byte"]
    assert table.loc["storybook", "step_tokens_per_s"] >= 2_500
    sizes = [table.loc[name, "n_parameters"] for name in NAMES]
    assert 4 < sizes[0] / sizes[1] < 6
    for column in ("steps", "train_tokens", "corpus_tokens"):
        assert table.loc[NAMES[0], column] == table.loc[NAMES[1], column]


def test_both_read_english_that_neither_has_seen_and_the_large_one_better() -> None:
    found = {}
    for name in NAMES:
        tokenizer = load_tokenizer(name)
        ids = load_text("lee-news", tokenizer).evaluation(4, seq_len=256)
        n_bytes = sum(len(tokenizer.decode(row).encode()) for row in ids)
        found[name] = bits_per_byte(load_model(name), [(row, n_bytes // 4) for row in ids])
    assert found["storybook"] < found["storybook-small"] < 3.0  # a byte at random takes 8


@pytest.mark.parametrize("name", NAMES)
def test_the_stories_are_its_own(name: str) -> None:
    # what the model wrote at temperature 0.7 it finds likely: below what it needs for news
    stories = json.loads((data_dir() / name / "stories.json").read_text(encoding="utf-8"))
    assert len(stories) == len(set(stories)) == 10
    assert all(story.startswith("Once upon a time") for story in stories)
    model, tokenizer = load_model(name), load_tokenizer(name)
    bits = n_bytes = 0.0
    for story in stories:
        ids = tokenizer(story, return_tensors="pt").input_ids[0]
        bits += float(token_bits(model, ids).sum())
        n_bytes += len(story.encode())
    assert bits / n_bytes < 1.6


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_written_from_the_records(name: str) -> None:
    folder = data_dir() / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == storybook_card.card(name, folder)
    assert (folder / "curve.png").stat().st_size > 10_000
    for question in ("Who made it", "from what", "How", "What it is not for"):
        assert question in text
