"""Tuned scales: gradients against autograd, a lower divergence, the same integers and bytes."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear

from shrinkkit.distill.losses import distillation_loss
from shrinkkit.errors import InputError
from shrinkkit.quant import (
    NF4,
    Format,
    QuantizedLinear,
    int_format,
    load,
    quantize_model,
    save,
    tune_scales,
)
from shrinkkit.quant.ptq.tuning import _Product, _Tunable
from shrinkkit.surgery.parts import find_linears
from tests import tiny
from tests.quant.conftest import divergence
from tests.tiny import logits, same_tensors

FORMATS = [
    int_format(3, group_size=16),
    int_format(4, group_size=12, symmetric=True),  # 40 columns: a short last group
    int_format(8),
    Format(4, False, "per_tensor"),
    NF4,
    int_format(2, group_size=16, scale_bits=6),
]


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_gradients_equal_autograds(fmt: Format) -> None:
    columns = 64 if fmt is NF4 else 40
    layer = torch.nn.Linear(columns, 6, bias=False)
    q, scale, zero_point = QuantizedLinear.from_linear(layer, fmt).qparams()
    generator = torch.Generator().manual_seed(2)
    x, pull = torch.randn(2, 5, columns, generator=generator), torch.randn(2, 5, 6)
    found = []
    for product in (
        lambda x, s: _Product.apply(x, s, q, zero_point, fmt),
        lambda x, s: linear(x, _by_hand(q, s, zero_point, fmt)),
    ):
        leaves = x.clone().requires_grad_(), scale.clone().requires_grad_()
        y = product(*leaves)
        (y * pull).sum().backward()
        found.append((y.detach(), leaves[0].grad, leaves[1].grad))
    for ours, autograds in zip(*found, strict=True):
        torch.testing.assert_close(ours, autograds, rtol=1e-4, atol=1e-5)


def _by_hand(q, scale, zero_point, fmt):
    """Dequantize weight by weight, from the definition."""
    code = None if fmt.code is None else torch.tensor(fmt.code)
    columns = fmt.columns_per_scale(q.shape[1])
    rows = []
    for o, row in enumerate(q):
        o = 0 if fmt.granularity == "per_tensor" else o
        steps = [
            code[int(value)] if code is not None else float(value) - zero_point[o, j // columns]
            for j, value in enumerate(row)
        ]
        rows.append(torch.stack([step * scale[o, j // columns] for j, step in enumerate(steps)]))
    return torch.stack(rows)


@pytest.mark.parametrize("fmt", [int_format(3, group_size=16), FORMATS[-1]], ids=str)
def test_an_untouched_layer_is_the_packed_one(fmt: Format) -> None:
    layer = QuantizedLinear.from_linear(torch.nn.Linear(32, 4), fmt)
    tunable = _Tunable(layer)
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(tunable(x), linear(x, layer.dequantize(), layer.bias))
    assert torch.equal(tunable.finished().dequantize(), layer.dequantize())


def test_the_loss_is_torchs_divergence() -> None:
    generator = torch.Generator().manual_seed(4)
    ours, theirs = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    p, q = theirs.softmax(-1), ours.softmax(-1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    ).mean()
    torch.testing.assert_close(distillation_loss(ours, theirs), expected)
    assert distillation_loss(theirs, theirs).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("scale_bits", [6, 16], ids=["small scales", "bfloat16 scales"])
def test_it_comes_closer_to_the_teacher_on_other_text(llama, scale_bits: int) -> None:
    fmt = int_format(3, group_size=16, scale_bits=scale_bits)
    small = quantize_model(llama, fmt)
    many, others = tiny.tokens(128, 24, seed=6), tiny.tokens(8, 16, seed=5)
    tuned = tune_scales(small, llama, many, steps=16, batch_size=8, learning_rate=0.01)
    assert divergence(llama, tuned, others) < 0.9 * divergence(llama, small, others)


def test_integers_bytes_and_formats_stay(llama, tokens, tmp_path) -> None:
    small = quantize_model(llama, int_format(3, group_size=16, scale_bits=6))
    tuned = tune_scales(small, llama, tokens, steps=3, learning_rate=0.05)
    moved = 0
    for name, layer in find_linears(small, head=True).items():
        other = tuned.get_submodule(name)
        assert torch.equal(other.integers(), layer.integers())
        assert other.format == layer.format
        moved += not torch.equal(other.qparams()[1], layer.qparams()[1])
    assert moved == len(find_linears(small))  # all but the head
    norm = "model.layers.0.input_layernorm"
    assert not torch.equal(tuned.get_submodule(norm).weight, llama.get_submodule(norm).weight)
    sizes = [
        sum(path.stat().st_size for path in save(model, tmp_path / label).glob("*.safetensors"))
        for label, model in (("small", small), ("tuned", tuned))
    ]
    assert sizes[0] == sizes[1]
    assert torch.equal(logits(load(tmp_path / "tuned"), tokens), logits(tuned, tokens))


def test_twice_the_same_and_the_original_left_alone(llama, tokens) -> None:
    small = quantize_model(llama, 4, group_size=16)
    with tiny.left_alone(small):
        first, second = (tune_scales(small, llama, tokens, steps=3, seed=7) for _ in range(2))
    assert same_tensors(first, second)
    assert [p.requires_grad for p in first.parameters()] == [
        p.requires_grad for p in small.parameters()
    ]
    assert tune_scales(small, llama, tokens, steps=1, inplace=True) is small


def test_without_norms_only_scales_learn(llama, tokens) -> None:
    small = quantize_model(llama, 4, group_size=16)
    tuned = tune_scales(small, llama, tokens, steps=2, learning_rate=0.05, norms=False)
    for (_, mine), (_, theirs) in zip(
        tuned.named_parameters(), small.named_parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must be"),
        ({"batch_size": 1.5}, "batch_size must be"),
        ({"learning_rate": 0}, "learning_rate must lie between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning_rate must lie between 0 and 1"),
        ({"warm_up": 1.5}, "warm_up must lie between 0 and 1"),
    ],
    ids=["steps", "batch", "rate", "nan", "warm-up"],
)
def test_bad_input(change: dict, words: str, llama, tokens) -> None:
    small = quantize_model(llama, 4, group_size=16)
    with pytest.raises(InputError, match=words):
        tune_scales(small, llama, tokens, **change)


def test_a_float_model_has_nothing_to_tune(llama, tokens) -> None:
    with pytest.raises(InputError, match="no quantized layer whose scales"):
        tune_scales(llama, llama, tokens)
