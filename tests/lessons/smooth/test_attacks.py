"""Right answers with one thing changed, all of which must be refused, and right ones that must not.

Beside the mistakes that a learner is told about, these vary a constant, an axis, an edge, a dtype
or a bound, and some try to answer without the calculation.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import linear

from shrinkkit.checks import check
from tests.lessons.attacks import assert_refused, each
from tests.lessons.smooth.attacks_on_integers import PRODUCT, TOKENS, largest, product, tokens
from tests.lessons.smooth.attacks_on_smoothing import ERRORS, FOLD, SCALE, errors, fold, scale

Tensor = torch.Tensor

ATTACKS = {
    "smooth.quantize_tokens": TOKENS,
    "smooth.int8_matmul": PRODUCT,
    "smooth.smoothing_scale": SCALE,
    "smooth.fold": FOLD,
    "smooth.output_errors": ERRORS,
}


@pytest.mark.parametrize(("name", "functions"), each(ATTACKS))
def test_an_attack_is_refused(name: str, functions: tuple[Callable, ...]) -> None:
    assert_refused(name, functions)


def discarded(x: Tensor):
    """Divide by zero, and put in what a token of zeros becomes afterwards."""
    step = largest(x) / 127
    q = (x / step).round().to(torch.int8)
    q[step[:, 0] == 0] = 0
    return q, torch.where(step > 0, step, torch.ones_like(step))


def never_cast(x: Tensor):
    step = largest(x) / 127
    q = torch.where(step > 0, (x / step).round(), 0).to(torch.int8)
    return [q, step + (step == 0)]


def in_float64(x: Tensor):
    q, step = tokens(x.double())
    return q, step.double()


def by_names(x: Tensor):
    top = x.abs().max(dim=-1, keepdim=True)[0]
    top[top == 0] = 127
    return torch.clamp(torch.round(127 * (x / top)), -127, 127).char(), top / 127


def by_columns(xq, step, wq, scale):
    total = torch.zeros(len(xq), len(wq), dtype=torch.int64)
    for start in range(0, xq.shape[1], 100):
        total += xq[:, start : start + 100].long() @ wq[:, start : start + 100].long().T
    return total.double() * (step @ scale.T)


def by_logarithms(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    x_max, w_max = x.abs().amax(0), torch.cat(list(weights)).abs().amax(0)
    s = torch.exp(alpha * x_max.log() - (1 - alpha) * w_max.log())
    s[(x_max == 0) | (w_max == 0)] = 1
    return s


def by_running_maximum(x: Tensor, weights: list[Tensor], alpha: float) -> Tensor:
    w_max = torch.zeros(x.shape[1], dtype=torch.float64)
    for weight in weights:
        w_max = torch.maximum(w_max, weight.abs().max(dim=0).values)
    x_max = x.abs().max(dim=0).values
    s = torch.ones_like(w_max)
    for j in range(len(s)):
        if x_max[j] > 0 and w_max[j] > 0:
            s[j] = x_max[j].double() ** alpha * w_max[j] ** (alpha - 1)
    return s


def on_copies(norm, bias, weights, s):
    norm, bias, weights = norm.clone(), bias.clone(), [weight.clone() for weight in weights]
    norm /= s
    bias /= s
    for weight in weights:
        weight *= s
    return [norm, bias, tuple(weights)]


def errors_in_integers(x, weight, alphas):
    found = torch.empty(len(alphas), dtype=torch.float64)
    for n, alpha in enumerate(alphas):
        s = scale(x, [weight], alpha)
        (xq, step), (wq, row_scale) = tokens(x / s), tokens(weight * s)
        y = x.double() @ weight.double().T
        found[n] = (product(xq, step, wq, row_scale) - y).norm() / y.norm()
    return found


RIGHT = [
    ("smooth.quantize_tokens", tokens),
    ("smooth.quantize_tokens", discarded),
    ("smooth.quantize_tokens", never_cast),
    ("smooth.quantize_tokens", in_float64),
    ("smooth.quantize_tokens", by_names),
    ("smooth.int8_matmul", product),
    ("smooth.int8_matmul", by_columns),
    ("smooth.int8_matmul", lambda x, s, w, z: linear(x.double(), w.double()) * s * z.T),
    ("smooth.int8_matmul", lambda x, s, w, z: linear(x.double() * s, w.double() * z)),
    ("smooth.smoothing_scale", scale),
    ("smooth.smoothing_scale", by_logarithms),
    ("smooth.smoothing_scale", by_running_maximum),
    ("smooth.fold", fold),
    ("smooth.fold", on_copies),
    ("smooth.fold", lambda *case: fold(*case, n=lambda x, s: x * (1 / s), many=tuple)),
    ("smooth.fold", lambda *case: fold(*(given.double() for given in case[:2]), *case[2:])),
    ("smooth.output_errors", errors),
    ("smooth.output_errors", errors_in_integers),
    ("smooth.output_errors", lambda x, w, alphas: errors(x.double(), w.double(), alphas)),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_a_right_answer_is_not(name: str, answer: Callable, seed: int) -> None:
    check(name, answer, seed=seed)
