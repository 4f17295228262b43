"""Gradients of a staircase: by hand, against torch's own, and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    NF4,
    Format,
    absmean_scale,
    choose_qparams,
    dequantize,
    fake_quantize_ste,
    int_format,
    lsq_gradient_scale,
    lsq_qparams,
    lsq_quantize,
    quantize,
    search_qparams,
    ternarize,
)
from tests.tiny import normal

EXACT = {"scale_bits": 32}  # scales that are not rounded, for finite differences
FORMATS = [
    int_format(2, group_size=16),
    int_format(3),
    int_format(3, group_size=12),  # 40 columns: a short last group
    int_format(4, symmetric=True),
    Format(8, True, "per_tensor"),
    int_format(2, group_size=16, scale_bits=6),
]


def test_ste_by_hand() -> None:
    # step 0.5, grid -0.5, 0, 0.5 (2 bits, symmetric): what lies beyond one step learns nothing
    weight = torch.tensor([[0.26, -0.1, 0.5, -0.51], [0.74, -0.9, 0.0, 0.24]], requires_grad=True)
    scale, zero = torch.full((2, 1), 0.5), torch.zeros(2, 1, dtype=torch.int32)
    y = fake_quantize_ste(weight, scale, zero, Format(2, True, "per_channel"))
    assert y.tolist() == [[0.5, 0.0, 0.5, -0.5], [0.5, -0.5, 0.0, 0.0]]
    y.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]))
    assert weight.grad.tolist() == [[1.0, 2.0, 3.0, 0.0], [0.0, 0.0, 7.0, 8.0]]


def test_lsq_by_hand() -> None:
    # scale 0.5 and 1, levels -2 .. 1 (2 bits, zero point 2). Row 0: v = 0.6, -0.4, 3, -2.4:
    # round(v) - v = 0.4, 0.4 inside; 1 above; -2 below. Row 1: v = 0.3, -1.6, 0.9, -3: -0.3, -0.4,
    # 0.1, -2. Times the gradients, over sqrt(4 * 1).
    weight = torch.tensor([[0.3, -0.2, 1.5, -1.2], [0.3, -1.6, 0.9, -3.0]], requires_grad=True)
    scale = torch.tensor([[0.5], [1.0]], requires_grad=True)
    zero = torch.full((2, 1), 2, dtype=torch.int32)
    y = lsq_quantize(weight, scale, zero, Format(2, False, **EXACT))
    assert y.tolist() == [[0.5, 0.0, 0.5, -1.0], [0.0, -2.0, 1.0, -2.0]]
    y.backward(torch.tensor([[1.0, 1.0, 1.0, 1.0], [10.0, 1.0, 10.0, 1.0]]))
    assert weight.grad.tolist() == [[1.0, 1.0, 0.0, 0.0], [10.0, 1.0, 10.0, 0.0]]
    expected = torch.tensor([[(0.4 + 0.4 + 1 - 2) / 2], [(-3 - 0.4 + 1 - 2) / 2]])
    torch.testing.assert_close(scale.grad, expected)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_forward_is_quantize_and_dequantize(fmt: Format) -> None:
    weight = normal(6, 40, seed=0)
    for scale, zero in (choose_qparams(weight, fmt), search_qparams(weight, fmt)):
        expected = dequantize(quantize(weight, scale, zero, fmt), scale, zero, fmt)
        for rounding in (fake_quantize_ste, lsq_quantize):
            assert torch.equal(rounding(weight, scale, zero, fmt), expected)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_ste_against_torchs_own(bits: int, symmetric: bool) -> None:
    """Torch stops the gradient half a step later, where the *rounded* value leaves the grid."""
    fmt = Format(bits, symmetric, "per_channel", **EXACT)
    weight, pull = normal(8, 50, seed=1), normal(8, 50, seed=2)
    scale, zero = choose_qparams(weight, fmt)
    scale = scale * 0.6  # so that some weights lie outside
    found = []
    for rounding in (
        lambda w: fake_quantize_ste(w, scale, zero, fmt),
        lambda w: torch.fake_quantize_per_channel_affine(
            w, scale[:, 0], zero[:, 0], 0, fmt.qmin, fmt.qmax
        ),
    ):
        leaf = weight.clone().requires_grad_()
        y = rounding(leaf)
        y.backward(pull)
        found.append((y.detach(), leaf.grad))
    (ours, our_gradient), (theirs, their_gradient) = found
    torch.testing.assert_close(ours, theirs)
    v = weight / scale + zero
    between = ((v < fmt.qmin) | (v > fmt.qmax)) & (v > fmt.qmin - 0.5) & (v < fmt.qmax + 0.5)
    assert torch.equal(our_gradient[~between], their_gradient[~between])
    assert bool((our_gradient == 0).any())
    clip = weight.clone().requires_grad_()
    torch.clamp(clip, (fmt.qmin - zero) * scale, (fmt.qmax - zero) * scale).backward(pull)
    assert torch.equal(our_gradient, clip.grad)  # and autograd's own clip agrees everywhere


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_lsq_gradient_is_the_surrogates_slope(fmt: Format) -> None:
    """Central differences, in float64, of scale * (clip(w / scale) + what rounding added)."""
    weight, pull = normal(4, 40, seed=3), normal(4, 40, seed=4)
    scale, zero = lsq_qparams(weight, fmt)
    leaf = scale.clone().requires_grad_()
    lsq_quantize(weight, leaf, zero, fmt).backward(pull)

    columns = 40 if fmt.group_size is None else fmt.group_size
    for index in range(scale.numel()):
        row, group = divmod(index, scale.shape[1])
        part = (slice(row, row + 1), slice(group * columns, (group + 1) * columns))
        if fmt.granularity == "per_tensor":
            part = (slice(None), slice(None))
        w, g = weight[part].double(), pull[part].double()
        s0, z = scale[row, group].item(), 0 if fmt.symmetric else zero[row, group].item()
        low, high = fmt.qmin - z, fmt.qmax - z
        added = (w / s0).clamp(low, high).round() - (w / s0).clamp(low, high)

        def surrogate(s: float, w=w, g=g, low=low, high=high, added=added) -> float:
            return (s * ((w / s).clamp(low, high) + added) * g).sum().item()

        step = 1e-7 * s0
        slope = (surrogate(s0 + step) - surrogate(s0 - step)) / (2 * step)
        n = w.numel() if columns == 40 else columns
        q_p = 2 ** (fmt.bits - 1) - 1
        expected = slope / math.sqrt(n * q_p)
        assert leaf.grad[row, group].item() == pytest.approx(expected, rel=2e-3, abs=2e-4)
        if fmt.granularity == "per_tensor":
            break


def test_lsq_starts_where_the_paper_starts() -> None:
    weight = torch.tensor([[1.0, -1.0, 2.0, -4.0], [0.0, 0.0, 0.0, 0.0]])
    scale, zero = lsq_qparams(weight, Format(3, False, **EXACT))
    assert scale[0].item() == pytest.approx(2 * 2.0 / math.sqrt(3))
    assert scale[1].item() == 1.0  # a row of zeros
    assert zero.flatten().tolist() == [4, 4]  # the levels -4 .. 3
    assert lsq_gradient_scale((10, 64), int_format(2, group_size=16)) == pytest.approx(0.25)
    assert lsq_gradient_scale((10, 10), Format(8, True, "per_tensor")) == pytest.approx(
        1 / math.sqrt(100 * 127)
    )


def test_the_last_group_may_be_short() -> None:
    weight = torch.tensor([[2.0, 2.0, 2.0, 2.0, 8.0]])
    fmt = int_format(2, group_size=4, scale_bits=32)
    assert lsq_qparams(weight, fmt)[0].tolist() == [[4.0, 16.0]]
    assert absmean_scale(weight, Format(2, True, "per_group", 4)).tolist() == [[2.0, 8.0]]


@pytest.mark.parametrize("seed", range(5))
def test_ternary_is_the_nearest_of_three(seed: int) -> None:
    weight = normal(7, 33, seed=seed).requires_grad_()
    y = ternarize(weight)
    scale = weight.detach().abs().mean().bfloat16().float()
    levels = scale * torch.tensor([-1.0, 0.0, 1.0])
    nearest = (weight.detach()[..., None] - levels).abs().argmin(dim=-1)
    assert torch.equal(y.detach(), levels[nearest])
    pull = normal(7, 33, seed=seed + 100)
    y.backward(pull)
    assert torch.equal(weight.grad, pull)  # also beyond the outer levels


def test_ternary_zeros_stay_zeros() -> None:
    assert ternarize(torch.zeros(2, 3)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("rounding", [fake_quantize_ste, lsq_quantize], ids=lambda f: f.__name__)
def test_a_code_table_is_refused(rounding) -> None:
    with pytest.raises(InputError, match="even steps"):
        rounding(torch.ones(1, 64), torch.ones(1, 1), torch.zeros(1, 1), NF4)


def test_ternary_refuses_other_grids() -> None:
    with pytest.raises(InputError, match="ternary weights need a symmetric grid of 2 bits"):
        ternarize(torch.ones(2, 2), int_format(3))
