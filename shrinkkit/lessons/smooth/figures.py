"""Draw what lesson 04 finds: channels that stick out, how smoothing levels them.

The lesson measures in its own cells; only the drawing is here. Each function takes plain tensors
or numbers and returns a `Drawing`, the figure and the same in words, for `show(*drawing)`.
`smoothing_widget` lets the reader move alpha over a small layer whose numbers are made up.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shrinkkit.figures.drawing import (
    Drawing,
    Explorer,
    log_ticks,
    new_axes,
    require_some,
    slider,
)
from shrinkkit.figures.style import INK, mark
from shrinkkit.quant.ptq.smoothquant import output_errors, smoothing_scale

ALPHAS = tuple(i / 20 for i in range(21))
LARGEST = (2.0, 5.0, 10.0, 30.0, 100.0)


def draw_channels(panels: Mapping[str, torch.Tensor], title: str) -> Drawing:
    """Draw the largest magnitude of each input channel, one panel below the other.

    panels: {what is measured: [channels]}, each with a scale of its own.
    Raises InputError for nothing to draw.
    """
    require_some("panels", panels, "{name: largest magnitudes}")
    height = 1.7 * len(panels) + 0.6
    figure, axes = new_axes(7.6, height, len(panels), 1, sharex=True, squeeze=False)
    said = []
    for number, (ax, (name, values)) in enumerate(zip(axes.flat, panels.items(), strict=True)):
        look = mark(number)
        values = values.detach().float().cpu()
        ax.vlines(range(len(values)), 0, values, color=look.color, linewidth=1.0)
        ratio = (values.max() / values.median()).item()
        ax.set_ylim(0, 1.15 * values.max().item())
        ax.set_xlim(-3, len(values) + 2)
        ax.set_title(f"{name}: the largest is {ratio:.1f} times the median", fontsize=11)
        ax.set_ylabel("max |value|")
        said.append(
            f"{name}: largest {values.max():.3g}, median {values.median():.3g}, ratio {ratio:.1f}"
        )
    axes[-1, 0].set_xlabel("input channel")
    figure.suptitle(title, x=0.12, ha="left", fontweight="bold", fontsize=12.5)
    figure.subplots_adjust(hspace=0.55, top=0.86 if len(panels) > 1 else 0.72)
    return Drawing(
        figure, f"{title}: a vertical line for each input channel, in {len(panels)} panels. "
        f"{'; '.join(said)}."
    )  # fmt: skip


def sample_layer(largest: float = 30.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Make up a small layer: activations [32, 16] with one large channel, and a weight [12, 16].

    largest: how many times larger channel 5 is than the others.

    >>> x, weight = sample_layer()
    >>> x.shape, weight.shape
    (torch.Size([32, 16]), torch.Size([12, 16]))
    """
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(32, 16, generator=generator)
    x[:, 5] *= largest
    return x, 0.2 * torch.randn(12, 16, generator=generator)


def draw_smoothing(x: torch.Tensor, weight: torch.Tensor, alpha: float) -> Drawing:
    """Draw each channel's largest magnitude in x and in the weight, smoothed at alpha.

    x: [n_tokens, channels]; weight: [out_features, channels].
    alpha: 0 to 1.
    Returns the figure and its words, which end with the output error after rounding to int8.

    >>> draw_smoothing(*sample_layer(), alpha=0.5).words.split(". ")[-1][:34]
    'At alpha 0.5 the output, both side'
    """
    x_max, w_max = x.abs().amax(dim=0), weight.abs().amax(dim=0)
    s = smoothing_scale(x_max, w_max, alpha)
    (squared,) = output_errors(x, [weight], [s])
    error = squared**0.5 / (x @ weight.T).norm().item()
    places = torch.arange(len(s)).float()
    figure, ax = new_axes(7.6, 3.2)
    figure.set_layout_engine("constrained")  # one size for every slider position: nothing jumps
    for shift, values, number, name in (
        (-0.12, x_max / s, 0, "activations / s"),
        (0.12, w_max * s, 1, "weight columns · s"),
    ):  # marks, not bars: a logarithmic axis has no zero for a bar to start from
        look = mark(number)
        ax.plot(places + shift, values, look.marker, color=look.color, label=name)
    ax.set_yscale("log")
    ax.set_ylim(0.03, 300)
    log_ticks(ax.yaxis)
    ax.grid(visible=False, axis="x")
    ax.set_xticks(places.tolist(), [str(i) for i in range(len(s))])
    ax.tick_params(axis="x", colors=INK)
    ax.set_xlabel("input channel")
    ax.set_ylabel("max |value|, logarithmic")
    ax.set_title(f"alpha = {alpha:g}: output error {error:.2%}", pad=24)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    return Drawing(
        figure,
        f"Two marks for each of {len(s)} input channels, logarithmic: the largest activation "
        f"divided by s, from {(x_max / s).min():.2g} to {(x_max / s).max():.3g}, and the largest "
        f"weight times s, from {(w_max * s).min():.2g} to {(w_max * s).max():.3g}. At alpha "
        f"{alpha:g} the output, both sides rounded to int8, is off by {error:.2%}.",
    )


def smoothing_widget() -> Explorer:
    """Explore smoothing: move alpha and the size of the large channel, and watch the error."""

    def draw(alpha: float, largest: float) -> Drawing:
        return draw_smoothing(*sample_layer(largest), alpha)

    parts = {
        "alpha": slider("alpha", ALPHAS, 0.0, "{:.2f}".format),
        "largest": slider("large channel", LARGEST, 30.0, "× {:g}".format),
    }
    return Explorer(parts, draw)
