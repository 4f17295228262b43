"""SmoothQuant: the scale by hand, the function unchanged, the error lower where it should be."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    input_maxima,
    quantize_activations,
    smooth,
    smooth_quantize,
    smoothing_scale,
)
from shrinkkit.surgery.invariance import norm_groups
from shrinkkit.surgery.parts import decoder_blocks
from tests import tiny
from tests.tiny import left_alone, same_tensors

IDS = torch.arange(96).view(4, 24)


def _out(model):
    with torch.no_grad():
        return model(IDS)[0]


def _spiky(model):
    """Give each norm of a Llama one channel that is far larger than the others."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for block in decoder_blocks(model).values():
            block.input_layernorm.weight[5] *= 100
            block.post_attention_layernorm.weight[9] *= 100
    return model


def test_the_scale_by_hand():
    x_max, w_max = torch.tensor([16.0, 1.0]), torch.tensor([1.0, 4.0])
    assert smoothing_scale(x_max, w_max, 0.5).tolist() == [4.0, 0.5]  # sqrt(16 / 1), sqrt(1 / 4)
    assert smoothing_scale(x_max, w_max, 1.0).tolist() == [16.0, 1.0]
    assert smoothing_scale(x_max, w_max, 0.0).tolist() == [1.0, 0.25]
    torch.testing.assert_close(
        smoothing_scale(x_max, w_max, 0.75), torch.tensor([8.0, 1 / 4**0.25])
    )


def test_the_product_by_hand():
    x = torch.tensor([[16.0, 1.0, 0.5, 0.25], [8.0, -1.0, 0.5, 0.0]])
    weight = torch.tensor([[0.25, 0.5, 1.0, 2.0], [1.0, -0.25, 0.5, 1.0]])
    scale = smoothing_scale(x.abs().amax(0), weight.abs().amax(0))
    expected = [4.0, np.sqrt(1 / 0.5), np.sqrt(0.5), np.sqrt(0.25 / 2)]
    np.testing.assert_allclose(scale.numpy(), expected, rtol=1e-6)
    torch.testing.assert_close((x / scale) @ (weight * scale).T, x @ weight.T)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_scale_equals_the_formula_in_float64(alpha):
    rng = np.random.default_rng(0)
    x_max, w_max = rng.lognormal(size=(2, 50)).astype(np.float32)
    got = smoothing_scale(torch.from_numpy(x_max), torch.from_numpy(w_max), alpha)
    expected = np.exp(alpha * np.log(x_max.astype(float)) - (1 - alpha) * np.log(w_max))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5)


def test_dead_channels_keep_scale_one():
    x_max, w_max = torch.tensor([0.0, 4.0, 0.0, 1e-38]), torch.tensor([2.0, 0.0, 0.0, 1e-38])
    for alpha in (0.0, 0.5, 1.0):
        scale = smoothing_scale(x_max, w_max, alpha)
        assert torch.isfinite(scale).all()
        assert (scale > 0).all()
        assert scale[:3].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("alpha", [0, 0.5, 1, "search"])
@pytest.mark.parametrize("family", ["llama", "bert"])
def test_the_float_model_stays_what_it_was(family, alpha, tiny_llama):
    sizes = {"vocab_size": 128, "intermediate_size": 48, "num_attention_heads": 4}
    model = _spiky(tiny_llama) if family == "llama" else tiny.bert(**sizes)
    with left_alone(model):
        smoothed = smooth(model, IDS, alpha)
    torch.testing.assert_close(_out(smoothed), _out(model), rtol=1e-5, atol=1e-5)
    assert not same_tensors(smoothed, model)


def test_alpha_one_makes_all_channels_of_the_activations_equally_large(tiny_llama):
    smoothed = smooth(_spiky(tiny_llama), IDS, 1.0)
    for name, block in decoder_blocks(smoothed).items():
        readers = [f"{name}.{group.consumers[0]}" for group in norm_groups(block)]
        for per_channel in input_maxima(smoothed, readers, IDS).values():
            top = per_channel.view(-1, 2, 16).amax(1) if per_channel.numel() == 64 else per_channel
            assert top.max() == pytest.approx(1.0, rel=1e-3)


