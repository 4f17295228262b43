"""Tiny models and token ids: every test says only how its own differ from the usual."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
LARGER = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 2,
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


def redrawn(made, parameters: Iterable[torch.Tensor] | None = None, seed: int = 0):
    """Draw parameters of a model, all of them unless some are given, large enough to be felt."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters() if parameters is None else parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.15
    return made


def biased(made):
    """Draw the biases of a model, which transformers leaves at zero; return the model."""
    for number, (name, parameter) in enumerate(made.named_parameters()):
        if name.endswith("bias"):
            parameter.data = 0.1 * normal(*parameter.shape, seed=number)
    return made


def tokens(n_samples: int, seq_len: int, seed: int = 1, vocab_size: int = 256) -> torch.Tensor:
    """Draw token ids [n_samples, seq_len]; the same ones each time."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocab_size, (n_samples, seq_len), generator=generator)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Draw normal numbers of a shape; the same ones each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def logits(model, ids: torch.Tensor) -> torch.Tensor:
    """Give a language model's logits, without a gradient."""
    with torch.no_grad():
        return model(ids).logits


def same_tensors(one, other) -> bool:
    """Tell whether two modules hold the same tensors, by name and by bits."""
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@contextmanager
def left_alone(model) -> Iterator[None]:
    """See to it that the block changes no tensor of a model."""
    before = copy.deepcopy(model)
    yield
    assert same_tensors(model, before)
