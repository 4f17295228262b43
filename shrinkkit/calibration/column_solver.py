"""Optimal brain surgery: change one weight, and let the others make up for it.

A linear layer computes y = W x. Rounding one weight of a row, or removing it, changes y; the other
weights of the row can be moved a little so that, on the inputs the layer really sees, most of the
change is undone. How inputs go together is all that is needed for it, and that is the Hessian of
the squared output error, H = 2/n * sum of x xᵀ (the same for every row of W).

LeCun's optimal brain damage (1989) looked at the diagonal of H; Hassibi and Stork's surgeon (1993)
at all of it: fixing weight p to a new value costs (w_p - q_p)² / (2 [H⁻¹]_pp), and the best move of
all other weights is -(w_p - q_p) / [H⁻¹]_pp * H⁻¹[:, p]. Doing this for one weight after another in
the order of the columns needs the inverse of a smaller and smaller H each time. Two observations
make it affordable for a whole network (GPTQ, Frantar et al. 2023, arXiv 2210.17323):

1. all rows can go through the columns in the same order, so they share the inverses;
2. every one of these inverses stands in one Cholesky factor: with H⁻¹ = UᵀU, U upper triangular,
   row p of U is what is needed when columns 0..p-1 are settled already.

The loop below is that: settle a column, push its error to the columns on its right. `settle` says
how a column is settled: rounding gives GPTQ, zeroing some weights gives SparseGPT (arXiv
2301.00774). Errors to columns beyond the current block of columns are collected and applied in one
matrix product, which changes nothing but the speed.

It costs n³/3 operations for the factor and out * in² for the updates: SmolLM2's 210 matrices take
about a minute on two cores. Production tools run the same loop on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from shrinkkit.errors import InputError, require_finite, require_int

# settle(column, index) -> what the column becomes; both [out_features] float32
Settle = Callable[[torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class Factor:
    """The upper Cholesky factor of the inverse Hessian, and what it took to get it.

    upper: [in, in] float32, H⁻¹ = upperᵀ @ upper.
    damping: fraction of the mean diagonal that was added to the diagonal.
    dead: [in] bool; inputs that were always zero.
    note: empty, or what had to be done beyond the damping that was asked for.
    """

    upper: torch.Tensor
    damping: float
    dead: torch.Tensor
    note: str = ""


def check_damping(damping: float) -> None:
    """Raise InputError unless damping is a number from 0 to 1."""
    if not (isinstance(damping, (int, float)) and 0 <= damping <= 1):
        raise InputError(f"damping must be from 0 to 1, but {damping!r} was given.")


def inverse_factor(
    hessian: torch.Tensor, damping: float = 0.01, order: torch.Tensor | None = None
) -> Factor:
    """Damp a Hessian, invert it and factor the inverse.

    Frantar et al. 2023 (arXiv 2210.17323), section 3.3, step 3. `damping` times the mean of the
    diagonal is added to the diagonal, which keeps the inverse tame in directions that the
    calibration text never used. A dead input (its diagonal is zero) gets a 1 there: its weights do
    not matter and must not disturb the others.

    hessian: [in, in], symmetric, finite.
    damping: from 0 to 1.
    order: [in] integer; the inputs in another order, in which their columns will be settled.
    Returns a Factor, in that order. Where the damped Hessian is still not positive definite (too
    little calibration text for so many inputs, with damping 0, say), the damping is raised tenfold
    until it is, and `note` says so.
    Raises InputError for a matrix that is not square, not finite, or that no damping mends.

    >>> factor = inverse_factor(torch.diag(torch.tensor([4.0, 1.0])), damping=0.0)
    >>> factor.upper.diagonal().tolist()  # of the inverse, diag(1/4, 1)
    [0.5, 1.0]
    """
    if hessian.ndim != 2 or hessian.shape[0] != hessian.shape[1]:
        raise InputError(f"hessian has shape {tuple(hessian.shape)}; a square one is needed.")
    check_damping(damping)
    require_finite("hessian", hessian)
    order = torch.arange(len(hessian), device=hessian.device) if order is None else order
    diagonal = hessian.diagonal().float()[order]  # a copy
    dead = diagonal == 0
    diagonal[dead] = 1.0
    mean = diagonal[~dead].mean().item() if bool((~dead).any()) else 1.0
    tried = []
    now = float(damping)
    while now <= 1.0:
        upper = _upper_factor(_in_order(hessian, order), diagonal + now * mean)
        if upper is not None:
            note = ""
            if tried:
                note = (
                    f"the Hessian was not positive definite with damping {damping:g}; "
                    f"{now:g} was used. More calibration text makes this unnecessary."
                )
            return Factor(upper, now, dead, note)
        tried.append(now)
        now = max(now * 10, 1e-4)
    raise InputError(
        f"The Hessian could not be factored with damping {', '.join(f'{d:g}' for d in tried)}. Its "
        f"diagonal goes from {diagonal.min().item():.3g} to {diagonal.max().item():.3g}: are the "
        "calibration inputs real activations?"
    )


def _in_order(hessian: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return a copy with rows and columns in an order, without a third matrix in between."""
    hessian = hessian.float().index_select(0, order)
    for rows in hessian.split(256):
        rows.copy_(rows.index_select(1, order))
    return hessian


