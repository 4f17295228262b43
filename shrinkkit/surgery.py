"""Find, replace and watch the parts of a model: the one file that knows model families.

Compression methods want the same few things from a model: its linear layers by name, its decoder
blocks in order, its output head, and what flows into a layer. Names are those of
`model.named_modules()`, patterns are shell globs over them (`model.layers.*.mlp.*`).

Embeddings and norms are not linears and are never returned by `find_linears`; the output head is a
linear, but a special one (it is large, sensitive and often tied to the embedding), so it is found
by `output_head` and excluded from `find_linears` unless asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from shrinkkit.errors import InputError, near_matches

# Where each model family keeps its repeated blocks.
BLOCK_PATHS = (
    "model.layers",  # Llama, Mistral, Qwen2, Gemma
    "layers",  # LlamaModel without a head
    "transformer.h",  # GPT-2
    "h",
    "gpt_neox.layers",  # Pythia
    "model.decoder.layers",  # OPT
    "bert.encoder.layer",  # BERT with a task head
    "encoder.layer",  # BERT
    "distilbert.transformer.layer",  # DistilBERT with a task head
    "transformer.layer",  # DistilBERT
    "mobilebert.encoder.layer",
)

# Inside a block: a module, and the linears that are the only readers of its output.
SOLE_READERS = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),  # Llama
    ("self_attn.v_proj", ("self_attn.o_proj",)),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
    ("mlp.up_proj", ("mlp.down_proj",)),
    ("attention.self.value", ("attention.output.dense",)),  # BERT
)


@dataclass(frozen=True)
class NormGroup:
    """Name a norm or a linear of a block, and the linears that alone read its output.

    Dividing the channels of `source` by some scale and multiplying the columns of all `consumers`
    by it changes no output of the block. Names are relative to the block.

    n_channels: channels of the source, one scale each.
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

    def columns(self, per_channel: torch.Tensor) -> torch.Tensor:
        """Repeat one value a channel of the source for each column: [n_channels] -> [columns]."""
        heads = per_channel.reshape(-1, 1, self.head_dim)  # [kv heads, 1, head_dim]
        return heads.expand(-1, self.repeat, -1).flatten()

    def channels(self, per_column: torch.Tensor) -> torch.Tensor:
        """Take the largest value of each channel's columns: [columns] -> [n_channels]."""
        return per_column.reshape(-1, self.repeat, self.head_dim).amax(dim=1).flatten()


def is_packed(module: nn.Module) -> bool:
    """Tell whether a module holds a compressed weight (it can `dequantize()`)."""
    return hasattr(module, "dequantize") and hasattr(module, "nbytes")


def is_compressed(model: nn.Module) -> bool:
    """Tell whether some layer of the model is compressed already.

    >>> is_compressed(nn.Linear(2, 2))
    False
    """
    return any(is_packed(module) for module in model.modules())


def _matches(name: str, patterns: str | Iterable[str]) -> bool:
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def output_head(model: nn.Module) -> str | None:
    """Return the name of a language model's output layer (hidden -> vocabulary), or None.

    >>> output_head(nn.Sequential(nn.Linear(2, 2))) is None
    True
    """
    getter = getattr(model, "get_output_embeddings", None)
    head = getter() if getter else None
    if head is None:
        return None
    return next((name for name, module in model.named_modules() if module is head), None)


def input_embedding(model: nn.Module) -> str | None:
    """Return the name of the token embedding, or None."""
    getter = getattr(model, "get_input_embeddings", None)
    embedding = getter() if getter else None
    return next((name for name, module in model.named_modules() if module is embedding), None)


def is_tied(model: nn.Module) -> bool:
    """Tell whether embedding and output head are one and the same matrix."""
    head, embedding = output_head(model), input_embedding(model)
    if head is None or embedding is None:
        return False
    weights = [getattr(model.get_submodule(name), "weight", None) for name in (head, embedding)]
    return weights[0] is not None and weights[0] is weights[1]


def find_linears(
    model: nn.Module,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    *,
    head: bool = False,
) -> dict[str, nn.Module]:
    """Find linear layers, float or packed, by glob on their full names.

    model: any module.
    include, exclude: one glob or several; a layer is taken when it matches an include and no
        exclude.
    head: take the output head too.
    Returns {name: module} in the model's order.
    Raises InputError when nothing matches, naming layers that exist.

    >>> list(find_linears(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "2"))
    ['2']
    """
    skipped = None if head else output_head(model)
    linears = {
        name: module
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) or is_packed(module)) and name != skipped
    }
    found = {
        name: module
        for name, module in linears.items()
        if _matches(name, include) and not _matches(name, exclude)
    }
    if not found:
        examples = near_matches(include, linears) or list(linears)[:3]
        raise InputError(
            f"No linear layer matches include={include!r}, exclude={exclude!r}. The model has "
            f"{len(linears)}, for example {', '.join(examples) or 'none'}."
        )
    return found


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `name` stands in the model.

    Raises InputError for a name that the model does not have, with near matches.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> replace_module(model, "0", nn.Identity())
    >>> model[0]
    Identity()
    """
    names = [existing for existing, _ in model.named_modules()]
    if name not in names or not name:
        near = near_matches(name, names)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"The model has no module named {name!r}.{hint}")
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def decoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the model's repeated blocks in order, {name: module}.

    Raises InputError for a family whose blocks this file does not know.
    """
    for path in BLOCK_PATHS:
        try:
            blocks = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(blocks, nn.ModuleList):
            return {f"{path}.{i}": block for i, block in enumerate(blocks)}
    raise InputError(
        f"{type(model).__name__} keeps its blocks at none of {', '.join(BLOCK_PATHS)}; add its "
        "path to BLOCK_PATHS in shrinkkit/surgery.py."
    )


