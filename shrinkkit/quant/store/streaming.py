"""Quantize a checkpoint that is larger than memory: GPTQ, one block at a time, and resumable.

GPTQ goes through a model block by block, and of the other blocks it needs nothing but the
activations that come out of them. So the model need not be there. The walk is that of `calibrated`,
with three additions:

1. a block's weights are read from the checkpoint when it is its turn (`skeleton`);
2. once the text went through the rounded block, its packed tensors go to a file and the block is
   emptied (`unfinished`), and the activations are written too, so that a run that was killed goes
   on with the next block;
3. at the end the packed files, the vocabulary's matrices and the norms are copied together into
   the file that `save` writes, a few MiB at a time, and the target appears under its name at once.

What it costs: memory for the largest block in float32, the Hessian of its widest layer about three
times (5,632 inputs: 127 MB each) and the activations, whatever the number of blocks; disk for the
packed weights twice until the end. The time is that of `gptq_model`, and so are the integers: both
run the same functions on the same numbers.

What stays in float keeps the checkpoint's dtype, while calibration computes in float32. Production
tools (GPTQModel, llm-compressor) also take one decoder layer at a time, onto a GPU, with the others
in main memory or on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrinkkit.calibration import Walk
from shrinkkit.errors import InputError
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.ptq.calibrated import GPTQ, install, round_block, warn_of
from shrinkkit.quant.ptq.model import grid_of_each, weight_step
from shrinkkit.quant.store.assembly import round_head, write_target
from shrinkkit.quant.store.io import is_packed_part, refuse_foreign, tensors_of
from shrinkkit.quant.store.unfinished import Unfinished
from shrinkkit.sources.models import PAGE, QUANTIZED_FILE, checkpoint_folder
from shrinkkit.surgery.parts import decoder_blocks, find_linears, output_head
from shrinkkit.surgery.running import check_tokens, check_vocabulary
from shrinkkit.surgery.skeleton import Skeleton
from shrinkkit.system.allocator import give_back, large_pieces_given_back
from shrinkkit.system.files import lock, sha256_of
from shrinkkit.train.resume import plain, read_page, refuse_other

_PAGE_FORMAT = 1


def gptq_checkpoint(
    source: str | Path,
    target: str | Path,
    calibration: torch.Tensor,
    bits: int | Format | GPTQ = 4,
    group_size: int | None = None,
    *,
    dtype: torch.dtype | None = None,
    restart: bool = False,
    **settings: Any,
) -> Path:
    """Quantize a decoder's checkpoint by GPTQ, from disk to disk, one block in memory at a time.

    Called again after it was interrupted, it goes on with the block it had reached, and writes the
    same bytes. Until the target is there, what is done stands beside it, in `TARGET.partial`.

    source: a folder with config.json and safetensors, in one file or several with an index; an
        embedded name; or a hub name, which is downloaded.
    target: the folder to write, as `save` does; `load_model(target)` opens it.
    calibration: [n_samples, seq_len] integer; windows of token ids, as for `gptq_model`.
    bits, group_size, settings: those of the step `GPTQ`, or a whole one in place of bits; all
        blocks get the same grid.
    dtype: of what stays in float (norms, biases, an embedding that is not tied to a packed head);
        None: that of the checkpoint's embedding.
    restart: throw away an unfinished run, or a finished target that shrinkkit wrote.
    Returns the target.
    Raises InputError: bad settings, token ids outside of the vocabulary, a checkpoint that is
        quantized already, a target or an unfinished run that is of something else; AssetError: a
        checkpoint that is damaged, pickled or lacks tensors; StorageError: a full disk, or another
        process at work on the same target.
    """
    step = weight_step(GPTQ, bits, group_size, settings)
    if step.formats is not None or step.include != "*":
        raise InputError(
            "A run from disk to disk rounds every layer of the blocks to one grid: leave `formats` "
            "and `include` out, or use gptq_model."
        )
    calibration = check_tokens(calibration).cpu()
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
        raise InputError(f"dtype must be a floating torch type or None, but {dtype!r} was given.")
    target = Path(target).expanduser().absolute()
    refuse_foreign(target)
    folder = checkpoint_folder(source)
    skeleton = Skeleton.of_folder(folder)
    check_vocabulary(str(source), skeleton.model, calibration)
    dtype = dtype or skeleton.stored_dtype()
    page = _identity(folder, skeleton, calibration) | _settings(step)
    page["dtype"] = str(dtype).removeprefix("torch.")

    with lock(target, timeout_s=0), large_pieces_given_back():
        unfinished = Unfinished(target.with_name(f"{target.name}.partial"))
        if not restart and _is_finished(target, page, unfinished):
            unfinished.remove()  # left over where the process ended between the last two steps
            return target
        unfinished.begin(page, restart=restart)
        _quantize_blocks(skeleton, calibration, unfinished, step, dtype)
        packs_head = step.head_format is not None and output_head(skeleton.model) is not None
        if packs_head and not unfinished.has(Unfinished.HEAD):
            unfinished.save_part(Unfinished.HEAD, *round_head(skeleton, step.head_format, dtype))
        notes = write_target(target, folder, skeleton, unfinished, packs_head, dtype, page)
        unfinished.remove()
    warn_of(notes, stacklevel=3)
    return target


def _settings(step: GPTQ) -> dict[str, Any]:
    """Return what of a step decides the bytes, flat: both grids' fields, and how GPTQ runs."""

    def flat(fmt: Format, prefix: str = "") -> dict[str, Any]:
        return {f"{prefix}{key}": value for key, value in asdict(fmt).items()}

    head = step.head_format
    names = ("damping", "act_order", "static_groups", "search", "batch_size")
    page = flat(step.format) | {name: getattr(step, name) for name in names}
    return page | ({"head_bits": None} if head is None else flat(head, "head_"))


