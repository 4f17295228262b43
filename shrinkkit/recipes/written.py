"""Recipes as files: a list of steps in YAML, to be read by people and by `shrink`.

    shrinkkit-recipe: 1
    steps:
    - SmoothQuant: {alpha: search}
    - W8A8

A step is its name, with the settings that are not the usual ones. A grid that bits and group_size
cannot say is one of the named grids (`bits: nf4`) or a mapping of `Format`'s fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from shrinkkit.errors import InputError, near_matches
from shrinkkit.quant import (
    AWQ,
    FP8_E4M3,
    FP8_E5M2,
    GPTQ,
    MXFP4,
    NF4,
    RTN,
    W8A8,
    Format,
    Rotate,
    SmoothQuant,
    TuneScales,
)
from shrinkkit.surgery.step import Step, refuse_unknown
from shrinkkit.system.files import write_atomically

VERSION = 1
STEPS: dict[str, type[Step]] = {
    kind.__name__: kind for kind in (Rotate, SmoothQuant, W8A8, RTN, GPTQ, AWQ, TuneScales)
}
GRIDS = {"nf4": NF4, "mxfp4": MXFP4, "fp8_e4m3": FP8_E4M3, "fp8_e5m2": FP8_E5M2}
_KEY = "shrinkkit-recipe"


def read_recipe(path: str | Path) -> list[Step]:
    """Read the steps of a recipe's file.

    Raises InputError: no such file, not YAML, a file of a newer version, no steps, an unknown step
    or setting (with near names), and settings that a step refuses.
    """
    import yaml

    path = Path(path).expanduser()
    try:
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no recipe at {path}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} could not be read as YAML: {error}") from None
    if not isinstance(page, Mapping) or _KEY not in page:
        raise InputError(f"{path} is no recipe: it does not begin with `{_KEY}: {VERSION}`.")
    if page[_KEY] != VERSION:
        raise InputError(
            f"{path} is of version {page[_KEY]!r}, and this shrinkkit reads version {VERSION}. "
            "A newer file needs a newer shrinkkit."
        )
    refuse_unknown(str(path), page, [_KEY, "steps"])
    entries = page.get("steps")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path} has no steps: list at least one under `steps:`, such as `- RTN`.")
    return [_step(entry, f"{path}, step {number}") for number, entry in enumerate(entries, 1)]


def write_recipe(path: str | Path, steps: Sequence[Step]) -> Path:
    """Write steps to a file that `read_recipe` reads; returns its path.

    Raises InputError for an empty list; StorageError where nothing can be written.
    """
    import yaml

    if not steps:
        raise InputError("steps is empty: a recipe has at least one.")
    path = Path(path).expanduser()
    page = {_KEY: VERSION, "steps": [_entry(step) for step in steps]}
    with write_atomically(path) as temporary:
        temporary.write_text(yaml.safe_dump(page, sort_keys=False), encoding="utf-8")
    return path


def _step(entry: Any, where: str) -> Step:
    """Make a step from what stands in a file: a name, or {name: settings}."""
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise InputError(
            f"{where}: a step is a name, or a name with its settings, such as `- GPTQ: {{bits: 4}}`"
            f", but {entry!r} was found."
        )
    ((name, settings),) = entry.items()
    if name not in STEPS:
        near = near_matches(name, STEPS)
        hint = f"Did you mean {near[0]}?" if near else f"Known are {', '.join(STEPS)}."
        raise InputError(f"{where}: there is no step {name!r}. {hint}")
    settings = {} if settings is None else settings
    if not isinstance(settings, Mapping):
        raise InputError(
            f"{where}: the settings of {name} must be `name: value`, not {settings!r}."
        )
    kind = STEPS[name]
    refuse_unknown(f"{where}: {name}", settings, [field.name for field in fields(kind)])
    try:
        return kind(**{key: _read(key, value) for key, value in settings.items()})
    except InputError as error:
        raise InputError(f"{where}: {name}: {error}") from None


def _entry(step: Step) -> Any:
    """Return what stands in a file for a step."""
    settings = {
        field.name: _written(getattr(step, field.name))
        for field in fields(step)
        if getattr(step, field.name) != field.default
    }
    return {type(step).__name__: settings} if settings else type(step).__name__


def _written(value: Any) -> Any:
    if isinstance(value, Format):
        named = [name for name, grid in GRIDS.items() if grid == value]
        usual = {field.name: field.default for field in fields(Format)}
        own = {key: one for key, one in asdict(value).items() if usual[key] != one}
        return named[0] if named else _written(own)
    if isinstance(value, Mapping):
        return {key: _written(one) for key, one in value.items()}
    return [_written(one) for one in value] if isinstance(value, tuple) else value


def _read(key: str, value: Any) -> Any:
    if key in ("bits", "head_bits"):
        return _grid(value)
    if key == "formats" and isinstance(value, Mapping):
        return {name: _grid(one) for name, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _grid(value: Any) -> Any:
    """Return the grid that a name or a mapping stands for; a number stays what it is."""
    if isinstance(value, str):
        if value.lower() not in GRIDS:
            raise InputError(
                f"there is no grid {value!r}; a number of bits, or one of {', '.join(GRIDS)}."
            )
        return GRIDS[value.lower()]
    if not isinstance(value, Mapping):
        return value
    refuse_unknown("a grid", value, [field.name for field in fields(Format)])
    if "bits" not in value:
        raise InputError("a grid needs its bits.")
    code = value.get("code")
    return Format(**{**value, "code": None if code is None else tuple(code)})
