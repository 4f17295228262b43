"""Whatever a learner's function returns, only CheckFailed comes out of a check."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkkit.checks import check
from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.judge import Attempt
from shrinkkit.errors import CheckFailed

EXAMPLE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


class Fake(torch.Tensor):
    """A tensor that equals everything."""

    def __eq__(self, other: object) -> bool:
        return True

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.tensor(True)


class Liar(float):
    shape = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __float__(self) -> float:
        return 2.0


class Double(np.float64):
    def __float__(self) -> float:
        return 2.0


def special_tensors() -> list[torch.Tensor]:
    """Make tensors that hold their values otherwise, or hold none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these kinds are new or old
        return [
            torch.eye(2).to_sparse(),
            torch.eye(2).to_sparse_csr(),
            torch.eye(2, device="meta"),
            torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8),
            torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
            torch.ones(2, 2, requires_grad=True) * 2,
            torch.ones(2, 2, dtype=torch.complex64).conj(),
            torch.ones(1).expand(10**6, 10**6),
            torch.nn.Parameter(torch.eye(2)),
            torch.nn.UninitializedParameter(),
            torch.empty(2, 2, dtype=torch.bits8),
            torch.zeros(2, 2).as_subclass(Fake),
        ]


def odd_tensors() -> st.SearchStrategy:
    """Draw tensors of any shape and dtype, with NaN, and some that hold no values."""
    shape = st.lists(st.integers(0, 3), max_size=4)
    dtypes = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.uint8]
    dtypes += [torch.int8, torch.int64, torch.complex64, torch.float8_e4m3fn, torch.uint16]
    made = st.builds(
        lambda shape, dtype, fill: torch.full(shape, fill).to(dtype),
        shape,
        st.sampled_from(dtypes),
        st.sampled_from([0.0, 1.0, float("nan"), float("inf")]),
    )
    special = special_tensors()  # some of which cannot be printed, so not `sampled_from`
    return st.one_of(made, st.integers(0, len(special) - 1).map(lambda place: special[place]))


def odd_results() -> st.SearchStrategy:
    """Draw what a function may return: anything, also inside of lists, tuples and dicts."""
    itself: list = []
    itself.append(itself)
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.complex_numbers(),
        st.text(),
        st.binary(max_size=4),
        st.fractions(),
        st.builds(iter, st.just([1, 2])),
        st.integers(300, 5000).map(lambda digits: 10**digits),  # more than a float holds, or prints
        st.sampled_from([object(), object, len, range(2), "x" * 10**6]),
        st.sampled_from(
            [np.eye(2), np.float32(2), np.array(2), np.array("a"), np.datetime64("NaT")]
        ),
        st.sampled_from([itself, Liar(1), Double(1), lambda: 1, np.array([None, 1])]),
        odd_tensors(),
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.text(max_size=2), inner, max_size=2),
        ),
        max_leaves=4,
    )


RIGHT = [EXAMPLE.numpy(), EXAMPLE.long().numpy(), np.zeros((0, 3)), np.array([True]), 2.0, 3]


@settings(deadline=None, max_examples=400)
@given(result=odd_results(), right=st.sampled_from(RIGHT), whole=st.booleans())
def test_nothing_that_is_returned_makes_a_comparison_crash(result, right, whole) -> None:
    """Only CheckFailed comes out of `Attempt`, `close` and `compare`, alone and as a pair."""
    whole = whole and right == 3
    attempt = Attempt(lambda x: result, "answer")
    part = Part("the result", whole=whole)
    for parts in ((part,), (part, Part("the rest"))):
        with contextlib.suppress(CheckFailed):
            truths = right if len(parts) == 1 else (right, right)
            compare(attempt, lambda x, truths=truths: truths, (EXAMPLE.numpy(),), *parts)


@settings(deadline=None, max_examples=150)
@given(result=odd_results())
def test_nothing_that_is_returned_makes_a_check_crash(result) -> None:
    """Known mistakes are compared with odd results, too."""
    for name in ("kv.add_keys", "kv.cache_bytes", "kv.round_keys", "gptq.hessian"):
        with pytest.raises(CheckFailed):
            check(name, lambda *case: result)
