"""Draw what lesson 07 talks about: a staircase, what its gradient is taken for, what it brings.

`draw_staircase` shows rounding as a function of one weight, its true derivative and the one that
the straight-through estimator puts in its place. `draw_step_gradient` shows how one weight pulls
at the step of its grid (LSQ). `draw_methods` is the lesson's closing figure. Each returns a
`Drawing`, the figure and the same in words, for `show(*drawing)`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from shrinkkit.figures.drawing import Drawing, Explorer, new_axes, slider
from shrinkkit.figures.style import mark
from shrinkkit.figures.tradeoff import Spot, tradeoff
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.qat.straight_through import fake_quantize_ste, lsq_gradient_scale, lsq_quantize


def _signed(bits: int) -> tuple[Format, torch.Tensor]:
    """Return the signed grid of so many bits, -2 to 1 for two, and its zero point."""
    fmt = Format(bits, False, "per_channel", scale_bits=32)
    return fmt, torch.tensor([[2 ** (bits - 1)]], dtype=torch.int32)


def draw_staircase(scale: float = 0.5, bits: int = 2) -> Drawing:
    """Draw rounding over one weight from -2 to 2, and below it both derivatives.

    scale: the step, above 0; bits: 2 to 8.

    >>> draw_staircase(0.5, 2).words[:57]
    'Two panels over a weight from -2 to 2. Above, rounding to'
    """
    fmt, zero = _signed(bits)
    w = torch.linspace(-2, 2, 1601)[None].requires_grad_()
    y = fake_quantize_ste(w, torch.tensor([[float(scale)]]), zero, fmt)
    y.sum().backward()
    across, rounded = w.detach()[0].tolist(), y.detach()[0].tolist()
    low, high = -(2 ** (bits - 1)) * scale, (2 ** (bits - 1) - 1) * scale
    figure, (above, below) = new_axes(7.6, 4.6, 2, 1, sharex=True, height_ratios=(3, 2))
    real, taken = mark(0), mark(1)
    plain = {"marker": "", "linewidth": 2.0}
    above.plot(across, rounded, color=real.color, linestyle="-", label="rounded", **plain)
    above.plot(
        [-2, low, high, 2], [low, low, high, high], color=taken.color, linestyle="--", **plain,
        label="clipped only: what backward sees",
    )  # fmt: skip
    above.set_ylabel("weight used")
    above.set_title(f"Rounding to {2**bits} levels, {scale:g} apart")
    above.legend(loc="upper left", fontsize=9)
    below.plot([-2, 2], [0, 0], color=real.color, linestyle="-", label="true: 0", **plain)
    below.plot(
        across, w.grad[0].tolist(), color=taken.color, linestyle="--", **plain,
        label="straight-through",
    )  # fmt: skip
    below.set_ylim(-0.2, 1.75)
    below.set_yticks([0, 1])
    below.set_ylabel("derivative")
    below.set_xlabel("weight")
    below.legend(loc="upper left", ncols=2, fontsize=9)
    figure.subplots_adjust(hspace=0.12)
    return Drawing(
        figure,
        f"Two panels over a weight from -2 to 2. Above, rounding to {2**bits} levels {scale:g} "
        f"apart, a staircase from {low:g} to {high:g}, and dashed the straight line that only "
        "clips. Below, the derivative: 0 for the staircase; the straight-through one is 1 from "
        f"{low:g} to {high:g} and 0 outside.",
    )


def draw_step_gradient(bits: int = 2) -> Drawing:
    """Draw how much rounded weights change with the step, over weight / step (LSQ, figure 2).

    >>> draw_step_gradient(2).words[:49]
    'Line chart of d rounded / d scale against weight '
    """
    fmt, zero = _signed(bits)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    places = torch.linspace(low - 1.5, high + 1.5, 1201)[:, None]  # one weight a row: [n, 1]
    scale = torch.ones_like(places).requires_grad_()
    lsq_quantize(places, scale, zero.expand_as(places), fmt).sum().backward()
    slope = (scale.grad / lsq_gradient_scale((1, 1), fmt))[:, 0].tolist()
    figure, ax = new_axes(7.6, 3.4)
    look = mark(2)
    ax.plot(places[:, 0].tolist(), slope, color=look.color, linestyle="-", marker="", linewidth=2.0)
    for end in (low, high):
        ax.axvline(end, color=mark(3).color, linestyle=":", marker="")
    ax.text(low, high + 0.35, " qmin", ha="left")
    ax.text(high, high + 0.35, "qmax ", ha="right")
    ax.set_ylim(low - 0.4, high + 0.8)
    ax.set_xlabel("weight / step")
    ax.set_ylabel("d rounded / d step")
    ax.set_title(f"One weight's pull at its step, {bits} bits")
    return Drawing(
        figure,
        f"Line chart of d rounded / d scale against weight / step, {bits} bits. Below {low} it is "
        f"{low}, above {high} it is {high}; between them a saw that falls from 0.5 to -0.5 on each "
        "step and jumps up half-way between two levels.",
    )


def staircase_widget() -> Explorer:
    """Explore the staircase: move the step and the bits, and watch where learning stops."""
    steps = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
    parts = {"scale": slider("step", steps, 0.5), "bits": slider("bits", (2, 3, 4), 2)}
    return Explorer(parts, draw_staircase)


def draw_methods(
    points: Mapping[str, tuple[str, float, float]], reference: float, text: str
) -> Drawing:
    """Draw perplexity, logarithmic, against bits per weight, a look for each family of methods.

    points: {label: (family, bits per weight, perplexity)}.
    reference: fp32's perplexity, a dashed line.
    text: what the perplexity was measured on, for the axis.
    Raises InputError for nothing to draw.
    """
    figure, _ = tradeoff(
        (Spot(bits, value, label, family) for label, (family, bits, value) in points.items()),
        title="Few bits: rounding, choosing, training",
        xlabel="bits per weight, scales counted",
        ylabel=f"perplexity on {text}, logarithmic",
        reference=reference,
        legend=True,
    )
    listed = "; ".join(
        f"{name} ({family}) {bits:.2f} bits, {value:.1f}"
        for name, (family, bits, value) in points.items()
    )
    return Drawing(
        figure,
        f"Scatter chart of perplexity on {text}, logarithmic, against bits per weight, with a "
        f"dashed line at fp32's {reference:.1f}. {listed}.",
    )
