"""Move sliders and watch what a model costs: four small widgets for lesson 01.

Each widget is a column: the controls, the answer as a sentence, and the figure as a picture. A
moved control redraws the picture (a PNG inside an HTML image, with its description as alt text),
so the widgets need ipywidgets' own controls only and look the same in JupyterLab and in Colab.

    load_widget()       will so many parameters load on this device?
    serve_widget()      how many users can one server hold?
    training_widget()   what would training cost?
    fit_widget()        which models run on this device, and how fast at best?

A widget's `parts` are its sliders and menus by name.
"""

from __future__ import annotations

from typing import Any

from shrinkkit.figures import words
from shrinkkit.figures.drawing import Drawing, Explorer, menu, slider
from shrinkkit.lessons.frontier.drivers import draw_fit, draw_load, draw_serve
from shrinkkit.lessons.frontier.published import load_devices, load_models
from shrinkkit.lessons.frontier.training import draw_training

BITS = (32, 16, 8, 6, 5, 4, 3, 2)
PARAMETERS = (25e6, 66e6, 135e6, 360e6, 1e9, 3e9, 7e9, 13e9, 30e9, 70e9, 175e9, 405e9)
TOKENS = (1e10, 3e10, 1e11, 3e11, 1e12, 2e12, 3e12, 6e12, 1e13, 1.5e13, 3e13)
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTEXT = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
SHARES = tuple(round(0.05 * step, 2) for step in range(2, 21))
FIT_MODELS = (
    "SmolLM2-135M",
    "Qwen2.5-0.5B",
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
    devices = load_devices()

    def draw(parameters: float, bits: int, share: float) -> Drawing:
        return draw_load(int(parameters), bits, devices, share)

    return Explorer(
        {
            "parameters": slider("parameters", PARAMETERS, 7e9, words.count),
            "bits": slider("bits each", BITS, 16),
            "share": slider("usable part", SHARES, 0.7, "{:.0%}".format),
        },
        draw,
    )


def serve_widget() -> Explorer:
    """Explore memory to serve: users, context and bits, for one model on one device."""
    models, devices = _models_with_cache(), _by_name(load_devices())

    def draw(
        model: str, device: str, bits: int, cache_bits: int, context: int, users: int
    ) -> Drawing:
        return draw_serve(
            models[model],
            devices[device],
            bits=bits,
            kv_bits=cache_bits,
            context_tokens=context,
            n_users=users,
        )

    return Explorer(
        {
            "model": menu("model", models, "LLaMA-7B"),
            "device": menu("device", devices, "A100 80 GB"),
            "bits": slider("weight bits", BITS, 16),
            "cache_bits": slider("cache bits", (16, 8, 4), 16),
            "context": slider("tokens each", CONTEXT, 4096, "{:,}".format),
            "users": slider("users", USERS, 32),
        },
        draw,
    )


def training_widget() -> Explorer:
    """Explore the cost of training: size and data, the GPU, its rent and its electricity."""
    models, devices = load_models(), load_devices()
    gpus = _by_name(devices.dropna(subset=["peak_tflops_16bit", "power_watts"]))

    def draw(
        parameters: float,
        tokens: float,
        gpu: str,
        utilisation: float,
        price: float,
        pue: float,
        carbon: float,
    ) -> Drawing:
        return draw_training(
            parameters,
            tokens,
            gpu=gpus[gpu],
            utilisation=utilisation,
            dollars_per_gpu_hour=price,
            pue=pue,
            kg_co2_per_kwh=carbon,
            models=models,
        )

    return Explorer(
        {
            "parameters": slider("parameters", PARAMETERS, 7e9, words.count),
            "tokens": slider("tokens", TOKENS, 2e12, words.count),
            "gpu": menu("GPU", gpus, "A100 80 GB"),
            "utilisation": slider("utilisation", SHARES, 0.45, "{:.0%}".format),
            "price": slider("$ a GPU-hour", (0.5, 1, 1.5, 2, 3, 4, 6, 8), 2, "${:g}".format),
            "pue": slider("PUE", (1.0, 1.1, 1.2, 1.4, 1.6, 2.0), 1.1),
            "carbon": slider("kg CO₂ a kWh", (0.02, 0.05, 0.1, 0.2, 0.385, 0.6, 0.8), 0.385),
        },
        draw,
    )


def fit_widget() -> Explorer:
    """Explore what runs on a device: bits and context, and the bound on tokens a second."""
    models = load_models()
    models = models[models["name"].isin(FIT_MODELS)]
    devices = _by_name(load_devices())

    def draw(device: str, bits: int, context: int, share: float) -> Drawing:
        return draw_fit(
            devices[device], models, bits=bits, context_tokens=context, usable_fraction=share
        )

    return Explorer(
        {
            "device": menu("device", devices, "Galaxy S24 Ultra"),
            "bits": slider("weight bits", BITS, 4),
            "context": slider("tokens", CONTEXT, 2048, "{:,}".format),
            "share": slider("usable part", SHARES, 0.7, "{:.0%}".format),
        },
        draw,
    )


def _by_name(table: Any) -> dict[str, dict]:
    return {row["name"]: row for row in table.to_dict(orient="records")}


def _models_with_cache() -> dict[str, dict]:
    models = load_models().dropna(subset=["head_dim"])
    modern = models["released"] >= "2020"  # older ones read 1,024 tokens at most
    return _by_name(models[modern & (models["kind"] == "decoder")])
