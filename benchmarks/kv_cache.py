"""The key-value cache at 8 to 2 bits: memory and perplexity of SmolLM2 at 1,024 tokens.

    python benchmarks/kv_cache.py [--quick] [--json FILE]

Each row: the cache, the bytes that it holds after 1,024 tokens where the model computes in 16 bits
and where it computes in fp32 (late keys stay in the model's own precision), the mean over the next
64 tokens (keys wait in float until a group is full, so memory rises and falls), and perplexity on
Wikipedia read through the cache, the model itself in fp32. Rows land in data/results/kv_cache.json.
"""

from __future__ import annotations

from functools import partial
from statistics import mean

import torch
from common import arguments, finish
from tqdm.auto import tqdm
from transformers import DynamicCache

from shrinkkit import load_model, load_text
from shrinkkit.measure import cache_bytes_at, cached_perplexity
from shrinkkit.quant import QuantizedKVCache

CONTEXT = 1024
GROUP = 64
PLAIN = {"mix_values": False}
CACHES = {
    "float": DynamicCache,
    "int8": partial(QuantizedKVCache, 8),
    "int4": partial(QuantizedKVCache, 4),
    "int4, values not mixed": partial(QuantizedKVCache, 4, **PLAIN),
    "int4, keys per token too": partial(QuantizedKVCache, 4, keys="per_token", **PLAIN),
    "int3": partial(QuantizedKVCache, 3),
    "int2": partial(QuantizedKVCache, 2),
}


def measured(name, new_cache, model, tokens):
    """Return one row: bytes and perplexity of one kind of cache."""
    count = partial(cache_bytes_at, new_cache, model.config)
    return {
        "model": "smollm2-135m",
        "cache": name,
        "context": CONTEXT,
        "bytes": count(CONTEXT),
        "bytes_fp32_model": count(CONTEXT, dtype=torch.float32),
        "bytes_mean": mean(count(CONTEXT + late) for late in range(GROUP)),
        "perplexity": cached_perplexity(model, tokens, new_cache, chunk=GROUP),
    }


if __name__ == "__main__":
    options = arguments(__doc__)
    n_samples = 2 if options.quick else 8
    model = load_model("smollm2-135m")
    tokens = load_text("wikipedia").evaluation(n_samples=n_samples, seq_len=CONTEXT)
    rows = [
        measured(name, new_cache, model, tokens)
        for name, new_cache in tqdm(CACHES.items(), desc="caches")
    ]
    for row in rows:
        row["bytes_per_token"] = row["bytes"] / CONTEXT
        for kind in ("bytes", "bytes_fp32_model", "bytes_mean"):
            row[f"{kind}_smaller"] = rows[0][kind] / row[kind]
        row["perplexity_vs_float"] = row["perplexity"] / rows[0]["perplexity"]
    finish(
        "kv_cache",
        rows,
        options,
        key=("model", "cache", "context"),
        seed=0,
        n_samples=n_samples,
    )
