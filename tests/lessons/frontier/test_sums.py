"""The sums of lesson 01: by hand, against published tables, against torch and a real cache."""

from __future__ import annotations

import math

import pytest
import torch

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.lessons import frontier
from shrinkkit.lessons.frontier.published import (
    MMLU,
    gpt3_class,
    left_out,
    load_carbon,
    load_devices,
    load_distilbert_glue,
    load_models,
    load_training_runs,
    record_holders,
)

# ---------------------------------------------------------------- by hand


def test_memory_to_load_by_hand():
    # 12 weights of 32 bits: 384 bits, 48 bytes
    assert frontier.memory_to_load_bytes(12, 32) == 48
    # 5 weights of 4 bits: 20 bits need 3 bytes
    assert frontier.memory_to_load_bytes(5, 4) == 3
    # 64 weights at 4 bits and two 16-bit scales: 4.5 bits each, 36 bytes
    assert frontier.memory_to_load_bytes(64, 4.5) == 36
    assert frontier.memory_to_load_bytes(0, 16) == 0


def test_kv_cache_by_hand():
    # 3 layers, 2 heads, 5 numbers each: 30 keys and 30 values of 2 bytes
    assert frontier.kv_cache_bytes_per_token(3, 2, 5) == 120
    assert frontier.kv_cache_bytes_per_token(3, 2, 5, bits=4) == 30


def test_memory_to_serve_by_hand():
    # 1,000 bytes of weights; 3 users of 20 tokens of 10 bytes: 600 more
    assert frontier.memory_to_serve_bytes(1000, 10, n_users=3, context_tokens=20) == 1600
    assert frontier.memory_to_serve_bytes(1000, 10, n_users=0, context_tokens=20) == 1000


def test_training_chain_by_hand():
    assert frontier.training_flops(10, 100) == 6000
    # 3.6e15 operations at a quarter of 1e12 a second: 14,400 s, 4 hours
    assert frontier.training_gpu_hours(3.6e15, 1e12, 0.25) == pytest.approx(4.0)
    assert frontier.training_dollars(4, 2.5) == 10.0
    assert frontier.training_kwh(4, 500, pue=1.5) == pytest.approx(3.0)
    assert frontier.co2_kg(3, 0.4) == pytest.approx(1.2)


def test_decode_roofline_by_hand():
    # 100 bytes at 1,000 a second: ten steps a second, one token a user each
    assert frontier.decode_tokens_per_s(100, 1000) == 10
    assert frontier.decode_tokens_per_s(100, 1000, n_users=3) == 30
    # 50 operations at 100 a second take half a second, longer than reading
    assert frontier.decode_tokens_per_s(100, 1000, flops=50, peak_flops_per_s=100) == 2
    # and 5 of them do not
    assert frontier.decode_tokens_per_s(100, 1000, flops=5, peak_flops_per_s=100) == 10


def test_time_to_an_answer_by_hand():
    # 30 tokens at 60 a second: half a second; a tenth of a second there and back
    assert frontier.answer_s(30, 60) == 0.5
    assert frontier.answer_s(30, 60, round_trip_s=0.1) == pytest.approx(0.6)


def test_fits_includes_the_edge():
    assert frontier.fits(70, 100, 0.5) is False
    assert frontier.fits(50, 100, 0.5) is True
    assert frontier.fits(100, 100, 1) is True


# ---------------------------------------------------------------- independent references


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
def test_memory_to_load_is_what_torch_allocates(dtype):
    tensor = torch.zeros(37, 11, dtype=dtype)
    assert frontier.memory_to_load_bytes(37 * 11, 8 * tensor.element_size()) == tensor.nbytes


def test_kv_cache_is_what_transformers_keeps(tiny_llama):
    config = tiny_llama.config
    with torch.no_grad():
        cache = tiny_llama(torch.arange(9)[None], use_cache=True).past_key_values
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    a_token = frontier.kv_cache_bytes_per_token(
        config.num_hidden_layers, config.num_key_value_heads, config.head_dim, bits=32
    )
    assert 9 * a_token == kept


def test_energy_and_co2_match_the_published_tables():
    runs = load_training_runs().dropna(subset=["energy_mwh"])
    assert len(runs) >= 4
    for _, run in runs.iterrows():
        kwh = frontier.training_kwh(run["gpu_hours"], run["watts_per_gpu"], run["pue"])
        assert kwh / 1000 == pytest.approx(run["energy_mwh"], rel=0.01), run["name"]
        tonnes = frontier.co2_kg(kwh, run["kg_co2_per_kwh"]) / 1000
        assert tonnes == pytest.approx(run["co2_tonnes"], rel=0.01), run["name"]


