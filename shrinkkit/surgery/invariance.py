"""Know where a model can be rescaled or turned and still compute the same function.

Two freedoms of a decoder, on which several methods rest. **Channels**: what one module writes and
known linears alone read can be divided by any scale on one side and multiplied on the other
(`norm_groups`, `rescale`: SmoothQuant, AWQ). **The hidden space**: everything between embedding and
head reads it through an RMS norm or adds to it, so it can be turned as a whole (`residual_stream`:
rotations).

A family that is not known here gets a line in SOLE_READERS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.surgery.matrices import matrix
from shrinkkit.surgery.parts import decoder_blocks, is_tied, output_head

# Inside a block: a module, and the linears that are said to be the only readers of its output. A
# name proves nothing: `calibration.free_groups` measures whether it holds for a block.
SOLE_READERS = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),  # Llama
    ("self_attn.v_proj", ("self_attn.o_proj",)),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    ("mlp.up_proj", ("mlp.down_proj",)),
    ("pre_feedforward_layernorm", ("mlp.gate_proj", "mlp.up_proj")),  # Gemma 2 and 3
    ("attention.self.value", ("attention.output.dense",)),  # BERT
    ("ln_1", ("attn.c_attn",)),  # GPT-2
    ("ln_2", ("mlp.c_fc",)),
    ("self_attn_layer_norm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),  # OPT
    ("self_attn.v_proj", ("self_attn.out_proj",)),
    ("final_layer_norm", ("fc1",)),
    ("input_layernorm", ("attention.query_key_value",)),  # GPT-NeoX
    ("input_layernorm", ("self_attention.query_key_value",)),  # BLOOM
    ("post_attention_layernorm", ("mlp.dense_h_to_4h",)),
    ("self_attn.v_proj", ("self_attn.dense",)),  # Phi
)


@dataclass(frozen=True)
class NormGroup:
    """Name a norm or a linear of a block, and the linears that alone read its output.

    Dividing the channels of `source` by some scale and multiplying the columns of all `consumers`
    by it changes no output of the block. Names are relative to the block.

    n_channels: channels of the source, one scale each.
    offset: what a norm adds to its weights before it multiplies by them; 1 in Gemma's.
    repeat, head_dim: under grouped-query attention each value channel is read by `repeat` columns
        of the output projection, a head of `head_dim` apart; 1 where columns are channels.

    >>> group = NormGroup("v", ("o",), n_channels=2, repeat=2, head_dim=1)
    >>> group.columns(torch.tensor([1.0, 5.0]))  # channel 0 is read by columns 0 and 1
    tensor([1., 1., 5., 5.])
    >>> group.channels(torch.tensor([1.0, 3.0, 2.0, 9.0]))
    tensor([3., 9.])
    """

    source: str
    consumers: tuple[str, ...]
    n_channels: int
    repeat: int = 1
    head_dim: int = 1
    offset: float = 0.0

    def spellings(self, block: nn.Module) -> list[NormGroup]:
        """Return the ways in which a group of these names may be meant."""
        is_norm = block.get_submodule(self.source).weight.ndim == 1
        return [self, replace(self, offset=1.0)] if is_norm else [self]

    def parameters(self, block: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield (name, parameter) of all that rescaling changes in a block."""
        for name in (self.source, *self.consumers):
            for leaf, parameter in block.get_submodule(name).named_parameters(recurse=False):
                yield f"{name}.{leaf}", parameter

    def columns(self, per_channel: torch.Tensor) -> torch.Tensor:
        """Repeat one value a channel of the source for each column: [n_channels] -> [columns]."""
        heads = per_channel.reshape(-1, 1, self.head_dim)  # [kv heads, 1, head_dim]
        return heads.expand(-1, self.repeat, -1).flatten()

    def channels(self, per_column: torch.Tensor) -> torch.Tensor:
        """Take the largest value of each channel's columns: [columns] -> [n_channels]."""
        return per_column.reshape(-1, self.repeat, self.head_dim).amax(dim=1).flatten()


def norm_groups(block: nn.Module) -> list[NormGroup]:
    """Find what can be rescaled inside a block for nothing: each source and all its readers.

    Llama-like blocks (Llama, Mistral, Qwen2) have four: v_proj and o_proj (attention is linear in
    its values), up_proj and down_proj (the gate multiplies), and each norm with what reads it.
    BERT's norms stand behind the residual sum, which goes on to the next sum as well as to the
    linears, so that scaling them is not free: of its four only value and attention.output is left
    (GELU stands between the other two).

    block: one of `decoder_blocks(model).values()`.
    Returns groups in the block's own order.
    Raises InputError for a block of another family. Names alone are looked at: whether rescaling
    changes nothing is measured by `calibration.free_groups`.
    """
    found = named_groups(block)
    if not found:
        raise InputError(
            f"{type(block).__name__} has none of the pairs that this file knows "
            f"({', '.join(source for source, _ in SOLE_READERS)}); add its own to SOLE_READERS in "
            "shrinkkit/surgery/invariance.py."
        )
    return found


