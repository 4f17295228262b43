"""Save a quantized model in the compressed-tensors format, which plain transformers opens.

    save_compressed_tensors(small, "small-ct", tokenizer)
    AutoModelForCausalLM.from_pretrained("small-ct")   # anywhere, without shrinkkit

`quant.save` writes a file that only shrinkkit reads. compressed-tensors is the format of
llm-compressor's checkpoints on the model hub: transformers opens it where the compressed-tensors
library is installed, and vLLM has fast GPU kernels for it. transformers itself unpacks the weights
to floats at the first forward pass, so there the gain is the file, not the speed.

A packed layer becomes a few tensors (`pack_quantized.py`), and `config.json` says which layers have
which grid and which are plain. A vocabulary matrix that embedding and head share is written in
float, once: the format ties nothing that is packed.

Asymmetric grids need one more word. transformers (5.23, with compressed-tensors 0.20) makes room
for their zero points as if they were not packed, and then refuses the file; with `"dequantize":
true` in the configuration it unpacks the weights while it reads them, which works, but with one
grid for all layers. So an asymmetric model is written with that word, and a head on a grid of its
own in float. Models with symmetric grids alone may mix them freely.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_choice
from shrinkkit.export.pack_quantized import Scheme, compressed_state, scheme_of
from shrinkkit.quant import QuantizedEmbedding, QuantizedLinear
from shrinkkit.quant.layers.fused import generation_config_to_save
from shrinkkit.quant.store.io import require_quantized
from shrinkkit.surgery.parts import output_head
from shrinkkit.system.files import write_atomically

FILE = "model.safetensors"
OWN_FILES = (FILE, "config.json", "generation_config.json")  # replaced when saved again
FORMAT = "pack-quantized"


def quantization_config(schemes: dict[str, Scheme], plain: list[str]) -> dict[str, Any]:
    """Return what config.json says about the packed layers.

    schemes: {layer name: its grid}; plain: names of the linear layers that stay in float.
    Returns `quantization_config`, as compressed-tensors reads it. The commonest grid is that of
    all linears; layers with another one are named.

    >>> found = quantization_config({"a": (4, False, 64), "b": (4, False, 64)}, ["lm_head"])
    >>> found["config_groups"]["group_0"]["targets"], found["ignore"]
    (['Linear'], ['lm_head'])
    """
    names: dict[Scheme, list[str]] = {}
    for name, scheme in schemes.items():
        names.setdefault(scheme, []).append(name)
    groups = {}
    for scheme in sorted(names, key=lambda s: -len(names[s])):
        bits, symmetric, group_size = scheme
        groups[f"group_{len(groups)}"] = {
            "targets": names[scheme] if groups else ["Linear"],
            "weights": {
                "num_bits": bits,
                "type": "int",
                "symmetric": symmetric,
                "strategy": "channel" if group_size is None else "group",
                "group_size": group_size,
                "dynamic": False,
            },
            "input_activations": None,
            "output_activations": None,
            "format": FORMAT,
        }
    found = {
        "quant_method": "compressed-tensors",
        "format": FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": plain,
    }
    if any(not symmetric for _, symmetric, _ in names):
        found["dequantize"] = True
    return found


def save_compressed_tensors(
    model: nn.Module,
    folder: str | Path,
    tokenizer: Any = None,
    *,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Save a quantized transformers model so that `from_pretrained(folder)` opens it anywhere.

    model: a transformers model whose linear layers were quantized to integer grids.
    folder: made; where this function wrote it before, the model in it is replaced, and whatever
        else lies there stays.
    tokenizer: saved beside the model when given.
    dtype: torch.bfloat16 or torch.float32, of everything that is not packed (norms, biases, an
        embedding), and what the model opens in. In float32 the opened weights are ours exactly.
    Returns the folder. Opening it needs `pip install compressed-tensors` (the extra `export`).
    Raises InputError for a model with nothing quantized, a grid that the format cannot hold, or a
    folder that holds something else; StorageError for a full disk.
    """
    from safetensors.torch import save_file

    folder = Path(folder).expanduser()
    require_choice("dtype", dtype, (torch.bfloat16, torch.float32))
    require_quantized("save_compressed_tensors", model)
    if folder.exists() and not (folder.is_dir() and _may_replace(folder)):
        raise InputError(
            f"folder={str(folder)!r} exists and was not written by this export; name a new folder."
        )
    tensors, found = _tensors_of(model, dtype)
    config = copy.deepcopy(model.config)
    config.dtype = dtype
    config.architectures = [type(model).__name__]
    config.quantization_config = found
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    with write_atomically(folder, needed_bytes=size, replaces=OWN_FILES) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / FILE, {"format": "pt"})
        config.save_pretrained(temporary)
        if (generation := generation_config_to_save(model)) is not None:
            generation.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
    return folder


