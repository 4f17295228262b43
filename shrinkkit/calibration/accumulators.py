"""What a method collects of a layer's inputs while text goes by: a Hessian, or maxima."""

from __future__ import annotations

import torch

from shrinkkit.errors import InputError


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

    def add(self, x: torch.Tensor) -> None:
        """Add inputs x [..., in_features]."""
        x = _as_rows(x)
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
    """Collect the largest magnitude of each input channel, call by call; nothing else is kept.

    >>> maxima = Maxima()
    >>> maxima.add(torch.tensor([[1.0, -4.0], [-3.0, 2.0]]))
    >>> maxima.value
    tensor([3., 4.])
    """

    def __init__(self) -> None:
        self.value: torch.Tensor | None = None

    def add(self, x: torch.Tensor) -> None:
        """Take notice of inputs x [..., in_features]."""
        top = x.reshape(-1, x.shape[-1]).abs().amax(dim=0).float()
        self.value = top if self.value is None else torch.maximum(self.value, top)


def _as_rows(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, x.shape[-1]).float()  # [n, in_features]
