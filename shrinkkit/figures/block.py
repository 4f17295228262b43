"""Draw one block of a Llama-style transformer: what stands where, its shapes and its parameters.

Everything is read from the shapes of the block's own weights, so that the figure is right for any
model of the family. The text runs from top to bottom along the residual stream, the thick line on
the left; each half of the block takes a copy of it, works on it from left to right, and adds its
result back to the line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from shrinkkit.errors import InputError, require_int
from shrinkkit.figures.drawing import Drawing, new_axes
from shrinkkit.figures.style import INK, MUTED, mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shapes = Mapping[str, Sequence[int]]

NORMS = ("input_layernorm", "post_attention_layernorm")
ATTENTION = {name: f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")}
FEED_FORWARD = {name: f"mlp.{name}_proj" for name in ("gate", "up", "down")}
STREAM = 1.0  # where the residual stream runs, in the figure's own units
HALVES = (8.3, 3.2)  # heights of the middle of the two halves
BOX = 1.3  # height of a box
BACK = 2.55  # how far below its middle a half's result goes back


def draw_block(shapes: Shapes, head_dim: int, n_blocks: int = 1) -> Drawing:
    """Draw a block's two halves, attention and feed-forward, around the residual stream.

    shapes: {name of a weight in the block: its shape}, as
        `{name: weight.shape for name, weight in block.named_parameters()}`.
    head_dim: numbers in one attention head, to count the heads.
    n_blocks: how many such blocks the model has, for the title.
    Returns the figure and its description.
    Raises InputError for a block that has other parts.
    """
    sizes = _sizes(shapes)
    hidden, wide = sizes["mlp.down_proj"]
    n_query, n_kv = (
        sizes[ATTENTION[name]][0] // require_int("head_dim", head_dim, 1) for name in "qk"
    )
    total = sum(map(prod, sizes.values()))
    figure, ax = new_axes(10.4, 6.6)
    ax.set(xlim=(-0.2, 14.6), ylim=(-0.9, 11.4))
    ax.axis("off")
    ax.set_title(f"One of {n_blocks} blocks: {total:,} parameters")
    ax.plot([STREAM, STREAM], [11.2, -0.6], color=INK, lw=4, ls="-", marker="", zorder=1)
    ax.text(4.8, 10.95, "in each box: outputs × inputs of the matrix, and how many weights that is",
            va="center", fontsize=9, color=MUTED)  # fmt: skip
    ax.text(STREAM - 0.6, 5.6, f"residual stream: {hidden} numbers for each token", rotation=90,
            ha="center", va="center")  # fmt: skip
    _half(ax, HALVES[0], sizes, NORMS[0], [ATTENTION[name] for name in "qkv"], ATTENTION["o"],
          f"attention\n{n_query} query and\n{n_kv} key-value\nheads of {head_dim}")  # fmt: skip
    _half(ax, HALVES[1], sizes, NORMS[1], [FEED_FORWARD[name] for name in ("gate", "up")],
          FEED_FORWARD["down"], f"silu(gate) × up\n{wide:,} numbers")  # fmt: skip
    listed = "; ".join(f"{_short(name)} {_said(size)}" for name, size in sizes.items())
    return Drawing(
        figure,
        f"Diagram of one of {n_blocks} blocks, {total:,} parameters. A thick line, the residual "
        f"stream of {hidden} numbers for each token, runs from top to bottom. The first half: "
        f"norm, then q, k and v, attention with {n_query} query and {n_kv} key-value heads of "
        f"{head_dim}, o, added back to the line. The second half: norm, then gate and up, "
        f"silu(gate) times up, down, added back. Weights, outputs by inputs: {listed}.",
    )


def _sizes(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parts that are drawn, by the parts' names."""
    wanted = (NORMS[0], *ATTENTION.values(), NORMS[1], *FEED_FORWARD.values())
    given = {name.removesuffix(".weight"): tuple(shape) for name, shape in shapes.items()}
    if set(given) != set(wanted):
        raise InputError(
            f"shapes names {', '.join(sorted(given)) or 'nothing'}; a block that can be drawn has "
            f"a weight and no bias for each of {', '.join(wanted)}."
        )
    return {name: given[name] for name in wanted}


def _half(
    ax: Axes,
    middle: float,
    sizes: Shapes,
    norm: str,
    first: Sequence[str],
    last: str,
    between: str,
) -> None:
    """Draw one half: stream, norm, the first matrices side by side, what joins them, the last."""
    _arrow(ax, (STREAM, middle), (2.0, middle))
    _box(ax, 2.0, middle, 1.9, norm, sizes[norm], 2)
    for number, name in enumerate(first):
        height = middle + 1.5 * ((len(first) - 1) / 2 - number)
        _arrow(ax, (3.9, middle), (4.8, height))
        _box(ax, 4.8, height, 2.6, name, sizes[name], 0)
        _arrow(ax, (7.4, height), (8.3, middle + 0.3 * ((len(first) - 1) / 2 - number)))
    tall = 2.3 if between.count("\n") > 2 else 1.5
    ax.add_patch(_patch(8.3, middle, 2.5, tall, "white", INK))
    ax.text(9.55, middle, between, ha="center", va="center", fontsize=9.5)
    _arrow(ax, (10.8, middle), (11.6, middle))
    _box(ax, 11.6, middle, 2.6, last, sizes[last], 0)
    back = middle - BACK
    ax.plot([12.9, 12.9], [middle - BOX / 2, back], color=INK, lw=1.3, ls="-", marker="")
    _arrow(ax, (12.9, back), (STREAM + 0.28, back))
    ring = {"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": INK}
    ax.text(STREAM, back, "+", ha="center", va="center", fontsize=14, bbox=ring)


def _box(
    ax: Axes, left: float, middle: float, width: float, name: str, size: Sequence[int], look: int
) -> None:
    ax.add_patch(_patch(left, middle, width, BOX, "white", mark(look).color))
    across = left + width / 2
    ax.text(across, middle + 0.33, _short(name), ha="center", va="center", fontweight="bold")
    said = f"{' × '.join(f'{n:,}' for n in size)}"
    ax.text(across, middle - 0.04, said, ha="center", va="center", fontsize=9)
    if len(size) > 1:
        ax.text(across, middle - 0.38, f"{prod(size):,}", ha="center", va="center", fontsize=9,
                color=MUTED)  # fmt: skip


def _patch(left: float, middle: float, width: float, height: float, face: str, edge: str):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (left, middle - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=face,
        edgecolor=edge,
        linewidth=1.6,
        zorder=2,
    )


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    how = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, xytext=start, arrowprops=how, zorder=1)


def _short(name: str) -> str:
    """Name a part as the lessons do.

    >>> _short("self_attn.q_proj"), _short("input_layernorm")
    ('q', 'norm')
    """
    return "norm" if name in NORMS else name.rpartition(".")[2].removesuffix("_proj")


def _said(size: Sequence[int]) -> str:
    """Write a shape and its parameters.

    >>> _said((192, 576)), _said((576,))
    ('192 by 576 = 110,592', '576')
    """
    shape = " by ".join(f"{n}" for n in size)
    return f"{shape} = {prod(size):,}" if len(size) > 1 else shape
