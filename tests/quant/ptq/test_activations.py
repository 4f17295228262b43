"""W8A8 layers: integers by hand, torch's integer arithmetic, storage, and bad input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    QuantizedLinear,
    W8A8Linear,
    dequantize_model,
    input_maxima,
    int_format,
    int_matmul,
    load,
    quantize_activations,
    quantize_model,
    quantize_tokens,
    save,
)
from shrinkkit.quant.layers import kernels
from shrinkkit.quant.store.io import VERSION, VERSION_ACTIVATIONS, tensors_of
from shrinkkit.surgery.parts import find_linears
from tests.calibration.test_walk import inputs_of
from tests.quant.layers.test_linear import packable
from tests.tiny import logits, normal, same_tensors

IDS = torch.arange(64).view(4, 16)


def _weight_only(out_features, in_features, bias=True):
    return QuantizedLinear.from_linear(packable(out_features, in_features, bias), int_format(8))


def test_tokens_by_hand():
    x = torch.tensor([[12.7, -6.35, 0.04, 3.0], [0.0, 0.0, 0.0, 0.0]])
    q, step = quantize_tokens(x)
    assert q.tolist() == [[127, -64, 0, 30], [0, 0, 0, 0]]  # 63.5 rounds to even 64
    assert q.dtype == torch.int8
    torch.testing.assert_close(step[0], torch.tensor([0.1]))


def test_a_given_step_clips():
    q, step = quantize_tokens(torch.tensor([[3.0, -200.0, 200.0]]), 1.0)
    assert q.tolist() == [[3, -127, 127]]
    assert step.item() == 1.0


def test_the_layer_by_hand():
    # weights [[127, -64], [10, 20]] with scales 1 and 2; x = [2.54, 1.0] has step 0.02
    q = torch.tensor([[127, -64], [10, 20]], dtype=torch.int8)
    scale, zero = torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1, dtype=torch.int32)
    plain = QuantizedLinear.from_integers(q, scale, zero, int_format(8), torch.tensor([0.5, 0.0]))
    y = W8A8Linear.from_quantized(plain)(torch.tensor([[2.54, 1.0]]))
    expected = [0.02 * (127 * 127 - 64 * 50) + 0.5, 0.02 * 2 * (10 * 127 + 20 * 50)]
    torch.testing.assert_close(y, torch.tensor([expected]))


@pytest.mark.parametrize("vnni", [True, False], ids=["as-here", "without-vnni"])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 5), (33, 1536, 64), (2, 3000, 7)], ids=str)
def test_products_are_exact(shape, vnni, monkeypatch):
    if not vnni:
        monkeypatch.setattr(kernels.kernel, "has_vnni", lambda: False)
    rows, columns, out = shape
    generator = torch.Generator().manual_seed(0)
    xq = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
    wq = torch.randint(-127, 128, (out, columns), generator=generator, dtype=torch.int8)
    xq[0], wq[0] = 127, -127  # the largest sum that there is
    y = int_matmul(xq, wq)
    assert y.dtype == torch.int32
    assert torch.equal(y, xq.int() @ wq.int().t())


@pytest.mark.parametrize("activations", ["per_token", "per_tensor", "per_tensor_static"])
@pytest.mark.parametrize("shape", [(48, 64), (7, 13)], ids=str)
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_the_layer_equals_rounded_floats(activations, shape, rows):
    plain = _weight_only(*shape)
    x = normal(rows, shape[1])
    step = {
        "per_token": x.abs().amax(1, keepdim=True) / 127,
        "per_tensor": x.abs().max() / 127,
        "per_tensor_static": torch.tensor(0.01),
    }[activations]
    fixed = 0.01 if activations == "per_tensor_static" else None
    layer = W8A8Linear.from_quantized(plain, activations, fixed)
    expected = linear((x / step).round().clamp(-127, 127) * step, plain.dequantize(), plain.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-4)


def test_a_token_does_not_depend_on_its_neighbours_unless_they_share_a_step():
    plain, x = _weight_only(32, 64), normal(6, 64)
    x[0] *= 100
    per_token = W8A8Linear.from_quantized(plain)
    assert torch.equal(per_token(x)[1:], per_token(x[1:]))
    per_tensor = W8A8Linear.from_quantized(plain, "per_tensor")
    assert not torch.allclose(per_tensor(x)[1:], per_tensor(x[1:]), rtol=0.01)


def test_one_step_a_token_errs_less_than_one_for_all():
    plain, x = _weight_only(32, 64, bias=False), normal(20, 64)
    x[0] *= 100
    exact = linear(x, plain.dequantize())
    errors = [
        (W8A8Linear.from_quantized(plain, kind)(x) - exact)[1:].norm()
        for kind in ("per_token", "per_tensor")
    ]
    assert errors[0] < errors[1] / 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_goes_in_and_out(dtype):
    plain, x = _weight_only(32, 64), normal(3, 64).to(dtype)
    y = W8A8Linear.from_quantized(plain)(x)
    assert y.dtype == dtype
    torch.testing.assert_close(y, W8A8Linear.from_quantized(plain)(x.float()).to(dtype))


def test_zero_tokens_give_the_bias_and_nan_stays_in_its_token():
    layer = W8A8Linear.from_quantized(_weight_only(32, 64))
    x = normal(3, 64)
    x[1] = 0
    x[2, 5] = float("nan")
    y = layer(x)
    assert torch.equal(y[1], layer.bias)
    assert y[2].isnan().all()
    assert torch.equal(y[0], layer(x[:1])[0])
    assert layer(torch.zeros(2, 0, 64)).shape == (2, 0, 32)


def test_storage_is_that_of_int8_weights_and_moves_without_change():
    plain = _weight_only(32, 64)
    layer = W8A8Linear.from_quantized(plain)
    assert torch.equal(layer.dequantize(), plain.dequantize())
    assert layer.nbytes == 32 * 64 + 32 * 2 + 32 * 4  # int8, bfloat16 scales, float32 bias
    assert layer.bits_per_weight == 8 + 16 / 64
    cast = copy.deepcopy(layer).to(torch.bfloat16)
    assert torch.equal(cast.integers(), layer.integers())


def test_a_model_is_w8a8_but_for_its_head(tiny_llama):
    small = quantize_activations(tiny_llama)
    assert all(isinstance(layer, W8A8Linear) for layer in find_linears(small).values())
    assert not isinstance(small.lm_head, W8A8Linear)
    assert small.lm_head.format.bits == 8
    reference, found = logits(tiny_llama, IDS), logits(small, IDS)
    assert (found - reference).norm() < 0.05 * reference.norm()
    weights_alone = quantize_model(tiny_llama, 8)
    assert not torch.equal(found, logits(weights_alone, IDS))
    assert same_tensors(dequantize_model(small), dequantize_model(weights_alone))


def test_static_steps_are_the_maxima_of_the_calibration(tiny_llama):
    name = "model.layers.1.mlp.down_proj"
    seen = inputs_of(tiny_llama, [name], IDS)[name]
    small = quantize_activations(tiny_llama, "per_tensor_static", IDS)
    top = seen.abs().max().item()
    assert small.get_submodule(name).input_step == pytest.approx(top / 127, rel=1e-5)
    by_channel = input_maxima(tiny_llama, [name], IDS)[name]
    torch.testing.assert_close(by_channel, seen.abs().flatten(0, 1).amax(0))
    assert not tiny_llama.get_submodule(name)._forward_pre_hooks


@pytest.mark.parametrize("activations", ["per_token", "per_tensor_static"])
def test_a_loaded_layer_is_the_saved_one(tiny_llama, tmp_path, activations):
    small = quantize_activations(tiny_llama, activations, IDS)
    ours = small.model.layers[0].mlp.up_proj
    loaded = load(save(small, tmp_path / "small")).model.layers[0].mlp.up_proj
    assert (loaded.activations, loaded.input_step) == (ours.activations, ours.input_step)


def test_only_files_with_activations_say_the_new_format(tiny_llama):
    assert tensors_of(quantize_model(tiny_llama, 8))[1]["version"] == VERSION
    assert tensors_of(quantize_activations(tiny_llama))[1]["version"] == VERSION_ACTIVATIONS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"activations": "per_tokn"}, "Did you mean 'per_token'"),
        ({"activations": "per_tensor_static"}, "calibration is missing"),
    ],
    ids=["typo", "no-calibration"],
)
def test_bad_arguments_are_named(tiny_llama, arguments, words):
    with pytest.raises(InputError, match=words):
        quantize_activations(tiny_llama, **arguments)


def test_inputs_that_are_not_finite_are_named_by_layer(tiny_llama):
    broken = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        broken.model.layers[0].input_layernorm.weight[3] = float("inf")
    with pytest.raises(InputError, match=r"inputs of model\.layers\.0\.self_attn\.q_proj hold NaN"):
        quantize_activations(broken, "per_tensor_static", IDS)


@pytest.mark.parametrize(
    ("fmt", "activations", "step", "words"),
    [
        (int_format(4), "per_token", None, "takes int8"),
        (int_format(8), "per_tensor_static", None, "needs a step"),
        (int_format(8), "per_token", 0.1, "measure their own"),
    ],
    ids=["int4", "no-step", "step-too-many"],
)
def test_bad_layers_are_refused(fmt, activations, step, words):
    layer = QuantizedLinear.from_linear(nn.Linear(64, 32), fmt)
    with pytest.raises(InputError, match=words):
        W8A8Linear.from_quantized(layer, activations, step)
