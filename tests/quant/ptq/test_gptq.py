"""GPTQ by hand, against sequential surgery, and in every corner of its options."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.calibration.column_solver import inverse_factor
from shrinkkit.errors import InputError
from shrinkkit.quant import NF4, Format, choose_qparams, fake_quantize, int_format, quantize
from shrinkkit.quant.ptq.gptq import gptq
from tests.calibration.test_column_solver import correlated, sequential_surgery, weights


def output_error(weight: torch.Tensor, q: torch.Tensor, hessian: torch.Tensor) -> float:
    off = weight - q
    return (((off @ hessian) * off).sum() / 2 / len(weight)).item()


def test_two_weights_by_hand() -> None:
    # One scale a row, 3 levels: max|w| / 1 = 1. Column 0 is exact; column 1, 0.4, rounds to 0.
    # With column 0 rounded from 0.6 to 1 instead, the error -0.4 goes to column 1 as
    # 0.9 + -0.4 * H01 / H11 = 0.9 - 0.4 * 1.9 / 2 = 0.52 -> 1 (scale 0.9: q = round(0.58) = 1).
    fmt = Format(2, True, "per_channel", scale_bits=32)
    hessian = torch.tensor([[2.0, 1.9], [1.9, 2.0]])
    given = torch.tensor([[0.6, 0.9]])
    found = gptq(given, hessian, fmt, damping=0.0, act_order=False, search=False)
    assert found.scale.item() == pytest.approx(0.9)
    assert found.q.tolist() == [[1, 1]]
    # and with 0.4 in place of 0.9 and the scale fixed by a third weight, it rounds the other way
    third = torch.eye(3) * 2
    third[:2, :2] = hessian
    given = torch.tensor([[0.6, 0.6, 1.0]])
    found = gptq(given, third, fmt, damping=0.0, act_order=False, search=False)
    assert fake_quantize(given, fmt).tolist() == [[1.0, 1.0, 1.0]]
    assert found.q.tolist() == [[1, 0, 1]]  # 0.6 - 0.4 * 0.95 = 0.22 -> 0


@pytest.mark.parametrize(
    "fmt", [int_format(4), int_format(3, group_size=8), int_format(8)], ids=str
)
def test_against_sequential_surgery(fmt: Format) -> None:
    """With scales chosen beforehand: one inverse a column, in float64."""
    weight, hessian = weights(6, 24, seed=0), correlated(24, seed=1)
    found = gptq(
        weight, hessian, fmt, damping=0.0, act_order=False, static_groups=True, search=False
    )
    scale, zero_point = choose_qparams(weight, fmt)
    assert torch.equal(found.scale, scale)
    columns = fmt.columns_per_scale(24)

    def to_the_grid(column: torch.Tensor, p: int) -> torch.Tensor:
        s, z = scale[:, p // columns].double(), zero_point[:, p // columns]
        return s * (((column / s).round() + z).clamp(fmt.qmin, fmt.qmax) - z)

    expected = sequential_surgery(weight, hessian, to_the_grid)
    near = torch.isclose(found.dequantize(fmt).double(), expected, rtol=1e-5, atol=1e-6)
    assert near.float().mean() > 0.99  # ties in float32
    assert found.error == pytest.approx(
        output_error(weight, found.dequantize(fmt), hessian), rel=1e-2
    )


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("fmt", [int_format(4, group_size=8), int_format(8), NF4], ids=str)
def test_independent_inputs_leave_rounding_alone(fmt: Format, act_order: bool) -> None:
    fmt = fmt if fmt.code is None else Format(4, True, "per_group", 8, fmt.code)
    weight = weights(5, 20, seed=2)
    found = gptq(
        weight,
        torch.diag(torch.rand(20, generator=torch.Generator().manual_seed(3)) + 0.5),
        fmt,
        act_order=act_order,
        search=False,
    )
    scale, zero_point = choose_qparams(weight, fmt)
    assert torch.equal(found.q, quantize(weight, scale, zero_point, fmt))
    assert found.q.dtype == quantize(weight, scale, zero_point, fmt).dtype


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="act order"),
        pytest.param({"act_order": False}, id="groups in turn"),
        pytest.param({"act_order": False, "static_groups": True}, id="static groups"),
        pytest.param({"search": False}, id="no search"),
    ],
)
def test_output_error_is_far_below_roundings(bits: int, options: dict) -> None:
    weight, hessian = weights(16, 64, seed=4), correlated(64, seed=5)
    fmt = int_format(bits, group_size=16)
    found = gptq(weight, hessian, fmt, **options)
    rounded = fake_quantize(weight, fmt, search=options.get("search", True))
    ours = output_error(weight, found.dequantize(fmt), hessian)
    assert ours < 0.75 * output_error(weight, rounded, hessian)


@pytest.mark.parametrize("act_order", [True, False], ids=["static groups", "groups in turn"])
def test_small_scales_stay_on_the_rows_grid(act_order: bool) -> None:
    weight, hessian = weights(24, 40, seed=14), correlated(40, seed=15)
    weight[0] *= 3
    fmt = int_format(3, group_size=16, scale_bits=5)  # 40 columns: the last group is short
    found = gptq(weight, hessian, fmt, act_order=act_order)
    unit = 2.0 ** (found.scale.amax(dim=1, keepdim=True).log2().floor() - 4)
    codes = found.scale / unit  # the largest of a row takes all five bits
    assert torch.equal(codes, codes.round())
    assert codes.min() >= 1
    assert codes.max() <= 31
    ours = output_error(weight, found.dequantize(fmt), hessian)
    assert ours < 0.75 * output_error(weight, fake_quantize(weight, fmt), hessian)


@pytest.mark.parametrize("block_size", [1, 5, 64])
def test_block_size_changes_nothing(block_size: int) -> None:
    weight, hessian = weights(8, 48, seed=6), correlated(48, seed=7)
    fmt = int_format(4, group_size=16)
    whole = gptq(weight, hessian, fmt)
    parts = gptq(weight, hessian, fmt, block_size=block_size)
    assert (whole.q == parts.q).float().mean() > 0.99
    assert parts.error == pytest.approx(whole.error, rel=1e-2)


def test_groups_in_turn_see_what_was_pushed_to_them() -> None:
    weight, hessian = weights(4, 32, seed=8), correlated(32, seed=9)
    fmt = int_format(3, group_size=16)
    found = gptq(weight, hessian, fmt, damping=0.0, act_order=False, search=False)
    static = gptq(
        weight, hessian, fmt, damping=0.0, act_order=False, static_groups=True, search=False
    )
    assert torch.equal(found.scale[:, 0], static.scale[:, 0])
    assert not torch.equal(found.scale[:, 1], static.scale[:, 1])
    # the second group's weights once the first is settled, from the factor's own definition
    upper = inverse_factor(hessian, 0.0).upper.double()
    q = found.dequantize(fmt).double()
    w = weight.double().clone()
    for p in range(16):
        w[:, p + 1 :] -= torch.outer((w[:, p] - q[:, p]) / upper[p, p], upper[p, p + 1 :])
    scale, _ = choose_qparams(w[:, 16:].float(), Format(3, False, "per_channel"))
    assert torch.allclose(found.scale[:, 1:], scale, rtol=1e-2)


@pytest.mark.parametrize("shape", [(1, 8), (3, 20), (5, 33)], ids=["one row", "short group", "odd"])
@pytest.mark.parametrize("options", [{}, {"act_order": False}], ids=["act order", "in turn"])
def test_groups_that_do_not_divide(shape: tuple[int, int], options: dict) -> None:
    weight, hessian = weights(*shape, seed=10), correlated(shape[1], seed=11)
    fmt = int_format(4, group_size=8)
    found = gptq(weight, hessian, fmt, **options)
    assert found.scale.shape == (shape[0], fmt.n_groups(shape[1]))
    assert found.q.min() >= 0
    assert found.q.max() <= 15
    bound = found.scale.amax() * 16
    assert ((found.dequantize(fmt) - weight).abs() < bound).all()


def test_dead_inputs_get_the_zero_that_they_deserve() -> None:
    weight, hessian = weights(4, 16, seed=12), correlated(16, seed=13)
    hessian[5], hessian[:, 5] = 0.0, 0.0
    fmt = int_format(4, group_size=8)
    found = gptq(weight, hessian, fmt)
    assert (found.dequantize(fmt)[:, 5] == 0).all()


def test_a_row_of_zeros_stays_zero_and_halves_are_read() -> None:
    weight, hessian = weights(4, 16, seed=14), correlated(16, seed=15)
    weight[2] = 0
    fmt = int_format(4, group_size=8)
    found = gptq(weight.bfloat16(), hessian, fmt)
    assert (found.dequantize(fmt)[2] == 0).all()
    assert torch.equal(found.q, gptq(weight.bfloat16().float(), hessian, fmt).q)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"hessian": torch.eye(3)}, "needs.*in_features, in_features", id="hessian"),
        pytest.param({"static_groups": False}, "act_order=True needs static_groups", id="order"),
        pytest.param({"damping": -1}, "damping must be from 0 to 1", id="damping"),
        pytest.param({"weight": torch.full((2, 8), float("nan"))}, "finite", id="nan"),
        pytest.param({"fmt": int_format(4, group_size=16)}, "larger than the row", id="group"),
    ],
)
def test_bad_input(change: dict, words: str) -> None:
    given = {"weight": torch.ones(2, 8), "hessian": torch.eye(8), "fmt": int_format(4)}
    with pytest.raises(InputError, match=words):
        gptq(**(given | change))
