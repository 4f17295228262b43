"""Write folders in GPTQ and AWQ format by the formats' plain definition: one integer at a time.

Nothing here is shared with the package: words are Python integers, filled by shifts. The integers,
scales and zero points are drawn, not chosen well: only that they are read back matters.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

AWQ_PLACES = [0, 2, 4, 6, 1, 3, 5, 7]  # the word's place i holds the column AWQ_PLACES[i]


def words_of(integers: list[int], bits: int) -> list[int]:
    """Write integers one after another as one long number, and cut it into signed 32-bit words."""
    long = 0
    for place, integer in enumerate(integers):
        assert 0 <= integer < 2**bits
        long |= integer << (bits * place)
    words = [(long >> (32 * i)) & 0xFFFFFFFF for i in range(len(integers) * bits // 32)]
    return [word - 2**32 if word >= 2**31 else word for word in words]


def awq_words(integers: list[int]) -> list[int]:
    """Write a row of 4-bit integers in AWQ's order, eight a word."""
    words = []
    for first in range(0, len(integers), 8):
        words += words_of([integers[first + place] for place in AWQ_PLACES], 4)
    return words


@dataclass
class Layer:
    """What one layer holds: lists of lists by the formats' definition, and the weight they mean."""

    tensors: dict[str, torch.Tensor]
    q: torch.Tensor  # [out, in]
    scale: torch.Tensor  # [out, n_groups]
    zero_point: torch.Tensor
    weight: torch.Tensor  # [out, in] float32


@dataclass(frozen=True)
class Writer:
    """Say how to write: the pages' words, and what makes the numbers."""

    method: str = "gptq"
    bits: int = 4
    group_size: int = 16  # -1: the whole row
    act_order: bool = False
    layout: str = ""  # "" is gptq, or gemm
    scales: torch.dtype = torch.float16
    lowest_zero: int = 1
    words: dict[str, Any] = field(default_factory=dict)

    def layer(self, out_features: int, in_features: int, seed: int) -> Layer:
        """Draw a layer, and pack it."""
        draw = torch.Generator().manual_seed(seed)
        size = in_features if self.group_size == -1 else self.group_size
        n_groups = -(-in_features // size)
        q = torch.randint(2**self.bits, (out_features, in_features), generator=draw)
        shape = (out_features, n_groups)
        zero_point = torch.randint(self.lowest_zero, 2**self.bits, shape, generator=draw)
        scale = (torch.rand(shape, generator=draw) + 0.5) / 2**self.bits / 3
        scale = scale.to(self.scales)
        order = list(range(in_features))
        if self.act_order:
            order = torch.randperm(in_features, generator=draw).tolist()
        group_index = [0] * in_features
        for place, column in enumerate(order):
            group_index[column] = place // size
        weight = torch.empty(out_features, in_features)
        for column, group in enumerate(group_index):
            steps = (q[:, column] - zero_point[:, group]).float()
            weight[:, column] = scale[:, group].float() * steps
        pack = self.awq if self.method == "awq" else self.gptq
        tensors = pack(q.tolist(), zero_point.tolist())
        tensors["scales"] = scale.t()
        if self.method == "gptq":
            tensors["g_idx"] = torch.tensor(group_index, dtype=torch.int32)
        return Layer(tensors, q, scale, zero_point, weight)

    def gptq(self, q: list[list[int]], zero_point: list[list[int]]) -> dict[str, torch.Tensor]:
        """Pack along the input; zero points one less but for gptq_v2."""
        less = 0 if self.layout == "gptq_v2" else 1
        columns = [words_of(row, self.bits) for row in q]
        zeros = [[z - less for z in of_group] for of_group in zip(*zero_point, strict=True)]
        return {
            "qweight": torch.tensor(columns, dtype=torch.int32).t(),
            "qzeros": torch.tensor([words_of(z, self.bits) for z in zeros], dtype=torch.int32),
        }

    def awq(self, q: list[list[int]], zero_point: list[list[int]]) -> dict[str, torch.Tensor]:
        """Pack along the output, in AWQ's order."""
        columns = [awq_words(list(column)) for column in zip(*q, strict=True)]
        zeros = [awq_words(list(of_group)) for of_group in zip(*zero_point, strict=True)]
        return {
            "qweight": torch.tensor(columns, dtype=torch.int32),
            "qzeros": torch.tensor(zeros, dtype=torch.int32),
        }

    def page(self) -> dict[str, Any]:
        """Return the quantization_config."""
        said: dict[str, Any] = {"quant_method": self.method, "bits": self.bits}
        said["group_size"] = self.group_size
        if self.method == "gptq":
            said |= {"desc_act": self.act_order, "sym": False, "damp_percent": 0.01}
            said |= {"checkpoint_format": self.layout} if self.layout else {}
        else:
            said |= {"zero_point": True, "version": self.layout or "gemm"}
        return said | self.words


@dataclass
class Folder:
    """A published folder, the float model that it means, and the layers by name."""

    path: Path
    model: nn.Module
    layers: dict[str, Layer]
    tensors: dict[str, torch.Tensor]

    def rewrite(self, shards: int = 1) -> Path:
        """Write the tensors (again), over several files if asked."""
        for old in self.path.glob("*.safetensors*"):
            old.unlink()
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        if shards == 1:
            save_file(tensors, self.path / "model.safetensors", {"format": "pt"})
            return self.path
        files = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)]
        placed = {name: files[i % shards] for i, name in enumerate(sorted(tensors))}
        for file in files:
            save_file({n: t for n, t in tensors.items() if placed[n] == file}, self.path / file)
        index = {"metadata": {}, "weight_map": placed}
        (self.path / "model.safetensors.index.json").write_text(json.dumps(index))
        return self.path

    def say(self, **words: Any) -> Path:
        """Change words of the quantization_config; None removes one."""
        page = json.loads((self.path / "config.json").read_text())
        said = page["quantization_config"] | words
        page["quantization_config"] = {k: v for k, v in said.items() if v is not None}
        (self.path / "config.json").write_text(json.dumps(page))
        return self.path


