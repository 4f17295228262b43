"""Draw what lesson 05 finds: inputs that go together, and what two weights make of that.

The lesson measures in its own cells; only the drawing is here. Each function takes plain tensors or
numbers and returns a `Drawing`, the figure and the same in words, for `show(*drawing)`.
`surgery_widget` lets the reader move two weights and the correlation of their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from shrinkkit.figures.drawing import Drawing, Explorer, new_axes, slider
from shrinkkit.figures.style import INK, MUTED, mark

CORRELATIONS = tuple(round(i / 10, 1) for i in range(-9, 10))
WEIGHTS = tuple(round(0.1 * i, 1) for i in range(1, 10) if i != 5)


def left_of_an_error(x: torch.Tensor, damping: float = 1e-3) -> torch.Tensor:
    """Give the share of a weight's error that is left once all other weights have answered.

    With H the damped Hessian of the inputs: an error at weight p costs H[p, p] / 2 if the others
    stay, and 1 / (2 inverse[p, p]) if they answer in the best way; this is the second divided by
    the first. 1 for an input that the others say nothing about.

    x: [n_tokens, in]. Returns [in], from 0 to 1.

    >>> left_of_an_error(torch.eye(2)).tolist()
    [1.0, 1.0]
    """
    hessian = 2 / len(x) * x.double().T @ x.double()
    hessian += damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=hessian.dtype)
    inverse = torch.linalg.inv(hessian)
    return (1 / (hessian.diagonal() * inverse.diagonal())).float()


def draw_related(x: torch.Tensor, title: str) -> Drawing:
    """Draw the two inputs that go together most, and how far all inputs stand in for each other.

    Two inputs go together as far as the one is a multiple of the other, so the pair is the one with
    the largest cosine a·b / (|a| |b|), as the Hessian has it: means are not taken off.

    x: [n_tokens, in_features].
    """
    x = x.detach().float().cpu()
    products = x.T @ x
    size = products.diagonal().sqrt()
    cosines = (products / (size[:, None] * size)).nan_to_num(0.0).fill_diagonal_(0.0)
    a, b = divmod(cosines.abs().argmax().item(), x.shape[1])
    left_over = left_of_an_error(x)
    figure, (left, right) = new_axes(8.4, 3.4, 1, 2)
    look = mark(0)
    left.plot(x[:, a], x[:, b], look.marker, color=look.color, markersize=3, linestyle="",
              alpha=0.5)  # fmt: skip
    slope = (products[a, b] / products[a, a]).item()  # of the multiple that comes closest
    left.axline((0, 0), slope=slope, color=INK, linestyle=":", marker="", linewidth=1.4)
    left.plot([0], [0], "+", color=INK, markersize=9)
    left.set_xlabel(f"input {a}")
    left.set_ylabel(f"input {b}")
    left.set_title(f"Two inputs, cosine {cosines[a, b]:.2f}", fontsize=11)
    right.hist(left_over.numpy(), bins=40, range=(0, 1), color=mark(1).color)
    right.set_xlabel("left of an error, if all others answer")
    right.set_ylabel("inputs")
    right.set_title(f"Of an error, {left_over.median():.0%} is left (median)", fontsize=11)
    figure.suptitle(title, x=0.08, ha="left", fontweight="bold", fontsize=12.5)
    figure.subplots_adjust(wspace=0.34, top=0.8)
    return Drawing(
        figure,
        f"{title}. Left, a scatter chart of inputs {a} and {b} over {len(x):,} tokens, cosine "
        f"{cosines[a, b]:.2f}, around a dotted line through the origin, where {b} is "
        f"{slope:.2f} times {a}. Right, a histogram over {x.shape[1]} inputs of the share of a "
        f"weight's error that is left once all other weights have answered: "
        f"{left_over.min():.0%} to {left_over.max():.0%}, median {left_over.median():.0%}.",
    )


def round_two(w: Sequence[float], correlation: float) -> dict[str, tuple[float, float]]:
    """Round two weights to integers: to nearest, by GPTQ, and the best of all pairs.

    correlation: of their inputs, which are equally large.
    Returns {way: (first, second)}.

    >>> round_two((0.4, 0.4), 0.8)
    {'rounding': (0.0, 0.0), 'GPTQ': (0.0, 1.0), 'best': (0.0, 1.0)}
    """
    first = float(round(w[0]))
    second = float(round(w[1] + (w[0] - first) * correlation))
    around = [(float(i), float(j)) for i in range(-2, 4) for j in range(-2, 4)]
    return {
        "rounding": (first, float(round(w[1]))),
        "GPTQ": (first, second),
        "best": min(around, key=lambda q: _error(w, q, correlation)),
    }


def _error(w: Sequence[float], q: Sequence[float], correlation: float) -> float:
    a, b = w[0] - q[0], w[1] - q[1]
    return a * a + b * b + 2 * correlation * a * b


def draw_two_weights(first: float, second: float, correlation: float) -> Drawing:
    """Draw the output error over two weights as rings, and where three ways of rounding end.

    first, second: the weights, from 0 to 1; the grid is the integers.
    correlation: of their inputs, -1 to 1.
    """
    w = first, second
    found = round_two(w, correlation)
    figure, ax = new_axes(6.4, 5.0)
    figure.set_layout_engine("constrained")  # one size for every slider position: nothing jumps
    line = torch.linspace(-0.7, 1.7, 121)
    grid_x, grid_y = torch.meshgrid(line, line, indexing="xy")
    a, b = first - grid_x, second - grid_y
    error = a**2 + b**2 + 2 * correlation * a * b
    rings = ax.contour(line, line, error, levels=[0.05, 0.15, 0.3, 0.6, 1.0, 1.6], colors=MUTED,
                       linewidths=0.9)  # fmt: skip
    ax.clabel(rings, fontsize=8, fmt="%g")
    lattice = [(i, j) for i in (0, 1) for j in (0, 1)]
    ax.plot(*zip(*lattice, strict=True), "o", color=INK, markersize=4, linestyle="")
    ax.plot([first], [second], "*", color=INK, markersize=14, linestyle="", label="the weights")
    middle = second + (first - found["GPTQ"][0]) * correlation
    steps = [w, (found["GPTQ"][0], middle), found["GPTQ"]]
    ax.plot(*zip(*steps, strict=True), ":", color=mark(1).color, marker="", linewidth=1.8)
    for number, (name, size) in enumerate((("rounding", 17), ("GPTQ", 12))):
        look = mark(number)
        ax.plot(*[[value] for value in found[name]], look.marker, color=look.color,
                markersize=size, markerfacecolor="none", markeredgewidth=2.2, linestyle="",
                label=f"{name}: error {_error(w, found[name], correlation):.2f}")  # fmt: skip
    ax.set_xlim(-0.7, 1.7)
    ax.set_ylim(-0.7, 1.7)
    ax.set_aspect("equal")
    ax.grid(visible=False)
    ax.set_xlabel("first weight")
    ax.set_ylabel("second weight")
    ax.set_title(f"Rings of equal output error, inputs correlated {correlation:+.1f}")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    costs = {name: _error(w, q, correlation) for name, q in found.items()}
    listed = ", ".join(
        f"{name} gives ({q[0]:g}, {q[1]:g}) with error {costs[name]:.2f}"
        for name, q in found.items()
    )
    return Drawing(
        figure,
        f"Rings of equal output error around the weights ({first:g}, {second:g}), four points of "
        f"the integer grid among them. With inputs correlated {correlation:+.1f}, {listed}.",
    )


def surgery_widget() -> Explorer:
    """Explore two weights: move them and the correlation of their inputs, and compare errors."""
    parts = {
        "first": slider("first weight", WEIGHTS, 0.4),
        "second": slider("second weight", WEIGHTS, 0.4),
        "correlation": slider("correlation", CORRELATIONS, 0.8),
    }
    return Explorer(parts, draw_two_weights)
