"""Name mistakes in lesson 02's exercises on predictions: perplexity and KL divergence.

One function an exercise. Each works out what the usual mistakes return and gives {message: value}:
a learner whose result equals the value is told "it looks as if <message>". The messages say what to
change, not only what is wrong.
"""

from __future__ import annotations

import math

import numpy as np

from shrinkkit.lessons.measuring.truths import Array, kl_of, log_softmax, token_losses


def _exp(value: float) -> float:
    """Give exp, and infinity where it is too large for a float."""
    return math.exp(value) if value < 700 else math.inf


def perplexity_mistakes(logits: Array, tokens: Array) -> dict[str, float]:
    """Name mistakes in the perplexity of tokens [n, seq_len] under logits [n, seq_len, v]."""
    n_samples, seq_len, vocabulary = logits.shape
    losses = token_losses(logits, tokens)
    loss = float(losses.mean())

    def scored(log_p: Array, answers: Array) -> float:
        """Give the perplexity when log_p [n, k, v] is held against answers [n, k]."""
        return _exp(-float(np.take_along_axis(log_p, answers[..., None], axis=-1).mean()))

    log_p = log_softmax(logits)
    p = np.exp(log_p)
    flat = log_p.reshape(1, -1, vocabulary), tokens.reshape(1, -1)
    scrambled = logits[:, :-1].reshape(n_samples, vocabulary, seq_len - 1).transpose(0, 2, 1)
    unshifted = (
        "nothing was shifted: the logits at position t predict the token at t + 1, so that "
        "logits[:, :-1] belong to tokens[:, 1:]"
    )
    answers = np.exp(-losses)
    propped = {
        f"{epsilon:g} was added to p before the logarithm, to keep it above zero: log_softmax "
        "needs no such prop and stays exact": _exp(-float(np.log(answers + epsilon).mean()))
        for epsilon in (1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
    }
    return {
        "the mean loss came back: take exp of it": loss,
        "the sign of the loss is turned: it is minus log p": _exp(-loss),
        unshifted: scored(log_p, tokens),
        f"{unshifted} (the first position was left out of both)": scored(
            log_p[:, 1:], tokens[:, 1:]
        ),
        f"{unshifted} (the last position was left out of both)": scored(
            log_p[:, :-1], tokens[:, :-1]
        ),
        "the shift goes the wrong way: logits[:, :-1] belong to tokens[:, 1:]": scored(
            log_p[:, 1:], tokens[:, :-1]
        ),
        "windows were joined before the shift, so that the last position of one predicts the "
        "first token of the next": scored(flat[0][:, :-1], flat[1][:, 1:]),
        "each window's perplexity was computed and these were averaged: average the losses of "
        "all tokens, then take exp once": float(np.exp(losses.mean(axis=1)).mean()),
        "exp was taken of every token's loss and these were averaged: average first": float(
            np.exp(losses).mean()
        ),
        "probabilities were averaged, not their logarithms": 1 / float(answers.mean()),
        "2 was raised to a loss in nats: with natural logarithms it is exp": _exp(
            loss * math.log(2)
        ),
        "exp was taken of a loss in bits (log2): use the natural logarithm": _exp(
            loss / math.log(2)
        ),
        "losses were added up, not averaged": _exp(float(losses.sum())),
        "the sum was divided by all n * seq_len tokens: the first of each window is not predicted, "
        "so seq_len - 1 of a window count": _exp(float(losses.sum()) / tokens.size),
        "the sum was divided by the number of windows: divide by the number of predicted tokens": (
            _exp(float(losses.sum()) / n_samples)
        ),
        "logits were used as if they were log p: log_softmax is missing": scored(
            logits[:, :-1].astype(np.float64), tokens[:, 1:]
        ),
        "softmax was applied twice: cross_entropy wants the logits themselves": scored(
            log_softmax(p)[:, :-1], tokens[:, 1:]
        ),
        "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
        "dimension": scored(
            log_softmax(logits.transpose(0, 2, 1)).transpose(0, 2, 1)[:, :-1], tokens[:, 1:]
        ),
        "reshape or view made room for cross_entropy: that scrambles the logits. Swap dimensions "
        "with transpose, or flatten windows and positions into one": scored(
            log_softmax(scrambled), tokens[:, 1:]
        ),
        "a probability was rounded to 0 before the logarithm, which is then minus infinity: "
        "log_softmax takes both steps at once and stays exact": math.inf,
        **propped,
    }


def kl_mistakes(reference: Array, compressed: Array) -> dict[str, float]:
    """Name mistakes in KL(reference || compressed) of logits [n, seq_len, vocabulary]."""
    n_samples, seq_len, vocabulary = reference.shape
    log_p, log_q = log_softmax(reference), log_softmax(compressed)
    p, q = np.exp(log_p), np.exp(log_q)
    right = float(kl_of(log_p, log_q).mean())
    swapped = float(kl_of(log_q, log_p).mean())
    log_mixture = np.log((p + q) / 2 + 1e-300)
    jensen = float((kl_of(log_p, log_mixture) + kl_of(log_q, log_mixture)).mean()) / 2
    over_positions = [
        log_softmax(z.transpose(0, 2, 1)).transpose(0, 2, 1) for z in (reference, compressed)
    ]
    underflow = bool((p < 1e-45).any())
    return {
        "the two models are swapped: the reference's probabilities weigh the sum, and the "
        "compressed model's stand below it": swapped,
        "the sign is turned: it is the sum of p * (log p - log q)": -right,
        "the sign is turned, and the two models are swapped": -swapped,
        "everything was averaged, the vocabulary too (reduction='mean' does that): sum over the "
        "vocabulary, then average over positions": right / vocabulary,
        "the sum was divided by the number of windows only (reduction='batchmean' does that with "
        "three dimensions): divide by the number of positions": right * seq_len,
        "positions were added up: take their mean": right * seq_len * n_samples,
        "the logarithm is to base 2, so these are bits: nats come from the natural one": (
            right / math.log(2)
        ),
        "this is the cross-entropy, the sum of -p * log q: KL also has p * log p": float(
            -(p * log_q).sum(-1).mean()
        ),
        "logits were subtracted, not log-probabilities: p * (log p - log q) needs log_softmax of "
        "both": float((p * (reference.astype(np.float64) - compressed)).sum(-1).mean()),
        "the compressed model's logits were used as if they were log-probabilities: "
        "log_softmax is missing": float((p * (log_p - compressed)).sum(-1).mean()),
        "probabilities stand where F.kl_div wants log-probabilities: its first argument is log q": (
            float((p * (log_p - q)).sum(-1).mean())
        ),
        "softmax was applied twice": float(kl_of(log_softmax(p), log_softmax(q)).mean()),
        "softmax ran over the positions (dim=1): it belongs over the vocabulary, the last "
        "dimension": float(kl_of(*over_positions).mean()),
        "this is the mean of both directions: only KL(reference || compressed) is asked for": (
            (right + swapped) / 2
        ),
        "this is the Jensen-Shannon divergence, which compares both with their average": jensen,
        "this is the sum of |p - q|, without a logarithm": float(np.abs(p - q).sum(-1).mean()),
        "a probability was rounded to 0 before the logarithm, and 0 times infinity is not a "
        "number: use log_softmax, which takes both steps at once"
        if underflow
        else "F.kl_div took a logarithm of log-probabilities: tell it log_target=True, or give it "
        "p itself": math.nan,
        "a probability was rounded to 0 before the logarithm: use log_softmax, which takes both "
        "steps at once": math.inf,
    }
