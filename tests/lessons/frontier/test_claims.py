"""A claim's verdict: floors and exact numbers, rounding, printed figures and intervals."""

from __future__ import annotations

import pytest

from shrinkkit.lessons.frontier import as_interval, judge
from shrinkkit.measure import Interval


@pytest.mark.parametrize(
    ("claimed", "found", "how", "verdict"),
    [
        pytest.param(97, 96.86, {"slack": 0.5}, "holds", id="said in round numbers"),
        pytest.param(97, 95.9, {"slack": 0.5}, "not here", id="below the rounding"),
        pytest.param(100, 357.0, {}, "holds", id="more than a floor"),
        pytest.param(1000, 515.0, {}, "not here", id="less than a floor"),
        pytest.param(100, 121.0, {"exact": True, "slack": 0.1}, "not here", id="too much"),
        pytest.param(100, 79.0, {"exact": True, "slack": 0.1}, "not here", id="too little"),
        pytest.param(100, 100.05, {"exact": True, "slack": 0.1}, "holds", id="exactly that"),
        pytest.param(2, Interval(2.3, 2.1, 2.5, 8), {}, "holds", id="interval above"),
        pytest.param(2, Interval(1.6, 1.5, 1.7, 8), {}, "not here", id="interval below"),
        pytest.param(2, Interval(1.9, 1.7, 2.1, 8), {}, "undecided", id="interval astride"),
        pytest.param(
            2, Interval(2.1, 1.9, 2.3, 8), {"exact": True, "slack": 0.2}, "undecided", id="above?"
        ),
    ],
)
def test_verdict(claimed: float, found: float | Interval, how: dict, verdict: str) -> None:
    assert judge(claimed, found, **how) == verdict


def test_a_printed_number_has_no_width_and_an_interval_stays_itself() -> None:
    printed = as_interval(44.3)
    assert printed.low == printed.value == printed.high == 44.3
    measured = Interval(1.6, 1.5, 1.7, 8)
    assert as_interval(measured) is measured
