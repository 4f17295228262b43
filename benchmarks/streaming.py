"""GPTQ from disk to disk, one block in memory at a time: peak memory, time, what a kill changes.

    python benchmarks/streaming.py [--quick] [--json FILE]

Makes a checkpoint of TinyLlama-1.1B's shape (22 layers, hidden 2048, intermediate 5632, 32 query
and 4 key-value heads, vocabulary 32,000, untied head) with seeded random weights in bfloat16, 2.2
GB in several safetensors files, in a temporary folder. Random weights cost as much memory and time
as trained ones; of quality they say nothing. Calibration: 8 windows of 128 seeded random ids.

Two runs to 4 bits, each in a process of its own. The first is left alone; its peak is that of the
whole process, torch and transformers included. The second is ended with SIGKILL when half of the
blocks are done, started again, and the SHA-256 of every file it wrote is compared with the first
one's. `--quick` takes 4 layers: the peak is nearly the same, because it is that of a block. The
rows land in data/results/streaming.json.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import arguments, finish
from safetensors.torch import save_file
from tqdm.auto import tqdm

from shrinkkit.measure import peak_rss
from shrinkkit.quant import gptq_checkpoint
from shrinkkit.quant.store.unfinished import Unfinished
from shrinkkit.system.files import sha256_of, size_of

N_SAMPLES, SEQ_LEN, SEED = 8, 128, 0
MIB = 2**20


def make_checkpoint(folder: Path, n_layers: int) -> int:
    """Write the random checkpoint, one block in memory at a time; return how many weights."""
    from accelerate import init_empty_weights
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=5632,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        num_key_value_heads=4,
        tie_word_embeddings=False,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(folder)
    with init_empty_weights():
        shapes = {name: p.shape for name, p in LlamaForCausalLM(config).named_parameters()}
    generator = torch.Generator().manual_seed(SEED)
    files: dict[str, list[str]] = {}
    for name in shapes:
        block = name.split(".")[2] if name.startswith("model.layers.") else "rest"
        files.setdefault(f"model-{block}.safetensors", []).append(name)
    for file, names in tqdm(files.items(), desc="making the checkpoint", leave=False):
        tensors = {
            name: (torch.randn(shapes[name], generator=generator) * 0.02).bfloat16()
            if len(shapes[name]) == 2
            else torch.ones(shapes[name], dtype=torch.bfloat16)
            for name in names
        }
        save_file(tensors, folder / file, {"format": "pt"})
    placed = {name: file for file, names in files.items() for name in names}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return sum(shape.numel() for shape in shapes.values())


def work(source: str, target: str) -> None:
    """Quantize in this process; print its peak memory and the seconds as JSON."""
    generator = torch.Generator().manual_seed(SEED)
    windows = torch.randint(32_000, (N_SAMPLES, SEQ_LEN), generator=generator)
    began = time.perf_counter()
    peak = peak_rss(lambda: gptq_checkpoint(source, target, windows, bits=4, group_size=64))
    seconds = time.perf_counter() - began
    found = {"peak_rss_mib": peak.bytes / MIB, "peak_method": peak.method, "seconds": seconds}
    print(json.dumps(found))


def start(source: Path, target: Path) -> subprocess.Popen[str]:
    """Start a process that does `work`."""
    command = [sys.executable, __file__, "--work", str(source), str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(source: Path, target: Path) -> dict[str, object]:
    """Let a process do the work to its end and return what it measured."""
    with start(source, target) as process:
        answer = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"the run ended with exit status {process.returncode}")
    return json.loads(answer.splitlines()[-1])


def kill_at(source: Path, target: Path, n_blocks: int) -> int:
    """End a run with SIGKILL once so many blocks are done; return how many were."""
    unfinished = Unfinished(target.with_name(f"{target.name}.partial"))
    with start(source, target) as process:
        while unfinished.done() < n_blocks:
            if process.poll() is not None:
                raise SystemExit("the run ended before it could be killed")
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    return unfinished.done()


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir())}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
        raise SystemExit
    options = arguments(__doc__)
    n_layers = 4 if options.quick else 22
    with tempfile.TemporaryDirectory(prefix="shrinkkit-streaming-") as place:
        source, whole, cut = (Path(place, name) for name in ("source", "whole", "cut"))
        n_parameters = make_checkpoint(source, n_layers)
        shape = {
            "model": "random Llama, TinyLlama-1.1B's shape",
            "n_layers": n_layers,
            "n_parameters": n_parameters,
            "checkpoint_mib": sum(map(size_of, source.glob("*.safetensors"))) / MIB,
            "seq_len": SEQ_LEN,
        }
        measured = {"left alone": run(source, whole)}
        killed_after = kill_at(source, cut, n_layers // 2)
        measured["killed, started again"] = run(source, cut)
        same = digests(whole) == digests(cut)
        done = {
            "saved_mib": size_of(whole / "shrinkkit.safetensors") / MIB,
            "n_files": len(digests(whole)),
            "sha256": sha256_of(whole / "shrinkkit.safetensors"),
        }
        blocks = {"left alone": None, "killed, started again": killed_after}
        rows = [
            shape | {"run": run_, "blocks_before_kill": blocks[run_]} | found | done
            for run_, found in measured.items()
        ]
        rows[1]["same_bytes"] = same
    finish(
        "streaming",
        rows,
        options,
        key=("model", "run"),
        seed=SEED,
        n_samples=N_SAMPLES,
    )
    if not same:
        raise SystemExit("the resumed run wrote other bytes than the one that was left alone")
