"""The words of GPTQ and AWQ, by hand and against packing one integer at a time."""

from __future__ import annotations

import pytest
import torch

from shrinkkit.errors import InputError
from shrinkkit.quant.store.published import (
    AS_IT_IS,
    ONE_LESS,
    ONE_LESS_WRAPPED,
    awq_columns,
    awq_integers,
    awq_zero_points,
    gptq_integers,
    gptq_zero_points,
    unpack_words,
)
from tests.quant.store.publisher import awq_words, words_of


def int32(rows: list[list[int]]) -> torch.Tensor:
    """Make words, the highest bit of which may be set."""
    signed = [[w - 2**32 if w >= 2**31 else w for w in row] for row in rows]
    return torch.tensor(signed, dtype=torch.int32)


def test_four_bits_by_hand() -> None:
    # 0xFEDCBA98: the lowest digit is 8, the highest 15, and the word is negative as an int32
    assert unpack_words(int32([[0xFEDCBA98]]), 4).tolist() == [[8, 9, 10, 11, 12, 13, 14, 15]]


def test_two_and_eight_bits_by_hand() -> None:
    assert unpack_words(int32([[0b11100100]]), 2)[0, :5].tolist() == [0, 1, 2, 3, 0]
    assert unpack_words(int32([[0xFF00807F]]), 8).tolist() == [[0x7F, 0x80, 0x00, 0xFF]]


def test_three_bits_run_from_word_to_word() -> None:
    # Integer 10 has bits 30, 31 and 32 of the stream: two in the first word, one in the second.
    # Integer 21 has bits 63, 64 and 65: one in the second word, two in the third.
    first, second, third = 0b01 << 30, 0b1 | 1 << 31, 0b10
    found = unpack_words(int32([[first, second, third]]), 3)[0].tolist()
    assert len(found) == 32
    assert {place: n for place, n in enumerate(found) if n} == {10: 0b101, 21: 0b101}


def test_gptq_packs_along_the_input() -> None:
    # two outputs, eight inputs: each output's integers are one word, and the words stand in a row
    q = gptq_integers(int32([[0x76543210, 0x00000009]]), 4)
    assert q.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [9, 0, 0, 0, 0, 0, 0, 0]]
    assert q.dtype == torch.uint8


def test_gptq_zero_points_by_hand() -> None:
    # two groups, eight outputs
    words = int32([[0x77777777], [0x0000000E]])
    assert gptq_zero_points(words, 4, AS_IT_IS)[:2].tolist() == [[7, 14], [7, 0]]
    assert gptq_zero_points(words, 4, ONE_LESS)[:2].tolist() == [[8, 15], [8, 1]]
    assert gptq_zero_points(words, 4, ONE_LESS_WRAPPED)[:2].tolist() == [[8, 15], [8, 1]]


def test_a_zero_point_of_zero_that_borrowed() -> None:
    # zero points 0, 8, 8, ...: 0x88888880 - 0x11111111 = 0x7777776F, the 0 became 15 and the next
    # 8 became 6; only adding to the whole word again undoes it
    words = int32([[0x7777776F]])
    assert gptq_zero_points(words, 4, ONE_LESS_WRAPPED).t().tolist() == [[0, 8, 8, 8, 8, 8, 8, 8]]
    with pytest.raises(InputError, match=r"zero point of 0.*gptq_v2"):
        gptq_zero_points(words, 4, ONE_LESS)
    # the highest digit borrows from nobody, and the sum leaves the 32 bits
    top = int32([[0xF7777777]])
    assert gptq_zero_points(top, 4, ONE_LESS_WRAPPED).t().tolist() == [[8, 8, 8, 8, 8, 8, 8, 0]]


def test_three_bit_zero_points_wrap_one_by_one() -> None:
    zeros = [0, 4, 7, 1] * 8
    words = torch.tensor([words_of([(z - 1) % 8 for z in zeros], 3)], dtype=torch.int32)
    assert gptq_zero_points(words, 3, ONE_LESS_WRAPPED)[:, 0].tolist() == zeros
    with pytest.raises(InputError, match="zero point of 0"):
        gptq_zero_points(words, 3, ONE_LESS)


def test_awqs_order_by_hand() -> None:
    # the word's digits from the lowest: columns 0, 2, 4, 6, 1, 3, 5, 7
    assert awq_columns(int32([[0x75316420]])).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    # column 1 stands at place 4: bits 16 to 19
    assert awq_columns(int32([[0xF << 16]])).tolist() == [[0, 15, 0, 0, 0, 0, 0, 0]]


def test_awq_is_turned_over() -> None:
    q = awq_integers(int32([[0x75316420], [0xF << 16]]))  # two inputs, eight outputs
    assert q.tolist() == [[0, 0], [1, 15], *([n, 0] for n in range(2, 8))]
    zeros = awq_zero_points(int32([[0x75316420]]))
    assert zeros.dtype == torch.int32
    assert zeros.t().tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_words_filled_one_integer_at_a_time(bits: int) -> None:
    draw = torch.Generator().manual_seed(bits)
    q = torch.randint(2**bits, (5, 96), generator=draw)
    words = torch.tensor([words_of(row, bits) for row in q.tolist()], dtype=torch.int32)
    assert torch.equal(gptq_integers(words.t(), bits), q.to(torch.uint8))
    if bits == 4:
        words = torch.tensor([awq_words(row) for row in q.tolist()], dtype=torch.int32)
        assert torch.equal(awq_columns(words), q.to(torch.uint8))
