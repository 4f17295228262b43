"""Bits under a budget: prices against explicit gradients, spending against brute force."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch.nn.functional import cross_entropy

from shrinkkit.errors import InputError
from shrinkkit.quant import (
    Format,
    choose_formats,
    fake_quantize,
    gptq_model,
    int_format,
    load,
    save,
)
from shrinkkit.quant.ptq.budget import mean_bits, rounding_prices, spend
from shrinkkit.surgery.parts import find_linears
from tests.tiny import logits

TWO, THREE, FOUR = (int_format(bits, group_size=16) for bits in (2, 3, 4))


def test_prices_are_half_the_fisher_times_the_squared_change(tiny_llama, tokens) -> None:
    name = "model.layers.1.mlp.up_proj"
    layer, seen = tiny_llama.get_submodule(name), {}

    def keep(_, args, y):
        y.retain_grad()
        seen["x"], seen["y"] = args[0].detach(), y

    handle = layer.register_forward_hook(keep)
    fisher = torch.zeros_like(layer.weight)
    tokens = tokens[:4, :12]
    for window in tokens:  # one window at a time, one token's outer product at a time
        logits = tiny_llama(window[None]).logits[0, :-1]
        cross_entropy(logits, window[1:], reduction="sum").backward()
        for x, g in zip(seen["x"][0], seen["y"].grad[0], strict=True):
            fisher += torch.outer(g, x).square()
    handle.remove()
    tiny_llama.zero_grad()
    fisher /= 4 * 11
    prices = rounding_prices(tiny_llama, tokens, [TWO, FOUR], batch_size=3)
    for fmt in (TWO, FOUR):
        change = fake_quantize(layer.weight.detach(), fmt) - layer.weight.detach()
        expected = (fisher * change**2).sum().item() / 2
        assert prices[name][fmt] == pytest.approx(expected, rel=1e-4)
    assert list(prices) == list(find_linears(tiny_llama))
    assert all(price[FOUR] < price[TWO] for price in prices.values())


def test_pricing_leaves_the_model_as_it_was(tiny_llama, tokens) -> None:
    model = copy.deepcopy(tiny_llama).train()
    model.lm_head.weight.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    rounding_prices(model, tokens, [FOUR])
    assert model.training
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("budget", [2.5, 3.0, 3.7])
def test_spending_is_within_one_step_of_the_best_choice(seed: int, budget: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    formats = [Format(bits, scale_bits=32) for bits in (2, 3, 4)]
    shapes = {f"layer{i}": (4 * (i + 1), 4096) for i in range(6)}
    prices = {}
    for name in shapes:
        start, fall = torch.rand(2, generator=generator).tolist()
        prices[name] = {
            fmt: start * fall**step * (1 + 0.3 * torch.rand(1, generator=generator).item())
            for step, fmt in enumerate(formats)
        }
    chosen = spend(prices, shapes, budget)
    total = sum(prices[name][fmt] for name, fmt in chosen.items())
    assert mean_bits(chosen, shapes) <= budget
    best = min(
        sum(prices[name][fmt] for name, fmt in zip(shapes, choice, strict=True))
        for choice in itertools.product(formats, repeat=6)
        if mean_bits(dict(zip(shapes, choice, strict=True)), shapes) <= budget
    )
    step = max(max(price.values()) - min(price.values()) for price in prices.values())
    assert best <= total <= best + step


def test_all_the_money_buys_the_best_and_just_enough_the_cheapest() -> None:
    shapes = {"a": (8, 64), "b": (4, 64)}
    prices = {"a": {TWO: 3.0, THREE: 2.0, FOUR: 1.0}, "b": {TWO: 0.3, THREE: 0.2, FOUR: 0.1}}
    assert set(spend(prices, shapes, 16).values()) == {FOUR}
    least = mean_bits({"a": TWO, "b": TWO}, shapes)
    assert set(spend(prices, shapes, least).values()) == {TWO}
    with pytest.raises(InputError, match="budget=2 bits a weight is too little"):
        spend(prices, shapes, 2)


def test_what_a_mixture_beats_is_never_bought() -> None:
    # three bits save nothing worth having; two and four are the ends of the hull
    prices = {"a": {TWO: 1.0, THREE: 0.99, FOUR: 0.0}, "b": {TWO: 1.0, THREE: 0.99, FOUR: 0.0}}
    chosen = spend(prices, {"a": (8, 64), "b": (8, 64)}, 4.2)
    assert sorted(fmt.bits for fmt in chosen.values()) == [2, 4]


def test_a_touchy_layer_gets_the_bits_and_the_model_is_saved(tiny_llama, tokens, tmp_path) -> None:
    model = copy.deepcopy(tiny_llama)
    touchy = "model.layers.0.mlp.down_proj"
    model.get_submodule(touchy).weight.data *= 30
    formats = choose_formats(model, tokens, [TWO, FOUR], budget=4.2)
    shapes = {name: tuple(layer.weight.shape) for name, layer in find_linears(model).items()}
    assert mean_bits(formats, shapes) <= 4.2
    assert formats[touchy] == FOUR
    small = gptq_model(model, tokens, formats=formats)
    assert {name: small.get_submodule(name).format for name in formats} == formats
    opened = load(save(small, tmp_path / "small"))
    assert torch.equal(logits(opened, tokens), logits(small, tokens))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, t: rounding_prices(m, t, []), "formats is empty"),
        (lambda m, t: rounding_prices(m, t, [int_format(4, group_size=512)]), "Layer model"),
        (lambda m, t: spend({}, {}, 4), "prices is empty"),
        (lambda m, t: spend({"a": {FOUR: 1.0}}, {}, 4), "shapes lacks"),
        (lambda m, t: gptq_model(m, t, formats={"model.layers.0.mlp.up": FOUR}), "up_proj"),
    ],
    ids=["no formats", "group", "no prices", "no shape", "typo"],
)
def test_bad_input(call, words: str, tiny_llama, tokens) -> None:
    with pytest.raises(InputError, match=words):
        call(tiny_llama, tokens)
