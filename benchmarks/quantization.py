"""Rounding to nearest at 8 to 2 bits: size and quality of SmolLM2, on Wikipedia and news.

    python benchmarks/quantization.py [--quick] [--json FILE] [--only "mxfp4 g32"]

Each row: the grid, whether ranges were searched, bits per weight of the quantized linears, the
saved file against fp32's, perplexity on the evaluation windows of both texts. The rows land in
data/results/quantization.json. The fp32 row is itself a de-quantised 4-bit checkpoint (Q4_1).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from common import arguments, evaluation_windows, finish, scores
from tqdm.auto import tqdm

from shrinkkit import load_model
from shrinkkit.measure import file_bytes, saved_bytes
from shrinkkit.quant import (
    FP8_E4M3,
    FP8_E5M2,
    MXFP4,
    NF4,
    dequantize_model,
    int_format,
    quantize_model,
    save,
)
from shrinkkit.surgery.parts import find_linears

GRIDS = {
    "int8 per channel": (int_format(8), False),
    "int4 g64, rounded to nearest": (int_format(4, group_size=64), False),
    "int4 g64": (int_format(4, group_size=64), True),
    "int4 g32": (int_format(4, group_size=32), True),
    "int4 g128": (int_format(4, group_size=128), True),
    "nf4 g64": (NF4, False),
    "mxfp4 g32": (MXFP4, False),
    "fp8 e4m3 per channel": (FP8_E4M3, False),
    "fp8 e5m2 per channel": (FP8_E5M2, False),
    "int3 g64, rounded to nearest": (int_format(3, group_size=64), False),
    "int3 g64": (int_format(3, group_size=64), True),
    "int2 g32": (int_format(2, group_size=32), True),
}


def measured(name, model, reference_bytes, tokens, fmt=None):
    """Return one row: bits, bytes and perplexities of a model."""
    row = {"model": "smollm2-135m", "grid": name}
    row["bits_per_weight"] = 32.0
    row["saved_bytes"] = reference_bytes
    row["linears_vs_fp32"] = 1.0
    if fmt is not None:
        layers = find_linears(model).values()
        weights = sum(layer.in_features * layer.out_features for layer in layers)
        bits = sum(x.in_features * x.out_features * x.bits_per_weight for x in layers)
        row["bits_per_weight"] = bits / weights
        row["linears_vs_fp32"] = bits / weights / 32
        with tempfile.TemporaryDirectory() as folder:
            save(model, Path(folder) / "model")
            row["saved_bytes"] = file_bytes(Path(folder) / "model" / "shrinkkit.safetensors")
        if fmt.bits < 4 or fmt.code:  # no fast kernel: judge the same weights in float
            model = dequantize_model(model)
    row["saved_vs_fp32"] = row["saved_bytes"] / reference_bytes
    return row | scores(model, tokens)


if __name__ == "__main__":
    options = arguments(__doc__, GRIDS)
    n_samples = 4 if options.quick else 32
    model = load_model("smollm2-135m")
    tokens = evaluation_windows(n_samples)
    size = saved_bytes(model)
    rows = [measured("fp32", model, size, tokens)]
    for name in tqdm(options.only or GRIDS, desc="grids"):
        fmt, search = GRIDS[name]
        small = quantize_model(model, fmt, search=search)
        rows.append(measured(name, small, size, tokens, fmt))
    for row in rows[1:]:
        row["perplexity_wikipedia_vs_fp32"] = (
            row["perplexity_wikipedia"] / rows[0]["perplexity_wikipedia"]
        )
    finish(
        "quantization",
        rows,
        options,
        key=("model", "grid"),
        seed=0,
        n_samples=n_samples,
    )
