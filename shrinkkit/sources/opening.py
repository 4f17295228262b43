"""How transformers is asked to open a checkpoint, and what its failures mean in plain words.

transformers raises a dozen kinds of exceptions, many of them several screens long, for the same
few causes: the name is wrong, the network is down, the folder is damaged, the weights are not
safetensors. `plain_load_errors` tells these apart and says what to do next; the original
exception stays attached as the cause.
"""

from __future__ import annotations

import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shrinkkit.errors import AssetError, InputError, ShrinkkitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def hub_options(place: Path | None) -> dict[str, Any]:
    """Return options for `from_pretrained`: without a network, look in the hub's cache only.

    The hub's client tries again for half a minute before it says that there is no network; one
    look at whether its address answers at all takes a moment.
    """
    from huggingface_hub import constants

    # Behind a proxy the address does not answer directly, which says nothing.
    if place is not None or constants.HF_HUB_OFFLINE or urllib.request.getproxies():
        return {}
    address = urllib.parse.urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return {"local_files_only": True}
    return {}


def hub_folder(name: str) -> Path:
    """Fetch a hub repository's config, safetensors and tokenizer; return the folder they are in."""
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
    return Path(snapshot_download(name, allow_patterns=wanted, **hub_options(None)))


def quantized_by(name: str, **options: Any) -> str | None:
    """Return the method by which a hub checkpoint's config says it was quantized, or None."""
    from transformers import PretrainedConfig

    config, _ = PretrainedConfig.get_config_dict(name, **options)
    said = config.get("quantization_config")
    return str(said.get("quant_method")).lower() if isinstance(said, dict) else None


def auto_class(source: str, **options: Any) -> Any:
    """Return transformers' class of models for the checkpoint's own architecture."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    saved_as = " ".join(config.architectures or [])
    if "ForSequenceClassification" in saved_as:
        return transformers.AutoModelForSequenceClassification
    if "ForCausalLM" in saved_as or "LMHeadModel" in saved_as:
        return transformers.AutoModelForCausalLM
    # BERT can be used as a decoder too, so a masked-language family counts as an encoder.
    masked = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    causal = config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not saved_as and causal and not masked:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModel


def own_memory(model: PreTrainedModel) -> PreTrainedModel:
    """Copy the weights out of the file that they were mapped from.

    transformers leaves them in the file, to be read page by page. Then a file that is cut short
    or written over later ends the whole Python process, and a first timing measures the disk.
    """
    for tensor in (*model.parameters(), *model.buffers()):  # a tied weight comes once
        tensor.data = tensor.data.clone()
    return model


@contextmanager
def quiet(quiet: bool) -> Iterator[None]:
    """Hide transformers' progress bar for a local load, which takes under a second."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    if quiet:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if quiet and was_on:
            logging.enable_progress_bar()


@contextmanager
def plain_load_errors(name: str, place: Path | None, advice: str) -> Iterator[None]:
    """Say in one sentence why a folder (`place`) or, without one, a hub name could not be opened.

    Raises AssetError: a damaged folder, or a hub that cannot be reached; InputError: a hub name
    that leads nowhere, or to weights that are not safetensors.
    """
    try:
        yield
    except ShrinkkitError:
        raise
    except Exception as error:
        chain = _chain(error)
        reasons = {type(link).__name__ for link in chain}
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if place is not None:
            raise AssetError(
                f"The model in {place} could not be opened: {detail} Save it again, or delete "
                "the folder if it lies in shrinkkit's cache (it is made again)."
            ) from error
        if reasons & {"RepositoryNotFoundError", "GatedRepoError"}:
            raise InputError(
                f"The hub has no open model {name!r} (misspelt, private or gated?). {advice}"
            ) from error
        if reasons & _UNREACHABLE or any(map(_is_network_trouble, chain)):
            message = (
                f"{name!r} is neither an embedded model nor a folder here, so it was looked for "
                "on the hub, which could not be reached (no network, or HF_HUB_OFFLINE is set), "
                f"and it is not in the hub's cache on this machine. {advice}"
            )
            raise (AssetError if "/" in name else InputError)(message) from error
        raise InputError(
            f"The hub's {name!r} could not be opened: {detail} Note that shrinkkit reads weights "
            f"from safetensors only, never from pickle files (.bin, .pt). {advice}"
        ) from error


_UNREACHABLE = {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and all that led to it."""
    links = []
    while error is not None:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links


def _is_network_trouble(error: BaseException) -> bool:
    """Tell whether a library that talks to the network raised it (its name varies by version)."""
    library = type(error).__module__.split(".")[0]
    return isinstance(error, ConnectionError) or library in _NETWORK_LIBRARIES


_NETWORK_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3"}
