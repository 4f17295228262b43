"""Try every verb of the package on every family of models in transformers, and write the table.

    python tools/families.py                    # all families (minutes), writes docs/families.md
    python tools/families.py llama gpt2 mixtral # some, shown only

Each family is a tiny model with random weights, made from its own configuration class with small
sizes, so that nothing is downloaded. A verb is *right* where the result stays as near to the float
model as its bits allow, keeps the dtype, and, where it is saved, opens again with the same output;
*refused* where it raises an InputError; anything else is *wrong*. Random weights say nothing of a
family's quality at 4 bits: only whether the arithmetic is that of the family.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
import transformers

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.quant import (
    QuantizedKVCache,
    awq_model,
    convert_qat,
    dequantize_model,
    gptq_model,
    load,
    prepare_qat,
    quantize_activations,
    quantize_model,
    rotate,
    save,
    smooth,
)

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, it lies beside what it imports

from tools.tiny_families import Family, all_families, family, tokens_of  # noqa: E402

PAGE = ROOT / "docs" / "families.md"


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the relative error of an output; infinite for one that is not finite."""
    if not bool(torch.isfinite(found).all()):
        return float("inf")
    return ((found.float() - exact.float()).norm() / exact.float().norm()).item()


def near(found: torch.Tensor, exact: torch.Tensor, within: float) -> None:
    """Raise AssertionError unless an output is near the float model's, in its dtype."""
    assert found.dtype == exact.dtype, f"{found.dtype} came out, and {exact.dtype} went in"
    error = off(found, exact)
    assert error <= within, f"off by {error:.1%}, where {within:.0%} is the bound"


SAME = 1e-3  # what float32 may lose where nothing may change
KERNELS = 1.0  # of the price of 8 bits: kernels round x to bfloat16


