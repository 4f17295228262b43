"""The footprint of a model is measured in a process of its own."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError, ShrinkkitError
from shrinkkit.lessons.measuring import process as module
from shrinkkit.lessons.measuring.process import footprint, load_and_read
from shrinkkit.measure.size import MIB


@pytest.mark.slow
def test_a_larger_model_has_a_larger_footprint(tiny_llama, tmp_path):
    from transformers import LlamaForCausalLM

    wider = tiny_llama.config.__class__.from_dict(
        tiny_llama.config.to_dict() | {"vocab_size": 400_000}
    )
    tiny_llama.save_pretrained(tmp_path / "small")
    large = LlamaForCausalLM(wider)  # 400,000 x 64 weights of 4 bytes: 98 MiB
    large.save_pretrained(tmp_path / "large")
    small_peak = footprint(tmp_path / "small", 4).bytes
    large_peak = footprint(str(tmp_path / "large"), 4).bytes
    assert large_peak - small_peak > 80 * MIB
    assert small_peak > 100 * MIB, "Python, torch and transformers are part of it"


def test_the_work_is_a_forward_pass(tiny_llama, monkeypatch):
    from shrinkkit import loading

    read = []
    monkeypatch.setattr(loading, "load_model", lambda name: tiny_llama)
    handle = tiny_llama.register_forward_hook(lambda *call: read.append(call[1][0].shape))
    try:
        load_and_read("any", 7)
    finally:
        handle.remove()
    assert read == [(1, 7)]
    assert module.load_and_read is load_and_read


@pytest.mark.parametrize("n_tokens", [0, 1.5, True])
def test_wrong_n_tokens(n_tokens):
    with pytest.raises(InputError, match="n_tokens"):
        footprint("smollm2-135m", n_tokens)


def test_a_model_is_not_a_name(tiny_llama):
    with pytest.raises(InputError, match="name is a LlamaForCausalLM"):
        footprint(tiny_llama)


def test_what_fails_in_the_process_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ShrinkkitError, match="holds no model"):
        footprint(tmp_path / "empty")
