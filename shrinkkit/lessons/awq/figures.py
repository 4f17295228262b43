"""Draw what lesson 06 finds: few channels that are used much, and what scaling one of them does.

The lesson measures in its own cells; only the drawing is here. Each function takes plain tensors or
numbers and returns a `Drawing`, the figure and the same in words, for `show(*drawing)`.
`scaling_widget` lets the reader scale one channel of a small layer whose numbers are made up.
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
from shrinkkit.quant import Format, fake_quantize

SCALES = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0)
SIZES = (1.0, 3.0, 10.0, 30.0)
LARGE = 5  # the channel of `sample_layer` that is used most
GRID = Format(3, True, "per_channel", scale_bits=32)


def draw_ranked(sizes: Mapping[str, torch.Tensor], title: str) -> Drawing:
    """Draw sizes from the largest down, each series divided by its median, both axes logarithmic.

    sizes: {what is measured: [channels]}.
    Raises InputError for nothing to draw.
    """
    require_some("sizes", sizes, "{name: sizes of the channels}")
    figure, ax = new_axes(7.4, 3.8)
    said = []
    for number, (name, values) in enumerate(sizes.items()):
        look = mark(number)
        values = values.detach().float().cpu()
        ranked = values.sort(descending=True).values / values.median()
        ranks = torch.arange(1, len(ranked) + 1)
        ax.plot(ranks, ranked, color=look.color, linestyle=look.linestyle, marker="", label=name)
        top = max(1, round(len(ranked) / 100))
        said.append(
            f"{name}: the largest is {ranked[0]:.3g} times the median, the first one per cent "
            f"({top}) reach down to {ranked[top - 1]:.3g} times, the last is {ranked[-1]:.3g} times"
        )
    ax.axvline(len(ranked) / 100, color=INK, linestyle=":", marker="", linewidth=1.2)
    ax.set_xscale("log")
    ax.set_yscale("log")
    log_ticks(ax.xaxis)
    log_ticks(ax.yaxis)
    ax.set_xlabel("channels, the largest first (logarithmic; dotted: the first 1 %)")
    ax.set_ylabel("size / median")
    ax.set_title(title)
    ax.legend(loc="upper right")
    return Drawing(figure, f"{title}. Two falling lines over ranked channels. {'; '.join(said)}.")


def sample_layer(size: float = 10.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Make up a small layer: inputs [64, 12] with one large channel, and a weight [8, 12].

    size: how many times larger channel 5 is than the others.

    >>> x, weight = sample_layer()
    >>> x.shape, weight.shape
    (torch.Size([64, 12]), torch.Size([8, 12]))
    """
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(64, 12, generator=generator)
    x[:, LARGE] *= size
    return x, torch.randn(8, 12, generator=generator)


def _error_of(weight: torch.Tensor, scale: float) -> torch.Tensor:
    """Return how far a weight [out, in] is off when its large column is scaled by `scale`."""
    s = torch.ones(weight.shape[1])
    s[LARGE] = scale
    return fake_quantize(weight * s, GRID) / s - weight


def _parts(x: torch.Tensor, off: torch.Tensor) -> torch.Tensor:
    """Return rms error of its weights times rms size of its input, of each channel [in]."""
    return off.pow(2).mean(dim=0).sqrt() * x.pow(2).mean(dim=0).sqrt()


def draw_scaling(scale: float, size: float = 10.0) -> Drawing:
    """Draw what each channel adds to the output error when one channel's weights are scaled.

    The y axis depends on size alone, so that figures of several scales can be compared.

    scale: what the large channel's column is multiplied by before rounding to 3 bits.
    size: how many times larger that channel's input is.
    Returns the figure and its words, which end with the error of the output.
    """
    x, weight = sample_layer(size)
    off = _error_of(weight, scale)
    parts = _parts(x, off)
    highest = max(_parts(x, _error_of(weight, s)).max().item() for s in {scale, *SCALES})
    error = ((x @ off.T).norm() / (x @ weight.T).norm()).item()
    figure, ax = new_axes(7.4, 3.4)
    figure.set_layout_engine("constrained")  # one size for every slider position: nothing jumps
    for number, chosen in ((0, False), (1, True)):
        look = mark(number)
        places = [i for i in range(len(parts)) if (i == LARGE) is chosen]
        ax.bar(places, parts[places], 0.7, color=look.color, hatch=look.hatch, edgecolor="white",
               label="the large channel" if chosen else "other channels")  # fmt: skip
    ax.set_ylim(0, 1.08 * highest)
    ax.set_xticks(range(len(parts)))
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("input channel")
    ax.set_ylabel("error × size of the input")
    ax.set_title(f"Column {LARGE} times {scale:g}: output error {error:.1%}", pad=24)
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.1)
    others = (parts.sum() - parts[LARGE]).item() / (len(parts) - 1)
    return Drawing(
        figure,
        f"A bar for each of {len(parts)} input channels: rms error of its weights times the size "
        f"of its input. Channel {LARGE}, {size:g} times larger than the others, stands at "
        f"{parts[LARGE]:.2f}, the others at {others:.2f} on average. With its column times "
        f"{scale:g} before rounding to 3 bits, the output is off by {error:.1%}.",
    )


def scaling_widget() -> Explorer:
    """Explore scaling: move the factor and the size of the large channel, and watch the error."""
    times = "× {:g}".format
    parts = {
        "scale": slider("its weights", SCALES, 1.0, times),
        "size": slider("its input", SIZES, 10.0, times),
    }
    return Explorer(parts, draw_scaling)
