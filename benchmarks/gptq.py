"""GPTQ and AWQ against rounding, on the same grids: quality of SmolLM2 on two texts, and the time.

    python benchmarks/gptq.py [--quick] [--json FILE]

Calibrated on 32 windows of 256 tokens of Wikipedia, from articles that no evaluation window comes
from. Each row: the grid, the method, bits per weight of the quantized linears, perplexity on the
evaluation windows of both texts (linears rounded, head in float), seconds. The rows land in
data/results/gptq.json. The fp32 row is itself a de-quantised 4-bit checkpoint (Q4_1).
"""

from __future__ import annotations

import time

from common import (
    against_first,
    arguments,
    calibration_windows,
    evaluation_windows,
    finish,
    scores,
)
from tqdm.auto import tqdm

from shrinkkit import awq_model, gptq_model, load_model, quantize_model
from shrinkkit.quant import dequantize_model, int_format

GRIDS = {"int4 g64": int_format(4, group_size=64), "int3 g64": int_format(3, group_size=64)}

if __name__ == "__main__":
    options = arguments(__doc__)
    n_samples = 4 if options.quick else 32
    model = load_model("smollm2-135m")
    calibration, tokens = calibration_windows(n_samples), evaluation_windows(n_samples)

    def row(grid, method, small, bits, seconds):
        found = {"model": "smollm2-135m", "grid": grid, "method": method, **scores(small, tokens)}
        return found | {"bits_per_weight": bits, "seconds": seconds}

    rows = [row("fp32", "", model, 32.0, None)]
    for grid, fmt in tqdm(GRIDS.items(), desc="grids"):
        bits = fmt.bits_per_weight((576, 576))
        data = {"calibration": calibration, "bits": fmt, "head_bits": None, "batch_size": 8}
        methods = {
            "rounding": lambda fmt=fmt: quantize_model(model, fmt, head_bits=None, search=False),
            "GPTQ": lambda data=data: gptq_model(model, **data),
            "AWQ, then GPTQ": lambda data=data: awq_model(model, rounding="gptq", **data),
        }
        for method, compress in methods.items():
            began = time.perf_counter()
            small = compress()
            seconds = time.perf_counter() - began
            rows.append(row(grid, method, dequantize_model(small), bits, seconds))
    against_first(rows)
    finish(
        "gptq",
        rows,
        options,
        key=("model", "grid", "method"),
        seed=0,
        n_samples=n_samples,
    )
