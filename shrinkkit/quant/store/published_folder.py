"""Open a folder in GPTQ or AWQ format, as other tools publish them, without those tools.

    load_model("TinyLlama-1.1B-GPTQ")   # a folder with config.json and safetensors

The model is made from config.json without memory for its weights. Each layer that the files hold
packed (`NAME.qweight` and what stands beside it) becomes one of our packed layers with the same
integers, scales, zero points and order of columns; everything else is read as floats. Layers are
read one at a time, so that the peak is the packed model and one layer's integers.

Nothing is rounded. The formats keep scales in float16, whose numbers bfloat16 does not all have: a
folder whose scales are all bfloat16 numbers gets the grids that torch's 4-bit kernel multiplies by,
and any other keeps its scales in float32, exact, and is unpacked for each product instead, which
is small and not fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from shrinkkit.errors import AssetError, InputError
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.layers.linear import QuantizedLinear
from shrinkkit.quant.layers.ordered import OrderedLinear
from shrinkkit.quant.layers.seal import seal
from shrinkkit.quant.store.published import (
    awq_integers,
    awq_zero_points,
    gptq_integers,
    gptq_zero_points,
)
from shrinkkit.quant.store.published_config import NOT_READ, Published
from shrinkkit.sources.opening import auto_class
from shrinkkit.surgery.matrices import is_linear
from shrinkkit.surgery.parts import output_head, replace_module, tied_embeddings
from shrinkkit.surgery.skeleton import head_differs, spellings
from shrinkkit.surgery.tensor_files import INDEX, WHOLE, TensorFiles

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NEEDED, ALLOWED = {"qweight", "qzeros", "scales"}, {"g_idx", "bias"}
# What older checkpoints hold and every model makes for itself.
REMADE = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias")


def load_published(folder: Path, how: Published, dtype: torch.dtype) -> PreTrainedModel:
    """Open a folder in GPTQ or AWQ format, in eval mode.

    folder: config.json and safetensors. how: what `published_as` read. dtype: floating, of all that
        is not packed, and of what the packed layers stand for.
    Returns the transformers model with `QuantizedLinear` layers, sealed as every packed model is.
    Raises InputError for what is not read here; AssetError for what is missing or damaged.
    """
    files = _files(folder, how)
    model = _unfilled(folder, dtype)
    tied = tied_embeddings(model)
    if tied and head_differs(model, files):
        tied = []  # two matrices, whatever the config says: as transformers decides it, too
    places = _places(model, files, folder)
    scale_bits = _scale_bits(files, places.values())
    for name, stored in places.items():
        old = model.get_submodule(name)
        try:
            packed = _layer(files, stored, tuple(_shape(old)), how, scale_bits)
        except (InputError, AssetError) as error:
            raise type(error)(f"{stored} in {folder} cannot be opened: {error}") from None
        if packed.bias is not None and old.bias is None:
            packed.bias = _no_bias(packed.bias, stored, folder)
        replace_module(model, name, packed.standing_for(old).to(dtype))
    _fill(model, files, tuple(f"{stored}." for stored in places.values()), folder)
    _tie(model, tied)
    empty = [name for name, tensor in model.named_parameters() if tensor.is_meta]
    if empty:
        raise AssetError(
            f"{folder} lacks {len(empty)} tensors, {empty[0]} the first. Copy it again."
        )
    model.config.name_or_path = str(folder)
    return seal(model.eval())


def _files(folder: Path, how: Published) -> TensorFiles:
    """Open the weights, which older folders keep under names of their own."""
    if not ((folder / INDEX).is_file() or (folder / WHOLE).is_file()):
        named = sorted(path for path in folder.glob("*.safetensors"))
        if how.file is not None:
            named = [path for path in named if path.stem == Path(how.file).name] or named
        if len(named) == 1:
            return TensorFiles(named)
    return TensorFiles.of_folder(folder)


def _unfilled(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """Make the model that the config describes, without memory for its weights."""
    import transformers
    from accelerate import init_empty_weights

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the opened model is one of ours
    with init_empty_weights(include_buffers=False):
        family = auto_class(str(folder))
        model = family.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()  # making each weight anew on the meta device undid it
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model


def _places(model: nn.Module, files: TensorFiles, folder: Path) -> dict[str, str]:
    """Return which layers of the model are packed: {layer: its name in the files}."""
    layers = [n.removesuffix(".qweight") for n in files.entries if n.endswith(".qweight")]
    if not layers:
        raise AssetError(
            f"{folder} says that it is quantized, but no tensor of its files is packed (none is "
            "called NAME.qweight). Do its pages belong to these weights?"
        )
    modules = dict(model.named_modules())
    found = {}
    for stored in layers:
        name = next((s for s in spellings(model, stored) if s in modules), None)
        if name is None or not is_linear(modules[name]):
            raise InputError(
                f"{folder} holds {stored} packed, which is no linear layer of "
                f"{type(model).__name__} in transformers. {NOT_READ}"
            )
        found[name] = stored
        leaves = {n[len(stored) + 1 :] for n in files.entries if n.startswith(f"{stored}.")}
        if NEEDED - leaves:
            raise AssetError(f"{folder} lacks {stored}.{min(NEEDED - leaves)}. Copy it again.")
        if unknown := leaves - NEEDED - ALLOWED:
            raise InputError(
                f"{folder} holds {stored}.{min(unknown)} beside a packed layer, and what that does "
                f"is not known here. {NOT_READ}"
            )
    return found


def _scale_bits(files: TensorFiles, layers: Iterable[str]) -> int:
    """Return 16 where bfloat16 has every scale of the folder, exactly and above zero, else 32."""
    for stored in layers:
        scale = files.read(f"{stored}.scales").float()
        if not bool(((scale == scale.bfloat16().float()) & (scale > 0)).all()):
            return 32
    return 16


def _shape(layer: nn.Module) -> torch.Size:
    """Return a float layer's (out_features, in_features)."""
    shape = layer.weight.shape
    return shape if isinstance(layer, nn.Linear) else shape[::-1]  # else GPT-2's Conv1D


