"""Save a quantized model, and load it again: one safetensors file that says what it holds.

The folder holds `shrinkkit.safetensors` (every tensor, packed), `config.json` and, if given, the
tokenizer. The safetensors header says in JSON: the format of each packed layer, what
is tied to what, and a SHA-256 over all tensor bytes, so that a file that was cut short or changed
is refused with a clear message instead of giving a model that talks nonsense.

Packed tensors are written in the textbook layout (`packing.py`), not in the layout of the CPU that
wrote them, so the file opens anywhere. Nothing is executed on loading: no pickle, no remote code.
The folder is written beside its final name and renamed, so it is either complete or absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import AssetError, InputError
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.packing import pack, unpack
from shrinkkit.quant.layers.embedding import QuantizedEmbedding
from shrinkkit.quant.layers.fused import generation_config_to_save, refuse_fused
from shrinkkit.quant.layers.held import held_by, hold, place_of
from shrinkkit.quant.layers.kernels import UNPACK
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.ordered import OrderedLinear
from shrinkkit.quant.layers.seal import seal
from shrinkkit.quant.ptq.activations import W8A8Linear
from shrinkkit.sources.models import PAGE, QUANTIZED_FILE
from shrinkkit.surgery.matrices import is_transposed
from shrinkkit.surgery.parts import is_compressed, replace_module
from shrinkkit.system.files import write_atomically

VERSION = 1  # weights alone
VERSION_ACTIVATIONS = 2  # some layers say how their activations are rounded
VERSION_SCALES = 3  # some layers have scales of 8 bits or less
VERSION_HELD = 4  # some packed weights belong to modules that are no linear layers
VERSION_ORDERED = 5  # some layers have columns in the order of their groups
OWN_FILES = (QUANTIZED_FILE, "config.json", "generation_config.json", PAGE)  # `save` replaces them
ACTIVATION_KEYS = ("activations", "input_step")


def digest_of(names: Iterable[str], pieces: Callable[[str], Iterable[torch.Tensor]]) -> str:
    """Return the SHA-256 that the header holds: over names and bytes, in the names' order.

    pieces: what gives a tensor, by its name, as pieces that follow each other: a tensor need not
        be in memory at once.
    """
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode())
        for piece in pieces(name):
            digest.update(piece.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    return digest_of(tensors, lambda name: (tensors[name],))


def pack_beside(stored: dict[str, torch.Tensor], fmt: Format) -> dict[str, torch.Tensor]:
    """Return a layer's stored tensors with zero points and small scales as streams of bits."""
    widths = {"zero_point": fmt.bits, "scale": fmt.scale_bits}
    packed = {
        key: pack(stored[key].cpu().reshape(1, -1), bits)[0]
        for key, bits in widths.items()
        if key in stored and bits <= 8
    }
    return stored | packed


def layer_entry(fmt: Format, shape: tuple[int, int], dtype: torch.dtype) -> dict[str, Any]:
    """Return what the header says of a packed layer of this format and shape (out, in).

    dtype: of the float layer that it stands for.
    """
    entry = {key: getattr(fmt, key) for key in Format.__dataclass_fields__}
    if not fmt.power_of_two:
        del entry["power_of_two"]  # files of ordinary grids stay what they were
    sizes = {"in_features": shape[1], "out_features": shape[0]}
    return entry | sizes | {"dtype": str(dtype).removeprefix("torch.")}


def version_of(layers: dict[str, dict[str, Any]]) -> int:
    """Return the version of the file's format: an older reader is told, where it must be."""
    if any(entry.get("ordered") for entry in layers.values()):
        return VERSION_ORDERED
    if any("parameter" in entry for entry in layers.values()):
        return VERSION_HELD
    if any(entry["scale_bits"] <= 8 for entry in layers.values()):
        return VERSION_SCALES
    w8a8 = any("activations" in entry for entry in layers.values())
    return VERSION_ACTIVATIONS if w8a8 else VERSION


