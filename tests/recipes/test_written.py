"""Recipes in files: what is written is read again, and what is wrong is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    AWQ,
    GPTQ,
    MXFP4,
    NF4,
    RTN,
    W8A8,
    Format,
    Rotate,
    SmoothQuant,
    TuneScales,
    int_format,
)
from shrinkkit.recipes import read_recipe, write_recipe
from shrinkkit.recipes.written import STEPS

EVERY_STEP = [
    Rotate(seed=3),
    SmoothQuant(alpha="search"),
    W8A8("per_tensor_static", exclude=("*.down_proj", "lm_head")),
    RTN(),
    RTN(MXFP4, head_bits=None, search=False),
    GPTQ(bits=3, group_size=32, damping=0.1, act_order=False, include="model.layers.0.*"),
    GPTQ(Format(3, False, "per_group", 32, scale_bits=6), head_bits=NF4),
    GPTQ(formats={"model.layers.0.mlp.up_proj": int_format(2, group_size=16)}),
    AWQ(replace(NF4, group_size=16), rounding="gptq"),
    TuneScales(steps=8, norms=False),
]


def test_every_step_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert {type(step) for step in EVERY_STEP} == set(STEPS.values())
    path = write_recipe(tmp_path / "all.yaml", EVERY_STEP)
    assert read_recipe(path) == EVERY_STEP
    assert path.read_text().startswith("shrinkkit-recipe: 1\nsteps:\n- Rotate:\n    seed: 3\n")


def test_a_file_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "shrinkkit-recipe: 1\nsteps: [SmoothQuant: {alpha: 0.7}, W8A8, RTN: {bits: NF4}]"
    )
    assert read_recipe(path) == [SmoothQuant(0.7), W8A8(), RTN(NF4)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps: [RTN]", "does not begin with `shrinkkit-recipe: 1`"),
        ("[1, 2", "could not be read as YAML"),
        ("shrinkkit-recipe: 2\nsteps: [RTN]", "is of version 2, .* A newer file needs a newer"),
        ("shrinkkit-recipe: 1\nsteps: []", "has no steps"),
        ("shrinkkit-recipe: 1", "has no steps"),
        ("shrinkkit-recipe: 1\nstep: [RTN]", "no setting 'step'. Did you mean 'steps'"),
        (
            "shrinkkit-recipe: 1\nsteps: [GTPQ]",
            "step 1: there is no step 'GTPQ'. Did you mean GPTQ",
        ),
        ("shrinkkit-recipe: 1\nsteps: [RTN, Fold]", "step 2: there is no step 'Fold'. Known are"),
        ("shrinkkit-recipe: 1\nsteps: [RTN: {bit: 4}]", "no setting 'bit'. Did you mean 'bits'"),
        ("shrinkkit-recipe: 1\nsteps: [RTN: {bits: 1}]", "RTN: bits must be a whole number"),
        ("shrinkkit-recipe: 1\nsteps: [RTN: {bits: nf5}]", "there is no grid 'nf5'"),
        ("shrinkkit-recipe: 1\nsteps: [RTN: {bits: {group_size: 8}}]", "a grid needs its bits"),
        ("shrinkkit-recipe: 1\nsteps: [RTN: 4]", "settings of RTN must be `name: value`, not 4"),
        ("shrinkkit-recipe: 1\nsteps: [[RTN, 4]]", "a step is a name, or a name with its settings"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_recipe(path)


def test_no_file_and_no_steps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no recipe at"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="steps is empty"):
        write_recipe(tmp_path / "none.yaml", [])
    assert not list(tmp_path.iterdir())
