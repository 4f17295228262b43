"""Try every verb of the package on every family of models in transformers, and write the table.

    python tools/families.py                    # all families (minutes), writes docs/families.md
    python tools/families.py llama gpt2 mixtral # some, shown only

Each family is a tiny model with random weights, made from its own configuration class with small
sizes, so that nothing is downloaded. A verb is *right* where the result stays as near to the float
model as its bits allow, keeps the dtype, and, where it is saved, opens again with the same output;
*refused* where it raises an InputError; anything else is *wrong*. Random weights say nothing of a
family's quality at 4 bits: only whether the arithmetic is that of the family.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import transformers

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.quant import (
    QuantizedKVCache,
    awq_model,
    convert_qat,
    dequantize_model,
    gptq_model,
    load,
    prepare_qat,
    quantize_activations,
    quantize_model,
    rotate,
    save,
    smooth,
)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "families.md"

# The names under which configurations keep their sizes, and how small they are made here.
SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "d_model": 64,
    "n_embd": 64,
    "dim": 64,
    "n_embed": 64,
    "embedding_size": 64,
    "word_embed_proj_dim": 64,
    "intermediate_size": 128,
    "ffn_dim": 128,
    "d_ff": 128,
    "n_inner": 128,
    "ffn_hidden_size": 128,
    "hidden_dim": 128,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "d_kv": 16,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "n_ctx": 256,
    "max_seq_len": 256,
    "sliding_window": 8,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "query_pre_attn_scalar": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
LARGEST = 3_000_000  # parameters; a family that is larger has sizes of other names


@dataclass(frozen=True)
class Family:
    """A tiny model of one family: its model_type, its float model, and how it is called."""

    name: str
    model: torch.nn.Module
    decoder: bool

    def inputs(self, n: int = 12, batch: int = 2) -> dict[str, torch.Tensor]:
        """Return what the model is called with: the same token ids at every call."""
        tokens = tokens_of(n, batch)
        takes = inspect.signature(self.model.forward).parameters
        both = "decoder_input_ids" in takes
        return {"input_ids": tokens} | ({"decoder_input_ids": tokens} if both else {})

    def output(self, model: torch.nn.Module, **options: Any) -> torch.Tensor:
        """Return the model's logits, or last hidden states, in its own dtype."""
        with torch.no_grad():
            return model(**self.inputs(), **options)[0]


def tokens_of(n: int, batch: int) -> torch.Tensor:
    """Return token ids [batch, n] that every tiny model knows."""
    return torch.randint(3, 128, (batch, n), generator=torch.Generator().manual_seed(0))


def small_config(kind: type, **own: Any) -> Any:
    """Make a configuration of a class with small sizes, whatever it calls them."""
    takes = inspect.signature(kind.__init__).parameters
    fields = set(takes) | set(getattr(kind, "attribute_map", {})) | set(vars(kind()))
    sizes = {name: size for name, size in SIZES.items() if name in fields}
    sizes = {n: v for n, v in sizes.items() if n not in getattr(kind, "attribute_map", {})}
    return kind(**{**sizes, **own})


def family(model_type: str, **own: Any) -> Family:
    """Make the tiny model of a family: a language model where there is one, else an encoder.

    Its weights are drawn anew: norms and biases of a fresh model are 1 and 0, where a mistake with
    them would not show.
    """
    mapping = transformers.models.auto.modeling_auto
    decoder = model_type in mapping.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    config = small_config(transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type])
    for name, value in own.items():
        setattr(config, name, value)
    with torch.device("meta"):
        size = sum(p.numel() for p in auto.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size:,} parameters: its sizes have other names")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto.from_config(config).float().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.3 * noise)
            elif "embed" not in name and "wte" not in name:
                parameter.mul_(2.0)
    return Family(model_type, model, decoder)


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error of an output; infinite for one that is not finite."""
    if not bool(torch.isfinite(found).all()):
        return float("inf")
    return ((found.float() - exact.float()).norm() / exact.float().norm()).item()


def near(found: torch.Tensor, exact: torch.Tensor, within: float) -> None:
    """Raise AssertionError unless an output is near the float model's, in its dtype."""
    assert found.dtype == exact.dtype, f"{found.dtype} came out, and {exact.dtype} went in"
    error = off(found, exact)
    assert error <= within, f"off by {error:.1%}, where {within:.0%} is the bound"


# How far each may be from the float model: random weights, two blocks, the vocabulary at 8 bits.
INT8, INT4, SAME = 0.08, 0.6, 1e-3


def rounding(bits: int, within: float) -> Callable[[Family], None]:
    """Return the check of rounding to nearest."""

    def check(one: Family) -> None:
        exact = one.output(one.model)
        group = None if bits == 8 else 32
        near(one.output(quantize_model(one.model, bits, group)), exact, within)

    return check


