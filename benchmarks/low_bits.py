"""The best perplexity that the package reaches in three classes of bits per weight.

    python benchmarks/low_bits.py [--quick] [--json FILE]

SmolLM2, linears of the blocks only, output head in float. The classes are at most 4.35, 3.35 and
2.7 bits a weight, scales and zero points counted:

- groups of 32 with 6-bit scales, GPTQ: 4.3 and 3.3 bits;
- at 2.7 bits, a grid of 2 to 5 bits for each layer, chosen by `choose_formats`, GPTQ.

Calibrated on 32 windows and then tuned on 96 (`tune_scales`; seconds are those of the tuning alone
then) of a mixture: Wikipedia, from articles that no evaluation window comes from, film reviews, and
windows that the model wrote itself. One row is calibrated on Wikipedia alone, as most tools do.
Judged on Wikipedia, news, stories that nothing was calibrated on, and the last words of their
passages; each with its paired interval against fp32, and tuned against untuned.

The rows land in data/results/low_bits.json.
"""

from __future__ import annotations

import time

from common import TUNING, Judge, arguments, calibration_windows, finish, mixture, written

from shrinkkit import load_model
from shrinkkit.quant import choose_formats, dequantize_model, gptq_model, int_format, tune_scales
from shrinkkit.quant.ptq.budget import mean_bits
from shrinkkit.surgery.parts import find_linears

SMALL_SCALES = {"group_size": 32, "scale_bits": 6}
OFFERED = [
    int_format(2, **SMALL_SCALES),
    int_format(2, group_size=16, scale_bits=6),
    int_format(3, group_size=64, scale_bits=6),
    int_format(3, **SMALL_SCALES),
    int_format(4, **SMALL_SCALES),
    int_format(5, **SMALL_SCALES),
]

if __name__ == "__main__":
    options = arguments(__doc__)
    n_samples, n_passages = (4, 40) if options.quick else (32, 400)
    model = load_model("smollm2-135m")
    judge = Judge.of(n_samples, n_passages)
    tuning = TUNING | ({"steps": 2} if options.quick else {})
    mixed = mixture(model, n_samples * 3)
    shapes = {name: tuple(layer.weight.shape) for name, layer in find_linears(model).items()}
    rows = []

    def add(budget, grid, method, small, formats, began):
        seconds = time.perf_counter() - began
        plain = dequantize_model(small) if formats else small
        found = {"model": "smollm2-135m", "at_most_bits": budget, "grid": grid, "method": method}
        found["bits_per_weight"] = mean_bits(formats, shapes) if formats else 32.0
        found |= judge.read(f"{grid} {method}", plain)
        rows.append(found | {"seconds": seconds if formats else None})

    add(32.0, "fp32", "", model, None, time.perf_counter())
    for budget, bits in ((4.35, 4), (3.35, 3), (2.7, None)):
        began = time.perf_counter()
        if bits:
            grid, method = f"int{bits} g32", "GPTQ, 6-bit scales"
            formats = dict.fromkeys(shapes, int_format(bits, **SMALL_SCALES))
        else:
            grid, method = "2 to 5 bits", "mixed precision, GPTQ"
            formats = choose_formats(model, mixed[:9], OFFERED, budget)
        options_of = {"formats": formats, "head_bits": None, "batch_size": 8}
        if bits == 4:
            alone = gptq_model(model, calibration_windows(n_samples), **options_of)
            add(budget, grid, f"{method}, Wikipedia alone", alone, formats, began)
            began = time.perf_counter()
        small = gptq_model(model, mixed[:n_samples], **options_of)
        add(budget, grid, method, small, formats, began)
        began = time.perf_counter()
        small = tune_scales(small, model, mixed, **tuning)
        add(budget, grid, f"{method}, tuned", small, formats, began)
        against = judge.compared(f"{grid} {method}, tuned", f"{grid} {method}")
        rows[-1] |= {f"{column}_vs_untuned": written(found) for column, found in against.items()}
        rows[-1]["tuned_vs_untuned"] = written(max(against.values(), key=lambda f: f.high))
    finish(
        "low_bits",
        rows,
        options,
        key=("model", "grid", "method"),
        seed=0,
        n_samples=n_samples,
    )
