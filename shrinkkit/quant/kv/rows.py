"""Round keys and values to packed integers: the mathematics of a quantized key-value cache.

Attention keeps a key and a value of `head_dim` numbers for every token, layer and key-value head.
They are rounded as weights are, real = scale * (q - zero_point), and the one question is which
numbers share a scale (KIVI, Liu et al. 2024, arXiv 2402.02750, section 3.2):

- **keys per channel.** A few channels of the keys are large at every token. So a scale belongs to
  one channel and covers `group_size` neighbouring tokens: a large channel coarsens itself alone.
- **values per token.** Attention adds up the values of a few tokens, so one token's error should
  stay its own: a scale belongs to one token and covers `group_size` neighbouring channels. A number
  that stands out still coarsens its neighbours; `mix` spreads it over all channels first (a
  rotation, QuaRot, Ashkboos et al. 2024, arXiv 2404.00456), and the same call turns it back.

Both are rows of numbers after `to_rows`, which puts what shares a scale side by side. `round_rows`
does the rest: it rounds each group of a row, packs the integers and keeps a 16-bit scale and an
8-bit zero point for each group.

The zero point may lie outside the grid, unlike a weight's. All numbers of a large channel can lie
between 5 and 9, and a grid that had to reach down to zero would waste half of its levels on the
gap. A group of 64 numbers at 4 bits takes 64 * 4 + 16 + 8 bits, 4.375 for each number.

Production kernels read the packed integers inside the attention kernel; here they are widened
before each attention call, which saves memory and costs time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from scipy.linalg import hadamard

from shrinkkit.errors import InputError, require_choice, require_finite, require_int
from shrinkkit.quant.grids.affine import repeat_each
from shrinkkit.quant.grids.packing import pack, unpack

ZERO_MIN, ZERO_MAX = -128, 127  # what a zero point of one byte can be
SCALE_BITS, ZERO_BITS = 16, 8
SHARED_BY = ("per_channel", "per_token")


@dataclass(frozen=True)
class PackedRows:
    """Rows of rounded numbers, stored as packed integers.

    codes: [batch, heads, rows, bytes] uint8; a row's integers, packed, q - qmin.
    scale: [batch, heads, rows, groups] bfloat16.
    zero_point: [batch, heads, rows, groups] int8.
    bits, columns, group_size: how to read them.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor
    bits: int
    columns: int
    group_size: int

    @property
    def nbytes(self) -> int:
        """Bytes that codes, scales and zero points take."""
        return self.codes.nbytes + self.scale.nbytes + self.zero_point.nbytes

    def tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> PackedRows:
        """Return the same with `change` applied to each of the three tensors."""
        return replace(
            self,
            codes=change(self.codes),
            scale=change(self.scale),
            zero_point=change(self.zero_point),
        )

    def append(self, other: PackedRows) -> PackedRows:
        """Return these rows followed by the rows of `other`, which has the same layout."""
        return replace(
            self,
            codes=torch.cat([self.codes, other.codes], dim=2),
            scale=torch.cat([self.scale, other.scale], dim=2),
            zero_point=torch.cat([self.zero_point, other.zero_point], dim=2),
        )

    def dequantize(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Return the real numbers, scale * (q - zero_point), [batch, heads, rows, columns]."""
        batch, heads, rows, n_bytes = self.codes.shape
        q = unpack(self.codes.reshape(-1, n_bytes), self.bits, self.columns)
        q = q.view(batch, heads, rows, self.columns)
        steps = self.zero_point.float() - _qmin(self.bits)  # the codes start at zero
        steps, scale = (
            repeat_each(part, self.group_size, self.columns) for part in (steps, self.scale.float())
        )
        return ((q - steps) * scale).to(dtype)


def _qmin(bits: int) -> int:
    """Smallest integer of the grid: 8 levels lie below zero at 4 bits, and 7 above."""
    return -(2 ** (bits - 1))


def choose_range(
    low: torch.Tensor, high: torch.Tensor, bits: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the scale and the zero point of groups that span from `low` to `high`.

    scale = the largest of (high - low) / (qmax - qmin), high / (qmax + 128), -low / (127 - qmin)
    zero_point = round(qmin - low / scale), from -128 to 127

    The first is the range over its steps. The other two matter only for a group that lies so far
    from zero that its zero point would not fit a byte: they reach out towards zero until it does.

    low, high: [...] float32, low <= high.
    bits: 2 to 8; q runs from qmin = -2**(bits-1) to qmax = 2**(bits-1) - 1.
    Returns scale [...] bfloat16 and zero_point [...] int8.

    >>> scale, zero_point = choose_range(torch.tensor([5.0]), torch.tensor([8.75]), bits=4)
    >>> scale.item(), zero_point.item()  # 15 steps of 0.25; q = -8 means 0.25 * (-8 + 28) = 5
    (0.25, -28)
    """
    require_int("bits", bits, 2, 8)
    qmin, qmax = _qmin(bits), -_qmin(bits) - 1
    scale = (high - low) / (qmax - qmin)
    scale = torch.maximum(scale, high / (qmax - ZERO_MIN))
    scale = torch.maximum(scale, -low / (ZERO_MAX - qmin))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    scale = scale.clamp(min=torch.finfo(torch.bfloat16).tiny).bfloat16()
    zero_point = (qmin - low / scale.float()).round().clamp(ZERO_MIN, ZERO_MAX)
    return scale, zero_point.to(torch.int8)


def round_rows(rows: torch.Tensor, bits: int, group_size: int) -> PackedRows:
    """Round numbers to the grids of their groups, and pack them.

    q = clamp(round(real / scale) + zero_point, qmin, qmax)

    rows: [batch, heads, rows, columns], finite; a group is `group_size` neighbours in a row, the
        last one may be shorter.
    bits: 2 to 8.
    Returns PackedRows. Raises InputError for bits out of range, NaN or infinity.

    >>> packed = round_rows(torch.tensor([[[[5.0, 6.3, 8.75]]]]), bits=4, group_size=4)
    >>> packed.dequantize().tolist(), packed.nbytes
    ([[[[5.0, 6.25, 8.75]]]], 5)
    """
    require_int("bits", bits, 2, 8)
    require_int("group_size", group_size, 1)
    require_finite("rows", rows)
    batch, heads, n_rows, columns = rows.shape
    rows = rows.float()
    size = min(group_size, columns)
    # A short last group repeats the row's last number, which changes neither end of its range.
    filled = torch.cat([rows, rows[..., -1:].expand(-1, -1, -1, -columns % size)], dim=-1)
    groups = filled.view(batch, heads, n_rows, -1, size)  # [batch, heads, rows, groups, size]
    scale, zero_point = choose_range(groups.amin(-1), groups.amax(-1), bits)
    q = (groups / scale.float()[..., None]).round() + zero_point.float()[..., None]
    q = q.clamp(_qmin(bits), -_qmin(bits) - 1) - _qmin(bits)  # from 0: what `pack` takes
    q = q.view(batch * heads * n_rows, -1)[:, :columns]
    codes = pack(q.to(torch.uint8), bits).view(batch, heads, n_rows, -1)
    return PackedRows(codes, scale, zero_point, bits, columns, size)


@cache
def _hadamard(size: int) -> torch.Tensor:
    """Build the symmetric Hadamard matrix of a power of two, scaled so that it is its inverse."""
    return torch.from_numpy(hadamard(size)).float() / size**0.5


def mix(states: torch.Tensor) -> torch.Tensor:
    """Spread every number over all channels; mixing twice gives the original back.

    mixed = states @ H, with H the Hadamard matrix / sqrt(size): one magnitude, H @ H = 1.
    The length of a vector stays as it is, and one that was concentrated in a channel is flat.

    states: [..., channels]; where channels is no power of two, runs of the largest power of two
        that divides it are mixed (80 channels: five runs of 16).
    Returns the same shape and dtype.

    >>> mix(torch.tensor([8.0, 0.0, 0.0, 0.0])).tolist()
    [4.0, 4.0, 4.0, 4.0]
    """
    channels = states.shape[-1]
    matrix = _hadamard(channels & -channels).to(states.device)
    runs = states.float().unflatten(-1, (-1, len(matrix)))
    return (runs @ matrix).flatten(-2).to(states.dtype)


def to_rows(states: torch.Tensor, granularity: str, group_size: int) -> torch.Tensor:
    """Lay out keys or values so that numbers which share a scale stand in one row.

    states: [batch, heads, tokens, head_dim]; for per_channel, tokens is a multiple of group_size.
    granularity: "per_token" (a row is a token) or "per_channel" (a row is one channel of
        group_size neighbouring tokens; all channels of the first tokens come first).
    Returns [batch, heads, rows, columns].

    >>> to_rows(torch.tensor([[[[1, 2], [3, 4]]]]), "per_channel", 2).tolist()
    [[[[1, 3], [2, 4]]]]
    """
    require_choice("granularity", granularity, SHARED_BY)
    if granularity == "per_token":
        return states
    batch, heads, tokens, head_dim = states.shape
    if tokens % group_size:
        raise InputError(
            f"states has {tokens} tokens, which is no multiple of group_size={group_size}: a scale "
            "per channel covers whole groups of tokens. Keep the rest in float until it is full."
        )
    states = states.reshape(batch, heads, -1, group_size, head_dim).transpose(3, 4)
    return states.reshape(batch, heads, -1, group_size)  # [batch, heads, groups * head_dim, size]


def from_rows(rows: torch.Tensor, granularity: str, head_dim: int) -> torch.Tensor:
    """Put rows back into the order of the tokens: the inverse of `to_rows`.

    rows: [batch, heads, rows, columns].
    Returns [batch, heads, tokens, head_dim].

    >>> from_rows(torch.tensor([[[[1, 3], [2, 4]]]]), "per_channel", head_dim=2).tolist()
    [[[[1, 2], [3, 4]]]]
    """
    require_choice("granularity", granularity, SHARED_BY)
    if granularity == "per_token":
        return rows
    batch, heads, _, group_size = rows.shape
    rows = rows.view(batch, heads, -1, head_dim, group_size).transpose(3, 4)
    return rows.reshape(batch, heads, -1, head_dim)
