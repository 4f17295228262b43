"""The end of a streamed quantization: round the head, and copy everything into one folder.

The head is as wide as the vocabulary and can be larger than any block, but its rows do not know of
each other: they are read, rounded and packed some thousands at a time. (A grid with one scale for
the whole matrix is the exception; there it has to be held whole.)

The finished file is put together from the blocks' files and, for what stays in float, from the
checkpoint itself, in pieces of a few MiB. It is the file that `io.save` writes for the same model,
so that whatever opens that opens this. Its digest is taken in a first pass over the pieces, because
it stands in the header, in front of them.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from shrinkkit.errors import InputError
from shrinkkit.quant.grids.affine import choose_qparams, quantize, search_qparams
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.kernels import UNPACK
from shrinkkit.quant.store.io import OWN_FILES, digest_of, layer_entry, pack_beside, version_of
from shrinkkit.quant.store.unfinished import Unfinished
from shrinkkit.sources.models import PAGE, QUANTIZED_FILE
from shrinkkit.surgery.parts import decoder_blocks, output_head, tied_embeddings
from shrinkkit.surgery.skeleton import Skeleton
from shrinkkit.surgery.tensor_files import TensorFiles, write_tensors
from shrinkkit.system.files import write_atomically
from shrinkkit.train.resume import write_page

# What of a checkpoint's folder is not carried over: its weights, and what is written anew.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
_INDEX = ".index.json"
_WEIGHTS_AT_ONCE = 2**23  # of the head, in float32: 32 MiB


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file and is to be written to another: from where, in which dtype."""

    files: TensorFiles
    name: str
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self.files.entries[self.name].shape

    @property
    def n_bytes(self) -> int:
        """Bytes that it will take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def pieces(self) -> Iterator[torch.Tensor]:
        """Yield it in pieces, in the dtype to be written."""
        return self.files.pieces(self.name, self.dtype)


def round_head(
    skeleton: Skeleton, fmt: Format, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Round the output head to nearest, some rows at a time, as `model.quantize_head` does whole.

    Returns (tensors by name, what `Unfinished.save_part` keeps beside them).
    Raises InputError for weights that are not finite.
    """
    head = output_head(skeleton.model)
    name = skeleton.names[f"{head}.weight"]
    shape = skeleton.files.entries[name].shape
    step = shape[0] if fmt.granularity == "per_tensor" else max(1, _WEIGHTS_AT_ONCE // shape[1])
    choose = search_qparams if fmt.bits < 8 else choose_qparams
    parts: list[dict[str, torch.Tensor]] = []
    for first in tqdm(range(0, shape[0], step), desc=f"head to {fmt}", unit="part", leave=False):
        weight = skeleton.files.rows(name, first, min(first + step, shape[0])).float()
        try:
            scale, zero_point = choose(weight, fmt)
            q = quantize(weight, scale, zero_point, fmt)
        except InputError as error:
            raise InputError(f"Layer {head}, rows from {first} on: {error}") from None
        parts.append(UNPACK.store(q, scale, zero_point, fmt))
    whole = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    tensors = {f"{head}.{key}": value for key, value in pack_beside(whole, fmt).items()}
    return tensors, {"layers": {head: layer_entry(fmt, shape, dtype)}}


def write_target(
    target: Path,
    folder: Path,
    skeleton: Skeleton,
    unfinished: Unfinished,
    packed_head: bool,
    dtype: torch.dtype,
    page: Mapping[str, Any],
) -> list[str]:
    """Put a finished run together: the target is there as a whole or not at all.

    folder: the checkpoint, for its tokenizer; packed_head: whether `unfinished` holds a head;
    dtype: of what stays in float; page: what the run is of.
    Returns the notes that rounding the blocks left.
    """
    tensors, header, notes = _gather(skeleton, unfinished, packed_head, dtype)
    n_bytes = sum(tensor.n_bytes for tensor in tensors.values())
    with tqdm(total=2 * n_bytes, desc="writing", unit="B", unit_scale=True, leave=False) as bar:

        def pieces(name: str) -> Iterator[torch.Tensor]:
            for piece in tensors[name].pieces():
                bar.update(piece.numel() * piece.element_size())
                yield piece

        header["sha256"] = digest_of(tensors, pieces)
        with write_atomically(target, needed_bytes=n_bytes, replaces=OWN_FILES) as temporary:
            temporary.mkdir()
            about = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
            write_tensors(
                temporary / QUANTIZED_FILE, about, pieces, {"shrinkkit": json.dumps(header)}
            )
            _write_pages(temporary, folder, skeleton.model, dtype)
            write_page(temporary / PAGE, page)
    return notes


def _gather(
    skeleton: Skeleton, unfinished: Unfinished, packed_head: bool, dtype: torch.dtype
) -> tuple[dict[str, Stored], dict[str, Any], list[str]]:
    """Return (every tensor of the finished file and where it lies now, the header, notes)."""
    model = skeleton.model
    blocks, head = decoder_blocks(model), output_head(model)
    tensors: dict[str, Stored] = {}
    layers: dict[str, Any] = {}
    notes: list[str] = []
    for part in [*range(len(blocks)), *([Unfinished.HEAD] if packed_head else [])]:
        files, about = unfinished.part(part)
        tensors |= {name: Stored(files, name, e.dtype) for name, e in files.entries.items()}
        layers |= about["layers"]
        notes += about.get("notes", [])
    tied: dict[str, str] = {}
    packed = {f"{head}.weight"} if packed_head else set()
    for name in tied_embeddings(model) if packed_head else ():
        tied[name] = head  # it reads the head's packed rows
        packed.add(f"{name}.weight")
    inside = tuple(f"{name}." for name in blocks)
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in packed or name.startswith(inside) or name not in skeleton.names:
            continue
        if first.setdefault(id(tensor), name) != name:
            tied[name] = first[id(tensor)]
            continue
        found = skeleton.names[name]
        own = skeleton.files.entries[found].dtype
        tensors[name] = Stored(skeleton.files, found, dtype if own.is_floating_point else own)
    header = {"version": version_of(layers), "layers": layers, "tied": tied}
    return tensors, header | {"architecture": type(model).__name__}, notes


def _write_pages(place: Path, folder: Path, model: Any, dtype: torch.dtype) -> None:
    """Write config and generation config, and copy all that is not weights as it is.

    The tokenizer is among it, with whatever files its class has, and the license.
    """
    model.config.dtype = dtype
    model.config.save_pretrained(place)
    for path in sorted(folder.iterdir()):
        weights = path.name.endswith((*_WEIGHTS, _INDEX))
        if weights or path.name.startswith(".") or path.name == "config.json":
            continue
        if path.is_dir() and not any(part.name.endswith(_WEIGHTS) for part in path.rglob("*")):
            shutil.copytree(path, place / path.name)
        elif path.is_file():
            shutil.copyfile(path, place / path.name)
    generation = getattr(model, "generation_config", None)
    if generation is not None and not (place / "generation_config.json").exists():
        generation.save_pretrained(place)
