"""Cases that are drawn afresh: others at each check, and the same where a seed is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from unittest import mock

import numpy as np
import pytest
import torch

from shrinkkit.checks import check
from shrinkkit.checks.compare import Part, compare
from shrinkkit.checks.inputs import as_given, fresh, tensor
from shrinkkit.checks.judge import Attempt, Exercise, judged
from shrinkkit.checks.mistakes import Mistakes
from shrinkkit.errors import CheckFailed, InputError

SEEN: list[float] = []


def fixed() -> Iterator[tuple[float]]:
    yield (1.0,)
    yield (2.0,)


def drawn_afresh() -> Iterator[tuple[float]]:
    rng = fresh()
    for _ in range(3):
        yield (float(rng.uniform(3, 4)),)


def judge(double: Attempt) -> None:
    for case in chain(fixed(), drawn_afresh()):
        compare(double, lambda x: 2 * x, case, Part("the double", "Look here."))


def doubles(x: float) -> float:
    SEEN.append(x)
    return 2 * x


def cases_of(seed: int | None = None) -> list[float]:
    SEEN.clear()
    judged(Exercise(judge), [doubles], seed)
    return sorted(set(SEEN))


def told(answer: object, *, seed: int | None = None, mistakes: Mistakes | None = None) -> str:
    with pytest.raises(CheckFailed) as failure:
        judged(Exercise(judge, mistakes=mistakes or Mistakes()), [answer], seed)
    return str(failure.value)


def test_each_check_draws_others_and_a_seed_the_same() -> None:
    first, second = cases_of(), cases_of()
    assert first[:2] == second[:2] == [1.0, 2.0]
    assert len(first) == 5
    assert not set(first[2:]) & set(second[2:])
    assert cases_of(7) == cases_of(7) != cases_of(8)


def test_a_table_of_answers_fails_on_a_case_drawn_at_random_and_its_seed_repeats_it() -> None:
    table = {1.0: 2.0, 2.0: 4.0}

    def answer(x: float) -> float:
        return table.get(x, x)

    first = told(answer)
    seed = int(re.search(r"`seed=(\d+)` in the call of check repeats it", first)[1])
    assert told(answer, seed=seed) == first
    assert told(answer) != first


def test_a_failure_on_a_fixed_case_has_no_seed() -> None:
    assert "seed" not in told(lambda x: x)


def test_a_known_mistake_sees_the_cases_of_the_run_that_failed() -> None:
    mistakes = Mistakes()
    mistakes.add("large numbers were squared", lambda x: 2 * x if x < 3 else x * x)
    for _ in range(3):
        says = told(lambda x: x + x if x < 3 else x**2, mistakes=mistakes)
        assert says.startswith("The double is wrong: it looks as if large numbers were squared.")
        assert "`seed=" in says


def test_two_generators_of_a_run_differ() -> None:
    assert fresh().random() != fresh().random()


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_seed_that_is_none_is_refused(seed: object) -> None:
    with pytest.raises(InputError, match="seed must be a whole number of at least 0"):
        check("quant.rtn", lambda weight, bits: weight, seed=seed)


def test_a_judge_that_fails_itself_is_no_raw_exception() -> None:
    def broken(double: Attempt) -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(CheckFailed, match=r"can make nothing .* \(ZeroDivisionError: by zero\)"):
        judged(Exercise(broken), [doubles])
    with mock.patch.object(np, "array", side_effect=ZeroDivisionError):  # inside the machinery
        assert "numpy.array` was replaced" in told(lambda x: x)


def test_a_learner_gets_tensors_of_its_own() -> None:
    array = np.ones((2, 3), dtype=np.float32)
    one, (many, number) = as_given((array, ([array, 2], 3)))
    assert one.dtype == torch.float32
    one.zero_()
    many[0].zero_()
    tensor(array).zero_()
    assert array.all()
    assert (many[1], number) == (2, 3)
