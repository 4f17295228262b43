"""Bits per byte against hand-made models, brute force, and the invariances it promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import bits_per_byte, perplexity, token_bits
from tests.measure.conftest import TableModel


@pytest.fixture
def clueless() -> nn.Module:
    """Every token of 8 equally likely: 3 bits each."""
    return TableModel([[1 / 8] * 8] * 8)


def test_a_clueless_model_pays_three_bits_a_token(clueless) -> None:
    ids = torch.arange(7)
    assert token_bits(clueless, ids).tolist() == pytest.approx([3.0] * 6)
    assert bits_per_byte(clueless, [(ids, 9)]) == pytest.approx(18 / 9)


def test_documents_are_weighted_by_their_bytes(clueless) -> None:
    documents = [(torch.zeros(11, dtype=torch.long), 10), (torch.zeros(2, dtype=torch.long), 30)]
    assert bits_per_byte(clueless, documents) == pytest.approx((30 + 3) / 40)


@pytest.mark.parametrize("length", [2, 9, 16, 17, 31, 50])
@pytest.mark.parametrize(("seq_len", "stride"), [(16, 8), (16, 5), (16, 15), (9, 1)])
def test_against_one_window_a_token(tiny_llama, length: int, seq_len: int, stride: int) -> None:
    """Each token again, alone, with the context that the windows' arithmetic gives it."""
    ids = torch.randint(256, (length,), generator=torch.Generator().manual_seed(length))
    expected = []
    for t in range(1, length):
        # the first window that reaches token t
        start = 0 if t < seq_len else math.ceil((t - seq_len + 1) / stride) * stride
        with torch.no_grad():
            logits = tiny_llama(ids[None, start:t]).logits[0, -1]
        expected.append(-logits.log_softmax(0)[ids[t]].item() / math.log(2))
        assert t - start >= min(t, seq_len - stride)  # the context that was promised
    got = token_bits(tiny_llama, ids, seq_len, stride, batch_size=3)
    assert got.tolist() == pytest.approx(expected, abs=2e-4)


def test_batches_do_not_change_it(tiny_llama) -> None:
    ids = torch.randint(256, (90,), generator=torch.Generator().manual_seed(0))
    one, many = (token_bits(tiny_llama, ids, 16, 8, batch_size=size) for size in (1, 8))
    assert torch.allclose(one, many, atol=1e-5)


def test_it_is_perplexity_in_other_units(tiny_llama) -> None:
    ids = torch.randint(256, (40,), generator=torch.Generator().manual_seed(1))
    mean_bits = token_bits(tiny_llama, ids).mean().item()
    assert 2**mean_bits == pytest.approx(perplexity(tiny_llama, ids[None]), rel=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param({"ids": torch.zeros(2, 3)}, "token ids of one document", id="a matrix"),
        pytest.param({"ids": torch.tensor([1])}, "at least one token behind", id="one token"),
        pytest.param({"ids": torch.tensor([1, 999])}, "ids up to 999", id="vocabulary"),
        pytest.param({"seq_len": 4096}, "seq_len must be a whole number from 2 to 512", id="long"),
        pytest.param({"seq_len": 8, "stride": 8}, "stride must be below seq_len=8", id="stride"),
    ],
)
def test_bad_input(tiny_llama, call: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        token_bits(tiny_llama, **({"ids": torch.tensor([1, 2, 3])} | call))


def test_no_documents(clueless) -> None:
    with pytest.raises(InputError, match="documents is empty"):
        bits_per_byte(clueless, [])