def norm_groups(block: nn.Module) -> list[NormGroup]:
    """Find what can be rescaled inside a block for nothing: each source and all its readers.

    Llama-like blocks (Llama, Mistral, Qwen2) have four: v_proj and o_proj (attention is linear in
    its values), up_proj and down_proj (the gate multiplies), and each norm with what reads it.
    BERT's norms stand behind the residual sum, which goes on to the next sum as well as to the
    linears, so that scaling them is not free: of its four only value and attention.output is left
    (GELU stands between the other two).

    block: one of `decoder_blocks(model).values()`.
    Returns groups in the block's own order.
    Raises InputError for a block of another family.
    """
    found = []
    for source, consumers in SOLE_READERS:
        modules = [_submodule(block, name) for name in (source, *consumers)]
        if None in modules:
            continue
        n_channels = modules[0].weight.shape[0]
        repeat, rest = divmod(modules[1].in_features, n_channels)
        attention = block.get_submodule(source.rpartition(".")[0])
        head_dim = n_channels if repeat == 1 else getattr(attention, "head_dim", None)
        if rest or head_dim is None:
            continue  # something else stands between the two
        found.append(NormGroup(source, consumers, n_channels, repeat, head_dim))
    if not found:
        raise InputError(
            f"{type(block).__name__} has none of the pairs that this file knows "
            f"({', '.join(source for source, _ in SOLE_READERS)}); add its own to SOLE_READERS in "
            "shrinkkit/surgery.py."
        )
    return found


@torch.no_grad()
def rescale(block: nn.Module, group: NormGroup, scale: torch.Tensor) -> None:
    """Divide a source's channels by `scale` and multiply the columns that read them, in place.

    group: one of `norm_groups(block)`; scale: [n_channels], above 0. The block computes the same
    function afterwards, to rounding.
    """
    source = block.get_submodule(group.source)
    per_row = scale if source.weight.ndim == 1 else scale[:, None]
    source.weight.copy_(source.weight / per_row)
    if getattr(source, "bias", None) is not None:
        source.bias.copy_(source.bias / scale)
    for name in group.consumers:
        weight = block.get_submodule(name).weight
        weight.copy_(weight * group.columns(scale))


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
        type(norm).__name__.endswith("RMSNorm") and getattr(norm, "bias", None) is None
        for norm in (last, *(norm for norm, _ in norms))
    )
    if not plain or "Gemma" in type(model).__name__:  # Gemma's norms multiply by 1 + weight
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


@contextmanager
def watch_inputs(
    model: nn.Module, watchers: Mapping[str, Callable[[torch.Tensor], None]]
) -> Iterator[None]:
    """Show some layers' inputs to a function each while the block runs; nothing is kept.

    watchers: {full module name: function of the input [..., in_features], detached}.

    >>> layer, shapes = nn.Sequential(nn.Linear(2, 3)), []
    >>> with watch_inputs(layer, {"0": lambda x: shapes.append(x.shape)}):
    ...     _ = layer(torch.ones(1, 2))
    >>> shapes
    [torch.Size([1, 2])]
    """
    handles = []

    def hook_of(watch: Callable[[torch.Tensor], None]):
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            watch(args[0].detach())

        return hook

    try:
        for name, watch in watchers.items():
            handles.append(model.get_submodule(name).register_forward_pre_hook(hook_of(watch)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture_inputs(
    model: nn.Module, names: Iterable[str]
) -> Iterator[dict[str, list[torch.Tensor]]]:
    """Record what flows into some layers while the block runs.

    names: full module names.
    Yields {name: [input of each call, [..., in_features], detached]}.

    >>> layer = nn.Sequential(nn.Linear(2, 3))
    >>> with capture_inputs(layer, ["0"]) as seen:
    ...     _ = layer(torch.ones(1, 2))
    >>> seen["0"][0].shape
    torch.Size([1, 2])
    """
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    with watch_inputs(model, {name: inputs.append for name, inputs in seen.items()}):
        yield seen


def clone(model: nn.Module, shared: Iterable[torch.Tensor] = ()) -> nn.Module:
    """Return a deep copy of the model: same class, own weights, ties kept.

    shared: tensors that the copy may share with the model, because they are about to be replaced
        in it; copying them would double the peak memory for nothing.
    """
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})
