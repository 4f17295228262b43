"""From disk to disk: the file that gptq_model would save, in a block's memory, and resumable."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shrinkkit import load_model, load_tokenizer
from shrinkkit.calibration.walk import Walk
from shrinkkit.errors import AssetError, InputError, StorageError
from shrinkkit.quant import (
    NF4,
    gptq_checkpoint,
    gptq_model,
    int_format,
    load,
    quantize_model,
    save,
    tensors_of,
)
from shrinkkit.quant.store import streaming as module
from shrinkkit.quant.store.unfinished import Unfinished
from shrinkkit.surgery.parts import find_linears
from shrinkkit.system.files import lock
from tests import tiny
from tests.processes import kill_once, refuse, start_python, succeed, write_words
from tools import tiny_families

GRID = {"bits": 4, "group_size": 32}
SMALL_SCALES = int_format(3, group_size=16, scale_bits=6)


@pytest.fixture(scope="module")
def tokens(tokens) -> torch.Tensor:
    return tokens[:6]


def checkpoint(folder: Path, *, layers: int = 2, shard: str = "5GB", **options) -> Path:
    """A small Llama's folder; `dtype`, `tied` and `seed` may be given."""
    model = tiny.llama(
        vocab_size=256,
        num_hidden_layers=layers,
        tie_word_embeddings=options.get("tied", False),
        pad_token_id=250,
        attention_bias=True,
    )
    tiny.redrawn(model, seed=options.get("seed", 0))
    model.to(options.get("dtype", torch.float32)).save_pretrained(folder, max_shard_size=shard)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("source") / "llama", layers=3)


def same_file(folder: Path, other: Path) -> bool:
    """Compare what the two files hold: every tensor, and the header with its digest."""
    (mine, header), (theirs, their_header) = (tensors_of(load(f)) for f in (folder, other))
    same = mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    return same and header == their_header


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("made", "how"),
    [
        pytest.param({}, GRID, id="int4"),
        pytest.param({"tied": True}, GRID, id="tied"),
        pytest.param({"tied": True}, GRID | {"head_bits": None}, id="tied-float-head"),
        pytest.param({"shard": "30KB"}, {"bits": 3, "group_size": 32}, id="int3-several-files"),
        pytest.param({}, GRID | {"head_bits": 4, "act_order": False}, id="int4-head-no-act-order"),
        pytest.param({}, {"bits": replace(NF4, group_size=32), "batch_size": 5}, id="nf4"),
        pytest.param({}, {"bits": SMALL_SCALES, "head_bits": SMALL_SCALES}, id="small-scales"),
        pytest.param({"dtype": torch.bfloat16}, GRID | {"dtype": torch.float32}, id="bf16-file"),
        pytest.param({"dtype": torch.float16}, GRID | {"dtype": torch.float32}, id="fp16-file"),
    ],
)
def test_it_writes_what_gptq_model_saves(made, how, tokens, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "shrinkkit.quant.store.assembly._WEIGHTS_AT_ONCE", 100 * 32
    )  # head in 3 parts
    folder = checkpoint(tmp_path / "source", **made)
    assert len(list(folder.glob("*.safetensors"))) > 1 or "shard" not in made
    target = gptq_checkpoint(folder, tmp_path / "streamed", tokens, **how)
    options = {key: value for key, value in how.items() if key != "dtype"}
    plain = save(gptq_model(load_model(folder), tokens, **options), tmp_path / "plain")
    assert same_file(target, plain)
    names = {path.name for path in target.iterdir()}
    assert names == {path.name for path in plain.iterdir()} | {"streaming.json"}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "plain",
        "source",
        "streamed",
        "streamed.lock",
    ]
    assert torch.equal(*(tiny.logits(load_model(place), tokens[:2]) for place in (target, plain)))


