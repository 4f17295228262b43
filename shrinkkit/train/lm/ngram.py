"""Predict by counting: an interpolated Kneser-Ney n-gram model, the one to beat before networks.

It has no weights. It remembers how often every run of five tokens stood in the training text, and
when asked for the next token after four, it looks the run up. Most runs of five were never seen, so
it mixes in what followed the last three tokens, the last two, the last one:

    p(w | u v) = max(0, count(u v w) - d) / count(u v) + reserved(u v) * p(w | v)

The discount d is taken from every count and given to the shorter run, in proportion to how many
different tokens followed: a context with many followers expects new ones. And a shorter run is
counted not by how often it stood there but by how many different tokens stood before it, because
the shorter table is asked only where the longer one failed ("San" makes "Francisco" common, but
"Francisco" is a poor guess anywhere else). That second idea is Kneser and Ney's; three discounts
instead of one (for counts of 1, 2, and more) are Chen and Goodman's.

It costs a sort of the text for each length, seconds for six million tokens, and memory that grows
with the text, which is the catch: it cannot generalise, only remember.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shrinkkit.errors import InputError, require_int


@dataclass(frozen=True)
class _Table:
    """Runs of one length: sorted keys, their counts, and what each context has in sum."""

    keys: np.ndarray  # [n_runs] int64, sorted
    counts: np.ndarray  # [n_runs]
    contexts: np.ndarray  # [n_contexts] int64, sorted: keys without their last token
    totals: np.ndarray  # [n_contexts] sum of counts
    reserved: np.ndarray  # [n_contexts] probability left for shorter runs
    discounts: np.ndarray  # [4] by min(count, 3)


class KneserNey:
    """Interpolated modified Kneser-Ney over token ids (Chen and Goodman 1999, equation 22).

    Make one with `KneserNey(tokens, vocab_size)`; `probabilities` scores a text.

    >>> model = KneserNey(np.array([0, 1, 0, 1, 0, 2]), vocab_size=3, n=2)
    >>> model.probabilities(np.array([0, 1])).round(3).tolist()
    [0.333, 0.311]
    """

    def __init__(self, tokens: np.ndarray, vocab_size: int, n: int = 5) -> None:
        """Count.

        tokens: [n_tokens] integer, the training text.
        vocab_size: number of tokens; vocab_size ** n must fit in 63 bits.
        n: the longest run.
        Raises InputError for n or a vocabulary too large to number the runs.
        """
        self.n = require_int("n", n, 1)
        self.bits = max(1, (require_int("vocab_size", vocab_size, 2) - 1).bit_length())
        if self.bits * n > 63:
            raise InputError(
                f"n={n} runs of a vocabulary of {vocab_size} do not fit in 63 bits; choose n of at "
                f"most {63 // self.bits}."
            )
        self.vocab_size = vocab_size
        tokens = np.asarray(tokens, dtype=np.int64)
        if tokens.ndim != 1 or len(tokens) <= n:
            raise InputError(f"tokens must be one text of more than n={n} tokens.")
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise InputError(f"tokens must lie between 0 and {vocab_size - 1}.")
        keys, counts = np.unique(self._runs(tokens, n), return_counts=True)
        tables = [self._table(keys, counts)]
        for length in range(n - 1, 0, -1):
            # Continuation counts: how many different tokens stood before each shorter run.
            shorter = keys & ((1 << self.bits * length) - 1)
            keys, counts = np.unique(shorter, return_counts=True)
            tables.append(self._table(keys, counts))
        self.tables = tables[::-1]  # by length, 1 to n

    def _runs(self, tokens: np.ndarray, length: int) -> np.ndarray:
        """Number every run of `length` tokens; the last token is in the lowest bits."""
        runs = np.zeros(len(tokens) - length + 1, dtype=np.int64)
        for offset in range(length):
            runs = (runs << self.bits) | tokens[offset : offset + len(runs)]
        return runs

    def _table(self, keys: np.ndarray, counts: np.ndarray) -> _Table:
        ones, twos, threes, fours = (max(1, int((counts == c).sum())) for c in (1, 2, 3, 4))
        y = ones / (ones + 2 * twos)
        discounts = np.array(
            [0.0, 1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes]
        ).clip(0.0, [0, 1, 2, 3])
        contexts, first = np.unique(keys >> self.bits, return_index=True)
        totals = np.add.reduceat(counts, first)
        reserved = np.add.reduceat(discounts[np.minimum(counts, 3)], first) / totals
        return _Table(keys, counts, contexts, totals, reserved, discounts)

    def probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Give p(token | up to n - 1 tokens before it) for each token of a text.

        tokens: [n_tokens] integer. Returns [n_tokens] float64; the first token has no context.
        """
        tokens = np.asarray(tokens, dtype=np.int64)
        p = np.full(len(tokens), 1.0 / self.vocab_size)
        for length, table in enumerate(self.tables, start=1):
            if length > len(tokens):
                break
            runs = self._runs(tokens, length)  # the run that ends at token length - 1, length, ...
            p[length - 1 :] = self._mix(table, runs, p[length - 1 :])
        return p

    def _mix(self, table: _Table, runs: np.ndarray, shorter: np.ndarray) -> np.ndarray:
        at = np.searchsorted(table.contexts, runs >> self.bits).clip(max=len(table.contexts) - 1)
        known = table.contexts[at] == runs >> self.bits
        place = np.searchsorted(table.keys, runs).clip(max=len(table.keys) - 1)
        counts = np.where(table.keys[place] == runs, table.counts[place], 0)
        seen = (counts - table.discounts[np.minimum(counts, 3)]) / table.totals[at]
        return np.where(known, seen + table.reserved[at] * shorter, shorter)
