"""Rotate the residual stream, and its outliers vanish: the same function in other coordinates.

A handful of channels of a language model's hidden state are tens of times larger than the rest, and
whoever rounds a token with one step for all channels pays for it. SmoothQuant moves that trouble
into the weights. QuaRot (Ashkboos et al. 2024, arXiv 2404.00456) makes it disappear: turn the whole
hidden space by an orthogonal matrix R that spreads every channel evenly over all of them. A vector
keeps its length, but what stood in one channel now stands, 1 / sqrt(n) as large, in each of n.

Nothing has to be computed for it while the model runs. All that is ever done with the hidden state
x is (a) a matrix reads it, (b) a matrix adds to it, (c) an RMS norm divides it by its length:

- readers: W x = (W R)(Rᵀ x), so q, k, v, gate, up and the head become W R;
- writers: Rᵀ(x + W y) = Rᵀ x + (Rᵀ W) y, so o and down become Rᵀ W, and the embedding E R;
- an RMS norm does not change a length by turning it, once its own weights are folded into the
  matrices that read it. (A LayerNorm subtracts the mean first: not the same after turning.)

Embedding and head must be two matrices then, because only the head takes up the last norm's
weights: a tied model gets larger by one vocabulary matrix. SpinQuant (arXiv 2405.16406) learns R;
here it is random signs, a Hadamard matrix for the largest power of two in n, and a cosine transform
for what is left (576 = 64 * 9). QuaRot also turns what is inside attention and MLP, for which a
small Hadamard transform has to run with the model; that part is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.linalg import hadamard
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.invariance import ResidualStream, residual_stream, untie
from shrinkkit.surgery.parts import clone
from shrinkkit.surgery.running import evaluating, probe_tokens, require_same
from shrinkkit.surgery.step import Step


def rotation_matrix(size: int, seed: int = 0) -> torch.Tensor:
    """Return an orthogonal matrix that spreads each coordinate evenly over all of them.

    R = diag(signs) (C kron H): H the Hadamard matrix of the largest power of two that divides
    size, C the cosine transform (DCT-II) of the rest, signs random.

    size: 1 or more; seed: of the signs.
    Returns [size, size] float64, R Rᵀ = 1; for a power of two every entry is +-1 / sqrt(size).

    >>> rotation_matrix(4).abs().unique().tolist()
    [0.5]
    """
    require_int("size", size, 1)
    require_int("seed", seed, 0)
    power = size & -size
    rest = size // power
    k = torch.arange(rest, dtype=torch.float64)
    cosine = torch.cos(torch.pi / rest * (k[None] + 0.5) * k[:, None]) * (2 / rest) ** 0.5
    cosine[0] /= 2**0.5
    even = torch.from_numpy(hadamard(power, dtype=float)) / power**0.5
    signs = torch.randint(2, (size,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    return signs.double()[:, None] * torch.kron(cosine, even)


@dataclass(frozen=True)
class Rotate(Step):
    """Turn the hidden space by `rotation_matrix`; seed: of its signs."""

    needs_text: ClassVar[bool] = False

    seed: int = 0

    def __post_init__(self) -> None:
        require_int("seed", self.seed, 0)

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Rotate a model; see `Step.apply`."""
        return rotate(model, self.seed, inplace=inplace)


@torch.no_grad()
def rotate(model: nn.Module, seed: int = 0, *, inplace: bool = False) -> nn.Module:
    """Turn a decoder's hidden space by `rotation_matrix`; its logits stay the same, to rounding.

    Ashkboos et al. 2024 (arXiv 2404.00456), section 4, stage 1a.

    model: a float decoder with RMS norms (Llama, Mistral, Qwen2).
    seed: of the rotation.
    inplace: change `model` itself; a copy is turned and compared first.
    Returns the rotated model, in eval mode, its embedding no longer tied to its head.
    Raises InputError for a compressed model, a family whose residual stream is not known, or one
    whose answers on some tokens were measured to change (Gemma's norms multiply by 1 + weight).
    """
    refuse_unfit(model)
    residual_stream(model)  # refuses what cannot be turned before anything is copied
    turned, tokens = clone(model), probe_tokens(model)
    _turn(turned, seed)
    with evaluating(model, turned):
        require_same(model, model(tokens)[0], turned(tokens)[0], "Turning the hidden space")
    if not inplace:
        return turned.eval()
    untie(model)
    model.load_state_dict(turned.state_dict(), assign=True)
    return model.eval()


def _turn(model: nn.Module, seed: int) -> None:
    """Turn a model's hidden space, in place, trusting the names of its parts."""
    untie(model)
    stream = residual_stream(model)
    _fold_norms(stream)
    size = stream.embedding.weight.shape[1]
    turn = rotation_matrix(size, seed)
    stream.embedding.weight.copy_(stream.embedding.weight.double() @ turn)
    for reader in stream.readers():
        reader.weight.copy_(reader.weight.double() @ turn)
    for writer in stream.writers:
        writer.weight.copy_(turn.t() @ writer.weight.double())
        if writer.bias is not None:
            writer.bias.copy_(turn.t() @ writer.bias.double())


def _fold_norms(stream: ResidualStream) -> None:
    """Multiply each norm's weights into the columns of what reads it, and set them to 1."""
    for norm, readers in stream.norms:
        for reader in readers:
            reader.weight.copy_(reader.weight.double() * norm.weight.double())
        norm.weight.fill_(1.0)


def outlier_ratio(x: torch.Tensor) -> float:
    """Return how far the largest channel stands out: its RMS over the RMS of all channels.

    x: [..., channels]; 1 where all channels are equally large, sqrt(channels) where only one is
    not zero.

    >>> outlier_ratio(torch.tensor([[3.0, 0.0, 0.0, 0.0]]))
    2.0
    """
    if x.ndim < 1 or x.numel() == 0:
        raise InputError(f"x has shape {tuple(x.shape)}; give activations [..., channels].")
    power = x.reshape(-1, x.shape[-1]).double().square().mean(dim=0)  # [channels]
    return (power.max() / power.mean()).sqrt().item()
