"""What a method collects of a layer's inputs while text goes by: a Hessian, maxima, some rows.

An accumulator is anything with `add(x)`. `Walk.observe` makes one for each distinct input of a
block and feeds it batch by batch, so that the inputs themselves need not be kept.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.matrices import matrix


class Accumulator(Protocol):
    """Anything that wants to see a layer's inputs."""

    def add(self, x: torch.Tensor) -> None:
        """Take in inputs x [..., in_features]."""


class Several:
    """Let several accumulators watch one input.

    >>> both = Several(Maxima(), Maxima())
    >>> both.add(torch.tensor([[1.0, -2.0]]))
    >>> both.parts[1].value
    tensor([1., 2.])
    """

    def __init__(self, *parts: Accumulator) -> None:
        self.parts = parts

    def add(self, x: torch.Tensor) -> None:
        """Hand inputs x [..., in_features] to all parts."""
        for part in self.parts:
            part.add(x)


class Hessian:
    """Collect H = 2/n * sum of x xᵀ over the inputs of a layer, batch by batch.

    >>> hessian = Hessian(2)
    >>> hessian.add(torch.tensor([[1.0, 0.0], [1.0, 2.0]]))
    >>> hessian.value().tolist()
    [[2.0, 2.0], [2.0, 4.0]]
    """

    def __init__(self, in_features: int, device: torch.device | str = "cpu") -> None:
        self.total = torch.zeros(in_features, in_features, device=device)
        self.n = 0

    @classmethod
    def of(cls, layer: nn.Module) -> Hessian:
        """Make one for a linear layer's inputs, where the layer is."""
        weight = matrix(layer)
        return cls(weight.shape[1], weight.device)

    def add(self, x: torch.Tensor) -> None:
        """Add inputs x [..., in_features]."""
        x = x.reshape(-1, x.shape[-1]).float()  # [n, in_features]
        if x.shape[1] != self.total.shape[0]:
            raise InputError(
                f"x has {x.shape[1]} columns; this Hessian is of {self.total.shape[0]} inputs."
            )
        self.total.addmm_(x.t(), x)
        self.n += x.shape[0]

    def value(self) -> torch.Tensor:
        """Return H [in, in] float32; raises InputError before any input was added."""
        if self.n == 0:
            raise InputError(
                "The Hessian has seen no inputs: calibration is empty. Give at least one window."
            )
        return self.total * (2.0 / self.n)


class Maxima:
    """Collect the largest magnitude of each input channel; nothing else is kept.

    `value` is [in_features] float32, or None before any input came.

    >>> maxima = Maxima()
    >>> maxima.add(torch.tensor([[1.0, -4.0], [-3.0, 2.0]]))
    >>> maxima.value
    tensor([3., 4.])
    """

    def __init__(self) -> None:
        self.value: torch.Tensor | None = None

    def add(self, x: torch.Tensor) -> None:
        """Take notice of inputs x [..., in_features]."""
        if x.numel() == 0:
            return  # an expert to which no token of this batch went
        top = x.reshape(-1, x.shape[-1]).abs().amax(dim=0).float()
        self.value = top if self.value is None else torch.maximum(self.value, top)


class Rows:
    """Keep some tokens of each window, evenly spread; 0 keeps none.

    >>> rows = Rows(2)
    >>> rows.add(torch.arange(4.0).reshape(1, 4, 1))
    >>> rows.value().flatten().tolist()
    [1.0, 3.0]
    """

    def __init__(self, per_window: int) -> None:
        self.per_window = per_window
        self.kept: list[torch.Tensor] = []

    def add(self, x: torch.Tensor) -> None:
        """Keep rows of x [n_windows, seq_len, in_features]."""
        if not self.per_window:
            return
        every = max(1, x.shape[-2] // self.per_window)
        some = x[:, every - 1 :: every][:, : self.per_window]
        self.kept.append(some.reshape(-1, x.shape[-1]).float())

    def value(self) -> torch.Tensor:
        """Return the kept rows, [n, in_features] float32."""
        return torch.cat(self.kept)
