"""Arrows between the package's modules point downward only (DESIGN.md, "The package").

The table says which layer each module is in; the imports are read from the source. A module may
import its own layer and those below, and no two modules may import each other in a circle. A
package's name stands for what it re-exports, so for its highest module, except where a line of
the table names a module inside it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "shrinkkit"

LAYERS: dict[str, tuple[str, ...]] = {
    "ground": ("allocator", "errors", "files", "pace", "hardware", "cache"),
    "layer 0": (
        "assets",
        "checkpoint",
        "gguf_unpack",
        "opening",
        "sources",
        "models",
        "text",
        "tasks",
        "plotting",
        "surgery",
        "invariance",
        "frontier",
        "frontier_data",
        "quant.formats",
        "quant.packing",
        "obs",
        "prune.masks",
        "distill.losses",
        "arch",
    ),
    "layer 1": (
        "calibration",
        "measure",
        "quant.activations",
        "quant.affine",
        "quant.scales",
        "quant.decoding",
        "quant.kv_rows",
        "quant.kernels",
        "quant.linear",
        "quant.model",
        "quant.io",
    ),
    "layer 2": ("quant", "prune", "distill", "lm"),
    "layer 3": ("recipes", "export"),
    "top": ("", "__main__", "bench", "checks", "cli", "doctor", "report", "widgets"),
}
RANK = {module: rank for rank, modules in enumerate(LAYERS.values()) for module in modules}

# Upward on purpose, and only inside a function, where it is followed when it is needed.
LAZY_UPWARD = {("models", "quant")}  # load_model opens what quant.save wrote


@dataclass(frozen=True)
class Arrow:
    """`source` imports `target`, on a line, at import time or inside a function."""

    source: str
    target: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"shrinkkit/{self.source.replace('.', '/')} line {self.line} -> {self.target}"


def modules() -> dict[str, Path]:
    """Return the package's modules by name: "quant.affine", "quant", and "" for the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def rank(module: str) -> int:
    """Return the layer of a module, from the longest line of the table that covers it."""
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if (name := ".".join(parts[:n])) in RANK:
            return RANK[name]
    pytest.fail(f"shrinkkit.{module} is in no layer: add it to LAYERS in tests/test_layers.py")


def arrows(source: str, text: str, known: set[str], is_package: bool = False) -> Iterator[Arrow]:
    """Yield what a module's source imports from the package."""
    package = source.split(".") if is_package and source else source.split(".")[:-1]

    def targets(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from (name for name in names if name.split(".")[0] == "shrinkkit")
            return
        base = (node.module or "").split(".") if node.module else []
        if node.level:
            base = ["shrinkkit", *package[: len(package) + 1 - node.level], *base]
        if base[:1] == ["shrinkkit"]:
            for alias in node.names:
                inner = ".".join([*base[1:], alias.name])
                yield ".".join(base) if inner not in known else f"shrinkkit.{inner}"

    def walk(node: ast.AST, lazy: bool) -> Iterator[Arrow]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in dict.fromkeys(targets(child)):
                    yield Arrow(source, target.partition(".")[2], child.lineno, lazy)
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, lazy or inside)

    yield from walk(ast.parse(text), lazy=False)


@cache
def all_arrows() -> list[Arrow]:
    found = modules()
    return [
        arrow
        for name, path in found.items()
        for arrow in arrows(name, path.read_text("utf-8"), set(found), path.stem == "__init__")
    ]


def points_upward(arrow: Arrow) -> bool:
    allowed = arrow.lazy and (arrow.source, arrow.target) in LAZY_UPWARD
    return rank(arrow.target) > rank(arrow.source) and not allowed


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return a circle of the graph as the names along it, or an empty list."""
    done: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for following in sorted(graph.get(path[-1], ())):
            if following in path:
                return [*path[path.index(following) :], following]
            if following not in done and (found := search([*path, following])):
                return found
        done.add(path[-1])
        return []

    return next((found for start in sorted(graph) if (found := search([start]))), [])


@pytest.mark.parametrize("module", modules(), ids=lambda name: name or "shrinkkit")
def test_arrows_of_a_module_point_downward(module: str) -> None:
    upward = [arrow for arrow in all_arrows() if arrow.source == module and points_upward(arrow)]
    assert not upward, "an arrow that points upward:\n" + "\n".join(map(str, upward))


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for arrow in all_arrows():
        # A package and the modules inside it belong together: its __init__ re-exports them.
        own = arrow.source.startswith(f"{arrow.target}.") or arrow.target == arrow.source
        if not arrow.lazy and not own:
            graph.setdefault(arrow.source, set()).add(arrow.target)
    assert circle(graph) == []


def test_the_allowed_exceptions_are_all_in_use() -> None:
    assert {(arrow.source, arrow.target) for arrow in all_arrows() if arrow.lazy} >= LAZY_UPWARD


@pytest.mark.parametrize(
    ("source", "text", "upward"),
    [
        pytest.param("obs", "import shrinkkit.recipes", True, id="import"),
        pytest.param("obs", "from shrinkkit import quant", True, id="from the package"),
        pytest.param("obs", "from shrinkkit.quant import gptq", True, id="from a package"),
        pytest.param("obs", "from .quant.linear import x", True, id="relative"),
        pytest.param("quant.packing", "from .affine import x", True, id="relative in a package"),
        pytest.param("quant.packing", "from ..measure import x", True, id="relative to above"),
        pytest.param("obs", "def f():\n    import shrinkkit.cli", True, id="lazy"),
        pytest.param("obs", "if TYPE_CHECKING:\n    import shrinkkit.cli", True, id="for types"),
        pytest.param("models", "import shrinkkit.quant", True, id="an exception, but not lazy"),
        pytest.param("models", "def f():\n    import shrinkkit.quant", False, id="an exception"),
        pytest.param("obs", "from shrinkkit.quant import formats", False, id="a module below"),
        pytest.param("obs", "from shrinkkit.quant.formats import NF4", False, id="same layer"),
        pytest.param("recipes", "from shrinkkit.quant import save", False, id="downward"),
        pytest.param("obs", "import torch\nfrom torch import nn", False, id="another package"),
    ],
)
def test_an_upward_arrow_is_noticed(source: str, text: str, upward: bool) -> None:
    known = {"quant", "quant.formats", "quant.gptq", "quant.affine", "recipes", "cli"}
    assert any(map(points_upward, arrows(source, text, known))) is upward


def test_a_circle_is_noticed() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []
