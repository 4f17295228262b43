"""Find, replace and watch the parts of a model, whatever its family.

Compression methods want the same few things from a model: its linear layers by name, its decoder
blocks in order, its output head, and what flows into a layer. Names are those of
`model.named_modules()`, patterns are shell globs over them (`model.layers.*.mlp.*`).

Embeddings and norms are not linears and are never returned by `find_linears`; the output head is a
linear, but a special one (it is large, sensitive and often tied to the embedding), so it is found
by `output_head` and excluded from `find_linears` unless asked for.

What can be rescaled or turned in a model without changing what it computes is in `invariance.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import nn

from shrinkkit.errors import InputError, did_you_mean, near_matches
from shrinkkit.surgery.matrices import is_linear, is_packed

# Where the common families keep their repeated blocks; of others, the one stack of that many.
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


def is_compressed(model: nn.Module) -> bool:
    """Tell whether some layer of the model is compressed already, by this package.

    >>> is_compressed(nn.Linear(2, 2))
    False
    """
    return any(is_packed(module) for module in model.modules())


def matches(name: str, include: str | Iterable[str], exclude: str | Iterable[str] = ()) -> bool:
    """Tell whether a name matches one of the globs `include` and none of `exclude`.

    >>> matches("model.layers.3.mlp", "*.mlp", exclude="*.3.*")
    False
    """

    def one_of(patterns: str | Iterable[str]) -> bool:
        patterns = (patterns,) if isinstance(patterns, str) else patterns
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    return one_of(include) and not one_of(exclude)


def output_head(model: nn.Module) -> str | None:
    """Return the name of a language model's output layer (hidden -> vocabulary), or None.

    >>> output_head(nn.Sequential(nn.Linear(2, 2))) is None
    True
    """
    head = _asked(model, "get_output_embeddings")
    if head is None:
        return None
    return next((name for name, module in model.named_modules() if module is head), None)


def input_embedding(model: nn.Module) -> str | None:
    """Return the name of the token embedding, or None."""
    embedding = _asked(model, "get_input_embeddings")
    return next((name for name, module in model.named_modules() if module is embedding), None)


def _asked(model: nn.Module, getter: str) -> nn.Module | None:
    """Ask a transformers model for a part; None where it has no such part, or no answer."""
    try:
        return getattr(model, getter, lambda: None)()
    except NotImplementedError:
        return None


def tied_embeddings(model: nn.Module) -> list[str]:
    """Return the names of the embeddings whose matrix is the output head's, in float.

    Encoder and decoder of BART look up in the head's matrix through embeddings of their own.
    """
    head = output_head(model)
    weight = None if head is None else model.get_submodule(head)._parameters.get("weight")
    return [
        name
        for name, module in model.named_modules()
        if weight is not None
        and isinstance(module, nn.Embedding)
        and module._parameters.get("weight") is weight
    ]


def is_tied(model: nn.Module) -> bool:
    """Tell whether embedding and output head are one and the same matrix, in float."""
    return input_embedding(model) in tied_embeddings(model)


def find_linears(
    model: nn.Module,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    *,
    head: bool = False,
    needed: bool = True,
) -> dict[str, nn.Module]:
    """Find linear layers, float or packed, by glob on their full names.

    Linear is what computes x @ weight.T + bias and nothing else (`matrices.is_linear`).

    model: any module.
    include, exclude: one glob or several; a layer is taken when it matches an include and no
        exclude.
    head: take the output head too.
    needed: refuse to find none.
    Returns {name: module} in the model's order.
    Raises InputError when nothing matches, naming layers that exist.

    >>> list(find_linears(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "2"))
    ['2']
    """
    skipped = None if head else output_head(model)
    linears = {
        name: module
        for name, module in model.named_modules()
        if name != skipped and (is_linear(module) or _is_packed_layer(module))
    }
    found = {n: module for n, module in linears.items() if matches(n, include, exclude)}
    if needed and not found:
        examples = near_matches(include, linears) or list(linears)[:3]
        raise InputError(
            f"No linear layer matches include={include!r}, exclude={exclude!r}. The model has "
            f"{len(linears)}, for example {', '.join(examples) or 'none'}."
        )
    return found


def _is_packed_layer(module: nn.Module) -> bool:
    """Tell a packed layer from packed numbers that another module reads."""
    return is_packed(module) and not getattr(module, "is_held", False)


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `name` stands in the model, under all names that the old one has there.

    name: one of `model.named_modules()`, or another one of the same module.
    Raises InputError for a name that the model does not have, with near matches.

    >>> model = nn.Sequential(nn.Linear(2, 2))
    >>> replace_module(model, "0", nn.Identity())
    >>> model[0]
    Identity()
    """
    try:
        old = model.get_submodule(name) if name else None
    except AttributeError:
        old = None
    if old is None:
        names = [existing for existing, _ in model.named_modules()]
        raise InputError(f"The model has no module named {name!r}.{did_you_mean(name, names)}")
    for owner in model.modules():
        for leaf, child in owner._modules.items():
            if child is old:
                owner._modules[leaf] = module


def decoder_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Return the model's repeated blocks in order, {name: module}.

    Raises InputError for a model that is not one stack of blocks.
    """
    for path in BLOCK_PATHS:
        try:
            blocks = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(blocks, nn.ModuleList):
            return {f"{path}.{i}": block for i, block in enumerate(blocks)}
    stacks = _stacks(model)
    if len(stacks) == 1:
        return {f"{stacks[0]}.{i}": b for i, b in enumerate(model.get_submodule(stacks[0]))}
    raise InputError(
        f"{type(model).__name__} has {len(stacks)} stacks of as many blocks as its configuration "
        f"says ({', '.join(stacks) or 'none'}), and one is needed: methods that go from block to "
        "block are for models that are one stack, so for no encoder with a decoder, and for no "
        "block that is used several times. quantize_model needs no blocks."
    )


def _stacks(model: nn.Module) -> list[str]:
    """Return the outermost lists with as many modules as the configuration has hidden layers."""
    n_blocks = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    found: list[str] = []
    for name, module in model.named_modules():
        inside = name.startswith(tuple(f"{outer}." for outer in found))
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks and not inside:
            found.append(name)
    return found


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
