"""Make a tiny model with random weights of any family of transformers that reads text.

A family's own configuration class is given small sizes, under whatever names it has for them, so
that nothing is downloaded and a model is made in milliseconds.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
import transformers

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
    "chunk_size": 8,
    "mamba_chunk_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
LARGEST = 5_000_000  # parameters; a family that is larger has sizes of other names
# What a family needs beside, because its sizes depend on each other.
LATENT = {"num_key_value_heads": 4, "head_dim": 16}  # latent attention has as many heads as queries
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "qwen3_next": {"num_hidden_layers": 4},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_5_moe_text": {"num_hidden_layers": 4},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "xlm": {"emb_dim": 64, "n_words": 128},
    "flaubert": {"emb_dim": 64, "n_words": 128},
}


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
    if "kv_lora_rank" in sizes:
        sizes |= LATENT
    return kind(**{**sizes, **OWN.get(kind.model_type, {}), **own})


def family(model_type: str, **own: Any) -> Family:
    """Make the tiny model of a family: a language model where there is one, else an encoder.

    Its weights are drawn anew: norms and biases of a fresh model are 1 and 0, where a mistake with
    them would not show.
    """
    mapping = transformers.models.auto.modeling_auto
    decoder = model_type in mapping.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type]
    config = small_config(kind, **own)
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


def all_families() -> list[str]:
    """Return the model types that AutoModelForCausalLM or AutoModel opens and that read text."""
    mapping = transformers.models.auto.modeling_auto
    classes = {**mapping.MODEL_MAPPING_NAMES, **mapping.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES}
    return sorted(name for name, cls in classes.items() if _reads_text(cls))


_OTHER_INPUTS = {"pixel_values", "input_features", "input_values", "bbox", "visual_feats"}


def _reads_text(cls: str | tuple[str, ...]) -> bool:
    try:
        model = getattr(transformers, cls if isinstance(cls, str) else cls[0])
        takes = set(inspect.signature(model.forward).parameters)
    except (AttributeError, ImportError):  # it needs a package that is not installed
        return False
    return "input_ids" in takes and not takes & _OTHER_INPUTS
