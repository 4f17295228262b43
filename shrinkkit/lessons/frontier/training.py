"""Draw what training costs: hours, money, energy and CO₂, beside models that were published.

The sums are those of `sums`; a line joins all (parameters, tokens) that cost the same, because
operations are 6 x parameters x tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shrinkkit.figures import words
from shrinkkit.figures.drawing import Drawing, log_ticks, new_axes
from shrinkkit.figures.style import INK, MUTED, label_points, mark
from shrinkkit.lessons.frontier import sums as frontier

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED, YOURS = mark(0), mark(1)
SHOWN = (  # as many as there is room to name
    "BERT-base",
    "GPT-3",
    "PaLM",
    "Chinchilla",
    "LLaMA-7B",
    "phi-1.5",
    "TinyLlama",
    "Llama-3.1-405B",
    "Qwen3-0.6B",
    "Gemma-3-4B",
    "SmolLM2-135M",
)


def draw_training(
    n_parameters: float,
    n_tokens: float,
    *,
    gpu: Mapping,
    utilisation: float,
    dollars_per_gpu_hour: float,
    pue: float,
    kg_co2_per_kwh: float,
    models: pd.DataFrame,
) -> Drawing:
    """Draw training cost over parameters and tokens: lines of equal money, published models, yours.

    gpu: a row of `load_devices()` that has peak_tflops_16bit and power_watts.
    models: rows of `load_models()`; those in SHOWN are drawn. A mixture of experts is never among
        them: only a part of its parameters works on each token, so that the sum does not hold.
    """
    peak = gpu["peak_tflops_16bit"] * 1e12
    flops = frontier.training_flops(n_parameters, n_tokens)
    hours = frontier.training_gpu_hours(flops, peak, utilisation)
    money = frontier.training_dollars(hours, dollars_per_gpu_hour)
    kwh = frontier.training_kwh(hours, gpu["power_watts"], pue)
    co2 = frontier.co2_kg(kwh, kg_co2_per_kwh)

    figure, ax = new_axes(8.2, 5.0)
    known = models[models["name"].isin(SHOWN)].dropna(subset=["training_tokens"])
    low, high = 1e7, 1e12
    left, right = 5e9, 1e14
    dollars_per_flop = dollars_per_gpu_hour / (peak * utilisation * 3600)
    for power in range(2, 10):
        worth = 10.0**power
        product = worth / dollars_per_flop / 6  # parameters x tokens that this much pays for
        ax.plot(
            [left, right],
            [product / left, product / right],
            color="#8c8c8c",
            linewidth=0.9,
            linestyle=":",
            marker="",
        )
        foot, side = low * 1.35, right / 2.2  # where a label stands: near the bottom or the right
        at = (product / foot, foot) if product / foot < side else (side, product / side)
        if at[0] > left * 2 and at[1] < high / 2:
            ax.annotate(
                words.dollars(worth),
                at,
                fontsize=9,
                color=MUTED,
                ha="center",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            )
    ax.scatter(
        known["training_tokens"],
        known["parameters"],
        s=36,
        color=PUBLISHED.color,
        marker="o",
        zorder=3,
        label="published",
    )
    ax.scatter(
        [n_tokens],
        [n_parameters],
        s=230,
        marker="*",
        color=YOURS.color,
        edgecolor=INK,
        zorder=4,
        label="your model",
    )
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    log_ticks(ax.xaxis)
    log_ticks(ax.yaxis)
    ax.set_xlabel("training tokens (logarithmic)")
    ax.set_ylabel("parameters (logarithmic)")
    ax.set_title(
        f"{words.count(hours)} GPU-hours, {words.dollars(money)}, {words.energy(kwh)}, "
        f"{words.mass(co2)} of CO₂"
    )
    ax.legend(loc="upper left", fontsize=9.5, frameon=True, edgecolor="none", framealpha=1)
    label_points(
        ax,
        [*map(float, known["training_tokens"]), float(n_tokens)],
        [*map(float, known["parameters"]), float(n_parameters)],
        [*known["name"], ""],
        fontsize=8.5,
    )
    said = (
        f"Scatter chart of parameters against training tokens, both logarithmic, with dotted lines "
        f"of equal cost, and {len(known)} published models by name. "
        f"A star marks {words.count(n_parameters)} parameters trained on "
        f"{words.count(n_tokens)} tokens with {gpu['name']}: {words.count(hours)} GPU-hours, "
        f"{words.dollars(money)}, {words.energy(kwh)} and {words.mass(co2)} of CO₂."
    )
    return Drawing(figure, said)
