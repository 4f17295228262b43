"""Hand many answers to a check: wrong ones, which it must refuse, and right ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.errors import CheckFailed

Tensor = torch.Tensor
Functions = Callable | tuple[Callable, ...]


def each(answers: Mapping[str, Mapping[str, Functions]]) -> list:
    """List answers for `parametrize(("name", "functions"), ...)`, by exercise and by what is odd.

    An answer is a function, or a tuple of those that the exercise asks for.
    """
    return [
        pytest.param(name, found if isinstance(found, tuple) else (found,), id=f"{name}: {what}")
        for name, one in answers.items()
        for what, found in one.items()
    ]


def assert_refused(name: str, functions: tuple[Callable, ...]) -> None:
    """Assert that a check refuses an answer, and can say why."""
    with pytest.raises(CheckFailed) as failure:
        check(name, *functions)
    assert "can make nothing" not in str(failure.value)


def with_options(answer: Callable, attacks: dict[str, dict]) -> dict[str, Callable]:
    """Return the answer under each attack's options, by the attack's name."""
    return {name: lambda *case, how=how: answer(*case, **how) for name, how in attacks.items()}


def rows_of(batch: Tensor) -> Tensor:
    """Return a batch, with or without a dimension of texts, as rows [n, in_features]."""
    return batch.reshape(-1, batch.shape[-1])


def by_rows(change: Callable[[Tensor], Tensor]) -> dict:
    """Change the rows of each batch."""
    return {"rows": lambda batch: change(rows_of(batch))}


# Attacks on what is a mean over all rows of all batches, as options of an answer: n, of the number
# that is divided by; pick, of the batches; rows, of a batch's rows.
ON_BATCHES = {
    "n - 1": {"n": lambda n: max(1, n - 1)},
    "n + 1": {"n": lambda n: n + 1},
    "n at least 2": {"n": lambda n: max(n, 2)},
    "n at most 100": {"n": lambda n: min(n, 100)},
    "first batch dropped": {"pick": lambda b: b[1:] or b},
    "last batch dropped": {"pick": lambda b: b[:-1] or b},
    "two batches at most": {"pick": lambda b: b[:2]},
    "ten batches at most": {"pick": lambda b: b[:10]},
    "batches of one token dropped": {"pick": lambda b: [x for x in b if len(rows_of(x)) > 1] or b},
    "first batch twice": {"pick": lambda b: [b[0], *b]},
    "first text alone": {"rows": lambda b: b[0] if b.ndim == 3 else b},
    "last text alone": {"rows": lambda b: b[-1] if b.ndim == 3 else b},
    "texts averaged": {"rows": lambda b: b.mean(0) if b.ndim == 3 else b},
    "texts turned": {"rows": lambda b: rows_of(b.mT.reshape(b.shape) if b.ndim == 3 else b)},
    "first token dropped": by_rows(lambda x: x[1:] if len(x) > 1 else x),
    "last token dropped": by_rows(lambda x: x[:-1] if len(x) > 1 else x),
    "tokens of zeros dropped": by_rows(lambda x: x[(x != 0).any(1)]),
    "64 tokens of a batch at most": by_rows(lambda x: x[:64]),
    "positive ones": by_rows(Tensor.relu),
    "clamped at 100": by_rows(lambda x: x.clamp(-100, 100)),
    "clamped at 1,000": by_rows(lambda x: x.clamp(-1e3, 1e3)),
    "less than 1e-4 is nothing": by_rows(lambda x: x * (x.abs() > 1e-4)),
    "less than 1e-6 is nothing": by_rows(lambda x: x * (x.abs() > 1e-6)),
    "float16": by_rows(lambda x: x.half().float()),
    "bfloat16": by_rows(lambda x: x.bfloat16().float()),
    "normed": by_rows(lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-9)),
}
