"""Decode and prefill speed of SmolLM2 in fp32, int8 and int4, beside the memory-bandwidth bound.

int4 also with fused projections, and both ends by a compiled step (with a C++ compiler).

    python benchmarks/decode.py [--quick] [--json FILE]

The same measurement as `shrinkkit bench decode --compile`. Rows land in data/results/decode.json.
"""

from __future__ import annotations

from common import arguments, finish

from shrinkkit.cli.bench import bench_decode

if __name__ == "__main__":
    options = arguments(__doc__)
    counts = {"n_new": 16, "repeats": 2} if options.quick else {}
    rows = bench_decode(**counts, compiled=not options.quick)
    finish(
        "decode",
        rows,
        options,
        key=("model", "version"),
    )
