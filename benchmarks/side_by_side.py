"""Ours against the well-known libraries: same model, same windows, same grid, same perplexity code.

    python benchmarks/side_by_side.py [--quick] [--json FILE] [--cache FOLDER]
                                      [--only hqq,ours] [--grid "int3 g64"]

Linear layers of SmolLM2's blocks at int4 and int3 in groups of 64, head in float. Methods that look
at text see the same 32 windows of 256 tokens: Wikipedia, film reviews and the model's own, in
turns. Each library runs in an environment of its own (environments.py makes it once in the cache,
about 1 GB each), is driven by benchmarks/drivers/use_NAME.py, and hands back its weights in
float32, which are put into the plain model and judged here. So the table compares the choice of
integers and scales, not the kernels. Settings are each library's defaults unless the row says
otherwise. (One row of ours has groups of 32 whose scales take 6 bits each, at the same bits per
weight.) A library that cannot be installed or run keeps its row, with the reason.

Each row: grid, method, version, bits per weight with everything counted, perplexity on Wikipedia,
news, stories and the last words of their passages, each with its paired interval against fp32,
seconds of quantizing and the process's peak memory (the model in float32 is 0.5 GB of it). The rows
land in data/results/side_by_side.json. The fp32 row is itself a de-quantised 4-bit checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from common import Judge, finish, mixture
from environments import LIBRARIES, last_line, make
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from shrinkkit import load_model, load_tokenizer
from shrinkkit.surgery.parts import find_linears
from shrinkkit.system.files import cache_dir

DRIVERS = Path(__file__).resolve().parent / "drivers"
GRIDS = {"int4 g64": (4, 64), "int3 g64": (3, 64)}
METHODS = {
    "hqq": "HQQ",
    "quanto": "optimum-quanto, rounding",
    "llmcompressor": "llm-compressor, GPTQ",
    "autoround": "AutoRound, light",
    "gptqmodel": "GPTQModel, GPTQ",
}
OURS = {
    "rounding": "shrinkkit, rounding",
    "gptq": "shrinkkit, GPTQ",
    "small_scales": "shrinkkit, GPTQ, groups of 32 with 6-bit scales",
    "awq": "shrinkkit, AWQ then GPTQ",
    "tuned": "shrinkkit, GPTQ, tuned scales",
}
TIME_LIMIT_S = 1800


def prepare(cache: Path, n_samples: int) -> tuple[nn.Module, Judge, Path, Path]:
    """Return (model, what judges, the model's folder, the calibration's file)."""
    model = load_model("smollm2-135m")
    folder, file = cache / "model", cache / f"windows-{n_samples}.safetensors"
    if not (folder / "model.safetensors").exists():
        model.save_pretrained(folder)
        load_tokenizer("smollm2-135m").save_pretrained(folder)
    save_file({"calibration": mixture(model, n_samples).contiguous()}, file)
    return model, Judge.of(n_samples, 400 if n_samples > 4 else 40), folder, file


def with_weights(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a model with other weights in its blocks' linear layers (and norms).

    Raises ValueError unless there is one weight of the right shape for each linear layer.
    """
    model = copy.deepcopy(model)
    linears = find_linears(model)
    norms = {name: m for name, m in model.named_modules() if name.endswith("norm")}
    layers = linears | {name: norms[name] for name in norms if name in weights}
    if set(weights) != set(layers):
        odd = sorted(set(weights) ^ set(layers))
        raise ValueError(f"{len(odd)} layers are missing or unknown, {odd[0]} the first")
    for name, layer in layers.items():
        if weights[name].shape != layer.weight.shape:
            raise ValueError(f"{name} has shape {tuple(weights[name].shape)}")
        layer.weight.data = weights[name].to(layer.weight.dtype)
    return model


def most_values(weights: Mapping[str, torch.Tensor], group_size: int) -> int:
    """Return how many different values the richest group holds: 2**bits on an honest grid.

    >>> most_values({"a": torch.tensor([[1.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0]])}, 2)
    2
    """
    most = 0
    for weight in weights.values():
        if weight.ndim == 1:  # a norm, which is not rounded
            continue
        groups = weight.reshape(-1, group_size).sort(dim=1).values
        most = max(most, 1 + int((groups[:, 1:] != groups[:, :-1]).sum(dim=1).max()))
    return most