def saving(one: Family) -> None:
    """Save at 4 bits, open, compare; the floats made of it are as near."""
    small = quantize_model(one.model, 4, 32)
    before = one.output(small)
    with tempfile.TemporaryDirectory() as folder:
        opened = load(save(small, Path(folder, "small")))
    near(one.output(opened), before, SAME)
    near(one.output(dequantize_model(opened)), before, 0.03)  # kernels round x to bfloat16


def sixteen_bits(one: Family) -> None:
    """Quantize a bfloat16 model, and take a quantized float32 one to bfloat16."""
    half = torch.nn.Module.to(one.model, torch.bfloat16)
    try:
        exact = one.output(half)
        near(one.output(quantize_model(half, 8)), exact, INT8 + 0.1)
    finally:
        one.model.float()
    found = one.output(quantize_model(one.model, 8).to(torch.bfloat16))
    near(found, exact, INT8 + 0.1)


def calibrated(verb: Callable, bits: int, within: float, **options: Any) -> Callable:
    """Return the check of a verb that looks at text."""

    def check(one: Family) -> None:
        near(
            one.output(verb(one.model, tokens_of(12, 16), bits, 32, **options)),
            one.output(one.model),
            within,
        )

    return check


def smoothing(one: Family) -> None:
    """Smooth, which must change nothing, and round weights and activations."""
    exact = one.output(one.model)
    smoothed = smooth(one.model, tokens_of(12, 8))
    near(one.output(smoothed), exact, SAME)
    near(one.output(quantize_activations(smoothed)), exact, 2 * INT8)


def rotating(one: Family) -> None:
    """Turn the hidden space, which must change nothing."""
    near(one.output(rotate(one.model)), one.output(one.model), SAME)


def training(one: Family) -> None:
    """Prepare for training on an 8-bit grid, and pack; both compute the same."""
    prepared = prepare_qat(one.model, 8, method="ste").eval()
    near(one.output(prepared), one.output(one.model), INT8)
    near(one.output(convert_qat(prepared, head_bits=None)), one.output(prepared), 0.03)


def caching(one: Family) -> None:
    """Write token by token with an 8-bit cache; the logits are near those without a cache."""
    tokens = tokens_of(24, 2)
    cache = QuantizedKVCache(8, group_size=8)
    with torch.no_grad():
        exact = one.model(tokens).logits[:, -1]
        for piece in (tokens[:, :9], *tokens[:, 9:].split(1, dim=1)):
            found = one.model(piece, past_key_values=cache, use_cache=True).logits[:, -1]
    near(found, exact, INT8)


VERBS: dict[str, tuple[Callable[[Family], None], bool]] = {  # check, whether for decoders alone
    "int8": (rounding(8, INT8), False),
    "int4": (rounding(4, INT4), False),
    "save, load": (saving, False),
    "16 bits": (sixteen_bits, False),
    "GPTQ": (calibrated(gptq_model, 4, INT4), False),
    "AWQ": (calibrated(awq_model, 8, INT8, symmetric=True), False),
    "SmoothQuant, W8A8": (smoothing, False),
    "rotation": (rotating, True),
    "QAT": (training, False),
    "8-bit cache": (caching, True),
}


def verdict(one: Family, verb: str) -> tuple[str, str]:
    """Return ("right", ""), ("refused", why) or ("wrong", how); ("", "") where it is not for it."""
    check, for_decoders = VERBS[verb]
    if for_decoders and not one.decoder:
        return "", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(one)
        except ShrinkkitError as refusal:
            return ("refused" if isinstance(refusal, InputError) else "wrong"), str(refusal)
        except Exception as error:
            return (
                "wrong",
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            )
    return "right", ""


def all_families() -> list[str]:
    """Return the model types that AutoModelForCausalLM or AutoModel opens, by name."""
    mapping = transformers.models.auto.modeling_auto
    found = {*mapping.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *mapping.MODEL_MAPPING_NAMES}
    return sorted(found)


def sweep(names: list[str]) -> Iterator[tuple[str, dict[str, tuple[str, str]], str]]:
    """Yield (family, {verb: verdict}, why it was left out), one after the other."""
    for name in names:
        began = time.perf_counter()
        try:
            one = family(name)
            exact = one.output(one.model)
            near(exact, exact, SAME)
        except Exception as error:
            yield (
                name,
                {},
                f"{type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}",
            )
            continue
        found = {verb: verdict(one, verb) for verb in VERBS}
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
        yield name, found, ""


def main() -> None:
    """Run the sweep and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="families; none: all, and the page is written")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    for name, found, left_out in sweep(names or all_families()):
        print(name, left_out or "")
        for verb, (said, why) in found.items():
            print(f"   {verb:20} {said:8} {why[:200]}")


if __name__ == "__main__":
    main()
