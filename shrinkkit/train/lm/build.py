"""Make what settings describe: the model with its first weights, and the optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.train.lm.settings import Settings

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def new_model(settings: Settings) -> LlamaForCausalLM:
    """Return a Llama of the settings' shape with first weights drawn from its seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.seq_len,
        tie_word_embeddings=True,
        bos_token_id=0,  # the corpus puts its END token, id 0, before each document
        eos_token_id=0,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def new_optimizers(model: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return the optimizers: Muon for the blocks' matrices and AdamW for the rest, or AdamW alone.

    Raises InputError where this torch has no Muon.
    """
    inside = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    matrices = [p for name, p in model.named_parameters() if name in inside]
    others = [p for name, p in model.named_parameters() if name not in inside]
    decay, betas = settings.weight_decay, (0.9, 0.95)
    groups: list[dict[str, Any]] = [{"params": others, "weight_decay": 0.0}]
    if settings.optimizer == "adamw":
        groups.append({"params": matrices, "weight_decay": decay})
        return [torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas)]
    if not hasattr(torch.optim, "Muon"):
        raise InputError("optimizer='muon' needs torch 2.9 or newer; 'adamw' works with any.")
    muon = torch.optim.Muon(
        matrices,
        lr=settings.matrix_learning_rate,
        weight_decay=decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return [torch.optim.AdamW(groups, lr=settings.learning_rate, betas=betas), muon]
