"""A settings counts itself correctly and refuses what cannot be trained."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.train.lm import PRESETS, Settings
from shrinkkit.train.lm.build import new_model, new_optimizers


@pytest.mark.parametrize("name", PRESETS)
def test_the_count_of_weights_is_the_models(name: str) -> None:
    model = new_model(PRESETS[name])
    assert PRESETS[name].n_parameters() == sum(p.numel() for p in model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_first_weights_come_from_the_seed() -> None:
    tiny = PRESETS["tiny"]
    first, again, other = (new_model(tiny.with_(seed=seed)) for seed in (1, 1, 2))
    name = "model.layers.0.mlp.up_proj.weight"
    assert first.get_parameter(name).equal(again.get_parameter(name))
    assert not first.get_parameter(name).equal(other.get_parameter(name))


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_every_weight_has_one_optimizer(optimizer: str) -> None:
    settings = PRESETS["tiny"].with_(optimizer=optimizer)
    model = new_model(settings)
    optimizers = new_optimizers(model, settings)
    owned = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))
    decayed = [
        p for o in optimizers for g in o.param_groups if g["weight_decay"] for p in g["params"]
    ]
    assert len(decayed) == 7 * settings.layers  # the matrices of the blocks


def test_the_learning_rate_rises_once_and_falls_to_nearly_nothing() -> None:
    settings = Settings(steps=200, warm_up=0.05)
    factors = [settings.learning_rate_factor(step) for step in range(200)]
    top = factors.index(max(factors))
    assert factors[top] == 1.0
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert 0 < factors[-1] < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"heads": 3}, "heads=3 must divide 64", id="heads"),
        pytest.param({"heads": 4, "kv_heads": 3}, "kv_heads=3 must divide 4", id="kv heads"),
        pytest.param({"heads": 64, "kv_heads": 1}, "must be even", id="odd head"),
        pytest.param({"steps": 0}, "steps must be a whole number", id="no steps"),
        pytest.param({"vocab_size": 100}, "vocab_size must be", id="vocabulary"),
        pytest.param({"learning_rate": 0.0}, "learning_rate must lie between", id="rate"),
        pytest.param({"weight_decay": -0.1}, "weight_decay must be at least 0", id="decay"),
        pytest.param({"optimizer": "adam"}, "Did you mean 'adamw'", id="optimizer"),
        pytest.param({"precision": "fp16"}, "precision must be one of", id="precision"),
        pytest.param({"learn_rate": 0.1}, "Did you mean 'learning_rate'", id="no such field"),
    ],
)
def test_impossible_settings(change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        PRESETS["tiny"].with_(**change)