def test_published_gpu_hours_imply_a_possible_utilisation():
    for _, run in load_training_runs().iterrows():
        flops = frontier.training_flops(run["parameters"], run["training_tokens"])
        at_peak = frontier.training_gpu_hours(flops, run["peak_tflops_16bit"] * 1e12, 1.0)
        assert 0.15 < at_peak / run["gpu_hours"] < 0.6, run["name"]


def test_gpt3_flops_match_its_paper():
    assert frontier.training_flops(174.6e9, 300e9) == pytest.approx(3.14e23, rel=0.005)


# ---------------------------------------------------------------- invariants and edges


@pytest.mark.parametrize("context", [1, 100, 4096])
@pytest.mark.parametrize("room", [900, 5_000, 1e6])
def test_users_that_fit_is_the_last_number_that_fits(context, room):
    users = frontier.users_that_fit(1000, 7, context, room, 0.9)
    if room * 0.9 < 1000:
        assert users == 0
        return
    fit = [frontier.memory_to_serve_bytes(1000, 7, n, context) for n in (users, users + 1)]
    assert frontier.fits(fit[0], room, 0.9)
    assert not frontier.fits(fit[1], room, 0.9)


def test_decode_speed_never_exceeds_either_roof():
    for n_users in (1, 4, 64, 1024):
        flops = 2 * 7e9 * n_users
        speed = frontier.decode_tokens_per_s(
            14e9, 2e12, n_users=n_users, flops=flops, peak_flops_per_s=312e12
        )
        assert speed <= n_users * 2e12 / 14e9 * (1 + 1e-12)
        assert speed <= 312e12 / (2 * 7e9) * (1 + 1e-12)


BAD_CALLS = {
    "negative parameters": lambda: frontier.memory_to_load_bytes(-1, 8),
    "fractional parameters": lambda: frontier.memory_to_load_bytes(7e9, 8),
    "zero bits": lambda: frontier.memory_to_load_bytes(10, 0),
    "bits as text": lambda: frontier.memory_to_load_bytes(10, "8"),
    "bits true": lambda: frontier.memory_to_load_bytes(10, True),
    "nan bits": lambda: frontier.memory_to_load_bytes(10, math.nan),
    "no layers": lambda: frontier.kv_cache_bytes_per_token(0, 1, 1),
    "cache bits as text": lambda: frontier.kv_cache_bytes_per_token(1, 1, 1, "8"),
    "half a user": lambda: frontier.memory_to_serve_bytes(1, 1, 0.5, 1),
    "share in percent": lambda: frontier.fits(1, 2, 70),
    "no share": lambda: frontier.users_that_fit(1, 1, 1, 1, 0),
    "infinite tokens": lambda: frontier.training_flops(1, math.inf),
    "utilisation in percent": lambda: frontier.training_gpu_hours(1, 1, 40),
    "negative rent": lambda: frontier.training_dollars(1, -1),
    "pue below one": lambda: frontier.training_kwh(1, 1, 0.9),
    "negative carbon": lambda: frontier.co2_kg(1, -0.1),
    "no bandwidth": lambda: frontier.decode_tokens_per_s(1, 0),
    "no tokens": lambda: frontier.answer_s(0, 10),
    "no speed": lambda: frontier.answer_s(1, 0),
    "way back in time": lambda: frontier.answer_s(1, 1, -0.1),
    "no users": lambda: frontier.decode_tokens_per_s(1, 1, n_users=0),
    "peak below zero": lambda: frontier.decode_tokens_per_s(1, 1, flops=1, peak_flops_per_s=-1),
}


