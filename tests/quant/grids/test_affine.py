"""Rounding to a grid: by hand, against torch, and by its invariants."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    FP8_E4M3,
    FP8_E5M2,
    MXFP4,
    NF4,
    Format,
    choose_qparams,
    dequantize,
    expand,
    fake_quantize,
    int_format,
    quantize,
    search_qparams,
)
from tests.tiny import normal

WEIGHT = torch.tensor([[-0.5, 0.0, 0.25, 1.0], [3.0, 1.0, -1.0, 0.5]])


def _round_trip(weight, fmt, choose=choose_qparams):
    scale, zero_point = choose(weight, fmt)
    return dequantize(quantize(weight, scale, zero_point, fmt), scale, zero_point, fmt)


def test_symmetric_by_hand():
    fmt = Format(3, True, scale_bits=32)  # q in -3..3
    scale, zero_point = choose_qparams(WEIGHT, fmt)
    torch.testing.assert_close(scale, torch.tensor([[1 / 3], [1.0]]))
    assert zero_point.tolist() == [[0], [0]]
    assert quantize(WEIGHT, scale, zero_point, fmt).tolist() == [[-2, 0, 1, 3], [3, 1, -1, 0]]


def test_asymmetric_by_hand():
    fmt = Format(2, False, scale_bits=32)  # q in 0..3
    scale, zero_point = choose_qparams(WEIGHT, fmt)
    torch.testing.assert_close(scale, torch.tensor([[1.5 / 3], [4.0 / 3]]))
    assert zero_point.tolist() == [[1], [1]]  # -min / scale = 1 and 0.75
    q = quantize(WEIGHT, scale, zero_point, fmt)
    assert q.tolist() == [[0, 1, 1, 3], [3, 2, 0, 1]]  # 0.25 / 0.5 rounds to even 0
    torch.testing.assert_close(
        dequantize(q, scale, zero_point, fmt)[0], torch.tensor([-0.5, 0.0, 0.0, 1.0])
    )


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_equals_torch_fake_quantize_per_channel(bits, symmetric):
    weight = normal(16, 64, seed=bits)
    fmt = Format(bits, symmetric)
    scale, zero_point = choose_qparams(weight, fmt)
    expected = torch.fake_quantize_per_channel_affine(
        weight, scale[:, 0], zero_point[:, 0], 0, fmt.qmin, fmt.qmax
    )
    torch.testing.assert_close(fake_quantize(weight, fmt), expected)


@settings(max_examples=60, deadline=None)
@given(
    bits=st.integers(2, 8),
    symmetric=st.booleans(),
    group_size=st.one_of(st.none(), st.integers(1, 24)),
    seed=st.integers(0, 10**6),
    magnitude=st.sampled_from([1e-6, 1.0, 1e4]),
)
def test_error_is_at_most_half_a_step(bits, symmetric, group_size, seed, magnitude):
    weight = magnitude * normal(5, 24, seed=seed)
    fmt = int_format(bits, group_size=group_size, symmetric=symmetric, scale_bits=32)
    scale, zero_point = choose_qparams(weight, fmt)
    error = (_round_trip(weight, fmt) - weight).abs()
    # asymmetric: the zero point is rounded too, which moves the ends by up to half a step more
    limit = (0.5 if symmetric else 1.0) * expand(scale, weight.shape, fmt) * (1 + 1e-5)
    assert (error <= limit).all()
    assert (scale > 0).all()
    assert int(zero_point.min()) >= fmt.qmin


def test_a_short_last_group_is_its_own_group():
    weight = normal(3, 10, seed=0)
    fmt = int_format(4, group_size=4)
    pieces = weight.split(4, dim=1)
    by_hand = torch.cat(
        [fake_quantize(piece, int_format(4, symmetric=False)) for piece in pieces], dim=1
    )
    assert torch.equal(fake_quantize(weight, fmt), by_hand)
    searched = torch.cat(
        [fake_quantize(p, int_format(4, symmetric=False), search=True) for p in pieces], dim=1
    )
    assert torch.equal(fake_quantize(weight, fmt, search=True), searched)


def test_per_tensor_has_one_scale():
    scale, zero_point = choose_qparams(WEIGHT, Format(8, False, "per_tensor", scale_bits=32))
    assert scale.shape == zero_point.shape == (1, 1)
    torch.testing.assert_close(scale, torch.tensor([[4 / 255]]))


def test_nf4_picks_the_nearest_code_by_brute_force():
    weight = normal(4, 128, seed=1)
    scale = weight.view(4, 2, 64).abs().amax(2).bfloat16().float()
    code = torch.tensor(NF4.code)
    table = scale.repeat_interleave(64, 1)[..., None] * code  # [4, 128, 16]
    nearest = (table - weight[..., None]).abs().argmin(-1)
    chosen = table.gather(-1, nearest[..., None])[..., 0]
    torch.testing.assert_close(fake_quantize(weight, NF4), chosen)


@pytest.mark.parametrize("fmt", [Format(4, True), Format(4, False), NF4], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.7, -0.7])
def test_constant_rows_and_zeros_survive(fmt, value):
    weight = torch.full((2, 64), value)
    torch.testing.assert_close(fake_quantize(weight, fmt), weight, rtol=0.005, atol=0)


def test_zero_weights_stay_exactly_zero():
    weight = normal(8, 64, seed=2)
    weight[:, ::3] = 0
    for bits in (2, 3, 4, 8):
        for symmetric in (True, False):
            rounded = fake_quantize(weight, int_format(bits, group_size=16, symmetric=symmetric))
            assert (rounded[:, ::3] == 0).all()


@pytest.mark.parametrize("fmt", [Format(2), Format(3, False), int_format(4, group_size=8)], ids=str)
def test_search_never_loses_to_min_and_max_in_the_error_it_counts(fmt):
    weight = normal(32, 64, seed=3) ** 3  # heavy tails
    groups = weight.view(32, -1, fmt.group_size or 64)
    counts = groups.abs() + groups.square().mean(2, keepdim=True).sqrt()

    def error(search):
        rounded = fake_quantize(weight, fmt, search=search).view(groups.shape)
        return (counts * (rounded - groups).square()).sum(2)

    assert (error(True) <= error(False) * (1 + 1e-6)).all()
    assert error(True).sum() < 0.99 * error(False).sum()


def test_more_bits_and_smaller_groups_err_less():
    weight = normal(32, 128, seed=4)
    by_bits = [
        (fake_quantize(weight, int_format(b, group_size=32)) - weight).norm() for b in range(2, 9)
    ]
    assert by_bits == sorted(by_bits, reverse=True)
    by_group = [
        (fake_quantize(weight, int_format(4, group_size=g)) - weight).norm() for g in (16, 64, 128)
    ]
    assert by_group == sorted(by_group)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_weights_are_rounded_as_their_float_values(dtype):
    weight = normal(4, 32, seed=5).to(dtype)
    assert torch.equal(fake_quantize(weight, Format(4)), fake_quantize(weight.float(), Format(4)))


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.tensor([[1.0, float("nan")]]), "weight must hold finite numbers, but 1 NaN"),
        (torch.tensor([[1.0, float("inf")]]), "1 infinite"),
        (torch.ones(3), r"shape \(3,\)"),
        (torch.ones(0, 3), "non-empty"),
    ],
    ids=["nan", "inf", "vector", "empty"],
)
@pytest.mark.parametrize("choose", [choose_qparams, search_qparams])
def test_bad_weights_are_refused(weight, words, choose):
    with pytest.raises(InputError, match=words):
        choose(weight, Format(4))


def test_small_scales_by_hand():
    # ranges 6.3 and 1.05 over 7 steps: scales 0.9 and 0.15; 4 bits: 0.9 / 2**-4 = 14.4, 0.15: 2.4
    fmt = Format(3, False, "per_group", 2, scale_bits=4)
    weight = torch.tensor([[0.0, 6.3, 0.0, 1.05]])
    scale, zero_point = choose_qparams(weight, fmt)
    assert scale.tolist() == [[14 / 16, 2 / 16]]
    assert zero_point.tolist() == [[0, 0]]
    # 6.3 / 0.875 = 7.2 and 1.05 / 0.125 = 8.4: both clamp to 7
    assert quantize(weight, scale, zero_point, fmt).tolist() == [[0, 7, 0, 7]]


@pytest.mark.parametrize("scale_bits", [4, 6, 8])
def test_small_scales_are_bfloat16_numbers_near_the_exact_ones(scale_bits):
    weight = normal(64, 96, seed=0) * torch.logspace(-3, 3, 64)[:, None]
    small = Format(4, False, "per_group", 32, scale_bits=scale_bits)
    exact, _ = choose_qparams(weight, Format(4, False, "per_group", 32, scale_bits=32))
    for choose in (choose_qparams, search_qparams):
        scale, _ = choose(weight, small)
        assert torch.equal(scale.bfloat16().float(), scale)
    scale, _ = choose_qparams(weight, small)
    half_a_unit = exact.amax(dim=1, keepdim=True) * 2.0**-scale_bits
    assert bool(((scale - exact).abs() <= half_a_unit * 1.001).all())


def test_a_row_of_zeros_has_small_scales_too():
    weight = torch.zeros(2, 32)
    weight[1, 0] = 15 / 16  # fifteen steps of 2**-4
    fmt = int_format(4, group_size=16, scale_bits=6)
    assert torch.equal(fake_quantize(weight, fmt), weight)


FP8 = pytest.mark.parametrize(
    ("fmt", "dtype"),
    [(FP8_E4M3, torch.float8_e4m3fn), (FP8_E5M2, torch.float8_e5m2)],
    ids=["e4m3", "e5m2"],
)


@FP8
def test_fp8_rounds_as_torch_casts(fmt, dtype):
    weight = normal(16, 64, seed=0)
    weight *= torch.logspace(-6, 3, 64)  # subnormals of the format too
    scale, _ = choose_qparams(weight, fmt)
    largest = torch.finfo(dtype).max
    torch.testing.assert_close(scale[:, 0], weight.abs().amax(1) / largest, rtol=2**-8, atol=0)
    cast = (weight / scale).clamp(-largest, largest).to(dtype).float() * scale
    assert torch.equal(_round_trip(weight, fmt), cast)


@FP8
def test_fp8_midpoints_go_to_the_even_mantissa_as_in_torch(fmt, dtype):
    code = torch.tensor(fmt.code)
    halfway = ((code[1:] + code[:-1]) / 2)[None]
    one = torch.ones(1, 1)
    q = quantize(halfway, one, torch.zeros(1, 1, dtype=torch.int32), fmt)
    assert torch.equal(code[q.long()], halfway.to(dtype).float())


def _mx_by_hand(weight):
    """MX 1.0's conversion, value by value: the shared exponent, then a search through E2M1."""
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]  # by pattern: an even place, an even mantissa
    rounded = torch.empty_like(weight)
    for row in range(weight.shape[0]):
        for first in range(0, weight.shape[1], 32):
            part = weight[row, first : first + 32].tolist()
            shared = 2.0 ** (math.floor(math.log2(max(map(abs, part)))) - 2)
            for i, x in enumerate(part):
                distances = [abs(abs(x) / shared - value) for value in values]
                nearest = [n for n, d in enumerate(distances) if d == min(distances)]
                n = next((n for n in nearest if n % 2 == 0), nearest[0])
                rounded[row, first + i] = math.copysign(values[n], x) * shared
    return rounded


