"""Bits into bytes and back: by hand, against numpy's own bit packing, and as a round trip."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkkit.errors import InputError
from shrinkkit.quant import pack, unpack


def test_nibbles_by_hand():
    q = torch.tensor([[1, 2, 15], [0, 8, 7]])
    assert pack(q, 4).tolist() == [[0x21, 0x0F], [0x80, 0x07]]


def test_three_bits_straddle_bytes_by_hand():
    # 5 | 6 << 3 | 7 << 6 = 0b1_11_110_101: the low byte is 0b11110101, one bit is left over
    assert pack(torch.tensor([[5, 6, 7]]), 3).tolist() == [[0b11110101, 0b1]]


@settings(max_examples=80, deadline=None)
@given(
    bits=st.integers(1, 8),
    columns=st.integers(1, 40),
    rows=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_equals_numpy_packbits_and_round_trips(bits, columns, rows, seed):
    q = torch.randint(0, 2**bits, (rows, columns), generator=torch.Generator().manual_seed(seed))
    packed = pack(q, bits)
    stream = (q.numpy()[..., None] >> np.arange(bits)) & 1  # [rows, columns, bits], low bit first
    expected = np.packbits(stream.reshape(rows, -1).astype(np.uint8), axis=1, bitorder="little")
    assert np.array_equal(packed.numpy(), expected)
    assert torch.equal(unpack(packed, bits, columns).long(), q)


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="values from -1 to 3; 2 bits store 0 to 3"):
        pack(torch.tensor([[-1, 3]]), 2)
    with pytest.raises(InputError, match="5 values of 4 bits take 3"):
        unpack(torch.zeros(1, 2, dtype=torch.uint8), 4, 5)
