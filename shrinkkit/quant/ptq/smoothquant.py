"""SmoothQuant: move what is hard about activations into the weights, where it is easy.

Activations are hard to round because a few input channels are far larger than the rest, the same
ones for every token, so that one step for a whole token wastes its 255 levels on them. Weights
have no such channels. And a product does not care who is large:

    x @ W.T  =  (x / s) @ (W * s).T        for any s > 0, one value an input channel

SmoothQuant (Xiao et al. 2023, arXiv 2211.10438) divides every channel by

    s_j = max|x_j| ** alpha / max|W_j| ** (1 - alpha)

where max|x_j| comes from a little calibration text and max|W_j| from the column j of every layer
that reads x (q, k and v; gate and up). At alpha = 1 all channels of x become equally large and the
weights get all of the trouble; at alpha = 0 the other way round; between them the largest products
are shared out. Nothing has to divide while the model runs: s is folded into the norm that makes x
(its weights are divided by s), or into v_proj and up_proj, which feed o_proj and down_proj through
nothing but a sum and a product. The float model computes the same function afterwards, to rounding.

It costs two passes over the calibration text, block by block. `alpha="search"` tries seven values
on some of its tokens and keeps, for each group, the one whose rounded output is nearest to the
float output.
Where no norm can take s up (BERT adds its norms' output to the residual, too), production tools
divide x inside the layer; this package leaves such a group alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import linear

from shrinkkit.calibration import Block, Maxima, Rows, Several, Walk, free_groups
from shrinkkit.errors import InputError
from shrinkkit.quant.ptq.activations import QMAX, quantize_activations, require_inputs
from shrinkkit.surgery.fitness import refuse_unfit
from shrinkkit.surgery.invariance import NormGroup, rescale
from shrinkkit.surgery.matrices import matrix
from shrinkkit.surgery.parts import clone, decoder_blocks
from shrinkkit.surgery.running import (
    check_tokens,
    check_vocabulary,
    device_of,
    evaluating,
    require_same,
)
from shrinkkit.surgery.step import Step

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # what a search tries, beside leaving as it is
SEARCH_TOKENS = 128  # tokens of a group that a search looks at


def smoothing_scale(x_max: torch.Tensor, w_max: torch.Tensor, alpha: float = 0.5) -> torch.Tensor:
    """Share the size of each channel out between activations and weights.

    Xiao et al. 2023 (arXiv 2211.10438), equation 4: s = x_max ** alpha / w_max ** (1 - alpha).
    A channel that is dead in the activations or in the weights has nothing to share: s = 1.

    x_max: [channels]; largest magnitude of each input channel on the calibration text.
    w_max: [channels]; largest magnitude of the same column in all layers that read it.
    alpha: 0 to 1; how much of the difficulty goes into the weights.
    Returns s [channels] float32, above 0: x is divided by it, columns are multiplied.
    Raises InputError for an alpha outside 0 to 1, and for lengths that differ.

    >>> smoothing_scale(torch.tensor([16.0, 1.0, 0.0]), torch.tensor([1.0, 4.0, 2.0]))
    tensor([4.0000, 0.5000, 1.0000])
    """
    alpha = _alpha(alpha)
    if x_max.shape != w_max.shape:
        raise InputError(
            f"x_max has shape {list(x_max.shape)} and w_max {list(w_max.shape)}: give one value "
            "for each input channel in both."
        )
    x_max, w_max = x_max.float(), w_max.float()
    scale = x_max.pow(alpha) / w_max.pow(1 - alpha)
    alive = (x_max > 0) & (w_max > 0) & torch.isfinite(scale) & (scale > 0)
    return torch.where(alive, scale, torch.ones_like(scale))


@dataclass(frozen=True)
class SmoothQuant(Step):
    """Rescale a float model so that its activations round better (`smooth`).

    alpha: 0 to 1 for all groups, or "search": the best of ALPHAS for each group.

    >>> print(SmoothQuant(alpha="search"))
    SmoothQuant(alpha='search')
    """

    alpha: float | str = 0.5

    def __post_init__(self) -> None:
        if self.alpha != "search":
            _alpha(self.alpha)

    def apply(
        self, model: nn.Module, text: torch.Tensor | None, reference: nn.Module, *, inplace: bool
    ) -> nn.Module:
        """Smooth a model; see `Step.apply`."""
        return smooth(model, text, self.alpha, inplace=inplace)


def smooth(
    model: nn.Module,
    calibration: torch.Tensor,
    alpha: float | str = 0.5,
    *,
    inplace: bool = False,
) -> nn.Module:
    """Rescale a float model so that its activations round better; it computes the same function.

    model: a float transformers model of a family that `invariance.norm_groups` knows.
    calibration: windows [n_samples, seq_len] of token ids.
    alpha: 0 to 1 for all groups, or "search": the best of ALPHAS for each group.
    inplace: change `model` itself instead of a copy.
    Returns the smoothed model, in eval mode and in float.
    Raises InputError: a compressed model, an unknown family, bad alpha or calibration, inputs or
        weights that are not finite, or a block in which nothing was measured to be free to rescale.
    """
    if alpha != "search":
        alpha = _alpha(alpha)
    calibration = check_tokens(calibration)
    refuse_unfit(model)
    check_vocabulary("the model", model, calibration)
    decoder_blocks(model)  # refuses a model without one stack before anything is copied
    if not inplace:
        model = clone(model)
    per_window = max(1, SEARCH_TOKENS // len(calibration)) if alpha == "search" else 0
    with evaluating(model):
        probe = calibration[:1, :32].to(device_of(model))
        before = model(probe)[0]
        walk = Walk(model, calibration, batch_size=1, label="smoothing")
        for block in walk:
            found = _watched(block, walk, per_window)
            walk.advance(block)  # unchanged: smoothing would move the last bits of what follows
            for group, maxima, rows in found:
                _smooth_group(block.module, group, maxima, rows, alpha)
        require_same(model, before, model(probe)[0], "Smoothing")
    return model.eval()


def _watched(
    block: Block, walk: Walk, per_window: int
) -> list[tuple[NormGroup, torch.Tensor, Rows]]:
    """Return what can be smoothed in a block, with the maxima and some rows of its input."""
    seen = {}
    for observed in walk.observe(block, lambda _: Several(Maxima(), Rows(per_window))):
        maxima, rows = observed.seen.parts
        if maxima.value is None:
            continue  # no token of these windows came by: nothing to share out
        require_inputs(f"{block.name}.{observed.names[0]}", maxima)
        seen |= dict.fromkeys(observed.names, (maxima.value, rows))
    free = free_groups(block, walk, lambda group: set(group.consumers) <= set(seen))
    return [(group, *seen[group.consumers[0]]) for group in free]


def smooth_quantize(
    model: nn.Module,
    calibration: torch.Tensor,
    alpha: float | str = 0.5,
    *,
    activations: str = "per_token",
    head_bits: int | None = 8,
    inplace: bool = False,
) -> nn.Module:
    """Smooth a model, then round its weights and activations to 8 bits: SmoothQuant's W8A8.

    model, calibration, alpha: as for `smooth`.
    activations, head_bits: as for `quantize_activations`.
    Returns the quantized model, in eval mode. Raises InputError as the two do.
    """
    smoothed = smooth(model, calibration, alpha, inplace=inplace)
    return quantize_activations(
        smoothed, activations, calibration, head_bits=head_bits, inplace=True
    )


def _alpha(alpha: float) -> float:
    number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
    if not number or not 0 <= alpha <= 1:
        raise InputError(
            f"alpha must be a number from 0 to 1, or 'search', but {alpha!r} was given."
        )
    return float(alpha)


def _smooth_group(
    block: nn.Module, group: NormGroup, maxima: torch.Tensor, rows: Rows, alpha: float | str
) -> None:
    """Fold one group's scale into its source and its consumers, in place."""
    weights = [matrix(block.get_submodule(name)) for name in group.consumers]
    x_max = group.channels(maxima)
    w_max = torch.stack([group.channels(w.abs().amax(dim=0)) for w in weights]).amax(dim=0)
    if alpha == "search":
        scales = [torch.ones_like(x_max), *(smoothing_scale(x_max, w_max, a) for a in ALPHAS)]
        columns = [group.columns(scale) for scale in scales]
        errors = output_errors(rows.value(), weights, columns)
        scale = scales[errors.index(min(errors))]
    else:
        scale = smoothing_scale(x_max, w_max, alpha)
    rescale(block, group, scale)


def output_errors(
    x: torch.Tensor, weights: list[torch.Tensor], scales: list[torch.Tensor]
) -> list[float]:
    """Return, for each scale, the squared output error of a group's layers, smoothed and rounded.

    x: [n_tokens, columns]; weights: each [out, columns]; scales: each [columns].
    """
    exact = [linear(x, weight.float()) for weight in weights]
    errors = []
    for scale in scales:
        rounded = _round_rows(x / scale)
        parts = [
            linear(rounded, _round_rows(weight.float() * scale)).sub_(y).square_().sum().item()
            for weight, y in zip(weights, exact, strict=True)
        ]
        errors.append(sum(parts))
    return errors


def _round_rows(rows: torch.Tensor) -> torch.Tensor:
    """Round each row (a token, or a row of a weight) to its own 255 levels; changes `rows`."""
    step = rows.abs().amax(dim=1, keepdim=True).div_(QMAX).clamp_(min=1e-30)
    return rows.div_(step).round_().mul_(step)
