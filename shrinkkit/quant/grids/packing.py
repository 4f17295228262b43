"""Put several small integers into a byte, and take them out again.

A 4-bit value stored in an int8 tensor takes eight bits: nothing was saved. Packing is what makes
the file and the memory smaller. Values of a row are written one after another as a stream of bits,
the first value in the lowest bits (little-endian, as in GGUF), so any width from 1 to 8 works:
eight 3-bit values fill exactly three bytes. A row starts on a new byte.

For the widths that divide a byte, this is a shift and an or; for 3, 5, 6 and 7 bits a value can
straddle two bytes, so eight values are written into `bits` bytes at a time.
"""

from __future__ import annotations

import torch

from shrinkkit.errors import InputError, require_int


def pack(q: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack unsigned integers of `bits` bits into bytes, the first in the lowest bits.

    byte = sum_i q[i] << (bits * i), over the 8 / bits values of a byte (for widths that divide 8).
    q: [rows, columns] integer; values 0 to 2**bits - 1.
    bits: 1 to 8.
    Returns [rows, ceil(columns * bits / 8)] uint8.
    Raises InputError where a value does not fit.

    >>> pack(torch.tensor([[1, 2, 3]]), 4).tolist()
    [[33, 3]]
    """
    require_int("bits", bits, 1, 8)
    if q.numel() and (int(q.min()) < 0 or int(q.max()) >= 2**bits):
        raise InputError(
            f"q holds values from {int(q.min())} to {int(q.max())}; {bits} bits store 0 to "
            f"{2**bits - 1}. Shift signed values by -qmin first."
        )
    rows, columns = q.shape
    n_bytes = -(-columns * bits // 8)
    q = torch.nn.functional.pad(q.to(torch.uint8), (0, -columns % 8))
    q = q.view(rows, -1, 8)  # [rows, eights, 8]: eight values fill exactly `bits` bytes
    packed = torch.zeros(rows, q.shape[1], bits, dtype=torch.uint8, device=q.device)
    for i in range(8):
        byte, shift = divmod(i * bits, 8)
        packed[:, :, byte] |= q[:, :, i] << shift
        if shift + bits > 8:  # the value straddles two bytes
            packed[:, :, byte + 1] |= q[:, :, i] >> (8 - shift)
    return packed.view(rows, -1)[:, :n_bytes].contiguous()


def unpack(packed: torch.Tensor, bits: int, in_features: int) -> torch.Tensor:
    """Take the integers out again: the inverse of `pack`.

    packed: [rows, ceil(in_features * bits / 8)] uint8.
    bits: 1 to 8.
    in_features: columns of the result.
    Returns [rows, in_features] uint8.
    Raises InputError where the width does not match.

    >>> unpack(torch.tensor([[33, 3]], dtype=torch.uint8), 4, 3).tolist()
    [[1, 2, 3]]
    """
    require_int("bits", bits, 1, 8)
    rows, n_bytes = packed.shape
    if n_bytes != -(-in_features * bits // 8):
        raise InputError(
            f"packed has {n_bytes} bytes a row; {in_features} values of {bits} bits take "
            f"{-(-in_features * bits // 8)}."
        )
    packed = torch.nn.functional.pad(packed, (0, -n_bytes % bits)).view(rows, -1, bits)
    q = torch.empty(rows, packed.shape[1], 8, dtype=torch.uint8, device=packed.device)
    for i in range(8):
        byte, shift = divmod(i * bits, 8)
        value = packed[:, :, byte] >> shift
        if shift + bits > 8:
            value = value | (packed[:, :, byte + 1] << (8 - shift))
        q[:, :, i] = value & (2**bits - 1)
    return q.view(rows, -1)[:, :in_features].contiguous()