def price(one: Family, bits: int) -> float:
    """Return how far rounding to so many bits may take a model from its float answers.

    Measured without the package: noise of the size of a grid's rounding, even from minus half a
    step to half a step, on every matrix. Some families make much of it, some little. The bound is
    twice that and two percent.
    """
    noisy = copy.deepcopy(one.model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in {id(p): p for p in noisy.parameters() if p.ndim > 1}.values():
            rows = parameter.flatten(0, -2)
            step = 2 * rows.abs().amax(dim=1, keepdim=True) / (2**bits - 1)
            rows.add_(step * (torch.rand(rows.shape, generator=generator) - 0.5))
    return 2 * off(one.output(noisy), one.output(one.model)) + 0.02


def rounding(bits: int) -> Callable[[Family], None]:
    """Return the check of rounding to nearest."""

    def check(one: Family) -> None:
        exact = one.output(one.model)
        group = None if bits == 8 else 32
        near(one.output(quantize_model(one.model, bits, group)), exact, price(one, bits))

    return check


def saving(one: Family) -> None:
    """Save at 4 bits, open, compare; the floats made of it are as near."""
    small = quantize_model(one.model, 4, 32)
    before = one.output(small)
    with tempfile.TemporaryDirectory() as folder:
        opened = load(save(small, Path(folder, "small")))
    near(one.output(opened), before, SAME)
    near(one.output(dequantize_model(opened)), before, KERNELS * price(one, 8))


def sixteen_bits(one: Family) -> None:
    """Quantize a bfloat16 model, and take a quantized float32 one to bfloat16."""
    half = copy.deepcopy(one.model).to(torch.bfloat16)
    try:
        exact = one.output(half)
    except RuntimeError as error:
        raise NotHere(str(error)) from error
    within = price(one, 8) + 2 * off(exact, one.output(one.model))
    near(one.output(quantize_model(half, 8)), exact, within)
    near(one.output(quantize_model(one.model, 8).to(torch.bfloat16)), exact, within)


def calibrated(verb: Callable, bits: int, **options: Any) -> Callable[[Family], None]:
    """Return the check of a verb that looks at text."""

    def check(one: Family) -> None:
        small = verb(one.model, tokens_of(12, 16), bits, 32, **options)
        near(one.output(small), one.output(one.model), price(one, bits))

    return check


def smoothing(one: Family) -> None:
    """Smooth, which must change nothing, and round weights and activations."""
    exact = one.output(one.model)
    smoothed = smooth(one.model, tokens_of(12, 8))
    near(one.output(smoothed), exact, SAME)
    near(one.output(quantize_activations(smoothed)), exact, 2 * price(one, 8))


def rotating(one: Family) -> None:
    """Turn the hidden space, which must change nothing."""
    near(one.output(rotate(one.model)), one.output(one.model), SAME)


def training(one: Family) -> None:
    """Prepare for training on an 8-bit grid, and pack; both compute the same."""
    prepared = prepare_qat(one.model, 8, method="ste").eval()
    near(one.output(prepared), one.output(one.model), price(one, 8))
    packed = convert_qat(prepared, head_bits=None)
    near(one.output(packed), one.output(prepared), KERNELS * price(one, 8))


def caching(one: Family) -> None:
    """Write token by token with an 8-bit cache; the logits are near those without a cache."""
    if "past_key_values" not in inspect.signature(one.model.forward).parameters:
        raise NotHere("it keeps no keys and values")
    tokens = tokens_of(24, 2)

    def written_with(cache: Any) -> torch.Tensor:
        for piece in (tokens[:, :9], *tokens[:, 9:].split(1, dim=1)):
            found = one.model(piece, past_key_values=cache, use_cache=True).logits[:, -1]
        return found

    with torch.no_grad():
        exact = one.model(tokens).logits[:, -1]
        usual = transformers.DynamicCache(config=one.model.config)
        try:
            near(written_with(usual), exact, 0.01)
        except Exception as error:
            raise NotHere("transformers' own cache does not serve it so") from error
        near(written_with(QuantizedKVCache(8, group_size=8)), exact, price(one, 8))


class NotHere(Exception):
    """Raised by a check that cannot be made of a family: the float model cannot do it either."""


VERBS: dict[str, tuple[Callable[[Family], None], bool]] = {  # check, whether for decoders alone
    "int8": (rounding(8), False),
    "int4": (rounding(4), False),
    "save, load": (saving, False),
    "16 bits": (sixteen_bits, False),
    "GPTQ": (calibrated(gptq_model, 4), False),
    "AWQ": (calibrated(awq_model, 8, symmetric=True), False),
    "SmoothQuant, W8A8": (smoothing, False),
    "rotation": (rotating, True),
    "QAT": (training, False),
    "8-bit cache": (caching, True),
}


def one_line(error: Exception) -> str:
    """Return an exception's class and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def verdict(one: Family, verb: str) -> tuple[str, str]:
    """Return ("right", ""), ("refused", why) or ("wrong", how); ("", "") where it is not for it."""
    check, for_decoders = VERBS[verb]
    if for_decoders and not one.decoder:
        return "", ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(one)
        except NotHere:
            return "", ""
        except ShrinkkitError as refusal:
            return ("refused" if isinstance(refusal, InputError) else "wrong"), str(refusal)
        except Exception as error:
            return "wrong", one_line(error)
    return "right", ""


def sweep(names: list[str]) -> dict[str, dict[str, tuple[str, str]] | str]:
    """Return {family: {verb: verdict}}, or {family: why it could not be made small}."""
    found: dict[str, dict[str, tuple[str, str]] | str] = {}
    for name in names:
        began = time.perf_counter()
        try:
            one = family(name)
            near(one.output(one.model), one.output(one.model), SAME)
            found[name] = {verb: verdict(one, verb) for verb in VERBS}
        except Exception as error:
            found[name] = (
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return found


MARKS = {"right": "yes", "refused": "refused", "wrong": "**wrong**", "": ""}
HEAD = """# Families of models, and what works on them

Made by `python tools/families.py` (transformers {version}, torch {torch}, CPU, float32, seed 0):
each family as a tiny model with random weights, made from its own configuration class with small
sizes, and every verb of the package.

- **yes**: the result is as near to the float model as noise of the size of the grid's rounding
  leaves it (measured without the package; the bound is twice that and 2 %), in the model's dtype,
  and a saved model opens with the same output.
- **refused**: an `InputError` says why; the reasons stand below the table.
- empty: it does not apply (a cache for an encoder, bfloat16 where the float model does not run).

Nothing here says how good a family is at 4 bits: its weights are random.

Of {n} families that read text, {tried} could be made small by a rule; the others are listed at the
end. {right} of {cells} cells are yes, {refused} refused, {wrong} wrong.
"""


def page(found: dict[str, dict[str, tuple[str, str]] | str]) -> str:
    """Return the page: the table, the reasons of refusals, the families that were not tried."""
    tried = {name: row for name, row in found.items() if isinstance(row, dict)}
    said = [what for row in tried.values() for what, _ in row.values()]
    lines = [
        HEAD.format(
            version=transformers.__version__,
            torch=torch.__version__.split("+")[0],
            n=len(found),
            tried=len(tried),
            cells=sum(what != "" for what in said),
            **{what: said.count(what) for what in ("right", "refused", "wrong")},
        ),
        f"| family | {' | '.join(VERBS)} |",
        f"| --- |{' --- |' * len(VERBS)}",
    ]
    for name, row in tried.items():
        lines.append(f"| {name} | {' | '.join(MARKS[what] for what, _ in row.values())} |")
    lines += ["", "## Why a verb is refused", ""]
    for why, cells in _reasons(tried).items():
        where = "; ".join(f"{verb}: {', '.join(names)}" for verb, names in cells.items())
        lines.append(f"- {why} {where}.")
    lines += ["", "## Not tried", ""]
    lines += [f"- {name}: {why[:120]}" for name, why in found.items() if isinstance(why, str)]
    return "\n".join(lines) + "\n"


def _without_names(found: re.Match) -> str:
    return "Nothing in a block" if found[0].startswith("Nothing") else " by"


def _reasons(tried: dict[str, dict[str, tuple[str, str]]]) -> dict[str, dict[str, list[str]]]:
    """Return {reason without the names in it: {verb: families}}, the commonest first."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, row in tried.items():
        for verb, (what, why) in row.items():
            if what in ("refused", "wrong"):
                short = re.sub(r"^\w+(?= (does|has|hands))", "It", why)
                short = re.sub(r" of [A-Z]\w+ by|Nothing in \S+ \(\w+\)", _without_names, short)
                short = re.sub(r"layer \d+ of this \w+", "a layer of this model", short)
                short = re.sub(r" \(.*?\)|\S*\.\d+\S*|by [\d.]+%", "", short).split(": ")[0]
                kind = short.split(". ")[0].rstrip(".") + ("" if what == "refused" else " (WRONG)")
                reasons.setdefault(f"{kind}.", {}).setdefault(verb, []).append(name)
    return dict(sorted(reasons.items(), key=lambda one: -sum(map(len, one[1].values()))))


def main() -> None:
    """Run the sweep; show some families, or write the page of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="families; none: all, and the page is written")
    names = parser.parse_args().names
    transformers.logging.set_verbosity_error()
    found = sweep(names or all_families())
    if not names:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(found), encoding="utf-8")
        return
    for name, row in found.items():
        print(name, row if isinstance(row, str) else "")
        for verb, (what, why) in row.items() if isinstance(row, dict) else ():
            print(f"   {verb:20} {what:8} {why[:200]}")


if __name__ == "__main__":
    main()
