"""Name mistakes in lesson 02's exercises on samples: Wilson's interval and the paired speed-up.

As in `measuring_mistakes_quality.py`: {message: what this mistake returns}.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shrinkkit.lessons.measuring.truths import Array, percentile, quantile_of, wilson

UPSIDE_DOWN = (
    "it is upside down (fast / slow): a speed-up of 2 means that the slow one takes twice as long"
)
SORTED_APART = (
    "the two were sorted each for itself, which tears the turns apart: divide first, then sort"
)


def wilson_mistakes(successes: int, n: int, confidence: float) -> dict[str, Sequence[float]]:
    """Name mistakes in Wilson's interval: {message: (low, high)}."""
    z, p = quantile_of(confidence), successes / n

    def interval(
        z: float = z, first: float = 2.0, second: float = 4.0, power: int = 2, root: float = 0.5
    ) -> tuple[float, float, float]:
        """Give middle, half width and the divisor, with the formula's parts to be got wrong."""
        middle = p + z * z / (first * n)
        half = z * (p * (1 - p) / n + z * z / (second * n**power)) ** root
        return middle, half, 1 + z * z / n

    def ends(middle: float, half: float, divisor: float = 1.0) -> tuple[float, float]:
        return (middle - half) / divisor, (middle + half) / divisor

    middle, half, divisor = interval()
    low, high = wilson(successes, n, confidence)
    wald = z * math.sqrt(p * (1 - p) / n)
    pulled = middle / divisor  # the rate of Agresti and Coull
    simple = (
        "this is p ± z * sqrt(p * (1 - p) / n), the simple interval: Wilson's has z**2 terms and "
        "cannot leave 0 to 1"
    )
    unpulled = "the middle is p: it is pulled towards one half, to p + z**2 / (2 * n)"
    one_sided = quantile_of(2 * confidence - 1) if confidence > 0.5 else 0.0
    return {
        simple: ends(p, wald),
        f"{simple} (cutting it off does not help)": np.clip(ends(p, wald), 0, 1),
        "z leaves 1 - confidence on one side: half of it lies on each side, so that z = "
        "inv_cdf((1 + confidence) / 2)": ends(*interval(z=one_sided)),
        "z is 1.96 whatever the confidence: compute it from `confidence`": ends(*interval(z=1.96)),
        "the confidence itself was used as z": ends(*interval(z=confidence)),
        "z comes from inv_cdf(1 - confidence / 2): that is meant for alpha = 1 - confidence": ends(
            *interval(z=quantile_of(1 - confidence))
        ),
        "the ends are swapped: return low, high (a z below 0 swaps them as well)": (high, low),
        "the division by 1 + z**2 / n is missing": ends(middle, half),
        "only the middle was divided by 1 + z**2 / n: the spread is, too": ends(pulled, half),
        "only the spread was divided by 1 + z**2 / n: the middle is, too": ends(
            middle, half / divisor
        ),
        f"{unpulled} before the division": ends(p, half, divisor),
        f"{unpulled}, and divided by 1 + z**2 / n": ends(p, half / divisor),
        "the middle is p + z**2 / n: it should be p + z**2 / (2 * n)": ends(*interval(first=1.0)),
        "the root holds z**2 / (4 * n): it should be z**2 / (4 * n**2)": ends(*interval(power=1)),
        "the root holds z**2 / (2 * n**2) or so: it should be z**2 / (4 * n**2)": ends(
            *interval(second=2.0)
        ),
        "the root is missing: z * sqrt(...)": ends(*interval(root=1.0)),
        "the root was not multiplied by z": ends(middle, half / z, divisor),
        "middle and spread came back: return middle - spread and middle + spread": (
            pulled,
            half / divisor,
        ),
        "the ends are percentages: rates from 0 to 1 are asked for": (100 * low, 100 * high),
        "this is the interval of Agresti and Coull, which is a little wider": ends(
            pulled, z * math.sqrt(pulled * (1 - pulled) / (n + z * z))
        ),
    }


