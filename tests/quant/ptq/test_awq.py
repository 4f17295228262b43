"""AWQ: by hand, against brute force over the same ratios, and that the float model is unchanged."""

from __future__ import annotations

import copy

import pytest
import torch

from shrinkkit.calibration.walk import Walk
from shrinkkit.errors import InputError
from shrinkkit.quant import (
    Format,
    awq_model,
    fake_quantize,
    int_format,
    quantize_model,
)
from shrinkkit.quant.ptq.awq import output_error, search_scale
from shrinkkit.quant.ptq.calibrated import hessians, rescale_channels
from shrinkkit.surgery.invariance import NormGroup
from shrinkkit.surgery.parts import find_linears
from tests import tiny
from tests.calibration.test_column_solver import correlated, weights
from tests.quant.conftest import divergence


def plain(columns: int) -> NormGroup:
    """Channels that are columns, one to one."""
    return NormGroup("norm", ("layer",), n_channels=columns, repeat=1, head_dim=columns)


def test_two_channels_by_hand() -> None:
    # Levels -1, 0, 1, one scale a row. Plainly, (0.4, 1.0) has step 1: 0.4 -> 0. The input of the
    # 0.4 is ten times larger, H = diag(200, 2): error 1/2 * 200 * 0.16 = 16. At ratio 1 the scale
    # is (10, 1) / sqrt(10) = (3.162, 0.316), the scaled weight (1.265, 0.316) has step 1.265 and
    # becomes (1, 0), that is (0.4, 0): error 1/2 * 2 * 1 = 1.
    group, fmt = plain(2), Format(2, True, "per_channel", scale_bits=32)
    weight, hessian = torch.tensor([[0.4, 1.0]]), torch.diag(torch.tensor([200.0, 2.0]))
    found = search_scale([weight], hessian, fmt, group, ratios=(0, 1))
    assert found.errors == (pytest.approx(16.0), pytest.approx(1.0, rel=1e-4))
    assert found.ratio == 1
    assert found.scale.tolist() == pytest.approx([10**0.5, 10**-0.5])


def test_against_the_layers_real_outputs() -> None:
    """The Hessian's error is that of the layer's outputs on the inputs themselves."""
    x = weights(300, 16, seed=0) * torch.linspace(0.1, 5, 16)
    weight, fmt = weights(8, 16, seed=1), int_format(3, group_size=8)
    hessian = 2 / 300 * x.t() @ x
    found = search_scale([weight], hessian, fmt, plain(16))
    for ratio, error in zip((0.0, 0.5), (found.errors[0], found.errors[10]), strict=True):
        size = hessian.diagonal().sqrt().pow(ratio)
        scale = size / (size.max() * size.min()).sqrt()
        off = (x / scale) @ fake_quantize(weight * scale, fmt).t() - x @ weight.t()
        assert error == pytest.approx(off.square().sum().item() / 300, rel=1e-3)
    assert min(found.errors) == found.errors[round(found.ratio * 20)]


@pytest.mark.parametrize("seed", range(4))
def test_it_never_loses_to_rounding_on_the_calibration_text(seed: int) -> None:
    weight, hessian = weights(8, 32, seed), correlated(32, seed + 10)
    fmt = int_format(3, group_size=16)
    found = search_scale([weight], hessian, fmt, plain(32))
    assert found.errors[0] == pytest.approx(
        output_error(weight, fake_quantize(weight, fmt), hessian), rel=1e-4
    )
    assert min(found.errors) <= found.errors[0]


def test_layers_that_share_an_input_share_the_scale() -> None:
    one, two, hessian = weights(4, 16, 2), 3 * weights(6, 16, 3), correlated(16, 4)
    fmt = int_format(4, group_size=8)
    both = search_scale([one, two], hessian, fmt, plain(16))
    alone = [search_scale([w], hessian, fmt, plain(16)) for w in (one, two)]
    assert both.errors == pytest.approx(
        [a + b for a, b in zip(*(found.errors for found in alone), strict=True)]
    )


def test_a_dead_channel_is_harmless() -> None:
    hessian = correlated(8, 5)
    hessian[3], hessian[:, 3] = 0.0, 0.0
    found = search_scale([weights(4, 8, 6)], hessian, int_format(4), plain(8))
    assert torch.isfinite(found.scale).all()
    assert (found.scale > 0).all()


@pytest.fixture(scope="module")
def llama(llama):
    """The tiny model with inputs of very different sizes, as real ones have."""
    model = copy.deepcopy(llama)
    generator = torch.Generator().manual_seed(0)
    for block in model.model.layers:
        for norm in (block.input_layernorm, block.post_attention_layernorm):
            norm.weight.data = torch.rand(64, generator=generator) ** 4 * 8 + 0.05
    return model


def test_rescaling_changes_no_output_and_the_hessians_are_those_of_the_new_inputs(
    llama, tokens
) -> None:
    model = copy.deepcopy(llama)
    walk = Walk(model, tokens)
    first, block = walk.blocks[0], walk.blocks[0].module
    found = hessians(first, walk)
    before = model(tokens).logits
    grids = dict.fromkeys(find_linears(block), int_format(3, group_size=32))
    ratios = rescale_channels(first, walk, found, grids)
    assert set(ratios) == {
        "input_layernorm",
        "self_attn.v_proj",
        "post_attention_layernorm",
        "mlp.up_proj",
    }
    assert max(ratios.values()) > 0
    assert not torch.equal(
        block.input_layernorm.weight, llama.model.layers[0].input_layernorm.weight
    )
    assert torch.allclose(model(tokens).logits, before, rtol=1e-3, atol=1e-4)
    for (names, ours), (_, fresh) in zip(found, hessians(first, walk), strict=True):
        assert torch.allclose(ours, fresh, rtol=1e-3, atol=1e-4 * fresh.max().item()), names


def test_inputs_that_are_all_zero_leave_the_channels_as_they_are() -> None:
    group = NormGroup("norm", ("q",), n_channels=4, head_dim=4)
    found = search_scale([torch.ones(3, 4)], torch.zeros(4, 4), int_format(4), group)
    assert found.scale.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_a_model_predicts_more_like_the_reference_than_after_rounding(
    llama, tokens, rounding: str
) -> None:
    others = tiny.tokens(16, 24, seed=2)
    fmt = int_format(3, group_size=32)
    plainly = quantize_model(llama, fmt, head_bits=None, search=False)
    ours = awq_model(llama, tokens, fmt, rounding=rounding, head_bits=None)
    assert divergence(llama, ours, others) < 0.9 * divergence(llama, plainly, others)


def test_bad_input() -> None:
    group, fmt = plain(8), int_format(4)
    with pytest.raises(InputError, match="ratios must hold 0"):
        search_scale([weights(2, 8, 0)], torch.eye(8), fmt, group, ratios=(0.5,))
    with pytest.raises(InputError, match="same number of columns"):
        search_scale([weights(2, 8, 0)], torch.eye(7), fmt, group)
    with pytest.raises(InputError, match="hessian must hold finite"):
        search_scale([weights(2, 8, 0)], torch.eye(8) * float("nan"), fmt, group)
