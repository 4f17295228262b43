"""What every driver shares: its arguments, the model and the windows, what it writes and prints.

    python use_LIBRARY.py MODEL WINDOWS OUT BITS GROUP_SIZE   (paths from the root)

A driver runs in its library's own environment, so nothing of shrinkkit is in reach. It quantizes
the linear layers of the model (not the head), writes them de-quantised to OUT as float32, by the
names of the plain model, and prints one line of JSON: version, seconds, peak memory, the bits that
stand beside the integers of a group, and which settings were not the library's own defaults.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM


@dataclass(frozen=True)
class Job:
    """Say what to quantize: the model's folder, windows [n, seq_len], and the grid.

    What a library has to save, it saves in the current folder, which goes away with the run.
    """

    folder: str
    windows: torch.Tensor
    bits: int
    group_size: int

    def model(self) -> nn.Module:
        """Open the model in float32."""
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()


def block_linears(model: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of the decoder blocks by name, quantized or not."""
    return {name: m for name, m in model.named_modules() if name.endswith("_proj")}


def peak_rss() -> int:
    """Return the most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would give the parent's, where that was larger at the start
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def run(
    package: str,
    quantize: Callable[[Job], tuple[dict[str, torch.Tensor], float]],
    settings: str,
    group_size: int | None = None,
) -> None:
    """Quantize by `quantize(job) -> ({layer: weight [out, in]}, bits beside a group)`; report.

    A method that moves scales into norms hands those back too, by their names.
    group_size: where the method's own groups are not of the size that was asked for.
    """
    folder, windows, out, bits, asked = sys.argv[1:]
    calibration = load_file(windows)["calibration"]
    job = Job(folder, calibration, int(bits), group_size or int(asked))
    began = time.perf_counter()
    weights, beside = quantize(job)
    seconds = time.perf_counter() - began
    save_file({k: w.detach().float().contiguous() for k, w in weights.items()}, out)
    found = {"version": version(package), "seconds": seconds, "peak_rss_bytes": peak_rss()}
    found |= {"bits_per_weight": job.bits + beside / job.group_size, "settings": settings}
    found["group_size"] = job.group_size
    print("RESULT " + json.dumps(found), flush=True)
