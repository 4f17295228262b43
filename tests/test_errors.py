"""The small checks that every public function makes of its arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shrinkkit.errors import (
    AssetError,
    CheckFailed,
    InputError,
    ShrinkkitError,
    StorageError,
    near_matches,
    require_choice,
    require_finite,
    require_int,
)


@pytest.mark.parametrize("kind", [InputError, AssetError, StorageError, CheckFailed])
def test_one_class_catches_all(kind: type[Exception]) -> None:
    assert issubclass(kind, ShrinkkitError)


def test_usual_classes_catch_too() -> None:
    assert issubclass(InputError, ValueError)
    assert issubclass(CheckFailed, AssertionError)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(2, 2), (8, 8), (np.int64(4), 4), (torch.tensor(4), 4)],
    ids=["low end", "high end", "numpy", "torch scalar"],
)
def test_require_int_accepts(value: object, expected: int) -> None:
    got = require_int("bits", value, 2, 8)
    assert got == expected
    assert type(got) is int


@pytest.mark.parametrize(
    "value",
    [1.5, 4.0, True, "4", None, 1, 9, float("nan"), np.float32(4), torch.tensor([4, 4]), [4]],
    ids=repr,
)
def test_require_int_refuses(value: object) -> None:
    with pytest.raises(InputError, match=r"^bits must be a whole number from 2 to 8, but .* given"):
        require_int("bits", value, 2, 8)


def test_require_int_without_upper_limit() -> None:
    assert require_int("seed", 10**30, 0) == 10**30
    with pytest.raises(InputError, match="of at least 0, but -1 was given"):
        require_int("seed", -1, 0)


def test_require_choice() -> None:
    assert require_choice("bits", 4, [2, 4, 8]) == 4
    assert require_choice("name", np.str_("ab"), ["ab", "cd"]) == "ab"
    with pytest.raises(
        InputError, match=r"one of 'wikipedia', 'lee-news'.*Did you mean 'lee-news'"
    ):
        require_choice("text", "lee_news", ["wikipedia", "lee-news"])
    with pytest.raises(InputError) as far:
        require_choice("text", "zzzz", ["wikipedia", "lee-news"])
    assert "Did you mean" not in str(far.value)


@pytest.mark.parametrize("value", [True, 1.5, "1", None], ids=repr)
def test_require_choice_is_strict_about_types(value: object) -> None:
    with pytest.raises(InputError):
        require_choice("flag", value, [1, 2])


def test_near_matches_ignores_case_and_keeps_the_names_own() -> None:
    assert near_matches("smolLM-135m", ["SmolLM2-135M", "minilm-l6"]) == ["SmolLM2-135M"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_require_finite_counts(dtype: torch.dtype) -> None:
    weight = torch.zeros(3, 4, dtype=dtype)
    assert require_finite("weight", weight) is weight
    weight[0, :2] = float("nan")
    weight[1, 0], weight[1, 1], weight[2, 3] = float("inf"), float("-inf"), float("inf")
    with pytest.raises(InputError, match=r"2 NaN and 3 infinite .* 12 elements \(shape \[3, 4\]\)"):
        require_finite("weight", weight)


def test_require_finite_takes_integers_and_nothing() -> None:
    require_finite("q", torch.arange(4))
    require_finite("empty", torch.empty(0))


def test_require_finite_is_not_misled_by_the_sum_of_the_elements() -> None:
    large = torch.full((4,), 3e38)  # finite, but their sum is not
    assert require_finite("weight", large) is large
    require_finite("half", torch.full((9,), 6e4, dtype=torch.float16))
    require_finite("weight", torch.ones(3).to(torch.float8_e5m2))  # has no sum
    with pytest.raises(InputError, match="0 NaN and 2 infinite"):  # their sum is NaN
        require_finite("weight", torch.tensor([float("inf"), 1.0, float("-inf")]))
    with pytest.raises(InputError, match="1 NaN and 0 infinite"):
        require_finite("weight", torch.tensor([3e38, 3e38, float("nan")]))
