"""Draw what lesson 08 finds: how a key-value cache grows, which channels stand out, what bits buy.

The lesson measures in its own cells; only the drawing is here. Each `draw_*` returns a `Drawing`,
the figure and the same in words, for `show(*drawing)`. `kv_widget` lets a reader change
the model, the length of the texts and how many are read at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from shrinkkit.errors import require_choice
from shrinkkit.figures.drawing import Drawing, Explorer, menu, new_axes, require_some, slider
from shrinkkit.figures.style import INK, mark
from shrinkkit.figures.tradeoff import Spot, tradeoff
from shrinkkit.measure.kv import kv_cache_bytes_per_token

# Published configurations: parameters, layers, key-value heads, numbers in one key.
SHAPES = {
    "SmolLM2-135M": (134_515_008, 30, 3, 64),
    "TinyLlama-1.1B": (1_100_048_384, 22, 4, 64),
    "Mistral-7B": (7_241_732_096, 32, 8, 128),
    "Llama-2-7B": (6_738_415_616, 32, 32, 128),
}
PACKED_BITS = {16: 16.0, 8: 8.375, 4: 4.375, 2: 2.375}  # with a scale for 64 numbers
CONTEXTS = (256, 1024, 4096, 16_384, 65_536)
TEXTS = (1, 4, 16, 64)


def draw_growth(
    caches: Mapping[str, Sequence[tuple[int, float]]], model_mib: float, what: str
) -> Drawing:
    """Draw the size of caches over the tokens of each text, and the size of the model.

    caches: {name: [(tokens of each text, MiB), ...]}.
    model_mib: the model's weights in the same unit, a dotted line.
    what: the rest of the title.
    """
    require_some("caches", caches)
    figure, ax = new_axes(7.6, 4.0)
    said = []
    for number, (name, points) in enumerate(caches.items()):
        look = mark(number)
        across, up = zip(*points, strict=True)
        ax.plot(across, up, look.marker, ls=look.linestyle, color=look.color, label=name)
        said.append(f"{name} {up[0]:.3g} MiB at {across[0]:,} and {up[-1]:,.0f} at {across[-1]:,}")
    ax.axhline(model_mib, color=INK, ls=":", marker="", label=f"the model, {model_mib:,.0f} MiB")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(across, [f"{n:,}" for n in across])
    ax.set_xlabel("tokens of each text (logarithmic)")
    ax.set_ylabel("MiB (logarithmic)")
    ax.set_title(f"The cache grows, {what}")
    ax.legend(loc="upper left", fontsize=9.5)
    return Drawing(
        figure,
        "Line chart, both axes logarithmic, of cache size in MiB against tokens of each text. "
        f"{'; '.join(said)}. A dotted line marks the model at {model_mib:,.0f} MiB.",
    )


def draw_channels(keys: torch.Tensor, values: torch.Tensor, where: str) -> Drawing:
    """Draw how large each channel of the keys, and of the values, is on average.

    keys, values: [tokens, head_dim] of one key-value head.
    where: which layer and head, for the title.
    """
    figure, axes = new_axes(8.8, 3.4, 1, 2)
    said = []
    for number, (name, states) in enumerate((("keys", keys), ("values", values))):
        ax, look = axes[number], mark(number)
        size = states.detach().float().abs().mean(dim=0).cpu()  # [head_dim]
        ax.bar(range(len(size)), size, width=0.9, color=look.color)
        ax.set_xlabel(f"channel of the {name}")
        ax.grid(visible=False, axis="x")
        times = (size.max() / size.median()).item()
        ax.set_title(f"{name}: largest = {times:.1f} x median", fontsize=11)
        said.append(f"the largest {name} channel, {size.argmax()}, is {times:.1f} times the median")
    axes[0].set_ylabel("mean magnitude")
    figure.suptitle(where, x=0.02, ha="left", fontweight="bold")
    figure.tight_layout()
    return Drawing(
        figure,
        f"Two bar charts of the mean magnitude of each of {keys.shape[1]} channels, {where}: "
        f"{said[0]}; {said[1]}.",
    )


def draw_sawtooth(points: Mapping[str, Sequence[tuple[int, float]]], wanted: float) -> Drawing:
    """Draw how many times smaller each cache is than one of 16 bits, over the tokens it holds.

    points: {cache: [(tokens, times smaller), ...]}; wanted: the dotted line.
    """
    require_some("points", points)
    figure, ax = new_axes(7.6, 3.6)
    said = []
    for number, (name, line) in enumerate(points.items()):
        look = mark(number)
        across, up = zip(*line, strict=True)
        ax.plot(across, up, ls=look.linestyle, marker="", color=look.color, label=name)
        said.append(f"{name} from {min(up):.2f} to {max(up):.2f}, {up[-1]:.2f} at {across[-1]:,}")
    ax.axhline(wanted, color=INK, ls=":", marker="", label=f"{wanted:g} times")
    ax.set_xlabel("tokens in the cache")
    ax.set_ylabel("times smaller than 16 bits")
    ax.set_title("Keys wait for a whole group, so the saving rises in teeth")
    ax.legend(loc="lower right", fontsize=9.5)
    return Drawing(
        figure,
        "Line chart of how many times smaller a cache is than one of 16 bits, against tokens, with "
        f"teeth where groups of keys fill up. {'; '.join(said)}. A dotted line marks {wanted:g}.",
    )


def draw_bits(points: Mapping[str, tuple[float, float]], reference: float) -> Drawing:
    """Draw perplexity against the bytes that one token takes in the cache, joined in order.

    points: {label: (KiB a token, perplexity)}; reference: perplexity with a cache in float.
    """
    figure, _ = tradeoff(
        (Spot(x, y, label) for label, (x, y) in points.items()),
        title=f"What each bit buys (dashed: cache in float, {reference:.1f})",
        xlabel="KiB of cache for each token, scales and late keys counted",
        ylabel="perplexity (logarithmic)",
        reference=reference,
        joined=True,
    )
    listed = ", ".join(f"{label} {x:.1f} KiB {y:.2f}" for label, (x, y) in points.items())
    return Drawing(
        figure,
        f"Line chart of perplexity, logarithmic, against KiB of cache for each token. {listed}. "
        f"A dashed line marks a cache in float at {reference:.2f}.",
    )


def draw_serving(model: str, context: int, texts: int, bits: int) -> Drawing:
    """Draw the memory of a model in 16 bits beside that of its cache.

    model: one of SHAPES; context: tokens of each text; texts: read at once; bits: of the cache.

    >>> draw_serving("Mistral-7B", 4096, 16, 16).words.split(". ")[-1]
    'The cache takes 0.6 times the memory of the model.'
    """
    n_parameters, *shape = SHAPES[require_choice("model", model, SHAPES)]
    weights = 2 * n_parameters / 2**30
    cache = kv_cache_bytes_per_token(*shape, PACKED_BITS[bits]) * context * texts / 2**30
    figure, ax = new_axes(7.6, 2.2)
    names = ["weights, 16 bits", f"cache, {bits} bits"]
    for number, (name, gib) in enumerate(zip(names, (weights, cache), strict=True)):
        look = mark(number)
        face = look.color if number == 0 else "white"
        bar = ax.barh([name], [gib], facecolor=face, edgecolor=look.color, hatch=look.hatch)
        ax.bar_label(bar, fmt="%.3g", padding=4)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * max(weights, cache))
    ax.tick_params(axis="y", colors=INK)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("GiB")
    ax.set_title(f"{model}: {texts} x {context:,} tokens")
    return Drawing(
        figure,
        f"Two bars: {model} in 16 bits takes {weights:.3g} GiB, and a {bits}-bit cache for {texts} "
        f"text(s) of {context:,} tokens takes {cache:.3g} GiB. The cache takes "
        f"{cache / weights:.1f} times the memory of the model.",
    )


def kv_widget() -> Explorer:
    """Explore when a cache outweighs its model: the model, the texts, the bits.

    Returns controls above a sentence and a picture.
    """
    parts = {
        "model": menu("model", SHAPES, "Mistral-7B"),
        "context": slider("tokens each", CONTEXTS, 4096, "{:,}".format),
        "texts": slider("texts at once", TEXTS, 16),
        "bits": slider("bits", PACKED_BITS, 16),
    }
    return Explorer(parts, draw_serving)