def test_what_stays_in_float_keeps_its_dtype(tokens, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "source", dtype=torch.bfloat16)
    small = load_model(gptq_checkpoint(folder, tmp_path / "small", tokens, **GRID))
    original = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "model.norm.weight"):
        assert torch.equal(small.get_parameter(name), original[name])
    bias = small.get_submodule("model.layers.1.self_attn.q_proj").bias
    assert torch.equal(bias, original["model.layers.1.self_attn.q_proj.bias"])
    assert small.config.dtype == torch.bfloat16
    reference = gptq_model(load_model(folder), tokens, **GRID)
    for name, layer in find_linears(reference, head=True).items():
        assert torch.equal(layer.integers(), small.get_submodule(name).integers()), name
    near, far = (tiny.logits(model, tokens[:2]).float() for model in (small, reference))
    assert near.isfinite().all()
    assert (near - far).abs().max() < 0.1 * far.std()  # activations in bfloat16


@pytest.mark.parametrize("name", ["opt", "gpt2", "gemma3_text", "phi3", "falcon"])
def test_other_families_stream_too(name: str, tokens, tmp_path: Path) -> None:
    tiny_families.family(name).model.save_pretrained(tmp_path / name)
    tokens = tokens % 128
    target = gptq_checkpoint(tmp_path / name, tmp_path / "streamed", tokens, **GRID)
    plain = save(gptq_model(load_model(tmp_path / name), tokens, **GRID), tmp_path / "plain")
    assert same_file(target, plain)


def test_whatever_lies_beside_the_weights_comes_along(source: Path, tokens, tmp_path: Path) -> None:
    folder = shutil.copytree(source, tmp_path / "source")
    kept = ["LICENSE", "tokenizer.json", "additional_chat_templates/tool_use.jinja", "merges.txt"]
    left = [
        "pytorch_model.bin",
        ".gitattributes",
        "onnx/model.onnx",
        "model.safetensors.index.json",
    ]
    for name in [*kept, *left[:3]]:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    target = gptq_checkpoint(folder, tmp_path / "streamed", tokens, **GRID)
    assert all((target / name).read_text() == name for name in kept)
    assert not any((target / name).exists() for name in left)


def test_names_without_the_familys_prefix_are_found(source: Path, tokens, tmp_path: Path) -> None:
    bare = shutil.copytree(source, tmp_path / "bare")
    tensors = load_file(source / "model.safetensors")
    stripped = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(stripped, bare / "model.safetensors", {"format": "pt"})
    small = gptq_checkpoint(bare, tmp_path / "small", tokens, **GRID)
    assert same_file(small, gptq_checkpoint(source, tmp_path / "other", tokens, **GRID))


def test_a_head_that_differs_from_the_embedding_it_is_tied_to(tokens, tmp_path: Path) -> None:
    """transformers believes the weights and not the config; so do we."""
    folder = checkpoint(tmp_path / "source")
    spoil_config(tie_word_embeddings=True)(folder)
    plain = gptq_model(load_model(folder), tokens, **GRID)
    small = load(gptq_checkpoint(folder, tmp_path / "small", tokens, **GRID))
    assert torch.equal(small.lm_head.integers(), plain.lm_head.integers())
    assert torch.equal(small.model.embed_tokens.weight, plain.model.embed_tokens.weight)


class Killed(BaseException):
    """Nothing in the package catches it."""


def interrupt(what: str, number: int, source: Path, target: Path, tokens, **how) -> None:
    """Run until the `number`th call of a method of Unfinished, and end there without ceremony."""
    original, calls = getattr(Unfinished, what), []

    def method(self: Unfinished, *args) -> None:
        calls.append(args[0])
        if len(calls) == number:
            raise Killed
        original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unfinished, what, method)
        with pytest.raises(Killed):
            gptq_checkpoint(source, target, tokens, **how)