def _layer(
    files: TensorFiles, stored: str, shape: tuple[int, int], how: Published, scale_bits: int
) -> QuantizedLinear:
    """Make one packed layer of shape (out, in) from its tensors."""
    fmt = Format(
        how.bits,
        symmetric=False,  # published symmetric grids have a zero point, too: the middle
        granularity="per_channel" if how.group_size is None else "per_group",
        group_size=how.group_size,
        scale_bits=scale_bits,
    ).for_rows_of(shape[1])
    parts = _parts(files, stored, shape, how, fmt.n_groups(shape[1]))
    scale = parts["scales"].float().t().contiguous()  # [out, n_groups]
    if how.method == "awq":
        q, zero_point = awq_integers(parts["qweight"]), awq_zero_points(parts["qzeros"])
    else:
        q = gptq_integers(parts["qweight"], how.bits)
        zero_point = gptq_zero_points(parts["qzeros"], how.bits, how.zero_points)
    if how.doubtful and not bool((zero_point == 2 ** (how.bits - 1)).all()):
        raise InputError(
            "GPTQModel before 7.6 shifted the zero points of 3 bits by amounts that other tools do "
            f"not undo. {NOT_READ}"
        )
    bias = parts.get("bias")
    if "g_idx" in parts:
        index = parts["g_idx"]
        return OrderedLinear.from_group_index(q, scale, zero_point, index, fmt, bias)
    return QuantizedLinear.from_integers(q, scale, zero_point, fmt, bias)


def _parts(
    files: TensorFiles, stored: str, shape: tuple[int, int], how: Published, n_groups: int
) -> dict[str, torch.Tensor]:
    """Read a layer's tensors, each of the dtype and shape that the format gives it."""
    rows, columns = shape
    packed = {"qzeros": rows, "qweight": rows if how.method == "awq" else columns}
    if any(n * how.bits % 32 for n in packed.values()):
        raise InputError(
            f"a weight of {rows} x {columns} does not fill words of 32 bits with {how.bits}-bit "
            f"integers, and how it is padded is not known here. {NOT_READ}"
        )
    words = {leaf: n * how.bits // 32 for leaf, n in packed.items()}
    whole = (torch.int32,)
    halves = (torch.float16, torch.bfloat16, torch.float32)
    weight = (columns, words["qweight"]) if how.method == "awq" else (words["qweight"], rows)
    expected = {
        "qweight": (weight, whole),
        "qzeros": ((n_groups, words["qzeros"]), whole),
        "scales": ((n_groups, rows), halves),
        "g_idx": ((columns,), whole),
        "bias": ((rows,), halves),
    }
    parts = {}
    for leaf, (size, dtypes) in expected.items():
        if f"{stored}.{leaf}" not in files:
            continue
        part = files.read(f"{stored}.{leaf}")
        if tuple(part.shape) != size or part.dtype not in dtypes:
            raise AssetError(
                f"{leaf} is {part.dtype} {list(part.shape)}, and should be {dtypes[0]} "
                f"{list(size)} for {how.method}, {how.bits} bits, group_size={how.group_size}. Do "
                "the pages belong to these weights?"
            )
        if part.is_floating_point() and not bool(part.isfinite().all()):
            raise AssetError(f"{leaf} holds NaN or infinity. Copy the folder again.")
        parts[leaf] = part
    if how.act_order and how.group_size is not None and "g_idx" not in parts:
        raise AssetError("desc_act is true, and g_idx, which says each column's group, is missing.")
    return parts


def _no_bias(bias: torch.Tensor, stored: str, folder: Path) -> None:
    """Drop the bias of a layer that has none: older tools wrote zeros."""
    if bool(bias.any()):
        raise InputError(f"{folder} holds {stored}.bias, and that layer has no bias. {NOT_READ}")


def _fill(model: nn.Module, files: TensorFiles, packed: tuple[str, ...], folder: Path) -> None:
    """Read everything that is not packed, floats in the model's dtype."""
    state = model.state_dict()
    for stored, entry in files.entries.items():
        if stored.startswith(packed):
            continue
        name = next((s for s in spellings(model, stored) if s in state), None)
        if name is None:
            if stored.endswith(REMADE):
                continue
            raise InputError(
                f"{folder} holds {stored}, which {type(model).__name__} in transformers has not. "
                f"{NOT_READ}"
            )
        if entry.shape != tuple(state[name].shape):
            raise AssetError(
                f"{stored} in {folder} has shape {list(entry.shape)}; its config.json asks for "
                f"{list(state[name].shape)}."
            )
        tensor = files.read(stored).to(state[name].dtype)
        model.load_state_dict({name: tensor}, strict=False, assign=True)


def _tie(model: nn.Module, embeddings: list[str]) -> None:
    """Give a float head and the embeddings that are its matrix the one that was read."""
    head = model.get_submodule(output_head(model)) if embeddings else None
    if head is None or isinstance(head, QuantizedLinear):
        return
    tables = [model.get_submodule(name) for name in embeddings]
    weight = next((m.weight for m in (head, *tables) if not m.weight.is_meta), head.weight)
    for module in (head, *tables):
        module.weight = weight
