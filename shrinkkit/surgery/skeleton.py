"""A model whose weights are still on disk, filled in one block at a time.

The skeleton is the ordinary transformers model, made from config.json on torch's meta device, where
a tensor has a shape and no memory. What surrounds the blocks (the last norm, learned positions) is
small and read at once; a block is read when it is its turn and emptied after it. Of the embedding
only the rows of the calibration text's own tokens are read, which is never more than the
activations that they become; the head is not run at all.

Names are the model's own, looked up in the checkpoint with and without the family's prefix
("model."), and tied tensors need to be there once. Everything that is missing or has another shape
is found before any work is done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shrinkkit.errors import AssetError, InputError
from shrinkkit.sources.models import QUANTIZED_FILE
from shrinkkit.sources.opening import auto_class, plain_load_errors
from shrinkkit.surgery.parts import decoder_blocks, input_embedding, is_tied, output_head
from shrinkkit.surgery.tensor_files import TensorFiles


@dataclass(frozen=True)
class Skeleton:
    """A model without its blocks' weights, the files they lie in, and which lies where.

    model: a transformers model in eval mode; float weights are float32 once they are read.
    names: {tensor of the model: its name in `files`}; tied tensors share a name.
    """

    model: nn.Module
    files: TensorFiles
    names: Mapping[str, str]

    @classmethod
    def of_folder(cls, folder: Path) -> Skeleton:
        """Open a checkpoint's folder: config.json, and safetensors in one file or several.

        Raises InputError for a checkpoint that is quantized already, AssetError for files that are
        missing, damaged, pickled or do not fit the config.
        """
        if (folder / QUANTIZED_FILE).is_file():
            raise InputError(f"{folder} holds a model that shrinkkit has quantized already.")
        files = TensorFiles.of_folder(folder)
        model = _on_meta(folder)
        if is_tied(model) and head_differs(model, files):
            head = model.get_submodule(output_head(model))  # as transformers decides it, too
            head.weight = nn.Parameter(torch.empty_like(head.weight), requires_grad=False)
        names = _names(folder, model, files)
        made = cls(model, files, names)
        made._fill_surroundings()
        return made

    def fill(self, name: str) -> None:
        """Read a block's weights into place, float ones as float32."""
        block = self.model.get_submodule(name)
        block.load_state_dict(self._read(name, block), strict=False, assign=True)

    def empty(self, name: str) -> None:
        """Let go of a block and all that it holds."""
        block = self.model.get_submodule(name)
        for child in list(block._modules):
            setattr(block, child, nn.Identity())

    def _read(self, name: str, module: nn.Module) -> dict[str, torch.Tensor]:
        """Read a module's tensors; a buffer that no file holds keeps what it was made with."""
        full = {leaf: f"{name}.{leaf}" if name else leaf for leaf in module.state_dict()}
        return {
            leaf: self.files.read(self.names[full[leaf]]).to(tensor.dtype)
            for leaf, tensor in module.state_dict().items()
            if full[leaf] in self.names
        }

    def _fill_surroundings(self) -> None:
        for name in self.surroundings():
            owner, _, leaf = name.rpartition(".")
            module = self.model.get_submodule(owner)
            tensor = self.files.read(self.names[name]).to(getattr(module, leaf).dtype)
            module.load_state_dict({leaf: tensor}, strict=False, assign=True)

    def stored_dtype(self) -> torch.dtype:
        """Return the checkpoint's floating dtype, as its embedding has it."""
        found = self.names[f"{input_embedding(self.model)}.weight"]
        dtype = self.files.entries[found].dtype
        return dtype if dtype.is_floating_point else torch.float32

    def surroundings(self) -> list[str]:
        """Return the tensors outside of blocks, embedding and head."""
        apart = [*decoder_blocks(self.model), input_embedding(self.model), output_head(self.model)]
        starts = tuple(f"{name}." for name in apart if name)
        return [name for name in self.names if not name.startswith(starts)]

    @contextmanager
    def embedding_of(self, tokens: torch.Tensor) -> Iterator[None]:
        """Let the embedding answer for the ids that occur in `tokens`, and for those alone.

        The table holds their rows only, and a hook turns each id into its row's number before the
        embedding looks it up; whatever else the family's embedding does (scaling) stays as it is.
        """
        embedding = self.model.get_input_embeddings()
        before = embedding.weight, embedding.padding_idx
        ids = tokens.unique()  # sorted
        rows = self.files.pick(self.names[f"{input_embedding(self.model)}.weight"], ids)
        embedding.weight = nn.Parameter(rows.float(), requires_grad=False)
        embedding.padding_idx = None  # it may lie outside of the small table, and changes nothing

        def to_rows(_: nn.Module, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return torch.searchsorted(ids, args[0]), *args[1:]

        handle = embedding.register_forward_pre_hook(to_rows)
        try:
            yield
        finally:
            handle.remove()
            embedding.weight, embedding.padding_idx = before


def _on_meta(folder: Path) -> nn.Module:
    """Make the model from its config, without memory for its weights."""
    from accelerate import init_empty_weights
    from transformers import AutoConfig

    with plain_load_errors(str(folder), folder, ""):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "quantization_config", None) is not None:
            raise InputError(
                f"{folder} says in its config that it is quantized already; start from the "
                "original checkpoint."
            )
        with init_empty_weights(include_buffers=False):
            family = auto_class(str(folder))
            model = family.from_config(config, dtype=torch.float32, trust_remote_code=False)
        model.tie_weights()  # making each weight anew on the meta device undid it
    return model.eval()


def spellings(model: nn.Module, name: str) -> tuple[str, ...]:
    """Return a name as checkpoints with and without a head spell it.

    >>> spellings(nn.Linear(2, 2), "weight")
    ('weight', 'weight', '.weight')
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    return name, name.removeprefix(prefix), prefix + name


def stored_name(model: nn.Module, name: str, files: TensorFiles) -> str | None:
    """Return a tensor's name in the files, or None where they lack it."""
    return next((spelling for spelling in spellings(model, name) if spelling in files), None)


def head_differs(model: nn.Module, files: TensorFiles) -> bool:
    """Tell whether a head that the config ties to the embedding has weights of its own."""
    parts = input_embedding(model), output_head(model)
    found = [stored_name(model, f"{part}.weight", files) for part in parts]
    return None not in found and found[0] != found[1] and not files.equal(*found)


def _names(folder: Path, model: nn.Module, files: TensorFiles) -> dict[str, str]:
    """Find every tensor of the model in the files, and look whether its shape is right."""
    tensors = model.state_dict(keep_vars=True)
    of_tensor: dict[int, str] = {}
    for name, tensor in tensors.items():  # tied tensors are one and the same
        found = stored_name(model, name, files)
        if found is not None:
            of_tensor.setdefault(id(tensor), found)
    names = {name: of_tensor[id(t)] for name, t in tensors.items() if id(t) in of_tensor}
    needed = {name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)}
    missing = sorted(needed - set(names))
    if missing:
        raise AssetError(
            f"{folder} lacks {len(missing)} tensors that {type(model).__name__} needs, "
            f"{missing[0]} the first. Does its config.json belong to these weights? (A family "
            "whose tensors transformers merges on loading, as it does experts, cannot be streamed.)"
        )
    for name, found in names.items():
        shape = files.entries[found].shape
        if shape != tuple(tensors[name].shape):
            raise AssetError(
                f"{found} in {folder} has shape {list(shape)}; its config.json asks for "
                f"{list(tensors[name].shape)}."
            )
    return names
