"""Casts of NaN and infinity give another number inside of `UndefinedCasts`; all else stays."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.checks.casts import UndefinedCasts
from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.judge import Attempt
from shrinkkit.errors import CheckFailed

ODD = torch.tensor([float("nan"), float("inf"), -float("inf"), 2.0])


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8])
def test_what_is_not_finite_becomes_the_end_of_the_integers(dtype: torch.dtype) -> None:
    end = torch.iinfo(dtype).min or torch.iinfo(dtype).max
    with UndefinedCasts():
        assert ODD.to(dtype).tolist() == [end, end, end, 2]
        assert ODD.type(dtype).tolist() == [end, end, end, 2]
        assert torch.zeros(4, dtype=dtype).copy_(ODD).tolist() == [end, end, end, 2]


def test_UndefinedCasts_stay() -> None:
    with UndefinedCasts():
        assert ODD.to(torch.bool).tolist() == [True] * 4
        assert torch.tensor([1.7, -1.2]).int().tolist() == [1, -1]
        torch.testing.assert_close(ODD.double(), ODD.to(torch.float64), equal_nan=True)
        wide = torch.zeros(2, 4, dtype=torch.int8).copy_(torch.arange(4.0))
        assert wide.tolist() == [[0, 1, 2, 3]] * 2


def test_a_quotient_of_zeros_is_refused_and_a_mended_one_is_not() -> None:
    zeros = torch.zeros(2, 2)
    part = Part("q", dtype=torch.int8)

    def judge(function) -> None:
        with UndefinedCasts():
            compare(
                Attempt(function, "f"),
                lambda x: torch.zeros(2, 2, dtype=torch.int8),
                (zeros.numpy(),),
                part,
            )

    judge(lambda x: torch.where(x > 0, (x / x).to(torch.int8), 0))
    with pytest.raises(CheckFailed, match=r"at \[0, 0\] it is -128, and should be 0"):
        judge(lambda x: (x / x).to(torch.int8))
