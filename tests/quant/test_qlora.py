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
    dequantize_model,
    int_format,
    lora_layers,
    merge_lora,
    quantize_model,
    tensors_of,
    train_qat,
)
from shrinkkit.surgery import find_linears

BASES = {"int4": int_format(4, group_size=32), "nf4": NF4, "int3": int_format(3, group_size=16)}


@pytest.fixture(scope="module")
def llama(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    generator = torch.Generator().manual_seed(0)
    for layer in find_linears(model).values():
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator) * 0.15
    return model


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(256, (16, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def healed(llama, tokens):
    """A 3-bit base, its adapted model after training, and the losses."""
    base = quantize_model(llama, 3, 16)
    losses: list[float] = []
    adapted = train_qat(
        add_lora(base, rank=4),
        tokens,
        teacher=llama,
        steps=30,
        batch_size=8,
        learning_rate=5e-3,
        on_step=lambda row: losses.append(row["loss"]),
    )
    return base, adapted, losses


def logits(model, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits


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
    torch.testing.assert_close(leaf.grad, pull @ (weight + 3 * b @ a))  # alpha / rank = 3
    torch.testing.assert_close(a.grad, 3 * (pull @ b).T @ x)
    torch.testing.assert_close(b.grad, 3 * pull.T @ (x @ a.T))
    torch.testing.assert_close(layer.update(), (3 * b @ a).detach())


def test_healing_lowers_the_loss_and_moves_no_integer(llama, healed) -> None:
    base, adapted, losses = healed
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    fresh = torch.randint(256, (16, 24), generator=torch.Generator().manual_seed(2))
    before = next_token_agreement(llama, base, fresh).kl
    assert next_token_agreement(llama, adapted, fresh).kl < before
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


def test_merging_into_floats_is_exact_and_into_integers_is_not(llama, tokens, healed) -> None:
    _, adapted, _ = healed
    merged = merge_lora(adapted)
    torch.testing.assert_close(
        logits(merged, tokens[:2]), logits(adapted, tokens[:2]), rtol=1e-4, atol=1e-4
    )
    name = "model.layers.1.mlp.down_proj"
    layer = lora_layers(adapted.get_base_model())[name]
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(4))
    expected = linear(x, layer.base_layer.dequantize() + layer.update())
    torch.testing.assert_close(merged.get_submodule(name)(x), expected)
    kl = {
        name: next_token_agreement(adapted, model, tokens).kl
        for name, model in (
            ("floats", merged),
            ("integers", quantize_model(dequantize_model(merged), 3, 16, head_bits=None)),
        )
    }
    assert kl["floats"] < 1e-6
    assert kl["integers"] > 100 * max(kl["floats"], 1e-9)
    assert len(lora_layers(adapted)) == len(find_linears(llama))  # still there


def test_same_seed_same_adapter(llama) -> None:
    packed = quantize_model(llama, 4, 32)
    one, two, other = (add_lora(packed, seed=seed) for seed in (0, 0, 1))
    a = [next(iter(lora_layers(m).values())).lora_A["default"].weight for m in (one, two, other)]
    assert torch.equal(a[0], a[1])
    assert not torch.equal(a[0], a[2])


def test_adapters_can_be_saved_and_put_back(llama, tokens, healed, tmp_path) -> None:
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    base, adapted, _ = healed
    adapted.save_pretrained(tmp_path)
    again = add_lora(base, rank=4, seed=9)
    set_peft_model_state_dict(again, load_file(tmp_path / "adapter_model.safetensors"))
    assert torch.equal(logits(again.eval(), tokens[:2]), logits(adapted, tokens[:2]))


def test_the_adapter_can_be_switched_off(tokens, healed) -> None:
    base, adapted, _ = healed
    with adapted.disable_adapter():
        assert torch.equal(logits(adapted, tokens[:2]), logits(base, tokens[:2]))


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
