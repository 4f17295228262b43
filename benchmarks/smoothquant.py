"""W8A8: int8 weights and int8 activations, with and without SmoothQuant, on SmolLM2 and MiniLM.

    python benchmarks/smoothquant.py [--quick] [--json FILE]

Each row of the language model: how activations are rounded, alpha, bits per weight, perplexity on
the evaluation windows of Wikipedia and news, and the time to read a prompt of 256 tokens. Each row
of the encoder: the time for one sentence of 32 tokens, and the cosine between its vectors and
those of fp32. Calibration: 16 windows of the other half of Wikipedia. The rows land in
data/results/smoothquant.json. The fp32 row is itself a de-quantised 4-bit checkpoint (Q4_1).
"""

from __future__ import annotations

from common import arguments, evaluation_windows, finish, scores
from tqdm.auto import tqdm

from shrinkkit import load_model, load_text, load_tokenizer
from shrinkkit.measure import bits_per_weight, encode, encoder_latency, prefill_speed_paired
from shrinkkit.quant import quantize_activations, quantize_model, smooth_quantize


def versions(model, calibration):
    """Yield name and model, one at a time."""
    yield "fp32", model
    yield "int8 weights alone", quantize_model(model)
    for activations in ("per_tensor_static", "per_tensor", "per_token"):
        yield f"W8A8 {activations}", quantize_activations(model, activations, calibration)
    static = {"activations": "per_tensor_static"}
    yield "smoothed 0.5, W8A8 per_tensor_static", smooth_quantize(model, calibration, **static)
    for alpha in (0.5, 0.7, "search"):
        yield f"smoothed {alpha}, W8A8 per_token", smooth_quantize(model, calibration, alpha)


def language_rows(options):
    """Measure SmolLM2."""
    n_samples = 4 if options.quick else 32
    tokens, calibration = evaluation_windows(n_samples), load_text("wikipedia").calibration
    model, rows = load_model("smollm2-135m"), []
    for name, version in tqdm(versions(model, calibration(n_samples // 2)), total=9):
        row = {"model": "smollm2-135m", "version": name}
        row["bits_per_weight"] = bits_per_weight(version)
        row |= scores(version, tokens)
        pair = {"fp32": model, name: version}
        timed = prefill_speed_paired(pair, 256, repeats=3 if options.quick else 9)
        row["prefill_ms"] = timed[name].timing.median_ms
        row["prefill_speed_vs_fp32"] = timed["fp32"].timing.median_ms / row["prefill_ms"]
        rows.append(row)
    for row in rows:
        row["perplexity_vs_fp32"] = row["perplexity_wikipedia"] / rows[0]["perplexity_wikipedia"]
    return rows


def encoder_rows(options):
    """Measure MiniLM."""
    model, tokenizer = load_model("minilm-l6"), load_tokenizer("minilm-l6")
    tokens = load_text("wikipedia", "minilm-l6").calibration(16, seq_len=128)
    articles = load_text("wikipedia", "minilm-l6").half("evaluation")
    sentences = [article.text[:300] for article in articles][: 8 if options.quick else 50]
    reference = encode(model, tokenizer, sentences)
    made = {
        "fp32": model,
        "int8 weights alone": quantize_model(model),
        "W8A8 per_token": quantize_activations(model),
        "smoothed 0.5, W8A8 per_token": smooth_quantize(model, tokens),
    }
    rows = []
    for name, version in made.items():
        row = {"model": "minilm-l6", "version": name, "bits_per_weight": bits_per_weight(version)}
        vectors = encode(version, tokenizer, sentences)
        row["cosine_to_fp32"] = (vectors * reference).sum(dim=1).mean().item()
        row["latency_ms"] = encoder_latency(version, repeats=10 if options.quick else 50).median_ms
        rows.append(row)
    for row in rows:
        row["latency_speed_vs_fp32"] = rows[0]["latency_ms"] / row["latency_ms"]
    return rows


if __name__ == "__main__":
    options = arguments(__doc__)
    finish(
        "smoothquant",
        language_rows(options) + encoder_rows(options),
        options,
        key=("model", "version"),
        seed=0,
        n_samples=4 if options.quick else 32,
    )
