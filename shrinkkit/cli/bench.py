"""The decode benchmark: is the smaller model faster, and how far is it from what memory allows?

One run measures all versions of a model in turns (fp32, int8, int4, fp32, int8, ...), so that a
machine that slows down slows them all down. Three columns matter: decode tokens/s through
`generate` at batch 1, prefill of a prompt, and the bound: bytes of weights that a token needs over
the memory bandwidth measured just before. A version's distance from its bound is what is left to
gain; its distance from fp32 is what quantization gave.

The int4 model is measured as it is and with its projections fused; with `compiled`, fp32 and int4
also write by a compiled step, so that the table tells the gain of fewer bits from that of fewer
calls.
"""

from __future__ import annotations

from typing import Any

from shrinkkit import measure
from shrinkkit.errors import require_int
from shrinkkit.loading import load_model
from shrinkkit.quant import compile_decoding, fuse_projections, quantize_model
from shrinkkit.quant.layers.fused import FAMILIES, require_compiler

VERSIONS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8},
    "int4": {"bits": 4, "group_size": 64},
}


def bench_decode(
    name: str = "smollm2-135m",
    *,
    n_new: int = 64,
    prompt_tokens: int = 64,
    repeats: int = 5,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    """Measure decode and prefill of a model in fp32, int8 and int4 (group 64), in one run.

    name: as in `load_model`; a causal language model.
    n_new: tokens to write per answer; prompt_tokens: tokens of the prompt; repeats: answers each.
    compiled: measure compiled steps too, which needs a C++ compiler and about a minute.
    Returns one row a version: model, version, decode_tokens_per_s with its quartiles, prefill_ms,
        both relative to fp32, read_mib (weights read per token) and bound_tokens_per_s.
    Raises InputError for wrong counts, a model that cannot generate, or no compiler.
    """
    require_int("n_new", n_new, 2)
    require_int("prompt_tokens", prompt_tokens, 1)
    require_int("repeats", repeats, 1)
    if compiled:
        require_compiler()
    model = load_model(name)
    models = {"fp32": model}
    models |= {label: quantize_model(model, **how) for label, how in VERSIONS.items()}
    length = prompt_tokens + n_new
    if model.config.model_type in FAMILIES:
        models["int4, fused"] = fuse_projections(models["int4"])
        if compiled:
            fused = fuse_projections(model)
            models["fp32, fused, compiled"] = compile_decoding(fused, length, inplace=True)
            small = compile_decoding(models["int4, fused"], length)
            models["int4, fused, compiled"] = small
    bandwidth = measure.memory_bandwidth()
    decode = measure.decode_speed_paired(models, prompt_tokens, n_new, repeats=repeats)
    prefill = measure.prefill_speed_paired(models, prompt_tokens, repeats=2 * repeats)
    first = decode["fp32"].tokens_per_s.median, prefill["fp32"].timing.median_ms
    rows = []
    for label, version in models.items():
        rate, timing = decode[label].tokens_per_s, prefill[label].timing
        rows.append(
            {
                "model": name,
                "version": label,
                "decode_tokens_per_s": rate.median,
                "decode_low_tokens_per_s": rate.low,
                "decode_high_tokens_per_s": rate.high,
                "decode_vs_fp32": rate.median / first[0],
                "prefill_ms": timing.median_ms,
                "prefill_speed_vs_fp32": first[1] / timing.median_ms,
                "prompt_tokens": prompt_tokens,
                "new_tokens": n_new,
                "repeats": repeats,
                "read_mib": measure.bytes_per_token(version) / 2**20,
                "bandwidth_gb_per_s": bandwidth / 1e9,
                "bound_tokens_per_s": measure.decode_bound(version, bandwidth),
            }
        )
    return rows