@pytest.mark.parametrize("call", BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_input_is_refused_with_what_was_given(call):
    with pytest.raises(InputError, match="was given"):
        call()


def test_message_names_argument_and_next_step():
    with pytest.raises(InputError, match=r"utilisation must be a share.*40.*divide by 100"):
        frontier.training_gpu_hours(1, 1, 40)


# ---------------------------------------------------------------- the published figures


def test_every_published_figure_names_its_source():
    for table in (load_models(), load_devices()):
        assert table["source"].str.len().min() > 10
        assert set(table["confidence"]) == {"strong", "weak"}
        weak = table[table["confidence"] == "weak"]
        assert weak["note"].str.len().min() > 10  # a weak figure says why it is weak
        assert table["name"].is_unique
    assert load_training_runs()["source"].str.len().min() > 10
    assert load_distilbert_glue()["source"].str.len().min() > 10


def test_models_cover_the_course_and_have_plausible_numbers():
    models = load_models()
    wanted = {"GPT-2", "BERT-base", "GPT-3", "DistilBERT", "MobileBERT", "TinyBERT-4", "T5-11B"}
    wanted |= {"LLaMA-7B", "phi-1", "phi-2", "TinyLlama", "SmolLM2-135M"}
    assert wanted <= set(models["name"])
    assert models["released"].is_monotonic_increasing
    assert (models["parameters"] > 1e7).all()
    assert (models["training_tokens"].dropna() > 1e9).all()
    assert (models["score"].isna() == models["benchmark"].isna()).all()
    assert models["score"].dropna().between(0, 100).all()


def test_devices_have_memory_and_bandwidth():
    devices = load_devices()
    assert {"phone", "laptop", "server GPU"} <= set(devices["kind"])
    assert (devices["memory_bytes"] == devices["memory_gib"] * 2**30).all()
    assert devices["bandwidth_bytes_per_s"].between(1e9, 1e13).all()


def test_embedded_model_row_agrees_with_the_model_code():
    """The row of SmolLM2 in the table, against transformers building the same shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    row = load_models().set_index("name").loc["SmolLM2-135M"]
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=int(row["n_layers"]),
        num_attention_heads=9,
        num_key_value_heads=int(row["n_kv_heads"]),
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert config.head_dim == row["head_dim"]
    assert sum(p.numel() for p in model.parameters()) == row["parameters"]


def test_gpt3_class_and_record_holders():
    models = load_models()
    able = gpt3_class(models)
    assert (able["benchmark"] == MMLU).all()
    assert able["score"].min() == 43.9
    assert "LLaMA-7B" not in set(able["name"])  # 35.1
    holders = record_holders(able)
    assert holders["name"].iloc[0] == "GPT-3"
    assert holders["parameters"].is_monotonic_decreasing
    assert holders["parameters"].min() == able["parameters"].min()


def test_left_out_are_scores_of_other_exams_only():
    models = load_models()
    out = left_out(models)
    assert {"UnifiedQA-11B", "Flan-T5-Large", "SmolLM2-135M"} <= set(out["name"])
    assert not set(out["name"]) & set(gpt3_class(models)["name"])
    assert out["benchmark"].str.startswith("MMLU").all()
    assert "phi-1" not in set(out["name"])  # HumanEval


def test_the_table_of_models_goes_on_to_2026():
    models = load_models()
    assert models["released"].dt.year.max() >= 2026
    mixtures = models[models["kind"] == "mixture of experts"]
    assert (mixtures["parameters"] > 2e11).all()
    assert mixtures["head_dim"].isna().all()  # the sum of the KV cache is not theirs


def test_five_cars_are_a_search_and_no_training():
    carbon = load_carbon().set_index("name")
    lbs, kg = carbon["co2e_lbs"], carbon["co2e_kg"]
    car, search = "one car's life with its fuel", "Transformer-big, found by a search"
    found = next(name for name in lbs.index if name.startswith(search))
    assert round(lbs[found] / lbs[car]) == 5
    assert lbs["Transformer-big, trained once"] / lbs[car] < 0.002
    assert kg[found] == pytest.approx(284_019, rel=1e-5)  # 626,155 lbs
    assert carbon["source"].str.contains("1906.02243").all()


def test_distilbert_table_is_the_printed_one():
    glue = load_distilbert_glue()
    tasks = ["CoLA", "MNLI", "MRPC", "QNLI", "QQP", "RTE", "SST-2", "STS-B", "WNLI"]
    mean = glue[tasks].mean(axis=1)
    assert mean["DistilBERT"] == pytest.approx(glue.loc["DistilBERT", "printed_score"], abs=0.05)
    # the row of BERT averages more than its printed score: 79.7, not 79.5
    assert round(mean["BERT-base"], 1) == 79.7
    without = glue[tasks].drop(columns="WNLI").mean(axis=1)
    assert round(100 * without["DistilBERT"] / without["BERT-base"], 1) == 95.9


def test_missing_table_says_what_to_do(tmp_path, monkeypatch):
    from shrinkkit.lessons.frontier import published as frontier_data

    monkeypatch.setattr(frontier_data, "data_dir", lambda: tmp_path)
    with pytest.raises(ShrinkkitError, match=r"models\.csv is missing.*Restore it"):
        load_models()
