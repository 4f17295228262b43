"""Draw what lesson 05 finds: inputs that go together, and what two weights make of that.

The lesson measures in its own cells; only the drawing is here. Each function takes plain tensors or
numbers and returns a `Drawing`, the figure and the same in words, for `plotting.show(*drawing)`.
`surgery_widget` lets the reader move two weights and the correlation of their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets as ipw
import torch

from shrinkkit.plotting import INK, MUTED, mark
from shrinkkit.widgets.drawing import Drawing, Explorer, new_axes

CORRELATIONS = tuple(round(i / 10, 1) for i in range(-9, 10))
WEIGHTS = tuple(round(0.1 * i, 1) for i in range(1, 10) if i != 5)


def correlations(hessian: torch.Tensor) -> torch.Tensor:
    """Divide each entry of a Hessian by the sizes of its two inputs: -1 to 1, the diagonal 0.

    hessian: [in, in]. Inputs that are always zero get 0.

    >>> correlations(torch.tensor([[4.0, 1.0], [1.0, 1.0]])).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    size = hessian.diagonal().sqrt()
    related = hessian / torch.outer(size, size).clamp(min=1e-12)
    return related.fill_diagonal_(0.0)


def draw_related(x: torch.Tensor, title: str) -> Drawing:
    """Draw the two inputs that go together most, and how related all pairs are.

    x: [n_tokens, in_features].
    """
    x = x.detach().float().cpu()
    related = correlations(x.T @ x)
    place = related.abs().argmax().item()
    a, b = divmod(place, x.shape[1])
    pairs = related[torch.triu_indices(*related.shape, offset=1).unbind()]
    figure, left = new_axes(8.4, 3.4)
    left.remove()
    left, right = figure.subplots(1, 2)
    look = mark(0)
    left.plot(x[:, a], x[:, b], look.marker, color=look.color, markersize=3, linestyle="",
              alpha=0.5)  # fmt: skip
    left.set_xlabel(f"input {a}")
    left.set_ylabel(f"input {b}")
    left.set_title(f"Two inputs, r = {related[a, b]:.2f}", fontsize=11)
    right.hist(pairs.numpy(), bins=61, color=mark(1).color)
    right.set_xlabel("correlation of a pair of inputs")
    right.set_ylabel("pairs")
    strong = (pairs.abs() > 0.2).float().mean().item()
    right.set_title(f"{strong:.0%} of all pairs beyond ± 0.2", fontsize=11)
    figure.suptitle(title, x=0.08, ha="left", fontweight="bold", fontsize=12.5)
    figure.subplots_adjust(wspace=0.34, top=0.8)
    return Drawing(
        figure,
        f"{title}. Left, a scatter chart of inputs {a} and {b} over {len(x)} tokens, correlation "
        f"{related[a, b]:.2f}. Right, a histogram of the correlations of {len(pairs):,} pairs: "
        f"{strong:.0%} of them are beyond 0.2 in size.",
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


def surgery_widget() -> ipw.VBox:
    """Explore two weights: move them and the correlation of their inputs, and compare errors."""
    wide = {"description_width": "8em"}

    def slider(name: str, options: Sequence[float], value: float) -> ipw.SelectionSlider:
        return ipw.SelectionSlider(
            options=[(f"{option:g}", option) for option in options],
            value=value,
            description=name,
            style=wide,
            continuous_update=False,
        )

    return Explorer(
        {
            "first": slider("first weight", WEIGHTS, 0.4),
            "second": slider("second weight", WEIGHTS, 0.4),
            "correlation": slider("correlation", CORRELATIONS, 0.8),
        },
        draw_two_weights,
    )
