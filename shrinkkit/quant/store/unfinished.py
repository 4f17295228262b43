"""A folder that holds as much of a long quantization as is done, so that it can go on.

For each finished block there is a file with its packed tensors, and there are the activations that
come out of the newest one; both are written under another name and renamed, the activations after
the block. So whenever the process is killed, the newest activations say where to go on, and what
lies behind them is whole. Nothing else has a state: windows, positions and mask are made again from
the calibration tokens. A run that goes on therefore writes the same bytes as one that was never
interrupted, on the same machine with as many threads (sums in another order differ in last bits).

`run.json` says what the run is of: the grid, the settings, and digests of checkpoint and text. A
run of anything else is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shrinkkit.errors import AssetError, InputError
from shrinkkit.surgery.tensor_files import TensorFiles, metadata_of
from shrinkkit.system.files import write_atomically
from shrinkkit.train.resume import ANEW, plain, read_page, refuse_other, write_page

PAGE = "run.json"


class Unfinished:
    """The folder of an unfinished run.

    `HEAD` and the blocks' numbers name its parts; each is a safetensors file with a page of JSON.
    """

    HEAD = "head"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, page: Mapping[str, Any], *, restart: bool = False) -> None:
        """Claim the folder for a run, or find that it holds the beginning of the same run.

        page: what the run is of, plain JSON values.
        restart: throw away what is there.
        Raises InputError for the folder of another run, naming what differs, or of someone else.
        """
        path = self.folder / PAGE
        foreign = self.folder.is_dir() and not path.is_file() and self._has_files()
        if foreign or (self.folder.exists() and not self.folder.is_dir()):
            raise InputError(
                f"{self.folder} is needed for the unfinished run and holds something else. Move it "
                "away, or name another target."
            )
        if restart or not self._has_parts():  # what failed before its first block binds nobody
            self.remove()
        if path.is_file():
            refuse_other(self.folder, read_page(path), page)
            return
        write_page(path, page)

    def is_of(self, page: Mapping[str, Any]) -> bool:
        """Tell whether the folder holds the beginning of this run."""
        path = self.folder / PAGE
        return path.is_file() and read_page(path) == plain(page)

    def _has_parts(self) -> bool:
        return any(self.folder.glob("*.safetensors"))

    def _has_files(self) -> bool:
        return any(not path.name.startswith(".tmp-") for path in self.folder.iterdir())

    def done(self) -> int:
        """Return how many blocks are finished."""
        whole = sorted(path.stem for path in self.folder.glob("hidden-*.safetensors"))
        return int(whole[-1].removeprefix("hidden-")) if whole else 0

    def hidden(self, number: int) -> torch.Tensor:
        """Return the activations after `number` blocks, [n_samples, seq_len, hidden]."""
        return TensorFiles([self._path(f"hidden-{number:05d}")]).read("hidden")

    def save_part(
        self, part: int | str, tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any]
    ) -> None:
        """Write a block's (or the head's) tensors, under their names in the whole model."""
        self._save(_name(part), tensors, {"about": json.dumps(about)})

    def save_hidden(self, number: int, hidden: torch.Tensor) -> None:
        """Write the activations after `number` blocks, then remove the older ones."""
        older = list(self.folder.glob("hidden-*.safetensors"))
        self._save(f"hidden-{number:05d}", {"hidden": hidden}, {})
        for path in older:
            if path != self._path(f"hidden-{number:05d}"):
                path.unlink(missing_ok=True)

    def part(self, part: int | str) -> tuple[TensorFiles, dict[str, Any]]:
        """Open what `save_part` wrote: (tensors, about). Raises AssetError where it is damaged."""
        path = self._path(_name(part))
        try:
            return TensorFiles([path]), json.loads(metadata_of(path)["about"])
        except (KeyError, ValueError) as error:
            raise AssetError(
                f"{path} is damaged ({type(error).__name__}: {error}). {ANEW}"
            ) from None

    def has(self, part: int | str) -> bool:
        """Tell whether a part was written."""
        return self._path(_name(part)).is_file()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _save(
        self, name: str, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str]
    ) -> None:
        from safetensors.torch import save_file

        kept = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
        with write_atomically(self._path(name), needed_bytes=size) as temporary:
            save_file(kept, temporary, metadata)


def _name(part: int | str) -> str:
    return part if isinstance(part, str) else f"block-{part:05d}"