def speedup_mistakes(slow: Array, fast: Array) -> list[dict[str, float]]:
    """Name mistakes in median, lower and upper quartile of the speed-up, one dict for each."""
    slow, fast = slow.astype(np.float64), fast.astype(np.float64)
    ratios = np.sort(slow / fast)
    n = len(ratios)
    center = {
        "this is the ratio of the two medians: divide turn by turn first, and take the median of "
        "the ratios": float(np.median(slow) / np.median(fast)),
        "this is the ratio of the two means (or sums), which one hiccup moves: take the median of "
        "the ratios": float(slow.mean() / fast.mean()),
        "this is the mean of the ratios, which one hiccup moves: take their median": float(
            ratios.mean()
        ),
        "this is the ratio of the two fastest calls: take the median of the ratios": float(
            slow.min() / fast.min()
        ),
        UPSIDE_DOWN: percentile(fast / slow, 0.5),
        "torch.median was used, which returns the lower of the two middle values of an even "
        "number: the median lies halfway between them, as torch.quantile(ratios, 0.5) has it": (
            float(ratios[(n - 1) // 2])
        ),
        "the upper of the two middle values came back: the median lies halfway between them": (
            float(ratios[n // 2])
        ),
        SORTED_APART: percentile(np.sort(slow) / np.sort(fast), 0.5),
        "1 was subtracted: a ratio is asked for, not a gain": percentile(ratios, 0.5) - 1,
        "times were subtracted: divide them": percentile(slow - fast, 0.5),
        "the lower quartile came first: return median, low, high": percentile(ratios, 0.25),
        "the ratios were not sorted: this is the value in the middle of the list": float(
            (slow / fast)[n // 2]
        ),
    }
    return [center, *(_quartile_mistakes(slow, fast, share) for share in (0.25, 0.75))]


def _quartile_mistakes(slow: Array, fast: Array, share: float) -> dict[str, float]:
    """Name mistakes in one quartile of the speed-up; share: 0.25 or 0.75."""
    ratios = np.sort(slow / fast)
    n, side = len(ratios), 1 if share > 0.5 else -1
    place = share * (n - 1)
    exclusive = float(np.clip((n + 1) * share - 1, 0, n - 1))
    straight = "between two values a quartile lies on a straight line, as in torch.quantile"
    limits = {
        f"these are the limits of the middle {middle} %: quartiles hold the middle half": (
            percentile(ratios, 0.5 + side * middle / 200)
        )
        for middle in (80, 90, 95)
    }
    spreads = {
        f"this is the {name} and a standard deviation, which one hiccup moves": (
            middle + side * float(ratios.std(ddof=ddof))
        )
        for name, middle in (("mean", ratios.mean()), ("median", np.median(ratios)))
        for ddof in ([0, 1] if n > 1 else [0])
    }
    return {
        f"this is the {'smallest' if side < 0 else 'largest'} ratio: the quartile is the value "
        f"below which {100 * share:.0f} % of them lie": float(ratios[0 if side < 0 else -1]),
        "low and high are swapped: return median, low, high": percentile(ratios, 1 - share),
        "the quartiles of the two lists were divided: divide turn by turn first": (
            percentile(slow, share) / percentile(fast, share)
        ),
        UPSIDE_DOWN: percentile(fast / slow, share),
        SORTED_APART: percentile(np.sort(slow) / np.sort(fast), share),
        f"the value below the quartile's place came back: {straight}": float(
            ratios[math.floor(place)]
        ),
        f"the value above the quartile's place came back: {straight}": float(
            ratios[math.ceil(place)]
        ),
        "these are the 'exclusive' quartiles that statistics.quantiles gives by default: ask for "
        "method='inclusive'": percentile(ratios, exclusive / max(n - 1, 1)),
        **limits,
        **spreads,
    }
