"""Judge what articles say about models: a claim, the number that was found, a verdict.

A claim is said in round numbers, so it may be off by the rounding: `slack` is half of its last
digit. Some claims are floors ("100 times smaller": more is fine as well), others name a number
("570,000 GPU hours": twice as many refutes it as much as half as many); `exact` tells them apart.

    judge(97, 96.86, slack=0.5)                              "holds": 96.86 is said as 97
    judge(570_000, 3_552_000, slack=5_000, exact=True)       "not here"
    judge(2, paired_interval(share, bf16, fp32))             may be "undecided"

A figure that was printed stands as it is: its paper gives no interval. What was measured here has
one, and it is judged whole.
"""

from __future__ import annotations

from shrinkkit.measure import Interval
from shrinkkit.measure.paired import HOLDS, NOT_HERE, UNDECIDED


def judge(
    claimed: float, found: float | Interval, *, slack: float = 0.0, exact: bool = False
) -> str:
    """Say whether a claim "holds", is "not here", or is "undecided" by the interval of `found`.

    claimed: the number that the claim names.
    found: what was found: a printed number, or a measured one with its interval.
    slack: how far off the claim's own rounding may be, in its unit.
    exact: more than claimed refutes it, too; False: the claim is a floor.

    >>> judge(97, 95.9, slack=0.5), judge(100, 121, slack=0.5), judge(100, 121, exact=True)
    ('not here', 'holds', 'not here')
    """
    interval = as_interval(found)
    verdicts = [interval.verdict(at_least=claimed - slack)]
    if exact:
        verdicts.append(interval.verdict(at_most=claimed + slack))
    if NOT_HERE in verdicts:
        return NOT_HERE
    return UNDECIDED if UNDECIDED in verdicts else HOLDS


def as_interval(found: float | Interval) -> Interval:
    """Give a printed number as an interval without width; an Interval as it is.

    >>> as_interval(44.3)
    Interval(value=44.3, low=44.3, high=44.3, n=1)
    """
    if isinstance(found, Interval):
        return found
    return Interval(float(found), float(found), float(found), 1)
