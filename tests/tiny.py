"""Tiny models with random weights: every test says only how its model differs from the usual."""

from __future__ import annotations

from typing import Any

import torch

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def model(architecture: str, seed: int = 0, **config: Any):
    """Make a model of transformers' class `architecture`, in eval mode, from a config."""
    import transformers  # not before conftest.py has set the hub's folder

    made = getattr(transformers, architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return made(made.config_class(**config)).eval()


def llama(seed: int = 0, **different: Any):
    """Make a Llama of 2 layers, hidden 32, 2 query heads and 1 key-value head, vocabulary 64."""
    sizes = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 1, **different}
    return model("LlamaForCausalLM", seed, **sizes)


def bert(architecture: str = "BertModel", seed: int = 0, **different: Any):
    """Make a BERT, an encoder unless another architecture is asked for, of the same sizes."""
    return model(architecture, seed, **{**SIZES, "intermediate_size": 64, **different})


def opt(seed: int = 0, **different: Any):
    """Make an OPT of the same sizes."""
    sizes = {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, **different}
    return model("OPTForCausalLM", seed, **sizes)
