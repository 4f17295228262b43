"""An adapter beside frozen integers: it learns, they do not, and merging is what it is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import linear

from shrinkkit.errors import InputError
from shrinkkit.measure import next_token_agreement
from shrinkkit.quant import (
    NF4,
    add_lora,
    convert_qat,
    dequantize_model,
    int_format,
    load_lora,
    lora_layers,
    merge_lora,
    prepare_qat,
    quantize_model,
    tensors_of,
    train_qat,
    tune_scales,
)
from shrinkkit.surgery.parts import find_linears
from tests.quant.conftest import train, windows_of
from tests.tiny import logits, normal

BASES = {"int4": int_format(4, group_size=32), "nf4": NF4, "int3": int_format(3, group_size=16)}


@pytest.fixture(scope="module")
def healed(taught):
    """A 2-bit base, its adapted model after training, and the losses."""
    base = quantize_model(taught, 2, 16, head_bits=None)
    return base, *train(add_lora(base, rank=4), windows_of(512, seed=0), teacher=taught, steps=40)


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
def test_at_first_the_adapter_adds_nothing(llama, tokens, base) -> None:
    packed = quantize_model(llama, base)
    adapted = add_lora(packed).eval()
    assert torch.equal(logits(adapted, tokens[:2]), logits(packed, tokens[:2]))
    assert len(lora_layers(adapted)) == len(find_linears(llama))
    assert not lora_layers(packed)  # the given model is left alone


def test_only_the_adapter_is_trainable(llama) -> None:
    adapted = add_lora(quantize_model(llama, 4, 32), rank=2)
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all("lora_A" in name or "lora_B" in name for name in trainable)
    shapes = [layer.base_layer.shape for layer in lora_layers(adapted).values()]
    n = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert n == sum(2 * (rows + columns) for rows, columns in shapes)


def test_gradients_flow_through_the_packed_weight(llama) -> None:
    """Of one layer, by hand: to x through W and b a, to a and b as autograd's own product says."""
    name = "model.layers.0.mlp.up_proj"
    adapted = add_lora(quantize_model(llama, 4, 32), rank=2, alpha=6)
    layer = adapted.get_base_model().get_submodule(name)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    generator = torch.Generator().manual_seed(3)
    b.data = torch.randn(b.shape, generator=generator)
    x, pull = torch.randn(5, 64, generator=generator), torch.randn(5, 128, generator=generator)
    leaf = x.clone().requires_grad_()
    layer(leaf).backward(pull)
    weight = layer.base_layer.dequantize()
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(leaf.grad, pull @ (weight + 3 * b @ a), **near)  # alpha / rank = 3
    torch.testing.assert_close(a.grad, 3 * (pull @ b).T @ x, **near)
    torch.testing.assert_close(b.grad, 3 * pull.T @ (x @ a.T), **near)
    torch.testing.assert_close(layer.update(), (3 * b @ a).detach())


def test_healing_lowers_the_loss_and_moves_no_integer(taught, healed) -> None:
    base, adapted, losses = healed
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    held_out = windows_of(64, seed=1)
    before, after = (next_token_agreement(taught, m, held_out).kl for m in (base, adapted))
    assert after < 0.7 * before
    layers = lora_layers(adapted.get_base_model())
    assert layers
    for name, layer in layers.items():
        for ours, kept in zip(
            layer.base_layer.qparams(), base.get_submodule(name).qparams(), strict=True
        ):
            assert torch.equal(ours, kept)
    bytes_of_base, _ = tensors_of(base)
    for name, buffer in adapted.get_base_model().named_buffers():
        plain = name.replace(".base_layer", "")
        if plain in bytes_of_base and "zero_point" not in plain:
            assert torch.equal(buffer, bytes_of_base[plain])


