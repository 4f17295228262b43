"""Prepared, trained and packed: the same numbers before and after, and better than rounding."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.measure import perplexity
from shrinkkit.quant import (
    NF4,
    Format,
    QuantizedEmbedding,
    QuantizedLinear,
    convert_qat,
    int_format,
    load,
    prepare_qat,
    quantize_model,
    save,
    train_qat,
)
from shrinkkit.surgery.parts import find_linears
from shrinkkit.train import write_windows
from tests.quant.conftest import train, windows_of
from tests.tiny import left_alone, logits, normal

GRIDS = {
    "ste 2 bits": {"bits": 2, "group_size": 16, "method": "ste"},
    "ste 3 bits a row": {"bits": Format(3, True, "per_channel"), "method": "ste"},
    "lsq 2 bits": {"bits": 2, "group_size": 16, "method": "lsq"},
    "lsq 3 bits, small scales": {"bits": int_format(3, group_size=16, scale_bits=6)},
    "lsq 3 bits, searched": {"bits": 3, "group_size": 16, "start": "search"},
    "lsq 4 bits": {"bits": 4, "group_size": 32},
    "ternary": {"method": "ternary"},
    "ternary, groups": {"method": "ternary", "group_size": 32},
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_converting_and_saving_change_no_answer(llama, tokens, grid: dict, tmp_path) -> None:
    student = train_qat(prepare_qat(llama, **grid), tokens, steps=3, batch_size=4)
    packed = convert_qat(student, head_bits=None)
    for name, layer in find_linears(packed).items():
        assert type(layer) is QuantizedLinear
        rounded = student.get_submodule(name).rounded_weight().detach()
        assert torch.equal(layer.dequantize(), rounded)
    # the kernels for 4 bits round x to bfloat16, the others compute in float32
    near = {"rtol": 2e-2, "atol": 2e-2} if grid.get("bits") == 4 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(logits(packed, tokens[:2]), logits(student, tokens[:2]), **near)
    whole = convert_qat(student)
    assert isinstance(whole.get_input_embeddings(), QuantizedEmbedding)  # tied, 8 bits, as ever
    again = load(save(whole, tmp_path / "model"))
    assert torch.equal(logits(again, tokens[:2]), logits(whole, tokens[:2]))


@pytest.mark.parametrize("way", [{"method": "ste"}, {"start": "search"}], ids=["ste", "lsq"])
def test_before_training_a_searched_grid_is_rounding(llama, tokens, way: dict) -> None:
    rounded = quantize_model(llama, 2, 16, search=True)
    packed = convert_qat(prepare_qat(llama, 2, 16, **way))
    for name, layer in find_linears(rounded).items():
        assert torch.equal(layer.integers(), packed.get_submodule(name).integers())
    assert torch.equal(logits(packed, tokens[:2]), logits(rounded, tokens[:2]))


def test_true_bits_of_ternary_weights(llama) -> None:
    layer = prepare_qat(llama, method="ternary").model.layers[0].mlp.down_proj
    packed = layer.packed()
    assert packed.bits_per_weight == pytest.approx(2 + 16 / (64 * 128))
    assert set(packed.integers().unique().tolist()) == {-1, 0, 1}


def test_every_weight_learns_and_the_model_is_left_alone(llama, tokens) -> None:
    student = prepare_qat(llama, 2, 16)
    with left_alone(student):
        trained = train_qat(student, tokens, steps=2, batch_size=4)
    assert not trained.training
    start = student.state_dict()
    moved = dict(trained.named_parameters())
    assert moved
    assert all(not torch.equal(value, start[name]) for name, value in moved.items())
    assert "model.layers.0.mlp.up_proj.scale" in moved


def test_same_seed_same_model(llama, tokens) -> None:
    one, two, other = (
        train_qat(prepare_qat(llama, 2, 16), tokens, teacher=llama, steps=2, batch_size=2, seed=s)
        for s in (0, 0, 1)
    )
    pairs = zip(one.parameters(), two.parameters(), other.parameters(), strict=True)
    for ours, again, another in pairs:
        assert torch.equal(ours, again)
        assert not torch.equal(ours, another)


@pytest.mark.parametrize("method", ["ste", "lsq", "ternary"])
def test_training_beats_rounding_at_two_bits(taught, method: str) -> None:
    start = prepare_qat(taught, 2, None if method == "ternary" else 16, method=method)
    trained, losses = train(start, windows_of(512, seed=0), teacher=taught, steps=40)
    held_out = windows_of(64, seed=1)
    found = {
        name: perplexity(model, held_out)
        for name, model in {
            "fp32": taught,
            "rounded": quantize_model(taught, 2, 16),
            "start": convert_qat(start),
            "trained": convert_qat(trained),
        }.items()
    }
    assert found["fp32"] < 3.3  # it knows the language
    lost = {name: value - found["fp32"] for name, value in found.items()}
    assert lost["trained"] < 0.75 * lost["rounded"]
    assert lost["trained"] < 0.5 * lost["start"]
    assert [sum(losses[:5]) > sum(losses[-5:]), len(losses)] == [True, 40]


def test_text_without_a_teacher_is_learned(llama) -> None:
    tokens = torch.arange(24).repeat(8, 1)  # the same window again and again
    _, losses = train(prepare_qat(llama, 2, 16), tokens, steps=25, batch_size=4)
    assert losses[-1] < losses[0] / 2


def test_inplace_packs_the_model_itself(llama) -> None:
    model = prepare_qat(llama)
    assert convert_qat(model, inplace=True) is model
    assert isinstance(model.model.layers[0].mlp.up_proj, QuantizedLinear)


def test_a_bias_stays(tokens) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(32, 8))
    packed = convert_qat(prepare_qat(model, 3, 16), head_bits=None)
    assert torch.equal(packed[0].bias, model[0].bias)
    x = normal(3, 32, seed=5)
    torch.testing.assert_close(packed(x), prepare_qat(model, 3, 16)(x))


def test_what_a_model_writes_is_its_own(llama) -> None:
    written = write_windows(llama, 5, 12, seed=0, batch_size=2)
    assert written.shape == (5, 12)
    assert written.dtype == torch.int64
    assert torch.equal(written, write_windows(llama, 5, 12, seed=0, batch_size=2))
    assert not torch.equal(written, write_windows(llama, 5, 12, seed=1, batch_size=2))


def test_windows_follow_the_models_own_odds(tiny_llama) -> None:
    start = torch.tensor([[tiny_llama.config.bos_token_id]])
    first = logits(tiny_llama, start)[0, -1].softmax(-1)
    written = write_windows(tiny_llama, 2000, 2, batch_size=2000)
    counts = torch.bincount(written[:, 0], minlength=256) / 2000
    assert (counts - first).abs().max() < 4 * (first.max() / 2000).sqrt()  # four standard errors


@pytest.mark.parametrize(
    ("call", "says"),
    [
        pytest.param(lambda m, t: prepare_qat(prepare_qat(m)), "prepared already", id="twice"),
        pytest.param(lambda m, t: prepare_qat(m, method="gptq"), "method", id="method"),
        pytest.param(lambda m, t: prepare_qat(m, start="random"), "start", id="start"),
        pytest.param(lambda m, t: prepare_qat(m, 1), "bits", id="one bit"),
        pytest.param(lambda m, t: prepare_qat(m, NF4), "even steps", id="code table"),
        pytest.param(lambda m, t: prepare_qat(m, 2, 65), "group_size=65", id="group too large"),
        pytest.param(lambda m, t: prepare_qat(m, 3, method="ternary"), "ternary", id="ternary 3"),
        pytest.param(
            lambda m, t: prepare_qat(m, int_format(3), method="ternary"), "2 bits", id="format"
        ),
        pytest.param(lambda m, t: convert_qat(m), "no layer to pack", id="not prepared"),
        pytest.param(lambda m, t: convert_qat(prepare_qat(m), head_bits=1), "bits", id="head"),
        pytest.param(
            lambda m, t: train_qat(prepare_qat(m).requires_grad_(False), t),
            "requires a grad",
            id="frozen",
        ),
        pytest.param(lambda m, t: train_qat(prepare_qat(m), t, steps=0), "steps", id="no steps"),
        pytest.param(
            lambda m, t: train_qat(prepare_qat(m), t, learning_rate=0), "learning_rate", id="rate"
        ),
        pytest.param(lambda m, t: write_windows(m, 0, 8), "n_samples", id="no windows"),
        pytest.param(
            lambda m, t: write_windows(torch.nn.Linear(2, 2), 1, 8), "bos_token_id", id="no start"
        ),
    ],
)
def test_bad_input(llama, tokens, call, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call(llama, tokens)
