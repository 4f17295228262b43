"""Move sliders and watch what a model costs: four small widgets for lesson 01.

Each widget is a column: the controls, the answer as a sentence, and the figure as a picture. A
moved control redraws the picture (a PNG inside an HTML image, with its description as alt text),
so the widgets need ipywidgets' own controls only and look the same in JupyterLab and in Colab.

    load_widget()       will so many parameters load on this device?
    serve_widget()      how many users can one server hold?
    training_widget()   what would training cost?
    fit_widget()        which models run on this device, and how fast at best?

A widget's `parts` are its sliders and menus, by the argument of the drawing that they set.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from shrinkkit.figures import words
from shrinkkit.figures.drawing import Drawing, Explorer, menu, slider
from shrinkkit.lessons.frontier.drivers import draw_fit, draw_load, draw_serve
from shrinkkit.lessons.frontier.published import load_devices, load_models
from shrinkkit.lessons.frontier.training import draw_training

# Rounded weights: half a bit more, for a 16-bit scale that 32 of them share.
BITS = (32, 16, 8.5, 6.5, 5.5, 4.5, 3.5, 2.5)
MILLIONS = (25, 66, 135, 360, 1000, 3000, 7000, 13_000, 30_000, 70_000, 175_000, 405_000)
PARAMETERS = tuple(1_000_000 * millions for millions in MILLIONS)
TOKENS = (1e10, 3e10, 1e11, 3e11, 1e12, 2e12, 3e12, 6e12, 1e13, 1.5e13, 3e13)
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTEXT = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
RENTS = (0.5, 1, 1.5, 2, 3, 4, 6, 8)
CARBON = (0.02, 0.05, 0.1, 0.2, 0.385, 0.6, 0.8)
SHARES = tuple(round(0.05 * step, 2) for step in range(2, 21))
FIT_MODELS = (
    "SmolLM2-135M",
    "Qwen3-0.6B",
    "TinyLlama",
    "phi-2",
    "LLaMA-7B",
    "Mistral-7B",
    "LLaMA-13B",
    "Llama-2-70B",
    "GPT-3",
)


def load_widget() -> Explorer:
    """Explore memory to load: parameters and bits against every device."""
    parts = {
        "n_parameters": slider("parameters", PARAMETERS, 7_000_000_000, words.count),
        "bits": slider("bits each", BITS, 16),
        "usable_fraction": slider("usable part", SHARES, 0.7, "{:.0%}".format),
    }
    return Explorer(parts, partial(draw_load, devices=load_devices()))


def serve_widget() -> Explorer:
    """Explore memory to serve: users, context and bits, for one model on one device."""
    models, devices = _models_with_cache(), _by_name(load_devices())

    def draw(model: str, device: str, **chosen: float) -> Drawing:
        return draw_serve(models[model], devices[device], **chosen)

    parts = {
        "model": menu("model", models, "LLaMA-7B"),
        "device": menu("device", devices, "A100 80 GB"),
        "bits": slider("weight bits", BITS, 16),
        "kv_bits": slider("cache bits", (16, 8, 4), 16),
        "context_tokens": slider("tokens each", CONTEXT, 4096, "{:,}".format),
        "n_users": slider("users", USERS, 32),
    }
    return Explorer(parts, draw)


def training_widget() -> Explorer:
    """Explore the cost of training: size and data, the GPU, its rent and its electricity."""
    models, devices = load_models(), load_devices()
    gpus = _by_name(devices.dropna(subset=["peak_tflops_16bit", "power_watts"]))

    def draw(gpu: str, **chosen: float) -> Drawing:
        return draw_training(gpu=gpus[gpu], models=models, **chosen)

    parts = {
        "n_parameters": slider("parameters", PARAMETERS, 7_000_000_000, words.count),
        "n_tokens": slider("tokens", TOKENS, 2e12, words.count),
        "gpu": menu("GPU", gpus, "A100 80 GB"),
        "utilisation": slider("utilisation", SHARES, 0.45, "{:.0%}".format),
        "dollars_per_gpu_hour": slider("$ a GPU-hour", RENTS, 2, "${:g}".format),
        "pue": slider("PUE", (1.0, 1.1, 1.2, 1.4, 1.6, 2.0), 1.1),
        "kg_co2_per_kwh": slider("kg CO₂ a kWh", CARBON, 0.385),
    }
    return Explorer(parts, draw)


def fit_widget() -> Explorer:
    """Explore what runs on a device: bits and context, and the bound on tokens a second."""
    models = load_models()
    models = models[models["name"].isin(FIT_MODELS)]
    devices = _by_name(load_devices())

    def draw(device: str, **chosen: float) -> Drawing:
        return draw_fit(devices[device], models, **chosen)

    parts = {
        "device": menu("device", devices, "Galaxy S24 Ultra"),
        "bits": slider("weight bits", BITS, 4.5),
        "context_tokens": slider("tokens", CONTEXT, 2048, "{:,}".format),
        "usable_fraction": slider("usable part", SHARES, 0.7, "{:.0%}".format),
    }
    return Explorer(parts, draw)


def _by_name(table: Any) -> dict[str, dict]:
    return {row["name"]: row for row in table.to_dict(orient="records")}


def _models_with_cache() -> dict[str, dict]:
    models = load_models().dropna(subset=["head_dim"])
    modern = models["released"] >= "2020"  # older ones read 1,024 tokens at most
    return _by_name(models[modern & (models["kind"] == "decoder")])