def test_merging_into_floats_is_exact_and_into_integers_is_not(healed) -> None:
    _, adapted, _ = healed
    merged, tokens = merge_lora(adapted), windows_of(8, seed=2)
    near = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(logits(merged, tokens), logits(adapted, tokens), **near)
    name = "model.layers.1.mlp.down_proj"
    layer = lora_layers(adapted.get_base_model())[name]
    x = normal(3, 64, seed=4)
    expected = linear(x, layer.base_layer.dequantize() + layer.update())
    torch.testing.assert_close(merged.get_submodule(name)(x), expected)
    kl = {
        name: next_token_agreement(adapted, model, tokens).kl
        for name, model in (
            ("floats", merged),
            ("integers", quantize_model(merged, 2, 16, head_bits=None)),
        )
    }
    assert kl["floats"] < 1e-6
    assert kl["integers"] > 100 * max(kl["floats"], 1e-9)
    assert len(lora_layers(adapted)) == 14  # still there


def test_same_seed_same_adapter(llama) -> None:
    packed = quantize_model(llama, 4, 32)
    one, two, other = (add_lora(packed, seed=seed) for seed in (0, 0, 1))
    a = [next(iter(lora_layers(m).values())).lora_A["default"].weight for m in (one, two, other)]
    assert torch.equal(a[0], a[1])
    assert not torch.equal(a[0], a[2])


def test_adapters_can_be_saved_and_put_back(healed, tmp_path) -> None:
    base, adapted, _ = healed
    tokens = windows_of(2, seed=3)
    adapted.save_pretrained(tmp_path)
    again = load_lora(base, tmp_path)
    assert torch.equal(logits(again.eval(), tokens), logits(adapted, tokens))
    mine, theirs = (
        {name for name, p in model.named_parameters() if p.requires_grad}
        for model in (again, adapted)
    )
    assert mine == theirs  # it can be trained on
    merged = merge_lora(again)
    torch.testing.assert_close(logits(merged, tokens), logits(merge_lora(adapted), tokens))


def test_an_adapter_of_another_model_is_refused(healed, llama, tmp_path) -> None:
    base, adapted, _ = healed
    with pytest.raises(InputError, match=r"adapter_config\.json is missing"):
        load_lora(base, tmp_path)
    adapted.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no packed layer"):
        load_lora(llama, tmp_path)
    with pytest.raises(InputError, match="already"):
        load_lora(adapted, tmp_path)
    with pytest.raises(InputError, match="of its layers are not packed in this model"):
        load_lora(quantize_model(llama, include="model.layers.0.*"), tmp_path)


def test_a_16_bit_model_keeps_its_dtype_through_adapters_training_and_back(llama) -> None:
    half, tokens = copy.deepcopy(llama).bfloat16(), windows_of(4, seed=3)
    small = quantize_model(half, 4, 32)
    adapted = train_qat(add_lora(small), tokens, steps=1)
    for model in (
        merge_lora(adapted),
        dequantize_model(small),
        prepare_qat(half, 4, 32),
        convert_qat(train_qat(prepare_qat(half, 4, 32), tokens, steps=1)),
        tune_scales(small, half, tokens, steps=1),
    ):
        assert logits(model, tokens).dtype == torch.bfloat16


def test_the_adapter_can_be_switched_off(healed) -> None:
    base, adapted, _ = healed
    tokens = windows_of(2, seed=3)
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, tokens), logits(base, tokens))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        pytest.param(lambda m: add_lora(m), "no packed layer", id="float model"),
        pytest.param(lambda m: add_lora(add_lora(quantize_model(m))), "already", id="twice"),
        pytest.param(lambda m: add_lora(quantize_model(m), rank=0), "rank", id="rank"),
        pytest.param(lambda m: add_lora(quantize_model(m), alpha=0), "alpha", id="alpha"),
        pytest.param(lambda m: merge_lora(m), "no LoRA adapter", id="nothing to merge"),
        pytest.param(
            lambda m: add_lora(quantize_model(m)).merge_and_unload(), "cannot take", id="peft merge"
        ),
    ],
)
def test_bad_input(llama, call, says: str) -> None:
    with pytest.raises(InputError, match=says):
        call(llama)
