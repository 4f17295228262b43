"""Every listed family of models with every verb: the result is right, or refused with a reason.

The checks and the tiny models are those of tools/families.py, which tries all families of
transformers and writes docs/families.md; here the common ones run.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from shrinkkit.quant.layers.linear import QuantizedLinear
from tools import families
from tools.tiny_families import family, tokens_of

pytestmark = pytest.mark.slow  # 42 families, every verb: some 20 s

DECODERS = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3"),
    *("gpt2", "gptj", "gpt_neo", "gpt_neox", "gpt_bigcode", "opt", "bloom", "falcon", "mpt"),
    *("olmo", "olmo2", "olmo3", "cohere", "cohere2", "stablelm", "starcoder2", "exaone4"),
    *("mixtral", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "phimoe", "deepseek_v3", "mamba"),
]
OTHERS = ["t5", "bart", "bert", "roberta", "distilbert", "albert", "electra", "modernbert"]
ALWAYS = ("int8", "int4", "save, load", "16 bits", "QAT")  # right for every family
STACKS = ("GPTQ",)  # right for every decoder
REASONS = re.compile(
    r"can be rescaled for nothing: rescaling|Turning the hidden space changed the output|"
    r"stacks of as many blocks|hidden state as Llama does|A quantized cache holds keys and values"
)


@pytest.mark.parametrize("name", [*DECODERS, *OTHERS])
def test_every_verb_is_right_or_refused_with_a_reason(name: str) -> None:
    one = family(name)
    said = {verb: families.verdict(one, verb) for verb in families.VERBS}
    for verb, (what, why) in said.items():
        assert what != "wrong", f"{verb}: {why}"
        if what == "refused":
            assert REASONS.search(why), f"{verb}: {why}"
    right = {verb for verb, (what, _) in said.items() if what == "right"}
    assert right.issuperset(ALWAYS)
    assert name not in DECODERS or right.issuperset(STACKS)


def test_the_page_lists_these_families_and_nothing_wrong() -> None:
    page = families.PAGE.read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| (.*) \|$", page, re.M))
    assert set(rows) >= {*DECODERS, *OTHERS}
    assert "**wrong**" not in page
    assert page.split("## Why")[0].count(" yes ") > 1000
    assert "docs/families.md" in Path(families.ROOT, "README.md").read_text("utf-8")


@pytest.mark.parametrize("verb", ["int8", "int4", "save, load", "QAT", "GPTQ"])
def test_the_checks_notice_a_layer_that_computes_something_else(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = QuantizedLinear.forward
    calls = []

    def wrong(self: QuantizedLinear, x: torch.Tensor) -> torch.Tensor:
        calls.append(self)
        y = right(self, x)
        return y * 3 if len(calls) % 2 else y

    monkeypatch.setattr(QuantizedLinear, "forward", wrong)
    what, why = families.verdict(family("llama"), verb)
    assert what == "wrong"
    assert "off by" in why


def test_the_price_of_rounding_grows_sixteenfold_from_8_to_4_bits() -> None:
    one = family("llama")
    at_8, at_4 = (families.price(one, bits) - 0.02 for bits in (8, 4))
    assert 10 < at_4 / at_8 < 22


def test_a_model_of_another_dtype_or_with_nan_is_not_near() -> None:
    exact = torch.ones(3)
    families.near(exact, exact, 0.0)
    with pytest.raises(AssertionError, match="bfloat16 came out"):
        families.near(exact.bfloat16(), exact, 0.1)
    with pytest.raises(AssertionError, match="off by inf"):
        families.near(exact / 0, exact, 0.1)


def test_fresh_weights_leave_no_norm_at_one() -> None:
    norms = [m for m in family("llama").model.modules() if isinstance(m, nn.Module)]
    weights = [w for m in norms for w in m.parameters(recurse=False) if w.ndim == 1]
    assert weights
    assert all(w.std() > 0.1 for w in weights)
    assert tokens_of(4, 2).tolist() == tokens_of(4, 2).tolist()
