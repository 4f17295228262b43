"""Rotation: orthogonal, without effect on the model, and the end of outliers."""

from __future__ import annotations

import copy

import pytest
import torch
from scipy.fft import dct

from shrinkkit.errors import InputError
from shrinkkit.measure import next_token_agreement
from shrinkkit.quant import rotate
from shrinkkit.quant.ptq.activations import quantize_activations
from shrinkkit.quant.ptq.rotation import outlier_ratio, rotation_matrix
from shrinkkit.surgery.parts import is_tied
from tests.calibration.test_walk import inputs_of
from tests.tiny import logits


@pytest.fixture(scope="module")
def spiky(tiny_llama):
    """A model whose hidden state has two large channels, and norms whose weights differ."""
    model = copy.deepcopy(tiny_llama)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, [5, 40]] *= 50
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
            elif "o_proj" in name or "down_proj" in name:
                parameter[[5, 40]] *= 50
    return model


@pytest.mark.parametrize("size", [1, 2, 9, 64, 80, 576])
def test_it_is_orthogonal(size: int) -> None:
    matrix = rotation_matrix(size, seed=3)
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(size).double(), atol=1e-12, rtol=0)
    assert (
        matrix.abs().max() <= (2 / (size // (size & -size))) ** 0.5 / (size & -size) ** 0.5 + 1e-9
    )


def test_it_is_the_two_matrices_up_to_a_sign_for_each_row() -> None:
    cosine = torch.tensor(dct(torch.eye(3).double().numpy(), norm="ortho", axis=0))
    hadamard = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
    expected = torch.kron(cosine, torch.tensor(hadamard).double() / 2)
    found = rotation_matrix(12)
    signs = (found[:, :1] * expected[:, :1]).sign()  # the first column has no zeros
    torch.testing.assert_close(signs * found, expected, atol=1e-12, rtol=0)


def test_the_logits_stay(spiky, tokens) -> None:
    turned = rotate(spiky, seed=4)
    expected, got = logits(spiky, tokens), logits(turned, tokens)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert is_tied(spiky)
    assert not is_tied(turned)
    assert not turned.config.tie_word_embeddings
    weight = "model.layers.0.mlp.up_proj"
    assert not torch.allclose(
        turned.get_submodule(weight).weight, spiky.get_submodule(weight).weight, atol=1e-3
    )


def test_a_rotated_model_is_saved_and_opened_by_transformers(spiky, tokens, tmp_path) -> None:
    from transformers import AutoModelForCausalLM

    turned = rotate(spiky)
    turned.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(opened, tokens), logits(turned, tokens))


def test_outliers_vanish_and_eight_bit_activations_lose_less(spiky, tokens) -> None:
    turned = rotate(spiky)
    names = ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj"]
    ratios = []
    for model in (spiky, turned):
        seen = inputs_of(model, names, tokens)
        ratios.append([outlier_ratio(seen[name]) for name in names])
    assert min(ratios[0]) > 4
    assert max(ratios[1]) < 2.5
    kl = [
        next_token_agreement(spiky, quantize_activations(model), tokens).kl
        for model in (spiky, turned)
    ]
    assert kl[1] < 0.5 * kl[0]


def test_another_seed_turns_otherwise(spiky) -> None:
    first, other = (rotate(spiky, seed=seed).lm_head.weight for seed in (7, 8))
    assert not torch.allclose(first, other)


def test_bad_input(tiny_gpt2) -> None:
    with pytest.raises(InputError, match="GPT2LMHeadModel does not read and write"):
        rotate(tiny_gpt2)
    with pytest.raises(InputError, match="size must be"):
        rotation_matrix(0)
    with pytest.raises(InputError, match="x has shape"):
        outlier_ratio(torch.zeros(0, 4))
