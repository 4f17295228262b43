"""Grids as data: integer ranges, costs in bits, and the NF4 table against its definition."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from shrinkkit.errors import InputError
from shrinkkit.quant import FP8_E4M3, FP8_E5M2, MXFP4, NF4, Format, int_format
from shrinkkit.quant.grids.formats import float_code


@pytest.mark.parametrize(
    ("bits", "symmetric", "qmin", "qmax"),
    [
        (8, True, -127, 127),
        (8, False, 0, 255),
        (4, True, -7, 7),
        (2, True, -1, 1),
        (2, False, 0, 3),
    ],
)
def test_integer_range(bits, symmetric, qmin, qmax):
    fmt = Format(bits, symmetric)
    assert (fmt.qmin, fmt.qmax) == (qmin, qmax)


def test_bits_per_weight_counts_scales_zero_points_and_the_short_group():
    # 64 * 4 bits + 16-bit scale + 4-bit zero point
    assert int_format(4, group_size=64).bits_per_weight((10, 576)) == (64 * 4 + 20) / 64
    # 576 = 4 * 128 + 64: five groups a row
    assert int_format(4, group_size=128).bits_per_weight((3, 576)) == 4 + 5 * 20 / 576
    assert int_format(8).bits_per_weight((7, 100)) == 8 + 16 / 100
    # 32 * 4 bits + 6-bit scale + 4-bit zero point, and one 8-bit exponent a row
    small = int_format(4, group_size=32, scale_bits=6)
    assert small.bits_per_weight((10, 576)) == (32 * 4 + 10) / 32 + 8 / 576
    assert Format(8, True, "per_tensor", scale_bits=32).bits_per_weight((8, 4)) == 8 + 32 / 32


def test_nf4_table_is_the_normal_quantiles_of_its_paper():
    positive = norm.ppf(torch.linspace(0.9677083, 0.5, 9)[:-1].double().numpy())
    negative = -norm.ppf(torch.linspace(0.9677083, 0.5, 8)[:-1].double().numpy())
    expected = torch.tensor(sorted([*positive, 0.0, *negative])) / positive.max()
    torch.testing.assert_close(
        torch.tensor(NF4.code, dtype=torch.float64), expected, atol=2e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("fmt", "dtype", "n_values"),
    [(FP8_E4M3, torch.float8_e4m3fn, 253), (FP8_E5M2, torch.float8_e5m2, 247)],
    ids=["e4m3", "e5m2"],
)
def test_fp8_tables_are_all_the_finite_numbers_that_torch_has(fmt, dtype, n_values):
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    assert list(fmt.code) == every[every.isfinite()].unique().tolist()
    assert len(fmt.code) == n_values
    assert fmt.code[-1] == torch.finfo(dtype).max


def test_fp4_table_is_the_sixteen_patterns_of_its_specification():
    # OCP MX 1.0: sign, two exponent bits with bias 1, one mantissa bit
    values = set()
    for pattern in range(16):
        sign, exponent, mantissa = pattern >> 3, pattern >> 1 & 3, pattern & 1
        size = mantissa / 2 if exponent == 0 else 2 ** (exponent - 1) * (1 + mantissa / 2)
        values.add(-size if sign else size)
    assert list(MXFP4.code) == sorted(values)
    assert len(values) == 15  # +0 and -0 are one


def test_bits_of_floating_point_formats():
    assert MXFP4.bits_per_weight((10, 576)) == 4.25  # an 8-bit exponent for 32 weights
    assert FP8_E4M3.bits_per_weight((10, 576)) == 8 + 16 / 576
    names = [str(fmt) for fmt in (NF4, FP8_E4M3, FP8_E5M2, MXFP4)]
    assert names == ["nf4 g64", "fp8 e4m3 per channel", "fp8 e5m2 per channel", "mxfp4 g32"]


BAD = {
    "bits-1.5": (lambda: int_format(1.5), "bits must be a whole number from 2 to 8, but 1.5"),
    "bits-9": (lambda: int_format(9), "bits"),
    "bits-true": (lambda: int_format(True), "bits"),
    "group-0": (lambda: int_format(4, group_size=0), "group_size must be a whole number"),
    "group-large": (lambda: int_format(4, group_size=128).n_groups(64), "larger than the row"),
    "typo": (lambda: Format(4, granularity="per_grup"), "per_group"),
    "group-extra": (lambda: Format(4, granularity="per_channel", group_size=8), "only per_group"),
    "code-long": (lambda: Format(2, code=(-2.0, -1.0, 0.0, 1.0, 2.0)), "2 bits hold 4"),
    "code-zero": (lambda: Format(2, code=(0.5, 1.0)), "zero among them"),
    "code-order": (lambda: Format(2, code=(0.0, 1.0, 1.0)), "increasing"),
    "power-without-code": (lambda: Format(4, power_of_two=True, scale_bits=8), "needs a code"),
    "power-with-16-bits": (lambda: Format(2, code=(0.0, 1.0), power_of_two=True), "scale_bits=8"),
    "no-exponent": (lambda: float_code(0, 1, 6.0), "exponent_bits"),
}


@pytest.mark.parametrize(("call", "words"), BAD.values(), ids=BAD)
def test_bad_formats_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