def _may_replace(folder: Path) -> bool:
    """Tell whether a folder is empty, or a pack-quantized model and nothing else of weight."""
    if not any(folder.iterdir()):
        return True
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        ours = config["quantization_config"]["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return ours and {path.name for path in folder.glob("*.safetensors")} == {FILE}


def _tensors_of(
    model: nn.Module, dtype: torch.dtype
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return (all tensors by their names in the plain model, quantization_config)."""
    skeleton = _plain_skeleton(model)
    schemes = _schemes(model, skeleton)
    tensors: dict[str, torch.Tensor] = {}
    covered: tuple[str, ...] = ()
    embeddings = [m for m in model.modules() if isinstance(m, QuantizedEmbedding)]
    for name, module in model.named_modules():
        if isinstance(module, QuantizedEmbedding):
            tensors[f"{name}.weight"] = module.source.dequantize().cpu().to(dtype)
        elif isinstance(module, QuantizedLinear):
            parts = {} if module.bias is None else {"bias": module.bias.detach().cpu().to(dtype)}
            if name in schemes:
                found = compressed_state(module, schemes[name])
                if dtype == torch.float32:  # the weights unpack in their scales' dtype
                    found["weight_scale"] = found["weight_scale"].float()
                parts = found | parts
            elif not any(module is embedding.source for embedding in embeddings):
                parts["weight"] = module.dequantize().cpu().to(dtype)
            tensors |= {f"{name}.{key}": part for key, part in parts.items()}
        else:
            continue
        covered += (f"{name}.",)
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if name.startswith(covered) or (tensor.numel() and key in seen):
            continue  # packed above, or a second name of a tied tensor
        seen.add(key)
        floats = tensor.detach().cpu()
        tensors[name] = floats.to(dtype) if floats.is_floating_point() else floats
    linears = (name for name, m in skeleton.named_modules() if isinstance(m, nn.Linear))
    plain = [name for name in linears if name not in schemes]
    return {n: t.contiguous() for n, t in tensors.items()}, quantization_config(schemes, plain)


def _schemes(model: nn.Module, skeleton: nn.Module) -> dict[str, Scheme]:
    """Return the layers that are written packed, with their grids; other quantized ones in float.

    Raises InputError where transformers could not open them.
    """
    shared = {id(m.source) for m in model.modules() if isinstance(m, QuantizedEmbedding)}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear) and id(module) not in shared
    }
    for name, module in layers.items():
        if module.is_held or not isinstance(skeleton.get_submodule(name), nn.Linear):
            raise InputError(
                f"{name} is no torch.nn.Linear in {type(model).__name__}, and transformers opens "
                "packed weights in those only. Leave it out with quantize_model(exclude=...)."
            )
    schemes = {name: scheme_of(module, name) for name, module in layers.items()}
    if any(not symmetric for _, symmetric, _ in schemes.values()):
        head = output_head(model)
        body = [scheme for name, scheme in schemes.items() if name != head] or [schemes[head]]
        schemes = {name: _common(body, scheme) for name, scheme in schemes.items()}
        others = {scheme for name, scheme in schemes.items() if name != head}
        if len(others) > 1:
            raise InputError(
                f"The layers have {len(others)} different grids, some of them asymmetric; "
                "transformers opens mixed grids only where all are symmetric. Quantize with "
                "symmetric=True, or with one grid."
            )
        if others and schemes.get(head) not in others:
            schemes.pop(head, None)
    if not schemes:
        raise InputError(
            "No linear layer is packed, only the embedding, which this export writes in float. "
            "Quantize the layers too, with quantize_model(model, bits=4)."
        )
    return schemes


def _common(body: list[Scheme], scheme: Scheme) -> Scheme:
    """Return a grid with the group size that divides those of all layers of its kind in the body.

    >>> _common([(4, False, 128), (4, False, 64)], (4, False, 128))
    (4, False, 64)
    """
    sizes = [size for *kind, size in body if kind == [*scheme[:2]]]
    if None in sizes or scheme[2] is None:
        return scheme
    common = math.gcd(*sizes)
    return scheme if not sizes or scheme[2] % common else (*scheme[:2], common)


def _plain_skeleton(model: nn.Module) -> nn.Module:
    """Return the architecture that transformers will build from the config, without weights."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        return type(model)(copy.deepcopy(model.config))