def tensors_of(model: nn.Module) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return what saving would write: (tensors by name, header).

    Packed layers give `NAME.packed`, `NAME.scale` and, where the grid has one, `NAME.zero_point`,
    itself packed to `bits` bits; tied tensors appear once.
    """
    layers: dict[str, dict[str, Any]] = {}
    tied: dict[str, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    covered: set[str] = set()
    names = {id(module): name for name, module in model.named_modules()}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            fmt = module.format
            stored = pack_beside(UNPACK.store(*module.qparams(), fmt), fmt)
            layers[name] = layer_entry(fmt, module.shape, module.dtype)
            if isinstance(module, W8A8Linear):
                layers[name] |= {key: getattr(module, key) for key in ACTIVATION_KEYS}
            if isinstance(module, OrderedLinear):
                layers[name]["ordered"] = True
                stored["order"] = module.order
            tensors |= {f"{name}.{key}": value for key, value in stored.items()}
            covered |= {f"{name}.{key}" for key in (*module._names(), "order")}
        elif isinstance(module, QuantizedEmbedding):
            tied[name] = names[id(module.source)]
    for module in model.modules():
        for leaf, packed in held_by(module).items():
            layers[names[id(packed)]]["parameter"] = list(module._shapes[leaf])
    seen: dict[tuple[int, torch.Size], str] = {}
    for name, tensor in model.state_dict().items():
        if name in covered:
            continue
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in seen:
            tied[name] = seen[key]
            continue
        seen[key] = name
        tensors[name] = tensor
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return tensors, {"version": version_of(layers), "layers": layers, "tied": tied}


def save(model: nn.Module, folder: str | Path, tokenizer: Any = None) -> Path:
    """Save a quantized transformers model to a folder, complete or not at all.

    model: a transformers model with quantized layers.
    folder: made; where shrinkkit wrote it before, the model in it is replaced, and whatever else
        lies there (notes, an adapter) stays.
    tokenizer: saved beside the model when given, so that `load_tokenizer(folder)` finds it.
    Returns the folder.
    Raises InputError for a model with nothing quantized or a folder that holds something else,
    StorageError for a full disk.
    """
    from safetensors.torch import save_file

    folder = Path(folder).expanduser()
    require_quantized("save", model)
    refuse_foreign(folder)
    tensors, header = tensors_of(model)
    header["architecture"] = type(model).__name__
    header["sha256"] = _digest(tensors)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with write_atomically(folder, needed_bytes=size, replaces=OWN_FILES) as temporary:
        temporary.mkdir()
        # one key: the header's keys come in no fixed order, and equal models make equal files
        save_file(tensors, temporary / QUANTIZED_FILE, {"shrinkkit": json.dumps(header)})
        model.config.save_pretrained(temporary)
        if (generation := generation_config_to_save(model)) is not None:
            generation.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    return folder


def require_quantized(function: str, model: nn.Module) -> None:
    """Raise InputError for a model that cannot be saved as a quantized one, naming the function."""
    refuse_fused(model)
    if not is_compressed(model):
        raise InputError(
            "This model has no quantized layer; use model.save_pretrained(folder), or quantize it "
            "first with quantize_model(model, bits=4)."
        )
    if not hasattr(model, "config"):
        raise InputError(f"{function} needs a transformers model (one with a config).")
    import transformers

    if getattr(transformers, type(model).__name__, None) is not type(model):
        raise InputError(
            f"{function} writes models that transformers can build from their config, and "
            f"{type(model).__name__} is none of its classes, so that nobody could open the file. "
            "Save the model inside (an adapter has save_pretrained of its own; a compiled model "
            "has _orig_mod)."
        )


def refuse_foreign(folder: Path) -> None:
    """Raise InputError for a folder that holds something which shrinkkit did not write."""
    if folder.exists() and not (
        folder.is_dir() and ((folder / QUANTIZED_FILE).exists() or not any(folder.iterdir()))
    ):
        raise InputError(
            f"folder={str(folder)!r} exists and was not written by shrinkkit; name a new folder."
        )


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read and verify the file; every way in which it can be damaged gets the same advice."""
    from safetensors import SafetensorError, safe_open

    advice = "Save the model again, or copy the file once more from where it came."
    if not path.exists():
        raise AssetError(
            f"{path.parent} has no {QUANTIZED_FILE}: no model that shrinkkit saved. {advice}"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})["shrinkkit"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        digest, version = header["sha256"], header["version"]
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise AssetError(
            f"{path} is damaged or is not a shrinkkit file ({type(error).__name__}: {error}). "
            f"{advice}"
        ) from None
    if version not in range(VERSION, VERSION_ORDERED + 1):
        raise AssetError(
            f"{path} was written in format {version}; this shrinkkit reads formats up to "
            f"{VERSION_ORDERED}. Update it."
        )
    if _digest(tensors) != digest:
        raise AssetError(f"{path} was changed after it was saved (its SHA-256 differs). {advice}")
    return tensors, header


def load(folder: str | Path) -> nn.Module:
    """Load a model that `save` wrote, verified, in eval mode.

    folder: the folder given to `save`.
    Returns the transformers model with its quantized layers.
    Raises AssetError for a missing, truncated or changed file.
    """
    import transformers
    from accelerate import init_empty_weights

    folder = Path(folder).expanduser()
    tensors, header = _read(folder / QUANTIZED_FILE)
    architecture = getattr(transformers, header["architecture"], None)
    if not (isinstance(architecture, type) and hasattr(architecture, "config_class")):
        raise AssetError(f"{folder} names an unknown architecture, {header['architecture']!r}.")
    config = transformers.AutoConfig.from_pretrained(folder)
    with init_empty_weights(include_buffers=False):
        model = architecture(config)
    dtype = getattr(config, "dtype", None)
    usual = dtype if isinstance(dtype, torch.dtype) else torch.float32
    packed = {n: _layer_from(n, entry, tensors, usual) for n, entry in header["layers"].items()}
    for name, entry in header["layers"].items():
        if "parameter" in entry:
            hold(model, place_of(model, name), packed[name])
        elif header["tied"].get(name.removesuffix(".table")) != name:  # else an embedding's own
            packed[name].transposed = is_transposed(model.get_submodule(name))
            replace_module(model, name, packed[name])
    for name, source in header["tied"].items():
        if source in packed:  # else two names of one plain tensor: both get the same, below
            table = QuantizedEmbedding.instead_of(
                model.get_submodule(name), packed[source], tied=source != f"{name}.table"
            )
            table._dtype = packed[source].dtype
            replace_module(model, name, table)
    left = {name: tensor for name, tensor in tensors.items() if not is_packed_part(name, header)}
    left |= {name: left[source] for name, source in header["tied"].items() if source in left}
    model.load_state_dict(left, strict=False, assign=True)
    empty = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if empty:
        raise AssetError(f"{folder} lacks {len(empty)} tensors, {empty[0]} the first.")
    if (folder / "generation_config.json").exists():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    model.config.name_or_path = str(folder)
    return seal(model.eval())


def is_packed_part(name: str, header: dict[str, Any]) -> bool:
    """Tell whether a stored tensor is a part of a packed layer (its bias is none)."""
    layer, _, leaf = name.rpartition(".")
    return layer in header["layers"] and leaf != "bias"


def _layer_from(
    name: str, entry: dict[str, Any], tensors: dict[str, torch.Tensor], usual: torch.dtype
) -> QuantizedLinear:
    """Make a packed layer from a file; usual: the dtype of a layer that says none (older files)."""
    entry = {key: value for key, value in entry.items() if key != "parameter"}
    dtype = getattr(torch, entry.pop("dtype", ""), usual)
    shape = entry.pop("out_features"), entry.pop("in_features")
    code = entry.pop("code")
    activations = {key: entry.pop(key) for key in ACTIVATION_KEYS if key in entry}
    ordered = entry.pop("ordered", False)
    fmt = Format(**entry, code=tuple(code) if code else None)
    parts = {key: tensors[f"{name}.{key}"] for key in ("packed", "scale")}
    if fmt.scale_bits <= 8:
        rows, n_groups = shape[0], fmt.n_groups(shape[1])
        flat = unpack(parts["scale"][None], fmt.scale_bits, rows * n_groups)
        parts["scale"] = flat.view(rows, n_groups)
        if fmt.row_exponent:
            parts["scale_exponent"] = tensors[f"{name}.scale_exponent"]
    if not fmt.symmetric:
        flat = unpack(tensors[f"{name}.zero_point"][None], fmt.bits, parts["scale"].numel())
        parts["zero_point"] = flat.view(parts["scale"].shape)
    made_as = OrderedLinear if ordered else QuantizedLinear
    layer = made_as.from_integers(*UNPACK.load(parts, fmt, shape), fmt, tensors.get(f"{name}.bias"))
    if ordered:
        layer.in_order(tensors[f"{name}.order"])
    layer.dtype = dtype
    return W8A8Linear.from_quantized(layer, **activations) if activations else layer
