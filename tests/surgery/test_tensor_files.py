"""Reading a checkpoint by offsets: what safetensors itself reads, and less memory than it takes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shrinkkit.errors import AssetError
from shrinkkit.measure import peak_rss
from shrinkkit.surgery.tensor_files import INDEX, TensorFiles, metadata_of, write_tensors

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        str(dtype): torch.randint(0, 2, (5, 3), generator=generator).to(dtype) for dtype in DTYPES
    }
    made["half"] = torch.randn(7, 4, 2, generator=generator)
    return made | {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}


@pytest.fixture
def file(tensors: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    save_file(tensors, tmp_path / "model.safetensors", {"about": "a test"})
    return tmp_path / "model.safetensors"


def test_it_reads_what_safetensors_wrote(tensors, file: Path) -> None:
    files = TensorFiles.of_folder(file.parent)
    assert set(files.entries) == set(tensors)
    for name, tensor in tensors.items():
        read = files.read(name)
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read, tensor)
    assert metadata_of(file) == {"about": "a test"}


def test_some_rows_are_those_rows(tensors, file: Path) -> None:
    files = TensorFiles([file])
    index = torch.tensor([6, 0, 6, 3])
    assert torch.equal(files.pick("half", index), tensors["half"][index])
    assert torch.equal(files.rows("half", 2, 5), tensors["half"][2:5])


def test_pieces_put_together_are_the_tensor(tensors, file: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "shrinkkit.surgery.tensor_files._PIECE_BYTES", 70
    )  # two rows of `half` are 64
    files = TensorFiles([file])
    pieces = list(files.pieces("half", torch.bfloat16))
    assert [len(piece) for piece in pieces] == [2, 2, 2, 1]
    assert torch.equal(torch.cat(pieces), tensors["half"].bfloat16())
    assert [piece.item() for piece in files.pieces("scalar")] == [2.5]


def test_safetensors_reads_what_it_writes(tensors, file: Path, tmp_path: Path) -> None:
    files = TensorFiles([file])
    about = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    write_tensors(tmp_path / "copy", about, files.pieces, {"about": "a copy"})
    copy = load_file(tmp_path / "copy")
    assert copy.keys() == tensors.keys()
    assert all(torch.equal(copy[name], tensor) for name, tensor in tensors.items())
    assert metadata_of(tmp_path / "copy") == {"about": "a copy"}
    for name, entry in TensorFiles([tmp_path / "copy"]).entries.items():
        assert entry.start % entry.dtype.itemsize == 0, name
    with pytest.raises(ValueError, match="bytes of their tensors' shapes"):
        write_tensors(tmp_path / "short", about, lambda name: (), {})


def test_equal_looks_at_values(tmp_path: Path) -> None:
    one = torch.randn(4, 3)
    other = one.clone()
    other[3, 2] += 1
    save_file({"a": one, "b": one.clone(), "c": other, "d": one[:2].clone()}, tmp_path / "t")
    files = TensorFiles([tmp_path / "t"])
    assert [files.equal("a", name) for name in "abcd"] == [True, True, False, False]


def test_a_fingerprint_is_of_all_tensors(tmp_path: Path) -> None:
    first = {"a": torch.zeros(3, 2), "b": torch.arange(4.0)}
    changed = [
        first | {"b": torch.arange(4.0) + 1e-6},
        {"c": first["a"], "b": first["b"]},
        first | {"a": torch.zeros(2, 3)},
        first | {"a": torch.zeros(3, 2, dtype=torch.int32)},
    ]
    prints = []
    for number, tensors in enumerate([first, first, *changed]):
        save_file(tensors, tmp_path / str(number))
        prints.append(TensorFiles([tmp_path / str(number)]).fingerprint())
    assert prints[0] == prints[1]
    assert len(set(prints)) == 1 + len(changed)


def test_reading_all_of_a_file_does_not_keep_it(tmp_path: Path) -> None:
    n_bytes = 4 * 24 * 2**20
    save_file({str(n): torch.ones(2**20) * n for n in range(24)}, tmp_path / "large")
    files = TensorFiles([tmp_path / "large"])
    total = []

    def read_all() -> None:
        total.append(sum(files.read(name).sum().item() for name in files.entries))

    read_all()
    peak = peak_rss(read_all)
    assert total[1] == sum(range(24)) * 2**20
    assert peak.increase_bytes < n_bytes / 4


def test_several_files_have_an_index(tensors, tmp_path: Path) -> None:
    names = list(tensors)
    placed = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for part in set(placed.values()):
        save_file({n: tensors[n] for n in names if placed[n] == part}, tmp_path / part)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": placed}))
    files = TensorFiles.of_folder(tmp_path)
    assert all(torch.equal(files.read(name), tensors[name]) for name in names)
    (tmp_path / "part-1.safetensors").unlink()
    with pytest.raises(AssetError, match=r"lacks 1 of the 2 files.*part-1\.safetensors the first"):
        TensorFiles.of_folder(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(AssetError, match="lacks 1 of the 1 files"):
        TensorFiles.of_folder(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(AssetError, match="is damaged"):
        TensorFiles.of_folder(tmp_path)


@pytest.mark.parametrize(
    "kept", [4, 200, -10], ids=["in the length", "in the header", "in a tensor"]
)
def test_a_file_cut_short_is_refused(file: Path, kept: int) -> None:
    os.truncate(file, kept % file.stat().st_size)
    with pytest.raises(AssetError, match=r"model\.safetensors is damaged"):
        TensorFiles([file])


def test_a_file_cut_short_while_it_is_read_is_refused(file: Path) -> None:
    files = TensorFiles([file])
    os.truncate(file, file.stat().st_size - 10)
    with pytest.raises(AssetError, match="cut short while it was read"):
        [files.read(name) for name in files.entries]


def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    about = {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}
    text = json.dumps(about).encode()
    path = tmp_path / "odd"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(AssetError, match="does not have the bytes of its shape"):
        TensorFiles([path])
    with pytest.raises(AssetError, match="No such file"):
        TensorFiles([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["config.json"], "holds no weights"),
        (["config.json", "pytorch_model.bin"], r"only pickle files \(pytorch_model\.bin\)"),
    ],
    ids=["nothing", "pickle"],
)
def test_a_folder_without_safetensors(names: list[str], words: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(AssetError, match=words):
        TensorFiles.of_folder(tmp_path)
