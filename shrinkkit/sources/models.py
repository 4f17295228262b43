"""Which models there are, where a name leads to, and the tokenizer that belongs to it.

A name is one of three kinds:

    "smollm2-135m"                        embedded: offline, everywhere the same bits
    "runs/my-model"                       a folder that a model was saved into
    "HuggingFaceTB/SmolLM2-135M-Instruct" the hub, for readers with the network

`shrinkkit.loading` opens the model itself: decoders (GPT, Llama, ...) as causal language models,
encoders (BERT, MiniLM, ...) as bare encoders, a checkpoint with a sequence classification head with
its head.

Weights are read from safetensors only: a pickle can run code, so it is never opened, and code that
a hub repository brings along is never run.

SmolLM2 is embedded as a GGUF file whose linear layers are stored at 4 bits. The first load
de-quantises it to fp32 and keeps the result in the cache (540 MB; `system.cache`); later loads take
under a second. Its fp32 numbers are therefore those of a model that has been through 4 bits
once: say so beside every fp32 row, with `provenance(name)`. Production runtimes such as llama.cpp
compute from the 4-bit file directly; this course wants fp32 weights to quantize for itself.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from shrinkkit.errors import InputError, did_you_mean
from shrinkkit.sources.assets import ASSETS, OWN, Asset, asset_path, shipped_models
from shrinkkit.sources.opening import hub_folder, hub_options, plain_load_errors
from shrinkkit.system.cache import cached_folder
from shrinkkit.system.files import cache_dir

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QUANTIZED_FILE = "shrinkkit.safetensors"
PAGE = "streaming.json"  # in a folder that was made from disk to disk: of what, and how


@dataclass(frozen=True)
class EmbeddedModel(Asset):
    """A model that is at hand offline: which file of which package, under which licence."""

    architecture: str
    licence: str
    note: str


def _embedded(name: str, **words: str) -> EmbeddedModel:
    return EmbeddedModel(**vars(ASSETS[name]), **words)


EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType(
    {
        "smollm2-135m": _embedded(
            "smollm2-135m",
            architecture="decoder (Llama): 30 layers, hidden 576, 9 query and 3 key-value heads, "
            "134.5 M parameters, tied embeddings, vocabulary 49,152",
            licence="Apache-2.0",
            note="SmolLM2-135M-Instruct by Hugging Face. Stored at 4 bits (GGUF Q4_1; its "
            "embedding at 8 bits, Q8_0) and de-quantised to fp32, so its fp32 weights have been "
            "rounded once already",
        ),
        "minilm-l6": _embedded(
            "minilm-l6",
            architecture="encoder (BERT): 6 layers, hidden 384, 12 heads, 22.7 M parameters",
            licence="Apache-2.0",
            note="all-MiniLM-L6-v2 by sentence-transformers. Full fp32 weights, as published",
        ),
        **{
            name: _embedded(name, **{key: pin[key] for key in ("architecture", "licence", "note")})
            for name, pin in shipped_models().items()
        },
    }
)


def load_tokenizer(name: str | Path = "smollm2-135m") -> PreTrainedTokenizerFast:
    """Open the tokenizer that belongs to a model.

    name: as for `load_model`.
    Raises InputError, AssetError, StorageError: as for `load_model`.
    """
    from transformers import AutoTokenizer

    name, place = resolve(name)
    with plain_load_errors(name, place, HELP):
        tokenizer = AutoTokenizer.from_pretrained(
            str(place or name), trust_remote_code=False, **hub_options(place)
        )
    if name in EMBEDDED:
        tokenizer.name_or_path = name
    return tokenizer


def checkpoint_folder(name: str | Path) -> Path:
    """Return the folder that holds a model's config and weights, fetched from the hub if need be.

    For work that reads a checkpoint piece by piece instead of opening the model.

    name: as for `load_model`.
    Raises InputError, AssetError, StorageError: as for `load_model`.
    """
    name, place = resolve(name)
    if place is None:
        with plain_load_errors(name, None, HELP):
            place = hub_folder(name)
    return place


def provenance(name: str | Path) -> str:
    """Return one paragraph on where a model comes from: what, licence, source, how stored.

    >>> "4 bits" in provenance("smollm2-135m")
    True
    """
    model = EMBEDDED.get(str(name))
    if model is None:
        return (
            f"{name}: not embedded in this course; opened from a folder or the hub as it is. Its "
            "model card says where it comes from and under which licence."
        )
    source = (
        f"Shipped with the course, data/{model.file}"
        if model.package == OWN
        else f"From the Python package {model.package} {model.version}, file "
        f"{Path(model.file).name}"
    )
    return (
        f"{model.name}: {model.note}. {model.architecture[0].upper()}{model.architecture[1:]}. "
        f"Licence {model.licence}. {source}, SHA-256 {model.sha256[:12]}…"
    )


def resolve(name: str | Path) -> tuple[str, Path | None]:
    """Return the name as text and the folder to open, or None for a hub name."""
    if not isinstance(name, (str, Path)) or not str(name).strip():
        raise InputError(f"name must be a model's name or folder, but {name!r} was given. {HELP}")
    text = str(name)
    if isinstance(name, str) and text in EMBEDDED:
        return text, _embedded_folder(EMBEDDED[text])
    folder = Path(text).expanduser()
    if folder.is_dir():
        if not ((folder / "config.json").is_file() or (folder / QUANTIZED_FILE).is_file()):
            raise InputError(
                f"The folder {folder} holds no model: neither config.json nor {QUANTIZED_FILE} "
                "is there. Give the folder that save_pretrained or shrinkkit.quant.save wrote."
            )
        return text, folder
    hint = did_you_mean(text, EMBEDDED)
    if "/" not in text and hint:
        raise InputError(f"Unknown model {text!r}.{hint} {HELP}")
    # Hub names are "name" or "owner/name"; anything else was meant as a path.
    if isinstance(name, Path) or not re.fullmatch(r"[\w][\w.\-]*(/[\w][\w.\-]*)?", text):
        raise InputError(f"No such folder, and not a possible hub name: {text!r}. {HELP}")
    return text, None


HELP = (
    f"Embedded models: {', '.join(EMBEDDED)}. You can also give the path of a folder with a saved "
    "model, or a hub name such as 'HuggingFaceTB/SmolLM2-135M-Instruct'."
)


def _embedded_folder(model: EmbeddedModel) -> Path:
    """Return the folder of an embedded model, as transformers opens it."""
    asset = ASSETS[model.name]
    if not model.file.endswith(".gguf"):
        return asset_path(asset).parent
    folder = cache_dir() / "models" / f"{model.name}-{model.sha256[:12]}"

    def build(target: Path) -> None:
        from shrinkkit.sources.gguf import unpack_gguf

        path = asset_path(asset)
        print(f"Unpacking {model.name} to fp32, once (about 20 seconds) ...", file=sys.stderr)
        unpack_gguf(path, target)

    return cached_folder(folder, build, source=_UNPACKED + model.sha256, needed_bytes=560_000_000)


# Part of the manifest's source: raise the number when unpack_gguf changes what it writes.
_UNPACKED = "unpacked 1 of sha256 "
