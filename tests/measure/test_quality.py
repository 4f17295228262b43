"""Perplexity and agreement: by hand, against torch and transformers, and at the edges."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from shrinkkit.errors import InputError
from shrinkkit.measure import kl_nats, next_token_agreement, perplexity, token_scores
from tests import tiny
from tests.measure.conftest import TableModel


@pytest.mark.parametrize(
    ("table", "tokens", "expected"),
    [
        # 0 -> 1 (0.5), 1 -> 1 (0.75), 1 -> 0 (0.25); the first token of the window is not scored.
        ([[0.5, 0.5], [0.25, 0.75]], [[0, 1, 1, 0]], (0.5 * 0.75 * 0.25) ** (-1 / 3)),
        ([[1 / 7] * 7] * 7, [[0, 5, 6, 2], [3, 3, 1, 4]], 7),
        ([[0.0, 1.0], [1.0, 0.0]], [[0, 1, 0, 1]], 1.0),
    ],
    ids=["by hand", "uniform: the size of the vocabulary", "certain and right"],
)
def test_perplexity_of_a_table(table, tokens, expected):
    found = perplexity(TableModel(table), torch.tensor(tokens))
    assert found == pytest.approx(expected, rel=1e-6)


def test_perplexity_equals_the_loss_that_transformers_computes(tiny_llama, tokens):
    with torch.no_grad():
        loss = tiny_llama(tokens, labels=tokens).loss  # same windows, all of one length
    assert perplexity(tiny_llama, tokens) == pytest.approx(math.exp(loss), rel=1e-5)


def test_perplexity_equals_a_loop_over_positions(tiny_llama, tokens):
    short = tokens[:2, :9]
    total = 0.0
    for window in short.tolist():
        for end in range(1, len(window)):  # each position in a forward pass of its own
            logits = tiny.logits(tiny_llama, torch.tensor([window[:end]]))[0, -1].double()
            total += (logits.logsumexp(0) - logits[window[end]]).item()
    assert perplexity(tiny_llama, short) == pytest.approx(math.exp(total / 16), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_perplexity_does_not_depend_on_the_batch_size(tiny_llama, tokens, batch_size):
    expected = perplexity(tiny_llama, tokens, batch_size=3)
    assert perplexity(tiny_llama, tokens, batch_size) == pytest.approx(expected, rel=1e-6)


def test_more_windows_are_averaged_over_tokens():
    model = TableModel([[0.5, 0.5], [0.1, 0.9]])
    both = perplexity(model, torch.tensor([[0, 1, 1], [1, 0, 0]]))
    one, two = (perplexity(model, torch.tensor([w])) for w in ([0, 1, 1], [1, 0, 0]))
    assert both == pytest.approx(math.sqrt(one * two), rel=1e-6)


def test_an_impossible_token_gives_infinity_and_a_broken_model_nan():
    tokens = torch.tensor([[0, 1, 1]])
    assert perplexity(TableModel([[1.0, 0.0], [0.5, 0.5]]), tokens) == math.inf
    assert math.isnan(perplexity(TableModel([[math.nan] * 2] * 2), tokens))


def test_kl_by_hand_and_not_symmetric():
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    backward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kl_nats(p, q).item() == pytest.approx(forward, rel=1e-5)
    assert kl_nats(q, p).item() == pytest.approx(backward, rel=1e-5)


def test_kl_equals_torch():
    reference, compressed = tiny.normal(2, 6, 50)
    expected = nn.functional.kl_div(
        compressed.log_softmax(-1), reference.log_softmax(-1), log_target=True, reduction="none"
    ).sum(-1)
    torch.testing.assert_close(kl_nats(reference, compressed), expected)
    assert kl_nats(reference, compressed).min() > 0
    assert torch.equal(kl_nats(reference, reference), torch.zeros(6))


def test_kl_ignores_what_the_reference_rules_out_and_punishes_the_reverse():
    sure, unsure = torch.tensor([0.0, -math.inf]), torch.tensor([0.0, 0.0])
    assert kl_nats(sure, unsure).item() == pytest.approx(math.log(2))
    assert kl_nats(unsure, sure).item() == math.inf
    assert math.isnan(kl_nats(torch.tensor([math.nan, 0.0]), unsure).item())


def test_agreement_equals_torch_over_all_scored_positions(tiny_llama, noisy_llama, tokens):
    before, after = (
        tiny.logits(m, tokens)[:, :-1].flatten(0, 1) for m in (tiny_llama, noisy_llama)
    )
    kl = nn.functional.kl_div(
        after.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    found = next_token_agreement(tiny_llama, noisy_llama, tokens, batch_size=2)
    assert found.n == 5 * 69
    assert found.kl == pytest.approx(kl.item(), rel=1e-4)
    assert found.top1 == pytest.approx((before.argmax(1) == after.argmax(1)).double().mean().item())
    swapped = next_token_agreement(noisy_llama, tiny_llama, tokens)
    assert swapped.kl != pytest.approx(found.kl, rel=1e-3)
    assert swapped.top1 == found.top1


def test_a_model_agrees_with_itself(tiny_llama, tokens):
    found = next_token_agreement(tiny_llama, tiny_llama, tokens)
    assert (found.top1, found.kl) == (1.0, 0.0)


def test_more_damage_means_less_agreement(tiny_llama, noisy_llama, tokens):
    slightly = copy.deepcopy(tiny_llama)
    slightly.model.layers[0].mlp.down_proj.weight.data *= 1.02
    little = next_token_agreement(tiny_llama, slightly, tokens)
    much = next_token_agreement(tiny_llama, noisy_llama, tokens)
    assert little.kl < much.kl
    assert little.top1 > much.top1


def test_token_scores_are_those_of_the_single_functions(tiny_llama, noisy_llama, tokens):
    scores = token_scores({"a": tiny_llama, "b": noisy_llama}, tokens, reference="a")
    assert scores["a"].agreement is None
    assert scores["a"].perplexity == perplexity(tiny_llama, tokens)
    assert scores["b"].perplexity == perplexity(noisy_llama, tokens)
    assert scores["b"].agreement == next_token_agreement(tiny_llama, noisy_llama, tokens)


def test_bfloat16_models_are_scored_in_float32(tiny_llama, tokens):
    half = copy.deepcopy(tiny_llama).to(torch.bfloat16)
    assert perplexity(half, tokens) == pytest.approx(perplexity(tiny_llama, tokens), rel=0.02)


def test_the_model_is_left_as_it_was(tiny_llama, tokens):
    model = copy.deepcopy(tiny_llama).train()
    model.model.layers[0].eval()
    before = perplexity(tiny_llama, tokens)
    assert perplexity(model, tokens) == before
    assert model.training
    assert not model.model.layers[0].training
    assert torch.is_grad_enabled()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (torch.zeros(2, 8), "integers"),
        (torch.zeros(8, dtype=torch.long), "n_samples, seq_len"),
        (torch.zeros(2, 1, dtype=torch.long), "at least 2 tokens"),
        (torch.zeros(0, 8, dtype=torch.long), "at least one"),
        (torch.full((1, 8), 256), "another model's tokenizer"),
        (torch.full((1, 8), -100), "start at 0"),
        ([[1, 2, 3]], "tensor of token ids"),
    ],
    ids=["float", "one-dim", "one-token", "empty", "too-large-id", "negative-id", "list"],
)
def test_bad_tokens_are_refused(tiny_llama, tokens, words):
    with pytest.raises(InputError, match=words):
        perplexity(tiny_llama, tokens)


def test_what_cannot_be_scored_is_refused(tiny_bert, tiny_llama, tokens):
    with pytest.raises(InputError, match="classification_score"):
        perplexity(tiny_bert, tokens)
    with pytest.raises(InputError, match="batch_size"):
        perplexity(tiny_llama, tokens, batch_size=0)
    two, three = TableModel([[0.5] * 2] * 2), TableModel([[1 / 3] * 3] * 3)
    with pytest.raises(InputError, match="one vocabulary"):
        next_token_agreement(two, three, torch.tensor([[0, 1, 0]]))