@pytest.mark.parametrize(
    ("what", "number", "left"),
    [
        pytest.param("save_part", 1, 3, id="before the first block is written"),
        pytest.param("save_hidden", 1, 3, id="between a block and its activations"),
        pytest.param("save_part", 3, 1, id="before the last block is written"),
        pytest.param("save_hidden", 3, 1, id="before the last activations"),
        pytest.param("save_part", 4, 0, id="at the head"),
    ],
)
def test_an_interrupted_run_goes_on(
    what: str, number: int, left: int, source: Path, tokens, tmp_path: Path, monkeypatch
) -> None:
    whole = gptq_checkpoint(source, tmp_path / "whole", tokens, **GRID)
    interrupt(what, number, source, tmp_path / "cut", tokens, **GRID)
    assert not (tmp_path / "cut").exists()
    assert len(list((tmp_path / "cut.partial").glob("hidden-*"))) == (left < 3)
    rounded, round_block = [], module.round_block
    monkeypatch.setattr(
        module,
        "round_block",
        lambda block, *args: rounded.append(block.name) or round_block(block, *args),
    )
    cut = gptq_checkpoint(source, tmp_path / "cut", tokens, **GRID)
    assert rounded == [f"model.layers.{i}" for i in range(3 - left, 3)]
    assert digests(cut) == digests(whole)


@pytest.mark.slow
def test_killed_outright_it_goes_on_exactly(tokens, tmp_path: Path, tiny_tokenizer) -> None:
    """SIGKILL, in another process, through the command line; every file's bytes are compared."""
    folder = checkpoint(tmp_path / "source", layers=12, dtype=torch.bfloat16)
    tiny_tokenizer.save_pretrained(folder)
    rest = ["--stream", "--method=gptq", "--group-size=32", "--n-samples=2"]
    rest += [f"--calibration={write_words(tmp_path / 'text', 3, 200)}"]

    def command(target: str) -> list[object]:
        return ["quantize", folder, tmp_path / target, *rest]

    threads = str(torch.get_num_threads())
    with start_python("-m", "shrinkkit", *command("cut"), OMP_NUM_THREADS=threads) as process:
        kill_once(process, lambda: Unfinished(tmp_path / "cut.partial").done() >= 2)
    assert 2 <= Unfinished(tmp_path / "cut.partial").done() < 12
    assert not (tmp_path / "cut").exists()

    for target in ("cut", "whole"):
        assert "MiB" in succeed(*command(target))
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")
    assert (
        load_tokenizer(tmp_path / "cut")("words")["input_ids"]
        == (tiny_tokenizer("words")["input_ids"])
    )

    refuse("bits was 4 and is 3", *command("cut"), "--bits=3")


def test_memory_does_not_grow_with_the_blocks(tokens, tmp_path: Path, monkeypatch) -> None:
    folder = checkpoint(tmp_path / "source", layers=5)
    held = []
    save_hidden = Unfinished.save_hidden

    def watch(self: Unfinished, number: int, hidden: torch.Tensor) -> None:
        save_hidden(self, number, hidden)
        stores = {
            thing.untyped_storage().data_ptr(): thing.untyped_storage().nbytes()
            for thing in gc.get_objects()
            if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.device.type == "cpu"
        }
        held.append(sum(stores.values()))

    monkeypatch.setattr(Unfinished, "save_hidden", watch)
    gptq_checkpoint(folder, tmp_path / "small", tokens, **GRID)
    assert len(held) == 5
    block = sum(p.numel() for p in load_model(folder).model.layers[0].parameters()) // 2
    assert max(held) - held[0] < block / 4  # a packed block would be more than that


def test_another_run_is_refused(source: Path, tokens, tmp_path: Path) -> None:
    target = tmp_path / "small"
    interrupt("save_hidden", 2, source, target, tokens, **GRID)
    with pytest.raises(InputError, match=r"another run: bits was 4 and is 3.*restart=True"):
        gptq_checkpoint(source, target, tokens, bits=3, group_size=32)
    with pytest.raises(InputError, match="it has another calibration"):
        gptq_checkpoint(source, target, tokens.flip(0), **GRID)
    other = checkpoint(tmp_path / "source", layers=3, seed=1)
    with pytest.raises(InputError, match="weights_fingerprint was"):
        gptq_checkpoint(other, target, tokens, **GRID)
    gptq_checkpoint(other, target, tokens, **GRID, restart=True)
    assert same_file(target, gptq_checkpoint(other, tmp_path / "again", tokens, **GRID))