def named_groups(block: nn.Module) -> list[NormGroup]:
    """Find the groups of a block that SOLE_READERS names; none where it names none."""
    found: list[NormGroup] = []
    for source, consumers in SOLE_READERS:
        modules = [_submodule(block, name) for name in (source, *consumers)]
        if None in modules:
            continue
        if any(getattr(module, "weight", None) is None for module in modules):
            continue  # a norm without weights
        n_channels = (modules[0].weight if _is_norm(modules[0]) else matrix(modules[0])).shape[0]
        repeat, rest = divmod(matrix(modules[1]).shape[1], n_channels)
        attention = block.get_submodule(source.rpartition(".")[0])
        head_dim = n_channels if repeat == 1 else getattr(attention, "head_dim", None)
        if rest or head_dim is None:
            continue  # something else stands between the two
        found.append(NormGroup(source, consumers, n_channels, repeat, head_dim))
    return found


@torch.no_grad()
def rescale(block: nn.Module, group: NormGroup, scale: torch.Tensor) -> None:
    """Divide a source's channels by `scale` and multiply the columns that read them, in place.

    group: one of `norm_groups(block)`; scale: [n_channels], above 0. The block computes the same
    function afterwards, to rounding.
    """
    source = block.get_submodule(group.source)
    if _is_norm(source):
        source.weight.copy_((source.weight + group.offset) / scale - group.offset)
    else:
        weight = matrix(source)
        weight.copy_(weight / scale[:, None])
    if getattr(source, "bias", None) is not None:
        source.bias.copy_(source.bias / scale)
    for name in group.consumers:
        weight = matrix(block.get_submodule(name))
        weight.copy_(weight * group.columns(scale))


def _is_norm(module: nn.Module) -> bool:
    return module.weight.ndim == 1


@dataclass(frozen=True)
class ResidualStream:
    """Everything that touches a decoder's hidden state between embedding and head.

    norms: (RMS norm, the linears that alone read it), the last norm and the head included.
    writers: the linears that add to the hidden state.
    """

    embedding: nn.Embedding
    norms: tuple[tuple[nn.Module, tuple[nn.Linear, ...]], ...]
    writers: tuple[nn.Linear, ...]

    def readers(self) -> Iterator[nn.Linear]:
        """Yield every linear that reads the hidden state through a norm."""
        for _, linears in self.norms:
            yield from linears


def residual_stream(model: nn.Module) -> ResidualStream:
    """Find what reads and writes the hidden state of a Llama-like decoder.

    Raises InputError for another family, or norms that are not plain RMS norms.
    """
    head, last = output_head(model), _submodule(model, "model.norm")
    norms: list[tuple[nn.Module, tuple[nn.Linear, ...]]] = []
    writers: list[nn.Linear] = []
    for block in decoder_blocks(model).values():
        for source, readers in SOLE_READERS:
            norm = _submodule(block, source)
            linears = tuple(_submodule(block, name) for name in readers)
            if source.endswith("layernorm") and norm is not None and None not in linears:
                norms.append((norm, linears))
        writers += [
            layer
            for name in ("self_attn.o_proj", "mlp.down_proj")
            if (layer := _submodule(block, name)) is not None
        ]
    n_blocks = len(decoder_blocks(model))
    known = head is not None and last is not None and len(norms) == len(writers) == 2 * n_blocks
    plain = known and all(
        getattr(norm, "weight", None) is not None and getattr(norm, "bias", None) is None
        for norm in (last, *(norm for norm, _ in norms))
    )
    if not plain:
        raise InputError(
            f"{type(model).__name__} does not read and write its hidden state as Llama does (two "
            "RMS norms, o_proj and down_proj a block, a last norm and a head)."
        )
    norms.append((last, (model.get_submodule(head),)))
    return ResidualStream(model.get_input_embeddings(), tuple(norms), tuple(writers))


def untie(model: nn.Module) -> None:
    """Give the output head a matrix of its own where it shares the embedding's, in place."""
    if not is_tied(model):
        return
    head = model.get_submodule(output_head(model))
    head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
    model.config.tie_word_embeddings = False


def _submodule(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None