def drive(
    python: Path | str, script: Path, arguments: list[str], environment: Mapping[str, str]
) -> dict[str, Any]:
    """Run a driver in a folder that is removed; return its report, or {"why_not": the reason}."""
    command = [str(python), str(script), *arguments]
    try:
        with tempfile.TemporaryDirectory(prefix="shrinkkit-driver-") as folder:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return {"why_not": f"it took more than {TIME_LIMIT_S / 60:.0f} minutes"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        return {"why_not": last_line(done.stderr)}
    return json.loads(lines[-1].removeprefix("RESULT "))


def methods(only: set[str], cache: Path) -> Iterator[tuple[str, Any, Path, Path | str, dict]]:
    """Yield (name, why it cannot run or "", driver, its python, its environment)."""
    for name in OURS:
        if not only or {"ours", name} & only:
            script = DRIVERS / "use_shrinkkit.py"
            path = str(Path(__file__).resolve().parents[1])
            yield name, "", script, sys.executable, {"PYTHONPATH": path, "SHRINKKIT_METHOD": name}
    for library in LIBRARIES:
        if not only or library.name in only:
            python, why_not = make(library, cache)
            script = DRIVERS / f"use_{library.name}.py"
            yield library.name, why_not, script, python or "", dict(library.environment)


def version_of(name: str) -> str:
    """Return the version of a library that is pinned, for rows that cannot ask it."""
    pins = {library.name: library.package.partition("==")[2] for library in LIBRARIES}
    return pins.get(name, "")


def measured_row(
    start: Mapping[str, Any],
    report: Mapping[str, Any],
    model: nn.Module,
    judge: Judge,
    weights_file: Path,
) -> dict[str, Any]:
    """Return one row: what the driver reported, and the perplexity of its weights."""
    row = dict(start) | dict(report)
    bits, group_size = GRIDS[row["grid"]]
    if "why_not" in report:
        return row
    weights = load_file(weights_file)
    row["values_in_a_group"] = most_values(weights, report.get("group_size", group_size))
    if row["values_in_a_group"] > 2**bits:
        row["why_not"] = f"a group holds {row['values_in_a_group']} values, not {2**bits}"
        return row
    try:
        small = with_weights(model, weights)
    except ValueError as error:
        return row | {"why_not": str(error)}
    return row | judge.read(f"{row['grid']} {row.get('method', '')}", small)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the options; --quick also sets the pace that the rows are stamped with."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="4 windows, rougher figures")
    parser.add_argument("--json", metavar="FILE", help="write the rows to this file too")
    parser.add_argument("--cache", type=Path, default=cache_dir() / "side_by_side")
    parser.add_argument("--only", default="", help="methods, by comma; ours for all of ours")
    parser.add_argument("--grid", choices=GRIDS, help="one grid; all where it is left out")
    options = parser.parse_args(arguments)
    known = {"ours", *OURS, *METHODS}
    options.only = {name.strip() for name in options.only.split(",") if name.strip()}
    if unknown := options.only - known:
        parser.error(f"--only knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}")
    options.cache = options.cache.absolute()
    return options


def main() -> None:
    options = options_of()
    os.environ["SHRINKKIT_PACE"] = "quick" if options.quick else "full"
    n_samples = 4 if options.quick else 32
    options.cache.mkdir(parents=True, exist_ok=True)
    model, judge, folder, file = prepare(options.cache, n_samples)
    base = {"model": "smollm2-135m", "grid": "fp32", "method": "", "bits_per_weight": 32.0}
    rows = [base | judge.read("fp32", model)]
    chosen = list(methods(options.only, options.cache))
    for grid in [options.grid] if options.grid else GRIDS:
        bits, group_size = GRIDS[grid]
        for name, why_not, script, python, environment in tqdm(chosen, desc=grid):
            out = options.cache / f"weights-{name}-{bits}.safetensors"
            start = {"model": "smollm2-135m", "grid": grid, "method": (METHODS | OURS)[name]}
            start["version"] = version_of(name)
            report = {"why_not": why_not}
            if not why_not:
                grid_arguments = [str(bits), str(group_size)]
                arguments = [str(folder), str(file), str(out), *grid_arguments]
                report = drive(python, script, arguments, environment)
            rows.append(measured_row(start, report, model, judge, out))
            out.unlink(missing_ok=True)
    finish(
        "side_by_side",
        rows,
        options,
        key=("model", "grid", "method"),
        seed=0,
        n_samples=n_samples,
    )


if __name__ == "__main__":
    main()