def test_a_run_that_failed_before_its_first_block_binds_nobody(source, tokens, tmp_path) -> None:
    with pytest.raises(InputError, match=r"Layer model\.layers\.0.*larger than the row"):
        gptq_checkpoint(source, tmp_path / "small", tokens, bits=4, group_size=100)
    gptq_checkpoint(source, tmp_path / "small", tokens, **GRID)


def test_a_finished_run_is_not_run_again(source: Path, tokens, tmp_path: Path, monkeypatch) -> None:
    target = gptq_checkpoint(source, tmp_path / "small", tokens, **GRID)
    before = digests(target)
    Unfinished(tmp_path / "small.partial").begin(
        json.loads((target / "streaming.json").read_text())
    )
    with monkeypatch.context() as patch:
        patch.setattr(module, "Walk", None)
        assert gptq_checkpoint(source, target, tokens, **GRID) == target
    assert digests(target) == before
    assert not (tmp_path / "small.partial").exists()
    with pytest.raises(InputError, match="of another run: symmetric was False and is True"):
        gptq_checkpoint(source, target, tokens, **GRID, symmetric=True)


def test_a_finished_target_is_replaced_at_the_end(source: Path, tokens, tmp_path: Path) -> None:
    target = gptq_checkpoint(source, tmp_path / "small", tokens, **GRID)
    other = {"bits": 3, "group_size": 32}
    interrupt("save_hidden", 2, source, target, tokens, **other, restart=True)
    assert load(target).model.layers[0].mlp.up_proj.format.bits == 4
    gptq_checkpoint(source, target, tokens, **other)
    assert load(target).model.layers[0].mlp.up_proj.format.bits == 3


