"""Attacks on lesson 06's exercises: right answers whose options are what an attack changes."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor


def no(value):
    return value


def powers(importance: Tensor, ratio: float, *, live=lambda i: i > 0, fill=None) -> Tensor:
    """Raise to the ratio; fill: what an unused channel counts as, a function of the others."""
    used = importance[live(importance)]
    least = used.min() if fill is None else fill(used)
    return torch.where(live(importance), importance, least) ** ratio


def centred(s: Tensor) -> Tensor:
    return s / (s.max() * s.min()).sqrt()


def scale_of(importance: Tensor, ratio: float, *, centre=centred, used=no, at=no, **how) -> Tensor:
    """Work out s. used: what counts as importance. at: the ratio that is taken."""
    return centre(powers(used(importance), at(ratio), **how))


def rounded(weight: Tensor, qmax: int, *, limit=None, by=torch.round, low=no, more=0.0) -> Tensor:
    """Round rows; limit: [out, 1], where the grid ends."""
    limit = weight.abs().amax(1, keepdim=True) if limit is None else limit
    step = limit / qmax + more
    step = step.masked_fill(step == 0, 1.0)
    return step * by(weight / step).clamp(-low(qmax), qmax)


def largest_number(bits: int) -> int:
    return 2 ** (bits - 1) - 1


def ratio_errors(
    x: Tensor, weight: Tensor, ratios: list[float], bits: int, *, s_of=scale_of,
    sizes=lambda x: x.abs().mean(0), qmax=largest_number, back=lambda w, s: w / s,
    total=lambda off: off.square().sum(1).mean(), seen=no, grid=None,
) -> Tensor:  # fmt: skip
    """Measure the error at each ratio. seen: the inputs on which it is measured."""
    errors = []
    for ratio in ratios:
        s = s_of(sizes(x), ratio)
        off = back(rounded(weight * s, qmax(bits), **(grid or {})), s) - weight
        errors.append(total(seen(x) @ off.T))
    return torch.stack(errors)


def search_ratio(
    x, weight, ratios, bits, *, pick=torch.argmin, end=no, errors_end=no, tried=no, shown=None,
    best=None, **how,
):  # fmt: skip
    """Search. pick: the place of the best. tried: the ratios looked at. shown: the best."""
    errors = ratio_errors(x, weight, tried(ratios), bits, **how)
    found = ratios[int(pick(errors))] if best is None else best(ratios, errors)
    return end((found, errors_end(errors)))


def scales(**how) -> dict:
    return {"s_of": lambda importance, ratio: scale_of(importance, ratio, **how)}


def grid(**how) -> dict:
    return {"grid": how}


def without(*places: int) -> Callable:
    """Choose among all but some places."""

    def pick(errors: Tensor) -> Tensor:
        if len(errors) <= len(places):
            return errors.argmin()
        return errors.index_fill(0, torch.tensor(places) % len(errors), torch.inf).argmin()

    return pick


def greedy(errors: Tensor) -> int:
    """Stop at the first that is worse than the one before."""
    place = 0
    while place + 1 < len(errors) and errors[place + 1] < errors[place]:
        place += 1
    return place


def greedy_back(errors: Tensor) -> int:
    return len(errors) - 1 - greedy(errors.flip(0))


def nearly(share: float) -> Callable:
    """Take the first that is within a share of the best."""
    return lambda errors: (errors <= (1 + share) * errors.min()).int().argmax()


NORM = {"centre": no}
RATIO = {
    "the first never wins": {"pick": without(0)},
    "the last never wins": {"pick": without(-1)},
    "neither end wins": {"pick": without(0, -1)},
    "greedy": {"pick": greedy},
    "greedy from the end": {"pick": greedy_back},
    "the best within 5 %": {"pick": nearly(0.05)},
    "the middle": {"pick": lambda e: len(e) // 2},
    "the largest error": {"pick": torch.argmax},
    "the second best": {"pick": lambda e: e.argsort()[min(1, len(e) - 1)]},
    "0 never wins": {"best": lambda r, e: r[max(range(len(r)), key=lambda i: (r[i] > 0, -e[i]))]},
    "ratios sorted": {"best": lambda r, e: sorted(r)[e.argmin()]},
    "the place": {"best": lambda r, e: int(e.argmin())},
    "the place as a tensor": {"best": lambda r, e: e.argmin()},
    "the least error": {"best": lambda r, e: e.min()},
    "1 - ratio": {"best": lambda r, e: 1 - r[e.argmin()]},
    "rounded to a quarter": {"best": lambda r, e: round(4 * r[e.argmin()]) / 4},
    "rounded to a tenth": {"best": lambda r, e: round(r[e.argmin()], 1)},
    "a share of places": {"best": lambda r, e: e.argmin() / max(1, len(e) - 1)},
    "best of shape [1]": {"best": lambda r, e: torch.tensor([r[e.argmin()]])},
    "0.1 % off": {"errors_end": lambda e: 1.001 * e},
    "0.05 % off": {"errors_end": lambda e: 1.0005 * e},
    "+ 1e-6": {"errors_end": lambda e: e + 1e-6},
    "+ 1e-12": {"errors_end": lambda e: e + 1e-12},
    "errors sorted": {"errors_end": lambda e: e.sort().values},
    "errors turned": {"errors_end": lambda e: e.flip(0)},
    "least error alone": {"errors_end": lambda e: e.min()},
    "errors over the first": {"errors_end": lambda e: e / e[0]},
    "roots": {"errors_end": Tensor.sqrt},
    "a list of errors": {"errors_end": Tensor.tolist},
    "a column of errors": {"errors_end": lambda e: e[:, None]},
    "the last error lost": {"errors_end": lambda e: e[:-1]},
    "the first error at 0": {"errors_end": lambda e: e.index_fill(0, torch.tensor([0]), 0.0)},
    "swapped": {"end": lambda found: found[::-1]},
    "a dict": {"end": lambda found: {found[0]: found[1]}},
    "errors alone": {"end": lambda found: found[1]},
    "mean of all": {"total": lambda off: off.square().mean()},
    "sum of all": {"total": lambda off: off.square().sum()},
    "mean over outputs, sum over tokens": {"total": lambda off: off.square().mean(1).sum()},
    "magnitudes": {"total": lambda off: off.abs().sum(1).mean()},
    "mean norm": {"total": lambda off: off.norm(dim=1).mean()},
    "largest": {"total": lambda off: off.square().sum(1).max()},
    "n - 1": {"total": lambda off: off.square().sum(1).sum() / max(1, len(off) - 1)},
    "variance": {"total": lambda off: off.var(0, correction=0).sum()},
    "ten tokens": {"total": lambda off: off[:10].square().sum(1).mean()},
    "the last token lost": {"total": lambda off: off[:-1].square().sum(1).mean()},
    "the first output alone": {"total": lambda off: off[:, 0].square().mean()},
    "eight outputs": {"total": lambda off: off[:, :8].square().sum(1).mean()},
    "RMS importance": {"sizes": lambda x: x.square().mean(0).sqrt()},
    "largest importance": {"sizes": lambda x: x.abs().amax(0)},
    "signed importance": {"sizes": lambda x: x.mean(0).abs()},
    "importance where used": {"sizes": lambda x: x.abs().sum(0) / (x != 0).sum(0).clamp(min=1)},
    "unused gives NaN": scales(live=lambda i: i > -1),
    "unused at 1": scales(fill=lambda used: torch.tensor(1.0)),
    "unused at 1e-5": scales(fill=lambda used: torch.tensor(1e-5)),
    "unused below 1e-3": scales(live=lambda i: i > 1e-3),
    "importance at least 1e-4": scales(used=lambda i: i.clamp(min=1e-4)),
    "not centred": {},
    "ratio squared": scales(at=lambda r: r * r),
    "ratio at most 0.9": scales(at=lambda r: min(r, 0.9)),
    "ratio halved": scales(at=lambda r: r / 2),
    "upside down": scales(at=lambda r: -r),
    "not scaled back": {"back": lambda w, s: w},
    "scaled twice": {"back": lambda w, s: w * s},
    "integers to qmax + 1": {"qmax": lambda bits: 2 ** (bits - 1)},
    "2**bits - 1": {"qmax": lambda bits: 2**bits - 1},
    "4 bits at most": {"qmax": lambda bits: largest_number(min(bits, 4))},
    "5 bits as 6": {"qmax": lambda bits: largest_number(bits + (bits == 5))},
    "7 bits as 8": {"qmax": lambda bits: largest_number(bits + (bits == 7))},
    "3 bits at least": {"qmax": lambda bits: largest_number(max(bits, 3))},
    "-qmax - 1": grid(low=lambda n: n + 1, more=-1e-9),
    "rounded down": grid(by=torch.floor),
    "cut": grid(by=torch.trunc),
    "step + 1e-8": grid(more=1e-8),
    "step + 1e-5": grid(more=1e-5),
    "x of its own scale": {"seen": lambda x: x / x.abs().mean(0).clamp(min=1e-9)},
    "x clamped": {"seen": lambda x: x.clamp(-100, 100)},
    "x in float16": {"seen": lambda x: x.half().float()},
    "x in bfloat16": {"seen": lambda x: x.bfloat16().float()},
}
del RATIO["not centred"], RATIO["-qmax - 1"]  # both change nothing: s cancels, no value reaches it


def search_clip(
    x: Tensor, weight: Tensor, bits: int, shrinks: list[float], *, qmax=largest_number, by=no,
    largest=lambda w: w.abs().amax(1, keepdim=True), total=lambda off: off.square().mean(0),
    target=None, pick=lambda e: e.argmin(0), how=None, seen=no, end=no,
) -> Tensor:  # fmt: skip
    """Search the limit of each row. target: what the output is compared with."""
    errors, at = [], largest(weight)
    for shrink in shrinks:
        q = rounded(weight, qmax(bits), limit=shrink * at, **(how or {}))
        against = weight if target is None else target(weight, shrink * at)
        errors.append(total(seen(x) @ (q - against).T))
    best = pick(torch.stack(errors))
    return end(torch.tensor(shrinks)[by(best)][:, None] * at)


def left_out(*places: int) -> dict:
    def pick(errors: Tensor) -> Tensor:
        if len(errors) <= len(places):
            return errors.argmin(0)
        return errors.index_fill(0, torch.tensor(places) % len(errors), torch.inf).argmin(0)

    return {"pick": pick}


def stop(errors: Tensor) -> Tensor:
    return torch.tensor([greedy(row) for row in errors.mT])


CLIP = {
    "the first never wins": left_out(0),
    "the last never wins": left_out(-1),
    "neither end": left_out(0, -1),
    "the second never wins": left_out(1),
    "three candidates": {"pick": lambda e: e[:3].argmin(0)},
    "greedy": {"pick": stop},
    "greedy from the end": {"pick": lambda e: len(e) - 1 - stop(e.flip(0))},
    "the best within 5 %": {"pick": lambda e: (e <= 1.05 * e.amin(0)).int().argmax(0)},
    "one for all": {"pick": lambda e: e.sum(1).argmin().expand(e.shape[1])},
    "one for all, by the mean share": {
        "pick": lambda e: (e / e.mean(0).clamp(min=1e-30)).sum(1).argmin().expand(e.shape[1])
    },
    "the best of the first row": {"pick": lambda e: e[:, 0].argmin().expand(e.shape[1])},
    "rows in pairs": {"pick": lambda e: e.argmin(0)[torch.arange(e.shape[1]) // 2 * 2]},
    "the largest error": {"pick": lambda e: e.argmax(0)},
    "always the first": {"pick": lambda e: 0 * e.argmin(0)},
    "always the last": {"pick": lambda e: 0 * e.argmin(0) + len(e) - 1},
    "magnitudes": {"total": lambda off: off.abs().mean(0)},
    "the worst token": {"total": lambda off: off.abs().amax(0)},
    "fourth powers": {"total": lambda off: off.pow(4).mean(0)},
    "mean error": {"total": lambda off: off.mean(0).abs()},
    "variance": {"total": lambda off: off.var(0)},
    "ten tokens": {"total": lambda off: off[:10].square().mean(0)},
    "the first token": {"total": lambda off: off[:1].square().mean(0)},
    "all rows": {"total": lambda off: off.square().mean().expand(off.shape[1])},
    "x left out": {"seen": lambda x: torch.eye(x.shape[1])},
    "magnitudes of x": {"seen": Tensor.abs},
    "sizes of x alone": {"seen": lambda x: x.abs().mean(0).diag()},
    "RMS of x alone": {"seen": lambda x: x.square().mean(0).sqrt().diag()},
    "x clamped": {"seen": lambda x: x.clamp(-100, 100)},
    "x small is nothing": {"seen": lambda x: x * (x.abs() > 1e-3)},
    "against the clipped": {"target": lambda w, limit: w.clamp(-limit, limit)},
    "against nothing": {"target": lambda w, limit: 0 * w},
    "qmax + 1": {"qmax": lambda bits: 2 ** (bits - 1)},
    "2**bits - 1": {"qmax": lambda bits: 2**bits - 1},
    "4 bits at most": {"qmax": lambda bits: largest_number(min(bits, 4))},
    "5 bits as 6": {"qmax": lambda bits: largest_number(bits + (bits == 5))},
    "always 3 bits": {"qmax": lambda bits: 3},
    "3 bits at least": {"qmax": lambda bits: largest_number(max(bits, 3))},
    "not clamped": {"how": {"low": lambda n: 10**6, "by": lambda v: v.round()}},
    "-qmax - 1": {"how": {"low": lambda n: n + 1}},
    "0 at least": {"how": {"low": lambda n: 0}},
    "rounded down": {"how": {"by": torch.floor}},
    "cut": {"how": {"by": torch.trunc}},
    "step + 1e-3": {"how": {"more": 1e-3}},
    "step + 1e-8": {"how": {"more": 1e-8}},
    "largest of all rows": {"largest": lambda w: w.abs().max().expand(len(w), 1)},
    "largest, not magnitude": {"largest": lambda w: w.amax(1, keepdim=True)},
    "largest at least 1e-3": {"largest": lambda w: w.abs().amax(1, keepdim=True).clamp(min=1e-3)},
    "largest at least 1e-8": {"largest": lambda w: w.abs().amax(1, keepdim=True).clamp(min=1e-8)},
    "range halved": {"largest": lambda w: (w.amax(1) - w.amin(1))[:, None] / 2},
    "of shape [out]": {"end": lambda limits: limits[:, 0]},
    "of shape [1, out]": {"end": lambda limits: limits.mT},
    "0.1 % off": {"end": lambda limits: 1.001 * limits},
    "0.01 % off": {"end": lambda limits: 1.0001 * limits},
    "float16": {"end": Tensor.half},
    "+ 1e-8": {"end": lambda limits: limits + 1e-8},
    "list": {"end": Tensor.tolist},
    "NaN in a row of zeros": {"end": lambda limits: limits / (limits > 0)},
    "1 in a row of zeros": {"end": lambda limits: limits + (limits == 0)},
    "sorted": {"end": lambda limits: limits.sort(0).values},
    "a tuple": {"end": lambda limits: (limits, 0)},
}
