"""Kneser-Ney by hand, as a probability, and against a slow, plain version of the same formula."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from shrinkkit.errors import InputError
from shrinkkit.train.lm import KneserNey


def test_bigrams_by_hand() -> None:
    # 0 1 0 1 0 2: bigrams 01 x2, 10 x2, 02 x1. No count of 3 or 4, so with max(1, .) for the
    # missing ones: Y = 1 / (1 + 2 * 2) = 0.2; D1 = 1 - 2 * 0.2 * 2 / 1 = 0.2; D2 = 2 - 3 * 0.2 *
    # 1 / 2 = 1.7. Context 0: total 3, reserved (1.7 + 0.2) / 3.
    model = KneserNey(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3, n=2)
    # Unigrams by continuation: 0 after {1}, 1 after {0}, 2 after {0}: one each of three. With
    # three ones: Y = 3 / 5, D1 = 1 - 2 * 0.6 * 1 / 3 = 0.6; reserved 1.8 / 3 = 0.6.
    unigram = (1 - 0.6) / 3 + 0.6 / 3  # = 1 / 3
    p = model.probabilities(np.array([0, 1]))
    assert p[0] == pytest.approx(unigram)
    assert p[1] == pytest.approx((2 - 1.7) / 3 + (1.7 + 0.2) / 3 * unigram)
    assert model.probabilities(np.array([0, 2]))[1] == pytest.approx(
        (1 - 0.2) / 3 + 1.9 / 3 * unigram
    )
    # A context that was never seen (nothing follows 2) leaves it to the unigrams.
    assert model.probabilities(np.array([2, 1]))[1] == pytest.approx(unigram)


def plain(text: list[int], vocab_size: int, n: int, context: tuple[int, ...], word: int) -> float:
    """The same formula from dictionaries, one probability at a time."""
    grams = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
    tables = {n: grams}
    for length in range(n - 1, 0, -1):
        tables[length] = Counter(gram[1:] for gram in tables[length + 1])

    def p(length: int, context: tuple[int, ...]) -> float:
        if length == 0:
            return 1 / vocab_size
        counts = tables[length]
        n1, n2, n3, n4 = (max(1, sum(c == k for c in counts.values())) for k in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        d = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        d = [min(max(value, 0), k) for k, value in enumerate(d)]
        follow = {gram[-1]: c for gram, c in counts.items() if gram[:-1] == context}
        if not follow:
            return p(length - 1, context[1:])
        total = sum(follow.values())
        reserved = sum(d[min(c, 3)] for c in follow.values()) / total
        c = follow.get(word, 0)
        return (c - d[min(c, 3)]) / total + reserved * p(length - 1, context[1:])

    return p(len(context) + 1, context)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_against_the_plain_formula_and_as_a_probability(n: int) -> None:
    rng = np.random.default_rng(n)
    text = rng.choice(6, size=400, p=[0.4, 0.25, 0.15, 0.1, 0.05, 0.05])
    model = KneserNey(text, vocab_size=8, n=n)  # tokens 6 and 7 never occur
    for _ in range(5):
        context = tuple(int(t) for t in rng.integers(0, 7, size=n - 1))
        found = [model.probabilities(np.array([*context, word]))[-1] for word in range(8)]
        assert sum(found) == pytest.approx(1.0, abs=1e-12)
        expected = [plain(text.tolist(), 8, n, context, word) for word in range(8)]
        assert found == pytest.approx(expected, abs=1e-12)


def test_longer_runs_help_on_text_with_structure() -> None:
    rng = np.random.default_rng(0)
    text = np.concatenate([[a, b, (a * b) % 16] for a, b in rng.integers(0, 16, size=(3000, 2))])

    def bits(n: int) -> float:
        return -np.log2(KneserNey(text[:8000], 16, n).probabilities(text[8000:])).mean()

    assert bits(3) < bits(2) - 0.4
    assert bits(2) <= bits(1) + 0.05
    assert bits(1) <= 4.0  # sixteen tokens, seen about alike


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "n", "words"),
    [
        pytest.param([0, 1, 2, 3], 2**16, 5, "at most 3", id="too many bits"),
        pytest.param([0, 1], 4, 3, "more than n=3 tokens", id="too short"),
        pytest.param([0, 1, 9, 1], 4, 2, "between 0 and 3", id="outside"),
        pytest.param([0, 1, 2], 4, 0, "n must be a whole number", id="n"),
    ],
)
def test_impossible_counts(tokens: list[int], vocab_size: int, n: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        KneserNey(np.array(tokens), vocab_size, n)