def test_what_others_wrote_is_left_alone(source: Path, tokens, notes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not written by shrinkkit"):
        gptq_checkpoint(source, notes, tokens, **GRID, restart=True)
    shutil.copytree(notes, tmp_path / "small.partial")
    with pytest.raises(InputError, match=r"small\.partial is needed for the unfinished run"):
        gptq_checkpoint(source, tmp_path / "small", tokens, **GRID, restart=True)
    assert (tmp_path / "small.partial" / "thesis.txt").read_text() == "mine"
    saved = save(quantize_model(load_model(source), bits=8), tmp_path / "saved")
    with pytest.raises(InputError, match="holds a quantized model already"):
        gptq_checkpoint(source, saved, tokens, **GRID)


def test_two_processes_do_not_write_one_target(source: Path, tokens, tmp_path: Path) -> None:
    with lock(tmp_path / "small"), pytest.raises(StorageError, match="by another process"):
        gptq_checkpoint(source, tmp_path / "small", tokens, **GRID)


def test_a_damaged_part_is_named(source: Path, tokens, tmp_path: Path) -> None:
    interrupt("save_hidden", 2, source, tmp_path / "small", tokens, **GRID)
    os.truncate(tmp_path / "small.partial" / "block-00000.safetensors", 300)
    with pytest.raises(AssetError, match=r"block-00000\.safetensors is damaged"):
        gptq_checkpoint(source, tmp_path / "small", tokens, **GRID)


def test_notes_survive_an_interruption(source: Path, tmp_path: Path) -> None:
    window = torch.full((1, 4), 7)
    interrupt("save_hidden", 3, source, tmp_path / "small", window, **GRID, damping=0.0)
    with pytest.warns(UserWarning, match=r"needed more damping; the first: model\.layers\.0"):
        gptq_checkpoint(source, tmp_path / "small", window, **GRID, damping=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gptq_checkpoint(source, tmp_path / "other", window, **GRID)


def spoil_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return spoil


def spoil_config(**changes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return spoil


def pickle_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        pytest.param(
            spoil_tensors(lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")),
            AssetError,
            r"lacks 1 tensors that LlamaForCausalLM needs, model\.layers\.1\.mlp\.up_proj",
            id="a tensor missing",
        ),
        pytest.param(
            spoil_config(intermediate_size=100),
            AssetError,
            r"has shape \[64, 32\]; its config\.json asks for \[100, 32\]",
            id="another shape",
        ),
        pytest.param(
            spoil_config(quantization_config={"quant_method": "awq", "bits": 4}),
            InputError,
            "says in its config that it is quantized already",
            id="quantized by others",
        ),
        pytest.param(
            spoil_config(model_type="no-such-family"),
            AssetError,
            "could not be opened",
            id="unknown family",
        ),
        pytest.param(
            pickle_it, AssetError, r"only pickle files \(pytorch_model\.bin\)", id="pickle"
        ),
        pytest.param(
            lambda folder: (folder / "config.json").unlink(),
            InputError,
            "holds no model",
            id="no config",
        ),
        pytest.param(
            spoil_tensors(lambda tensors: tensors["lm_head.weight"][200, 3].fill_(float("nan"))),
            InputError,
            "Layer lm_head, rows from 0 on.*1 NaN",
            id="NaN in head",
        ),
    ],
)
def test_bad_checkpoints(spoil, error, words: str, source: Path, tokens, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(source, folder)
    spoil(folder)
    with pytest.raises(error, match=words):
        gptq_checkpoint(folder, tmp_path / "small", tokens, **GRID)
    assert not (tmp_path / "small").exists()


def test_bad_arguments(source: Path, tokens, tmp_path: Path) -> None:
    target = tmp_path / "small"
    with pytest.raises(InputError, match="bits must be a whole number"):
        gptq_checkpoint(source, target, tokens, bits=1)
    with pytest.raises(InputError, match="batch_size must be"):
        gptq_checkpoint(source, target, tokens, batch_size=0)
    with pytest.raises(InputError, match="dtype must be a floating torch type"):
        gptq_checkpoint(source, target, tokens, dtype=torch.int8)
    with pytest.raises(InputError, match="ids up to 256"):
        gptq_checkpoint(source, target, tokens + 1, dtype=None)
    with pytest.raises(InputError, match="at least one of them"):
        gptq_checkpoint(source, target, tokens[:0])
    with pytest.raises(InputError, match="No such folder"):
        gptq_checkpoint(tmp_path / "nowhere", target, tokens)
    small = gptq_checkpoint(source, target, tokens, **GRID)
    with pytest.raises(InputError, match="quantized already"):
        gptq_checkpoint(small, tmp_path / "twice", tokens, **GRID)
    for wrong in (["--stream"], ["--method=gptq", "--restart"]):
        refuse("--stream needs --method gptq", "quantize", source, target, *wrong)


def test_the_embedding_answers_as_before(source: Path, tokens) -> None:
    from shrinkkit.surgery.skeleton import Skeleton

    skeleton = Skeleton.of_folder(source)
    assert all(p.is_meta for p in skeleton.model.model.layers.parameters())
    with skeleton.embedding_of(tokens[:1]):
        walk = Walk(skeleton.model, tokens[:1])
    model = load_model(source)
    assert torch.equal(walk.hidden, model.model.embed_tokens(tokens[:1]))
    assert skeleton.model.model.embed_tokens.weight.is_meta
    skeleton.fill("model.layers.0")
    other = Walk(model, tokens[:1])
    walk.advance(walk.blocks[0])  # positions and mask were made without the weights, too
    other.advance(other.blocks[0])
    assert torch.equal(walk.hidden, other.hidden)
