"""The usual mistakes in packing two integers of 4 bits into a byte, and taking them out again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from shrinkkit.checks.mistakes import Mistakes
from shrinkkit.lessons.quant.mistakes import Pair


def pack(q: Tensor, *, offset: int = 8, keep: int = 15, swap: bool = False) -> Tensor:
    """Put pairs of neighbours into a byte; keep: the bits of a code that are stored."""
    codes = pad(q.int() + offset, (0, q.shape[1] % 2)) & keep
    first, second = (1, 0) if swap else (0, 1)
    return (codes[:, first::2] | codes[:, second::2] << 4).to(torch.uint8)


def pack_halves(q: Tensor) -> Tensor:
    left, right = pad(q.int() + 8, (0, q.shape[1] % 2)).chunk(2, dim=1)
    return (left | right << 4).to(torch.uint8)


def pair_up(codes: Tensor) -> Tensor:
    codes = pad(codes, (0, codes.shape[1] % 2))
    return codes[:, 0::2] | codes[:, 1::2] << 4


def nibbles(packed: Tensor) -> Pair:
    """Return the low and the high four bits of each byte, int32."""
    return (packed & 15).int(), (packed >> 4).int()


def alternate(low: Tensor, high: Tensor, in_features: int) -> Tensor:
    return torch.stack([low, high], dim=2).flatten(1)[:, :in_features] - 8


def unpack(packed: Tensor, in_features: int) -> Tensor:
    return alternate(*nibbles(packed), in_features)


def unpack_blocks(packed: Tensor, in_features: int) -> Tensor:
    return torch.cat(nibbles(packed), dim=1)[:, :in_features] - 8


def unpack_unshifted(packed: Tensor, in_features: int) -> Tensor:
    return alternate((packed & 15).int(), (packed & 240).int(), in_features)


PACK_INT4 = Mistakes()
for says, wrong in {
    "the two nibbles are swapped: the left integer belongs into the low four bits": (
        lambda q: pack(q, swap=True)
    ),
    "8 was not added: -8..7 is stored as 0..15": lambda q: pack(q, offset=0),
    "8 was not added, so that the upper bits of a negative integer, all ones, ran over its "
    "neighbour": lambda q: pack(q, offset=0, keep=-1),
    "column j shares a byte with column j + in_features / 2: a byte holds neighbours": pack_halves,
    "the last column of an odd row was dropped": lambda q: pack(q)[:, : q.shape[1] // 2],
    "pairs were made down the rows: a byte holds two neighbours of one row": lambda q: pack(q.T).T,
    "nothing was packed: each integer still takes a byte of its own": (
        lambda q: (q + 8).to(torch.uint8)
    ),
    "nothing was packed, and 8 was not added": lambda q: q,
    "`.view(torch.uint8)` took the bytes of wider integers apart: convert the values with "
    "`.to(torch.uint8)`": lambda q: pair_up((q + 8).view(torch.uint8)),
}.items():
    PACK_INT4.add(says, wrong, unpack)
for says, wrong in {
    "8 was not subtracted again": lambda packed, n: unpack(packed, n) + 8,
    "8 was subtracted in uint8, which has no negative numbers and goes on from 255: convert to a "
    "signed dtype first": lambda packed, n: alternate(packed & 15, packed >> 4, n),
    "the two nibbles are swapped": (lambda packed, n: alternate(*reversed(nibbles(packed)), n)),
    "all low nibbles came first and then all high ones: they alternate": unpack_blocks,
    "the free nibble of an odd row came back as a column: cut it off": (
        lambda packed, n: unpack(packed, 2 * packed.shape[1])
    ),
    "the high nibble kept its place value: shift it down by four bits": unpack_unshifted,
    "the nibbles were read with a sign: they are 0..15, so subtract 8": (
        lambda packed, n: (unpack(packed, n) + 16) % 16 - 8
    ),
}.items():
    PACK_INT4.add(says, pack, wrong)
