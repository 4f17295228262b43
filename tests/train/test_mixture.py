"""The mixture: which window is of which text, and who can write."""

from __future__ import annotations

import pytest
import torch

from shrinkkit import load_text
from shrinkkit.errors import InputError
from shrinkkit.train.mixture import MIXTURE, kinds_for, mixed_windows
from shrinkkit.train.self_text import write_windows
from tests import tiny


@pytest.fixture(scope="module")
def writer():
    return tiny.llama(**tiny.LARGER, bos_token_id=1)


def test_the_kinds_take_turns(writer, tiny_tokenizer) -> None:
    found = mixed_windows(writer, tiny_tokenizer, 8, 24, seed=3)
    assert found.shape == (8, 24)
    assert found.dtype == torch.int64
    wikipedia = load_text("wikipedia", tiny_tokenizer).calibration(3, 24, 3)
    films = load_text("film-reviews", tiny_tokenizer).calibration(3, 24, 3)
    assert torch.equal(found[0::3], wikipedia)
    assert torch.equal(found[1::3], films)
    assert torch.equal(found[2::3], write_windows(writer, 2, 24, seed=3))


def test_chosen_kinds(writer, tiny_tokenizer) -> None:
    found = mixed_windows(writer, tiny_tokenizer, 3, 24, kinds=["lee-news"])
    assert torch.equal(found, load_text("lee-news", tiny_tokenizer).calibration(3, 24))
    alone = mixed_windows(writer, tiny_tokenizer, 1, 24)  # fewer windows than kinds
    assert torch.equal(alone, load_text("wikipedia", tiny_tokenizer).calibration(1, 24))


def test_who_cannot_write_gets_two_kinds(writer, tiny_bert, tiny_tokenizer) -> None:
    silent = tiny.llama(**tiny.LARGER, bos_token_id=None)
    assert kinds_for(writer) == MIXTURE
    assert kinds_for(None) == kinds_for(tiny_bert) == kinds_for(silent) == MIXTURE[:2]
    films = load_text("film-reviews", tiny_tokenizer).calibration(1, 24)
    assert torch.equal(mixed_windows(None, tiny_tokenizer, 2, 24)[1:], films)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": ["stories"]}, "kind of text must be one of"),
        ({"kinds": []}, "kinds must be a list"),
        ({"kinds": "wikipedia"}, "kinds must be a list"),
        ({"n_samples": 0}, "n_samples"),
    ],
)
def test_bad_input(writer, tiny_tokenizer, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mixed_windows(writer, tiny_tokenizer, **{"seq_len": 24, **options})