def publish(model: nn.Module, path: Path, writer: Writer, *, head: bool = False) -> Folder:
    """Write a model's linear layers packed, with drawn integers, and all else as it is.

    Returns the folder with a float copy of the model that has the weights which the integers mean.
    """
    float_model = copy.deepcopy(model)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    embedding = float_model.get_input_embeddings().weight
    layers, tensors = {}, {}
    with torch.no_grad():
        for name, module in float_model.named_modules():
            if not (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
                continue
            if module.weight is embedding or (not head and name == "lm_head"):
                continue
            turned = not isinstance(module, nn.Linear)
            shape = module.weight.shape[::-1] if turned else module.weight.shape
            layer = writer.layer(*shape, seed=len(layers))
            module.weight.copy_(layer.weight.t() if turned else layer.weight)
            layers[name] = layer
            tensors |= {f"{name}.{leaf}": part for leaf, part in layer.tensors.items()}
            if module.bias is not None:
                module.bias.copy_(module.bias.half())
                tensors[f"{name}.bias"] = module.bias.detach().half()
        seen = set()
        for name, tensor in float_model.named_parameters():
            if name.rpartition(".")[0] not in layers and id(tensor) not in seen:
                seen.add(id(tensor))
                tensor.copy_(tensor.half())
                tensors[name] = tensor.detach().half()
    float_model.config.save_pretrained(path)
    page = json.loads((path / "config.json").read_text())
    page |= {"quantization_config": writer.page(), "architectures": [type(model).__name__]}
    page["dtype"] = "float16"
    (path / "config.json").write_text(json.dumps(page))
    made = Folder(path, float_model.eval(), layers, tensors)
    made.rewrite()
    return made
