"""Ask a language model questions with one right answer, and say how sure the score is.

"Athens is the capital of Greece. Baghdad is the capital of" - does the model find "Iraq" likelier
than every other country of the list? No training and no sampling: the probability of each candidate
is read off the model, and the likeliest is its answer. This is how most leaderboards score multiple
choice (some divide by the candidate's length, which helps long answers; here it is not divided).

A score on 60 questions is a rough number. `wilson_interval` says how rough: 34 of 60 is 57 %, and
anything from 44 % to 68 % fits it. Two models whose intervals overlap widely have not been shown to
differ; ask more questions, or compare them question by question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.surgery.running import device_of, evaluating, pad_right, progress

if TYPE_CHECKING:
    from shrinkkit.sources.tasks import AnalogyQuestion, AnalogyTask

_WIDTH = 4  # candidates a question and round that are scored in full


@dataclass(frozen=True)
class Accuracy:
    """A fraction of right answers: `value`, its 95 % interval `low` to `high`, `n` questions.

    `right`: [n] bool, for `paired_interval`.
    """

    value: float
    low: float
    high: float
    n: int
    right: torch.Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)

    def __str__(self) -> str:
        """Read as '57 % (44 %-68 %, n = 60)'."""
        return f"{self.value:.0%} ({self.low:.0%}-{self.high:.0%}, n = {self.n})".replace("%", " %")


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Give the interval of true rates that fit `successes` out of `n`.

    Wilson 1927, with z the normal quantile of (1 + confidence) / 2 and p = successes / n:
    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z sqrt(p(1-p)/n), it stays
    inside 0 to 1 and is not empty when all answers are right.

    successes: how many were right, 0 to n.
    n: how many were asked, at least 1.
    confidence: between 0 and 1.
    Returns (low, high).
    Raises InputError for counts or a confidence outside these ranges.

    >>> [round(bound, 3) for bound in wilson_interval(34, 60)]
    [0.441, 0.684]
    """
    n = require_int("n", n, 1)
    successes = require_int("successes", successes, 0, n)
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence!r}: give a number between 0 and 1, as 0.95.")
    from scipy.stats import binomtest  # takes longer to import than most of this package

    low, high = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(low), float(high)


def choose_candidates(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    candidates: Sequence[Sequence[int]],
    batch_size: int = 16,
) -> list[int]:
    """Choose for each prompt the candidate continuation that the model finds likeliest.

    score(candidate) = sum over its tokens of log p(token | prompt, earlier tokens of candidate)

    The result is that of scoring every candidate, in a fraction of the time: each further token can
    only lower a score, so a candidate whose first token alone is less likely than the best full
    score cannot win and is never run.

    model: a causal language model.
    prompts, candidates: token ids of each.
    batch_size: sequences a forward pass.
    Returns the index into `candidates` for each prompt; of equals, the first.
    Raises InputError for an empty prompt, or no or empty candidates.
    """
    if not prompts or not candidates or not all(prompts) or not all(candidates):
        raise InputError("prompts and candidates need at least one token each: some are empty.")
    with evaluating(model):
        return _choose(model, prompts, candidates, require_int("batch_size", batch_size, 1))


def _choose(model, prompts, candidates, batch_size) -> list[int]:
    """Score in rounds: each question's most hopeful candidates, until none can win any more."""
    bounds = _first_token_scores(model, prompts, candidates, batch_size).clamp(min=-1e30)
    single = torch.tensor([len(candidate) == 1 for candidate in candidates])
    scores = bounds.masked_fill(~single, -math.inf)
    pending = (~single).repeat(len(prompts), 1)  # which are not scored in full yet
    while True:
        best = scores.amax(1, keepdim=True)
        hopeful = pending & (bounds >= best)
        if not hopeful.any():
            return scores.argmax(1).tolist()
        width = min(_WIDTH, len(candidates))
        likeliest = bounds.masked_fill(~hopeful, -math.inf).topk(width, dim=1).indices
        pairs = [(p, c) for p, row in enumerate(likeliest.tolist()) for c in row if hopeful[p, c]]
        pairs.sort(key=lambda pair: len(prompts[pair[0]]) + len(candidates[pair[1]]))
        for start in range(0, len(pairs), batch_size):
            part = pairs[start : start + batch_size]
            full = _full_scores(model, [(prompts[p], candidates[c]) for p, c in part])
            for (p, c), score in zip(part, full, strict=True):
                scores[p, c], pending[p, c] = score, False