def _identity(folder: Path, skeleton: Skeleton, calibration: torch.Tensor) -> dict[str, Any]:
    """Say what a run is of: which checkpoint, which text."""
    text = hashlib.sha256(calibration.contiguous().numpy())
    return {
        "format": _PAGE_FORMAT,
        "method": "gptq",
        "config_sha256": sha256_of(folder / "config.json"),
        "weights_fingerprint": skeleton.files.fingerprint(),
        "calibration": list(calibration.shape),
        "calibration_sha256": text.hexdigest(),
    }


def _is_finished(target: Path, page: Mapping[str, Any], unfinished: Unfinished) -> bool:
    """Tell whether the target is this run's result; raises InputError for another's."""
    if not (target / QUANTIZED_FILE).is_file():
        return False
    if not (target / PAGE).is_file():
        raise InputError(
            f"target={str(target)!r} holds a quantized model already. Name another target, or "
            "replace it with restart=True (--restart)."
        )
    if unfinished.is_of(page) and read_page(target / PAGE) != plain(page):
        return False  # it was begun with restart=True, to replace the target
    refuse_other(target, read_page(target / PAGE), page)
    return True


def _quantize_blocks(
    skeleton: Skeleton,
    calibration: torch.Tensor,
    unfinished: Unfinished,
    step: GPTQ,
    dtype: torch.dtype,
) -> None:
    """Take the blocks that are not done in order: read, round, write, empty."""
    done = unfinished.done()
    if done == len(decoder_blocks(skeleton.model)):
        return
    with skeleton.embedding_of(calibration):
        where = {"done": done, "hidden": unfinished.hidden(done) if done else None}
        label = f"quantizing to {step.format}"
        walk = Walk(skeleton.model, calibration, step.batch_size, label=label, **where)
    for block in walk:
        notes: list[str] = []
        skeleton.fill(block.name)
        formats = grid_of_each(find_linears(block.module, needed=False), step.format)
        packed = round_block(block, walk, formats, step, notes)
        walk.advance(block)
        install(block, packed)
        del packed
        tensors, layers = _named(block.name, block.module, dtype)
        unfinished.save_part(block.number, tensors, {"layers": layers, "notes": notes})
        unfinished.save_hidden(block.number + 1, walk.hidden)
        del tensors
        skeleton.empty(block.name)
        give_back()  # or gaps between small pieces add up, block by block


def _named(
    name: str, block: nn.Module, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return a packed block's tensors and its layers' entries under their names in the model."""
    tensors, header = tensors_of(block)
    for leaf, tensor in tensors.items():
        if tensor.is_floating_point() and not is_packed_part(leaf, header):
            tensors[leaf] = tensor.to(dtype)
    for entry in header["layers"].values():
        entry["dtype"] = str(dtype).removeprefix("torch.")
    return tuple(
        {f"{name}.{k}": v for k, v in part.items()} for part in (tensors, header["layers"])
    )
