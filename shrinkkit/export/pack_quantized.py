"""One packed layer in the words of the compressed-tensors format, exactly.

A layer of the kind `pack-quantized` is four tensors:

- `weight_packed` [out, ceil(in * bits / 32)] int32: the integers as a stream of bits along each
  row, the first in the lowest bits. That is the order of `packing.pack`, read four bytes at a time.
- `weight_scale` [out, n_groups]: at the precision that we store.
- `weight_zero_point` [ceil(out * bits / 32), n_groups] int32: packed along the *rows*, for
  asymmetric grids only.
- `weight_shape` [2]: packing leaves the number of columns open.

The format's integers are signed (-8 to 7 at 4 bits). Ours are unsigned where the grid is asymmetric
(0 to 15), so both q and zero_point move down by 2**(bits - 1), which their difference does not see.

What the format has no words for is spelled out in words that it has: one scale a tensor as one a
row, a short last group as smaller groups, scales of 4 to 8 bits as bfloat16. A grid with a code
table (NF4) and layers that round their activations are refused.
"""

from __future__ import annotations

import math

import torch

from shrinkkit.errors import InputError
from shrinkkit.quant import QuantizedLinear, W8A8Linear, expand, pack
from shrinkkit.quant.layers.ordered import OrderedLinear

Scheme = tuple[int, bool, int | None]  # bits, symmetric, group_size (None: one scale a row)


def pack_int32(q: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack signed integers into 32-bit words along each row, the first in the lowest bits.

    q: [rows, columns] integer; values -2**(bits - 1) to 2**(bits - 1) - 1.
    bits: 1 to 8.
    Returns [rows, ceil(columns * bits / 32)] int32; a value may straddle two words.
    Raises InputError where a value does not fit.

    >>> pack_int32(torch.tensor([[-7, -6, -5, -8]]), 4)  # 1, 2, 3, 0 after the shift by 8
    tensor([[801]], dtype=torch.int32)
    """
    packed = pack(q.short() + 2 ** (bits - 1), bits)  # [rows, bytes]
    packed = torch.nn.functional.pad(packed, (0, -packed.shape[1] % 4))
    return packed.flatten().view(torch.int32).view(len(q), -1)


def scheme_of(layer: QuantizedLinear, name: str = "this layer") -> Scheme:
    """Return a layer's grid in the format's words: (bits, symmetric, group_size).

    layer: a quantized layer; name: for the message of an error.
    Returns group_size None for one scale a row; else a size that divides the row.
    Raises InputError for a code table, for a layer that rounds its activations, and for one whose
    groups are not runs of columns.

    >>> from torch import nn
    >>> from shrinkkit.quant import int_format
    >>> scheme_of(QuantizedLinear.from_linear(nn.Linear(96, 32), int_format(4, group_size=64)))
    (4, False, 32)
    """
    fmt = layer.format
    if fmt.code is not None:
        raise InputError(
            f"{name} is on the grid {fmt}, whose steps are not even; pack-quantized knows integer "
            "grids only. Quantize with int_format(4, group_size=64), or write floats with "
            "dequantize_model(model).save_pretrained(folder)."
        )
    if isinstance(layer, OrderedLinear):
        raise InputError(
            f"{name} has groups of columns that do not lie side by side (act-order), which this "
            "export does not write. Keep the model with save(), or write floats with "
            "dequantize_model(model).save_pretrained(folder)."
        )
    if isinstance(layer, W8A8Linear):
        raise InputError(
            f"{name} rounds its activations too, which this export does not write. Quantize the "
            "weights alone with quantize_model(model, bits=8), or keep the model with save()."
        )
    if fmt.granularity != "per_group":
        return fmt.bits, fmt.symmetric, None
    columns = fmt.columns_per_scale(layer.in_features)
    return fmt.bits, fmt.symmetric, math.gcd(columns, layer.in_features)


def compressed_state(layer: QuantizedLinear, scheme: Scheme) -> dict[str, torch.Tensor]:
    """Return a layer's tensors in the pack-quantized format.

    layer: a quantized layer with an integer grid.
    scheme: of `scheme_of`, or with a group_size that divides that one.
    Returns {weight_packed, weight_scale, weight_zero_point if any, weight_shape}, which decompress
    to exactly `layer.dequantize()`.

    >>> from torch import nn
    >>> from shrinkkit.quant import int_format
    >>> layer = QuantizedLinear.from_linear(nn.Linear(64, 32), int_format(4, group_size=32))
    >>> tensors = compressed_state(layer, scheme_of(layer))
    >>> {key: list(tensor.shape) for key, tensor in tensors.items()}
    {'weight_packed': [32, 8], 'weight_scale': [32, 2], 'weight_zero_point': [4, 2],
     'weight_shape': [2]}
    """
    fmt = layer.format
    q, scale, zero_point = (part.cpu() for part in layer.qparams())
    columns = scheme[2] or layer.in_features
    scale, zero_point = (  # [out, n_groups]: one a row, and groups that divide the row
        expand(part, layer.shape, fmt).expand(layer.shape)[:, ::columns]
        for part in (scale, zero_point)
    )
    offset = 0 if fmt.symmetric else 2 ** (fmt.bits - 1)
    tensors = {
        "weight_packed": pack_int32(q.short() - offset, fmt.bits),
        "weight_scale": scale.to(torch.float32 if fmt.scale_bits == 32 else torch.bfloat16),
    }
    if not fmt.symmetric:
        rows_last = zero_point.t().short() - offset  # [n_groups, out]
        tensors["weight_zero_point"] = pack_int32(rows_last, fmt.bits).t()
    tensors["weight_shape"] = torch.tensor(layer.shape)
    return {key: tensor.contiguous() for key, tensor in tensors.items()}
