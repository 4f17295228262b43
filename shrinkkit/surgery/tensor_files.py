"""Read a checkpoint one tensor at a time, and write one piece by piece, in little memory.

A safetensors file is three things in a row: 8 bytes that say how long the header is, the header (a
page of JSON: each tensor's name, dtype, shape and place), and the tensors' bytes. The usual reader
maps the file into memory. That is quick, but each page of the file that was touched then counts as
the process's own until the system takes it back, so reading a checkpoint from end to end shows up
as the whole checkpoint in memory, and a machine or container with a limit may well end the process.

So safetensors' own reader is not used here: a tensor is read by its offset, with ordinary reads,
into memory that the caller owns and frees. A single row or a few can be read too: the embedding of
a sentence needs a dozen rows of a table of 100,000. What is written goes from file to file in
pieces of a few MiB.

Large checkpoints come as several files with an index, which says what tensor lies in which file.
Weights in pickle files (`pytorch_model.bin`) are not opened: a pickle can run code.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shrinkkit.errors import AssetError

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_PIECE_BYTES = 8 * 2**20
_ENDS_BYTES = 4096


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies: file, first byte in it; and what it is: dtype and shape."""

    path: Path
    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, which is everything behind the first dimension."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class TensorFiles:
    """The tensors of some safetensors files, by name; a tensor is read when it is asked for.

    Made from files or, with `of_folder`, from a checkpoint's folder. `entries` is {name: Entry}.
    Raises AssetError for files that are missing, cut short or no safetensors.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.entries: dict[str, Entry] = {}
        for path in paths:
            self.entries |= _entries_of(Path(path))[0]

    @classmethod
    def of_folder(cls, folder: Path) -> TensorFiles:
        """Open a folder with `model.safetensors`, or with several files and their index."""
        return cls(_files_of(folder))

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def read(self, name: str) -> torch.Tensor:
        """Return a tensor in its own dtype."""
        entry = self.entries[name]
        return _read(entry, 0, entry.n_bytes).view(entry.dtype).view(entry.shape)

    def rows(self, name: str, first: int, last: int) -> torch.Tensor:
        """Return the rows first..last - 1 of a tensor, [last - first, ...], in its own dtype."""
        entry = self.entries[name]
        size = entry.row_bytes
        flat = _read(entry, first * size, (last - first) * size).view(entry.dtype)
        return flat.view(last - first, *entry.shape[1:])

    def pick(self, name: str, index: torch.Tensor) -> torch.Tensor:
        """Return some rows: index [n] -> [n, ...], in the tensor's own dtype."""
        entry = self.entries[name]
        picked = torch.empty(len(index), entry.row_bytes, dtype=torch.uint8)
        with open(entry.path, "rb", buffering=0) as stream:
            for row, number in zip(picked, index.tolist(), strict=True):
                _fill(row, stream, entry, number * entry.row_bytes)
        return picked.view(entry.dtype).view(len(index), *entry.shape[1:])

    def pieces(self, name: str, dtype: torch.dtype | None = None) -> Iterator[torch.Tensor]:
        """Yield a tensor as runs of whole rows of a few MiB, in order, in `dtype` or its own."""
        entry = self.entries[name]
        if not entry.shape:
            yield self.read(name).to(dtype or entry.dtype)
            return
        step = max(1, _PIECE_BYTES // max(1, entry.row_bytes))
        for first in range(0, entry.shape[0], step):
            piece = self.rows(name, first, min(first + step, entry.shape[0]))
            yield piece.to(dtype or entry.dtype)

    def equal(self, one: str, other: str) -> bool:
        """Tell whether two tensors hold the same values."""
        if self.entries[one].shape != self.entries[other].shape:
            return False
        pairs = zip(self.pieces(one), self.pieces(other), strict=True)
        return all(torch.equal(left, right.to(left.dtype)) for left, right in pairs)

    def fingerprint(self) -> str:
        """Return a SHA-256 that tells checkpoints apart without reading them whole.

        Over every tensor's name, dtype and shape and the two ends of its bytes. Two trainings of
        one architecture differ in all of them; a byte changed in the middle is not seen.
        """
        digest = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            digest.update(repr((name, _NAMES[entry.dtype], entry.shape)).encode())
            ends = min(_ENDS_BYTES, entry.n_bytes)
            digest.update(_read(entry, 0, ends).numpy())
            digest.update(_read(entry, entry.n_bytes - ends, ends).numpy())
        return digest.hexdigest()


def write_tensors(
    path: Path,
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    pieces: Callable[[str], Iterable[torch.Tensor]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file whose tensors are never in memory as a whole.

    tensors: {name: (dtype, shape)}; pieces: what gives a tensor, by its name, in that dtype and as
        runs of its values in order; metadata: free text entries of the header.
    Wide dtypes go first, so that every tensor begins at a multiple of its element's size; among
    equals the names' order decides, so that equal tensors make equal files.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        dtype, shape = tensors[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        about = {"dtype": _NAMES[dtype], "shape": list(shape)}
        header[name] = about | {"data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in pieces(name):
                stream.write(piece.contiguous().view(-1).view(torch.uint8).numpy())
        if stream.tell() != 8 + len(text) + end:
            raise ValueError("the pieces do not have the bytes of their tensors' shapes")


def metadata_of(path: Path) -> dict[str, str]:
    """Return the free text entries of a safetensors file's header."""
    return _entries_of(path)[1]


def _files_of(folder: Path) -> list[Path]:
    """Return the safetensors files of a checkpoint's folder."""
    if (folder / INDEX).is_file():
        try:
            placed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(placed.values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise AssetError(f"{folder / INDEX} is damaged ({error}). Copy it again.") from None
        missing = [
            name for name in names if Path(name).name != name or not (folder / name).is_file()
        ]
        if missing:
            raise AssetError(
                f"{folder} lacks {len(missing)} of the {len(names)} files that its index names, "
                f"{missing[0]} the first. Copy the checkpoint again."
            )
        return [folder / name for name in names]
    if (folder / WHOLE).is_file():
        return [folder / WHOLE]
    pickles = sorted(
        p.name for end in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{end}")
    )
    held = f"only pickle files ({pickles[0]})" if pickles else "no weights"
    raise AssetError(
        f"{folder} holds {held}. Weights are read from safetensors alone, because a pickle can run "
        "code: get the checkpoint's safetensors version, or make one with "
        "save_pretrained(folder) where you trust it."
    )


def _entries_of(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """Read a file's header: ({name: Entry}, free text entries)."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= size - 8:
                raise ValueError("its header is longer than the file")
            header = json.loads(stream.read(length))
        metadata = header.pop("__metadata__", {})
        entries = {}
        for name, about in header.items():
            start, end = about["data_offsets"]
            shape = tuple(int(n) for n in about["shape"])
            entry = Entry(path, 8 + length + start, DTYPES[about["dtype"]], shape)
            if start < 0 or end - start != entry.n_bytes:
                raise ValueError(f"{name} does not have the bytes of its shape")
            if entry.start + entry.n_bytes > size:
                raise ValueError("it was cut short")
            entries[name] = entry
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise AssetError(
            f"{path} is damaged or is no safetensors file that this shrinkkit reads "
            f"({type(error).__name__}: {error}). Copy it once more from where it came."
        ) from None
    return entries, metadata


def _read(entry: Entry, offset: int, n_bytes: int) -> torch.Tensor:
    """Return some of a tensor's bytes, [n_bytes] uint8."""
    flat = torch.empty(n_bytes, dtype=torch.uint8)
    with open(entry.path, "rb", buffering=0) as stream:
        _fill(flat, stream, entry, offset)
    return flat


def _fill(flat: torch.Tensor, stream: Any, entry: Entry, offset: int) -> None:
    """Read bytes from a tensor's offset on until `flat` [n] uint8 is full."""
    stream.seek(entry.start + offset)
    left = memoryview(flat.numpy())
    while left:
        n = stream.readinto(left)  # at most 2 GiB at once
        if not n:
            raise AssetError(f"{entry.path} was cut short while it was read.")
        left = left[n:]
