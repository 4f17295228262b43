"""Grids as data: integer ranges, costs in bits, and the NF4 table against its definition."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from shrinkkit.errors import InputError
from shrinkkit.quant import NF4, Format, int_format


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
    ("call", "words"),
    [
        (lambda: int_format(1.5), "bits must be a whole number from 2 to 8, but 1.5"),
        (lambda: int_format(9), "bits"),
        (lambda: int_format(True), "bits"),
        (lambda: int_format(4, group_size=0), "group_size must be a whole number"),
        (lambda: int_format(4, group_size=128).n_groups(64), "larger than the row"),
        (lambda: Format(4, granularity="per_grup"), "per_group"),
        (lambda: Format(4, granularity="per_channel", group_size=8), "only per_group"),
        (lambda: Format(2, code=(0.0, 1.0)), "2 bits need 4"),
    ],
    ids=[
        "bits-1.5",
        "bits-9",
        "bits-true",
        "group-0",
        "group-large",
        "typo",
        "group-extra",
        "code",
    ],
)
def test_bad_formats_are_named(call, words):
    with pytest.raises(InputError, match=words):
        call()