def _upper_factor(hessian: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor | None:
    """Factor the inverse of the Hessian with another diagonal; None where that cannot be done.

    Each step overwrites the one before it, the first the Hessian: for 5,632 inputs a matrix is
    127 MB.
    """
    # transposed, which changes nothing here, because LAPACK works in place on columns alone
    now = hessian.t()
    now.diagonal().copy_(diagonal)
    failed = torch.empty((), dtype=torch.int32, device=now.device)
    torch.linalg.cholesky_ex(now, out=(now, failed))  # lower
    if bool(failed):
        return None
    torch.cholesky_inverse(now, out=now)
    torch.linalg.cholesky_ex(now, upper=True, out=(now, failed))
    return now if not bool(failed) and bool(torch.isfinite(now).all()) else None


def settle_columns(
    weight: torch.Tensor,
    upper: torch.Tensor,
    settle: Settle,
    *,
    block_size: int = 128,
    before_block: Callable[[torch.Tensor, int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Settle the columns from left to right, each error pushed to the columns on its right.

    Frantar et al. 2023 (arXiv 2210.17323), algorithm 1. For column i, with q = settle(w_i):
    error_i = (w_i - q) / upper[i, i], and w_j -= error_i * upper[i, j] for every j > i.

    weight: [out, in]; it is not changed.
    upper: [in, in], of `inverse_factor`.
    settle: (column [out], its index) -> [out]; called once for each column, in order.
    block_size: columns whose errors are collected before the columns beyond are updated; any
        value gives the same result up to rounding.
    before_block: called with (weights [out, in] as they stand now, first column) when a block
        begins: the moment at which a method may choose scales from up-to-date weights.
    Returns (settled [out, in], error [out, in]): half the sum of error² is the increase of the
    squared output error, 1/2 (w - q) H (w - q)ᵀ, exactly.
    """
    require_int("block_size", block_size, 1)
    in_features = weight.shape[1]
    if upper.shape != (in_features, in_features):
        raise InputError(
            f"upper has shape {tuple(upper.shape)}; a weight with {in_features} columns needs "
            f"[{in_features}, {in_features}]."
        )
    weight = weight.float().clone()
    # columns as rows: what the inner loop touches lies side by side in memory
    settled, error = torch.empty(2, in_features, weight.shape[0], device=weight.device)
    for first in range(0, in_features, block_size):
        last = min(first + block_size, in_features)
        if before_block is not None:
            before_block(weight, first)
        block = weight[:, first:last].t().contiguous()  # [block, out]
        corner = upper[first:last, first:last]
        sizes = corner.diagonal().tolist()
        rows = zip(block.unbind(), error[first:last].unbind(), corner.unbind(), strict=True)
        for i, (column, off, factors) in enumerate(rows):
            q = settle(column, first + i)
            settled[first + i] = q
            torch.sub(column, q, out=off).div_(sizes[i])
            if i + 1 < last - first:
                block[i + 1 :].addr_(factors[i + 1 :], off, alpha=-1.0)
        errors = error[first:last].t()
        weight[:, last:].addmm_(errors, upper[first:last, last:], alpha=-1.0)
    return settled.t(), error.t()