@pytest.mark.parametrize("columns", [64, 80], ids=["whole-groups", "short-last-group"])
def test_mxfp4_is_the_specifications_conversion(columns):
    weight = normal(8, columns, seed=1)
    weight *= torch.logspace(-20, 20, 8)[:, None]
    weight[0, :8] = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -7.9])  # ties, and above 6
    assert torch.equal(fake_quantize(weight, MXFP4), _mx_by_hand(weight))


def test_mxfp4_scales_are_e8m0_numbers():
    weight = normal(8, 64, seed=2)
    weight[3] = 0  # nothing to cover
    for choose in (choose_qparams, search_qparams):
        scale, _ = choose(weight, MXFP4)
        assert torch.equal(scale.to(torch.float8_e8m0fnu).float(), scale)
        assert scale[3].tolist() == [1.0, 1.0]


def test_searching_never_rounds_worse_in_what_it_counts():
    weight = normal(32, 96, seed=3)
    counts = torch.ones(96)
    error = {}
    for name, how in {"plain": {"ratios": (1.0,)}, "searched": {}}.items():
        found = search_qparams(weight, MXFP4, column_importance=counts, **how)
        back = dequantize(quantize(weight, *found, MXFP4), *found, MXFP4)
        error[name] = (back - weight).square().sum()
    assert error["searched"] < error["plain"]
