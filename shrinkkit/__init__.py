"""shrinkkit: language models made small, and measured honestly.

The calls that a reader needs first are here; everything else is one module deeper
(`shrinkkit.quant`, `shrinkkit.measure`, `shrinkkit.surgery`). Names are imported when they are
first used, so that `import shrinkkit` and `shrinkkit --help` answer at once.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("shrinkkit")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0+unknown"

_HOME = {
    "load_model": "shrinkkit.loading",
    "load_tokenizer": "shrinkkit.sources.models",
    "provenance": "shrinkkit.sources.models",
    "load_text": "shrinkkit.sources.text",
    "load_task": "shrinkkit.sources.tasks",
    "mixed_windows": "shrinkkit.train.mixture",
    "quantize_model": "shrinkkit.quant",
    "gptq_model": "shrinkkit.quant",
    "awq_model": "shrinkkit.quant",
    "dequantize_model": "shrinkkit.quant",
    "shrink": "shrinkkit.recipes",
    "save": "shrinkkit.quant",
    "load": "shrinkkit.quant",
    "perplexity": "shrinkkit.measure",
    "scorecard": "shrinkkit.measure",
    "check": "shrinkkit.checks",
    "ShrinkkitError": "shrinkkit.errors",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(
            f"shrinkkit has no {name!r}; it has {', '.join(sorted(_HOME))}, and the modules quant, "
            "measure, surgery, calibration, train, recipes, export, checks."
        )
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
