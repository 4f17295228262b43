"""The keys, or the values, of one attention layer: a packed past and late tokens in float.

A lane is told how its numbers share scales, and does the rest: tokens arrive in float, are packed
when they need not wait any longer, are read back as float, and are forgotten from either end.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from shrinkkit.quant.kv.rows import PackedRows, from_rows, mix, round_rows, to_rows


class Lane:
    """The keys, or the values, of one layer: a packed past and a window of late tokens in float."""

    def __init__(
        self, bits: int, granularity: str, group_size: int, residual: int, mixed: bool
    ) -> None:
        self.bits, self.granularity, self.mixed = bits, granularity, mixed
        self.group_size, self.residual = group_size, residual
        self.packed: PackedRows | None = None
        self.window: torch.Tensor | None = None  # [batch, heads, late tokens, head_dim]

    @property
    def waits(self) -> bool:
        """Whether tokens wait for a whole group; else each is rounded as it arrives."""
        return self.granularity == "per_channel"

    @property
    def n_packed(self) -> int:
        """Tokens that are packed."""
        if self.packed is None:
            return 0
        rows = self.packed.codes.shape[2]
        return rows * self.group_size // self.window.shape[-1] if self.waits else rows

    def __len__(self) -> int:
        return 0 if self.window is None else self.n_packed + self.window.shape[2]

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales, zero points and the window."""
        packed = 0 if self.packed is None else self.packed.nbytes
        return packed + (0 if self.window is None else self.window.nbytes)

    def add(self, states: torch.Tensor) -> torch.Tensor:
        """Store new tokens [batch, heads, new, head_dim] and return all tokens, as float."""
        self.window = states if self.window is None else torch.cat([self.window, states], dim=2)
        if not self.waits:
            self.settle()
        everything = self.read()
        if self.waits:
            self.settle()
        return everything

    def settle(self) -> None:
        """Pack what need not stay in float: all but `residual` tokens, in whole groups."""
        ready = max(0, self.window.shape[2] - self.residual)
        ready -= ready % self.group_size if self.waits else 0
        if ready == 0:
            return
        states = self.window[:, :, :ready]
        states = mix(states) if self.mixed else states
        rows = to_rows(states, self.granularity, self.group_size)
        fresh = round_rows(rows, self.bits, self.group_size)
        self.packed = fresh if self.packed is None else self.packed.append(fresh)
        self.window = self.window[:, :, ready:].clone()  # a view would keep the old tokens alive

    def read(self) -> torch.Tensor:
        """Return all tokens as float, [batch, heads, tokens, head_dim]."""
        if self.packed is None:
            return self.window
        past = self.packed.dequantize()
        past = from_rows(past, self.granularity, self.window.shape[-1])
        past = mix(past) if self.mixed else past
        return torch.cat([past.to(self.window.dtype), self.window], dim=2)

    def keep_last(self, n: int) -> None:
        """Forget older tokens than the last `n`; keys leave in whole groups, so some more stay."""
        gone = min(max(0, len(self) - n), self.n_packed)
        gone -= gone % self.group_size if self.waits else 0
        if gone:
            rows = gone * self.window.shape[-1] // self.group_size if self.waits else gone
            left = self.packed.tensors(lambda x: x[:, :, rows:].clone())
            self.packed = left if left.codes.shape[2] else None
        if self.n_packed == 0 and not self.waits:
            self.window = self.window[:, :, -n:].clone() if n else self.window[:, :, :0]

    def change_batch(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Apply a function to every tensor's first dimension."""
        if self.window is not None:
            self.window = change(self.window)
        if self.packed is not None:
            self.packed = self.packed.tensors(change)

    def drop_last(self, n: int) -> None:
        """Forget the last `n` tokens; what is left of a broken group goes back to the window."""
        keep = max(0, len(self) - n)
        whole = min(keep, self.n_packed)
        whole -= whole % self.group_size if self.waits else 0
        late = self.read()[:, :, whole:keep].clone()
        if self.packed is not None:
            rows = whole * self.window.shape[-1] // self.group_size if self.waits else whole
            self.packed = self.packed.tensors(lambda x: x[:, :, :rows].clone()) if rows else None
        self.window = late
