"""The integers of published GPTQ and AWQ checkpoints: words of 32 bits, and how they are filled.

Both formats store a layer's weight as unsigned integers `bits` wide, packed into int32 words, with
one scale and one zero point a group of input columns, and mean the same by them:

    weight[o, j] = scale[o, g] * (q[o, j] - zero_point[o, g]),    g the group of column j

They differ in which way the words run. GPTQ (AutoGPTQ, GPTQModel) packs along the input: one word
holds 8 columns of one output, the first in the lowest bits. It is one stream of bits, so that a
3-bit integer may begin in one word and end in the next. AWQ (AutoAWQ's `gemm`) packs along the
output: one word holds 8 outputs of one column, in the order 0, 2, 4, 6, 1, 3, 5, 7 that its GPU
kernel unpacks fastest. Both store their matrices with the input first, and so turned over from
ours.

GPTQ's zero points have a history. The first format stores `zero_point - 1`, so that a zero point
of 0 is stored as -1. Some writers let that -1 borrow from its neighbours in the word, others
spilled ones over them, and some readers take it for 2**bits. What GPTQModel wrote can be read for
certain; whatever else holds a stored -1 is refused. The second format, gptq_v2, stores
what it means. (GPTQModel subtracts 0x11111111 from whole words of 4-bit zero points, and adds it
again; with 3 bits it subtracts from each zero point by itself, modulo 8.)

Sources: AutoGPTQ `qlinear_cuda_old.py` (pack), GPTQModel `qlinear/torch.py` and `utils/model.py`
(convert_gptq_v1_to_v2_format), AutoAWQ `modules/linear/gemm.py` and `utils/packing_utils.py`.
Production readers keep the words as they are, or shuffle them once for their kernel (Marlin,
ExLlama).
"""

from __future__ import annotations

import torch

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.packing import unpack

WORD = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # place in the word -> column

AS_IT_IS = "as it is"
ONE_LESS = "one less"
ONE_LESS_WRAPPED = "one less, wrapped"  # by GPTQModel, which can undo it


def unpack_words(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Take the integers out of rows of 32-bit words, the first in the lowest bits.

    words: [rows, n_words] int32, each row one stream of bits.
    bits: 1 to 8; n_words * 32 must be a multiple of it.
    Returns [rows, n_words * 32 / bits] uint8.

    >>> unpack_words(torch.tensor([[0x76543210]], dtype=torch.int32), 4).tolist()
    [[0, 1, 2, 3, 4, 5, 6, 7]]
    """
    stream = words.contiguous().view(-1).view(torch.uint8)  # the lowest byte of a word first
    return unpack(stream.view(len(words), -1), bits, words.shape[1] * WORD // bits)


def gptq_integers(qweight: torch.Tensor, bits: int) -> torch.Tensor:
    """Return a GPTQ layer's integers.

    qweight: [in_features * bits / 32, out_features] int32.
    Returns q [out_features, in_features] uint8.

    >>> gptq_integers(torch.tensor([[1 + 15 * 16, 2]], dtype=torch.int32), 4)[:, :3].tolist()
    [[1, 15, 0], [2, 0, 0]]
    """
    return unpack_words(qweight.t(), bits)


def gptq_zero_points(qzeros: torch.Tensor, bits: int, stored: str) -> torch.Tensor:
    """Return a GPTQ layer's zero points.

    qzeros: [n_groups, out_features * bits / 32] int32.
    stored: AS_IT_IS (gptq_v2), ONE_LESS (gptq), or ONE_LESS_WRAPPED (gptq, by GPTQModel).
    Returns zero_point [out_features, n_groups] int32, 0 to 2**bits - 1.
    Raises InputError for ONE_LESS with a stored -1, which tools read in different ways.

    >>> gptq_zero_points(torch.tensor([[0x76543210]], dtype=torch.int32), 4, ONE_LESS)[:3].tolist()
    [[1], [2], [3]]
    """
    if stored == ONE_LESS_WRAPPED and WORD % bits == 0:  # whole words, with a borrow inside them
        one_in_each = sum(1 << place for place in range(0, WORD, bits))  # 0x11111111 for 4 bits
        qzeros, stored = _wrapped(qzeros.long() + one_in_each), AS_IT_IS
    fields = unpack_words(qzeros, bits).t()  # [out_features, n_groups]
    if stored == ONE_LESS and bool((fields == 2**bits - 1).any()):
        raise InputError(
            "it has a zero point of 0, which the format gptq (v1) stores as -1, and tools disagree "
            "on what that does to its neighbours. Convert it to gptq_v2 with the tool that wrote "
            "it."
        )
    if stored != AS_IT_IS:
        fields = (fields + 1) & (2**bits - 1)
    return fields.to(torch.int32).contiguous()


def _wrapped(words: torch.Tensor) -> torch.Tensor:
    """Return the lowest 32 bits of int64 numbers as int32 words."""
    words = words & (2**WORD - 1)
    return torch.where(words < 2 ** (WORD - 1), words, words - 2**WORD).to(torch.int32)


def awq_columns(words: torch.Tensor) -> torch.Tensor:
    """Take 4-bit integers out of AWQ's words, and put them into their order.

    words: [rows, n_columns / 8] int32; place i of a word holds its column AWQ_ORDER[i].
    Returns [rows, n_columns] uint8.

    >>> awq_columns(torch.tensor([[0x75316420]], dtype=torch.int32)).tolist()
    [[0, 1, 2, 3, 4, 5, 6, 7]]
    """
    places = unpack_words(words, 4).view(words.shape[0], -1, len(AWQ_ORDER))
    of_column = [AWQ_ORDER.index(column) for column in range(len(AWQ_ORDER))]
    return places[..., of_column].flatten(1)


def awq_integers(qweight: torch.Tensor) -> torch.Tensor:
    """Return an AWQ layer's integers: qweight [in, out / 8] int32 -> q [out, in] uint8."""
    return awq_columns(qweight).t().contiguous()


def awq_zero_points(qzeros: torch.Tensor) -> torch.Tensor:
    """Return an AWQ layer's zero points: qzeros [n_groups, out / 8] int32 -> [out, n_groups]."""
    return awq_columns(qzeros).t().to(torch.int32).contiguous()