def test_alpha_zero_makes_all_columns_of_the_weights_equally_large(tiny_llama):
    block = smooth(_spiky(tiny_llama), IDS, 0.0).model.layers[0]
    down = block.mlp.down_proj.weight.abs().amax(0)
    torch.testing.assert_close(down, torch.ones_like(down))


def test_the_weights_maximum_is_taken_over_every_reader(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    attention = model.model.layers[0].self_attn
    with torch.no_grad():
        attention.k_proj.weight[:, 7] *= 50  # only k knows that column 7 is large
    smoothed = smooth(model, IDS, 0.0).model.layers[0].self_attn
    columns = [getattr(smoothed, f"{n}_proj").weight[:, 7].abs().max().item() for n in "qk"]
    # v_proj's rows were divided for o_proj as well, so only q and k can be read off
    assert columns[1] == pytest.approx(1.0, rel=1e-4)
    assert columns[0] < 0.1


@pytest.mark.parametrize("alpha", [0.5, "search"])
def test_smoothing_lowers_the_error_where_a_channel_is_large(tiny_llama, alpha):
    model = _spiky(tiny_llama)
    reference = _out(model)

    def error(small):
        return (_out(small) - reference).norm().item()

    assert error(smooth_quantize(model, IDS, alpha)) < 0.5 * error(quantize_activations(model))
    static = quantize_activations(model, "per_tensor_static", IDS)
    smooth_static = smooth_quantize(model, IDS, alpha, activations="per_tensor_static")
    assert error(smooth_static) < 0.5 * error(static)


def test_half_precision_models_and_odd_sizes():
    model = tiny.llama(
        vocab_size=97,
        hidden_size=36,
        intermediate_size=50,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=6,
    )
    assert torch.isfinite(_out(smooth_quantize(model, IDS))).all()
    torch.testing.assert_close(_out(smooth(model, IDS)), _out(model), rtol=1e-5, atol=1e-5)
    half = copy.deepcopy(model).bfloat16()
    reference = _out(half).float()
    assert (_out(smooth(half, IDS)).float() - reference).norm() < 0.03 * reference.norm()


def test_one_window_of_two_tokens_is_enough(tiny_llama):
    smoothed = smooth(tiny_llama, IDS[:1, :2], "search")
    torch.testing.assert_close(_out(smoothed), _out(tiny_llama), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        (1.5, "alpha must be a number from 0 to 1, or 'search', but 1.5"),
        ("auto", "or 'search', but 'auto'"),
        (True, "alpha must be"),
    ],
    ids=["alpha-1.5", "alpha-word", "alpha-true"],
)
def test_bad_arguments_are_named(tiny_llama, alpha, words):
    with pytest.raises(InputError, match=words):
        smooth(tiny_llama, IDS, alpha)


def test_lengths_that_differ_are_refused():
    with pytest.raises(InputError, match=r"x_max has shape \[2\] and w_max \[3\]"):
        smoothing_scale(torch.ones(2), torch.ones(3))


def test_inputs_that_are_not_finite_are_refused(tiny_llama):
    broken = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        broken.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    with pytest.raises(InputError, match="hold NaN or infinity on the calibration"):
        smooth(broken, IDS)


def test_norms_that_multiply_by_one_plus_their_weight_are_rescaled_as_such():
    sizes = {"vocab_size": 128, "intermediate_size": 48, "num_hidden_layers": 1, "head_dim": 16}
    gemma = tiny.model("GemmaForCausalLM", **{**tiny.SIZES, **sizes, "num_key_value_heads": 1})
    with torch.no_grad():
        gemma.model.layers[0].input_layernorm.weight.normal_(
            generator=torch.Generator().manual_seed(0)
        )
    smoothed = smooth(gemma, IDS)
    here, there = (m.model.layers[0].input_layernorm.weight for m in (gemma, smoothed))
    assert not torch.allclose(here, there)
    with torch.no_grad():
        torch.testing.assert_close(smoothed(IDS).logits, gemma(IDS).logits)