def analogy_accuracy(
    model: nn.Module,
    tokenizer: Any,
    task: AnalogyTask,
    section: str,
    n_questions: int | None = 60,
    seed: int = 0,
) -> Accuracy:
    """Score a causal language model on analogy questions, by the likeliest candidate.

    model: a causal language model; tokenizer: its tokenizer.
    task: from load_task('analogies'); section: such as 'capital-world' or 'gram2-opposite'.
    n_questions: how many to ask, None for all; seed: which ones.
    Returns Accuracy with its 95 % Wilson interval.
    Raises InputError for an unknown section or more questions than it has.
    """
    right = torch.tensor(
        right_answers(model, tokenizer, task.questions(section, n_questions, seed))
    )
    n_right, n = int(right.sum()), len(right)
    return Accuracy(n_right / n, *wilson_interval(n_right, n), n, right)


def right_answers(
    model: nn.Module, tokenizer: Any, questions: Sequence[AnalogyQuestion]
) -> list[bool]:
    """Say for each question of one section whether the model finds the right candidate likeliest.

    With them, `paired_interval` compares two models on the same questions.

    model: a causal language model; tokenizer: its tokenizer.
    questions: from `load_task("analogies").questions(...)`.
    Returns one bool a question; their mean is `analogy_accuracy`'s value.
    Raises InputError for no questions.
    """
    prompts = [tokenizer(question.prompt)["input_ids"] for question in questions]
    endings = _endings(tokenizer, questions[0].prompt, questions[0].candidates) if questions else []
    chosen = choose_candidates(model, prompts, endings)
    return [c == question.answer for c, question in zip(chosen, questions, strict=True)]


def _endings(tokenizer: Any, prompt: str, candidates: Sequence[str]) -> list[list[int]]:
    """Give the tokens that each candidate adds behind a prompt, the space before it included."""
    start = tokenizer(prompt)["input_ids"]
    endings = []
    for candidate in candidates:
        whole = tokenizer(f"{prompt} {candidate}")["input_ids"]
        if whole[: len(start)] == start:
            endings.append(whole[len(start) :])
        else:  # a tokenizer that joins across the space, or ends with a special token
            endings.append(tokenizer(f" {candidate}", add_special_tokens=False)["input_ids"])
    return endings


def _first_token_scores(model, prompts, candidates, batch_size) -> torch.Tensor:
    """Give log p of each candidate's first token after each prompt: [n_prompts, n_candidates]."""
    firsts = torch.tensor([candidate[0] for candidate in candidates])
    scores = []
    for start in progress(range(0, len(prompts), batch_size), "asking"):
        rows = [torch.tensor(prompt) for prompt in prompts[start : start + batch_size]]
        # Padding stands behind the prompt, where a causal model cannot see it.
        logits = model(pad_right(rows, device_of(model))[0]).logits
        last = torch.tensor([len(row) - 1 for row in rows], device=logits.device)
        at_end = logits[torch.arange(len(rows), device=logits.device), last]  # [batch, vocabulary]
        scores.append(at_end.float().log_softmax(-1)[:, firsts.to(logits.device)].cpu())
    return torch.cat(scores)


def _full_scores(model, pairs) -> list[float]:
    """Give log p(candidate | prompt) of each (prompt, candidate)."""
    rows = [torch.tensor([*prompt, *candidate[:-1]]) for prompt, candidate in pairs]
    logits = model(pad_right(rows, device_of(model))[0]).logits
    scores = []
    for (prompt, candidate), row in zip(pairs, logits, strict=True):
        where = slice(len(prompt) - 1, len(prompt) - 1 + len(candidate))
        log_p = row[where].float().log_softmax(-1)  # [candidate tokens, vocabulary]
        scores.append(log_p[torch.arange(len(candidate)), torch.tensor(candidate)].sum().item())
    return scores
