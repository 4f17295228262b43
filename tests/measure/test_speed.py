"""Reading and writing speed: the arithmetic with a wound clock, the plumbing with a real model."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import (
    bytes_per_token,
    decode_bound,
    decode_speed_paired,
    encoder_latency,
    memory_bandwidth,
    prefill_speed_paired,
)
from shrinkkit.quant import QuantizedEmbedding, QuantizedLinear, int_format, quantize_model


class Writer(nn.Module):
    """A model whose prompt takes `first` seconds and whose every further token takes `each`."""

    def __init__(self, clock, first, each):
        super().__init__()
        self.config = SimpleNamespace(vocab_size=50)
        self.clock, self.first, self.each = clock, first, each
        self.calls = []

    def forward(self, tokens):
        self.clock.now += self.first
        return tokens

    def generate(self, tokens, *, max_new_tokens, stopping_criteria=(), **options):
        self.calls.append((tuple(tokens.shape), max_new_tokens, options))
        for i in range(max_new_tokens):
            self.clock.now += self.each if i else self.first
            tokens = torch.cat([tokens, tokens[:, -1:]], dim=1)
            for criterion in stopping_criteria:
                assert not criterion(tokens, None).any()
        return tokens


def test_decode_speed_leaves_the_prompt_out(clock):
    models = {"a": Writer(clock, first=3.0, each=0.05)}
    speed = decode_speed_paired(models, n_new=9, clock=clock)["a"]
    assert speed.tokens_per_s.median == pytest.approx(20.0)  # 1 / 0.05, whatever the prompt took
    assert speed.first_token.median_ms == pytest.approx(3000.0)
    assert speed.n_new == 9


def test_decode_speed_counts_the_turns(clock):
    model = Writer(clock, 1.0, 0.1)
    speed = decode_speed_paired({"a": model}, 5, 4, warmup=2, repeats=3, clock=clock)["a"]
    assert len(model.calls) == 5
    assert speed.tokens_per_s.n == speed.first_token.n == 3
    shape, n_new, options = model.calls[0]
    assert (shape, n_new) == ((1, 5), 4)
    assert options["min_new_tokens"] == 4  # an end-of-text token must not cut it short
    assert options["do_sample"] is False


def test_models_write_in_turns(clock):
    order = []
    models = {}
    for name, each in (("a", 0.2), ("b", 0.1)):
        models[name] = Writer(clock, 1.0, each)
        models[name].calls = SimpleNamespace(append=lambda _, name=name: order.append(name))
    speeds = decode_speed_paired(models, n_new=3, warmup=1, repeats=2, clock=clock)
    assert order == ["a", "b"] * 3
    assert speeds["b"].tokens_per_s.median == pytest.approx(2 * speeds["a"].tokens_per_s.median)


def test_prefill_is_one_reading(clock):
    models = {"a": Writer(clock, first=0.5, each=9.0)}
    prefill = prefill_speed_paired(models, 32, clock=clock)["a"]
    assert prefill.timing.median_ms == pytest.approx(500.0)
    assert prefill.tokens_per_s == pytest.approx(64.0)


def test_a_real_model_is_timed_token_by_token(tiny_llama, tokens):
    models = {"a": tiny_llama, "b": tiny_llama}
    speed = decode_speed_paired(models, tokens[:1, :8], 6, warmup=0, repeats=2)["b"]
    assert 0 < speed.tokens_per_s.low <= speed.tokens_per_s.median <= speed.tokens_per_s.high
    assert speed.first_token.n == 2
    paired = prefill_speed_paired(models, tokens[0, :8], repeats=2)
    assert {timed.n_tokens for timed in paired.values()} == {8}
    assert all(timed.timing.median_ms > 0 for timed in paired.values())


def test_an_end_of_text_token_does_not_stop_the_watch(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    model.generation_config.eos_token_id = list(range(256))[:250]  # nearly every token ends a text
    watched = decode_speed_paired({"a": model}, 4, 12, warmup=0, repeats=1)["a"]
    assert watched.tokens_per_s.median > 0
    assert watched.n_new == 12


def test_prefill_asks_for_the_last_logits_only(tiny_llama):
    seen = {}

    def look(module, args, options, output):
        seen.update(options, logits=output.logits.shape)

    handle = tiny_llama.register_forward_hook(look, with_kwargs=True)
    try:
        prefill_speed_paired({"a": tiny_llama}, 7, warmup=0, repeats=1)
    finally:
        handle.remove()
    assert seen["logits"] == (1, 1, 256)  # as in generate: only the last position is needed


def test_encoder_latency_runs_the_batch(tiny_bert):
    shapes = []
    hook = tiny_bert.register_forward_pre_hook(lambda _, args: shapes.append(args[0].shape))
    try:
        timing = encoder_latency(tiny_bert, 6, 3, warmup=1, repeats=4)
    finally:
        hook.remove()
    assert shapes == [(3, 6)] * 5
    assert timing.n == 4
    assert timing.median_ms > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_new": 1}, "n_new"),
        ({"repeats": 0}, "repeats"),
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"prompt_tokens": torch.zeros(2, 4, dtype=torch.long)}, "one prompt"),
        ({"prompt_tokens": torch.full((1, 4), 999)}, "another"),
    ],
    ids=["one-token", "no-repeats", "no-prompt", "two-prompts", "other-vocabulary"],
)
def test_bad_arguments_are_refused(tiny_llama, arguments, words):
    with pytest.raises(InputError, match=words):
        decode_speed_paired({"a": tiny_llama}, **arguments)


def test_what_cannot_write_is_refused():
    with pytest.raises(InputError, match="encoder_latency"):
        decode_speed_paired({"a": nn.Linear(2, 2)})


def test_memory_bandwidth_follows_from_the_fastest_pass(monkeypatch):
    from shrinkkit.measure import bandwidth
    from shrinkkit.measure.timing import Timing

    def timed(fns, warmup, repeats):
        assert all(fn() == fn() for fn in fns.values())  # they do read the buffer
        return {name: Timing.of([8.0, 4.0 + i, 9.0]) for i, name in enumerate(fns)}

    monkeypatch.setattr(bandwidth, "time_paired", timed)
    assert memory_bandwidth(2**20) == pytest.approx(2**20 / 0.004)


def test_memory_bandwidth_is_plausible():
    assert 1e8 < memory_bandwidth(2**23, repeats=1) < 1e14


def test_bytes_per_token_counts_what_is_read(tiny_llama):
    block = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128  # q, o; k, v; gate, up, down
    head = 256 * 64  # tied to the embedding: once
    assert bytes_per_token(tiny_llama) == 4 * (2 * block + head)


def test_bytes_per_token_counts_packed_layers_as_they_lie_in_memory(tiny_llama):
    layer = QuantizedLinear.from_linear(nn.Linear(64, 32), int_format(4, group_size=32))
    assert bytes_per_token(nn.Sequential(layer)) == layer.nbytes
    assert bytes_per_token(quantize_model(tiny_llama, 8)) < 0.3 * bytes_per_token(tiny_llama)


def test_layers_that_share_a_weight_read_it_twice():
    first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    assert bytes_per_token(nn.Sequential(first, second)) == 2 * 64


def test_a_packed_embedding_of_its_own_is_only_looked_up(tiny_llama):
    model = quantize_model(tiny_llama, 8)
    before = bytes_per_token(model)
    table = QuantizedLinear.from_linear(nn.Linear(64, 256, bias=False), int_format(8))
    model.set_input_embeddings(QuantizedEmbedding(table))
    assert bytes_per_token(model) == before


def test_decode_bound_is_bandwidth_over_bytes(tiny_llama):
    assert decode_bound(tiny_llama, 2e9) == pytest.approx(2e9 / bytes_per_token(tiny_llama))
    with pytest.raises(InputError, match="bandwidth"):
        decode_bound(tiny_llama, 0)
    with pytest.raises(InputError, match="linear"):
        decode_bound(nn.ReLU(), 1e9)
