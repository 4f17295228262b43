"""Round a weight to a grid, and back: the mathematics that every later method refines.

The recipe, for one group of weights that share a scale:

1. find the range that has to be covered: the largest magnitude (symmetric), or the smallest and
   the largest value, zero included (asymmetric);
2. scale = range / number of steps; zero_point = the integer that real zero falls on;
3. q = round(weight / scale) + zero_point, clamped to [qmin, qmax];
4. real = scale * (q - zero_point).

The error of a weight inside the range is at most scale / 2, so whoever sets the range sets the
error: one outlier in a row of 576 coarsens the other 575. Groups bound that damage to 64 weights,
and `search_qparams` moves the ends of the range a little where that costs less than it brings.

It costs one pass over the weights and no data at all. Production tools start from the same four
lines and add data (GPTQ, AWQ) or training (QAT) to choose better integers.
"""

from __future__ import annotations

import torch

from shrinkkit.errors import InputError, require_finite
from shrinkkit.quant.grids.formats import Format
from shrinkkit.quant.grids.scales import qparams_of_range, scale_exponent, scale_of_range


def _check_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight in float32 after checking that it is a finite matrix."""
    if weight.ndim != 2 or weight.numel() == 0:
        raise InputError(
            f"weight has shape {tuple(weight.shape)}; a non-empty matrix [out_features, "
            "in_features] is needed."
        )
    require_finite("weight", weight)
    return weight.detach().float()


def group(weight: torch.Tensor, fmt: Format) -> torch.Tensor:
    """View a weight as the groups that share a scale; a short last group repeats its last column.

    weight: [out_features, in_features].
    Returns [rows, n_groups, columns]; rows is 1 for per_tensor. Repeated columns change neither the
    minimum nor the maximum of their group.

    >>> group(torch.tensor([[1.0, 2.0, 3.0]]), Format(4, False, "per_group", 2)).tolist()
    [[[1.0, 2.0], [3.0, 3.0]]]
    """
    if fmt.granularity == "per_tensor":
        return weight.reshape(1, 1, -1)
    out_features, in_features = weight.shape
    columns = fmt.columns_per_scale(in_features)
    short = -in_features % columns
    if short:
        weight = torch.cat([weight, weight[:, -1:].expand(-1, short)], dim=1)
    return weight.reshape(out_features, -1, columns)  # [out, n_groups, columns]


def expand(per_group: torch.Tensor, shape: tuple[int, int], fmt: Format) -> torch.Tensor:
    """Repeat one value a group (a scale, a zero point) so that it stands at each of its weights.

    per_group: [out_features, n_groups], or [1, 1] for per_tensor.
    shape: [out_features, in_features] of the weight.
    Returns a tensor that broadcasts against the weight: [out, in], or [out, 1] for one group a row.

    >>> expand(torch.tensor([[1, 2]]), (1, 3), Format(4, False, "per_group", 2)).tolist()
    [[1, 1, 2]]
    """
    return repeat_each(per_group, fmt.columns_per_scale(shape[1]), shape[1])


def repeat_each(per_group: torch.Tensor, group_size: int, columns: int) -> torch.Tensor:
    """Repeat one value a group for each of its columns; the last group may be short.

    per_group: [..., n_groups]. Returns [..., columns], or [..., 1] where there is one group.
    """
    if per_group.shape[-1] == 1:
        return per_group
    return per_group.repeat_interleave(group_size, dim=-1)[..., :columns]


def sum_groups(values: torch.Tensor, fmt: Format) -> torch.Tensor:
    """Add up [out, in] values over the weights that share a scale: [out, n_groups] or [1, 1].

    >>> sum_groups(torch.tensor([[1.0, 2.0, 4.0]]), Format(4, False, "per_group", 2)).tolist()
    [[3.0, 4.0]]
    """
    if fmt.granularity != "per_tensor":  # `group` repeats the last column, and that must not count
        short = -values.shape[1] % fmt.columns_per_scale(values.shape[1])
        values = torch.nn.functional.pad(values, (0, short))
    return group(values, fmt).sum(dim=2)


def code_bounds(fmt: Format) -> torch.Tensor:
    """Return where one value of a code table ends and the next begins, for torch.bucketize.

    The bounds are the midpoints. What lies on one goes to the value an even number of places from
    zero, which for a floating-point format is the even mantissa, as IEEE 754 rounds.

    fmt: a format with a code of n values.
    Returns [n - 1] float32; bucketize(x, bounds) is the place of the value nearest to x.

    >>> code = (-1.0, 0.0, 1.0, 2.0)
    >>> torch.bucketize(torch.tensor([-0.5, 0.5, 1.5, 1.4]), code_bounds(Format(2, code=code)))
    tensor([1, 1, 3, 2])
    """
    code = torch.tensor(fmt.code)
    midpoints = (code[1:] + code[:-1]) / 2
    upper_is_even = (torch.arange(1, len(code)) - fmt.code.index(0.0)) % 2 == 0
    below = torch.nextafter(midpoints, torch.tensor(-torch.inf))
    return torch.where(upper_is_even, below, midpoints)


def choose_qparams(weight: torch.Tensor, fmt: Format) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose the scale and the zero point that just cover each group's range.

    Jacob et al. 2018 (arXiv 1712.05877), section 2.1. symmetric: scale = max|weight| / qmax;
    asymmetric: scale = (max - min) / (qmax - qmin), zero_point = round(qmin - min / scale), with
    zero always inside [min, max] so that a zero weight stays exactly zero.

    weight: [out_features, in_features], finite.
    Returns scale [out, n_groups] float32 (rounded to what fmt.scale_bits stores) and
    zero_point [out, n_groups] int32; [1, 1] each for per_tensor.
    Raises InputError for NaN or infinity, or a group larger than the row.

    >>> fmt = Format(4, False, "per_channel", scale_bits=32)
    >>> scale, zero_point = choose_qparams(torch.tensor([[-0.5, 1.0]]), fmt)
    >>> round(scale.item(), 4), zero_point.item()
    (0.1, 5)
    """
    groups = group(_check_weight(weight), fmt)
    low = groups.amin(dim=2).clamp(max=0)  # [out, n_groups]
    high = groups.amax(dim=2).clamp(min=0)
    return qparams_of_range(low, high, fmt)


def quantize(
    weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> torch.Tensor:
    """Round a weight to the integers of its grid.

    q = clamp(round(weight / scale) + zero_point, qmin, qmax); for a code table, the index of the
    nearest value.

    weight: [out_features, in_features].
    scale, zero_point: [out, n_groups], or [1, 1].
    Returns q [out, in], int8 when symmetric, else uint8.

    >>> fmt = Format(4, True, "per_channel")
    >>> quantize(torch.tensor([[-0.7, 0.26]]), torch.tensor([[0.1]]), torch.tensor([[0]]), fmt)
    tensor([[-7,  3]], dtype=torch.int8)
    """
    weight = _check_weight(weight)
    scale = expand(scale, weight.shape, fmt)
    if fmt.code is not None:
        bounds = code_bounds(fmt).to(weight.device)
        nearest = torch.bucketize((weight / scale).contiguous(), bounds, out_int32=True)
        return nearest.to(torch.uint8)
    q = (weight / scale).round_().add_(expand(zero_point, weight.shape, fmt))
    return q.clamp_(fmt.qmin, fmt.qmax).to(torch.int8 if fmt.symmetric else torch.uint8)


def dequantize(
    q: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> torch.Tensor:
    """Turn integers back into real weights: scale * (q - zero_point), or scale * code[q].

    q: [out_features, in_features] integer.
    scale, zero_point: [out, n_groups], or [1, 1].
    Returns [out, in] float32.

    >>> fmt = Format(4, False, "per_channel")
    >>> dequantize(torch.tensor([[0, 8]]), torch.tensor([[0.5]]), torch.tensor([[8]]), fmt)
    tensor([[-4.,  0.]])
    """
    scale = expand(scale.float(), q.shape, fmt)
    if fmt.code is not None:
        return torch.tensor(fmt.code, device=q.device)[q.long()] * scale
    if fmt.symmetric:
        return q.float() * scale
    return (q.float() - expand(zero_point, q.shape, fmt).float()) * scale


def fake_quantize(weight: torch.Tensor, fmt: Format, *, search: bool = False) -> torch.Tensor:
    """Round a weight to its grid and return it as real numbers: what the grid costs in accuracy.

    weight: [out_features, in_features].
    search: choose ranges by `search_qparams` instead of by min and max.
    Returns [out, in] float32.

    >>> fake_quantize(torch.tensor([[-1.0, 0.1, 3.0]]), Format(2, True, "per_channel")).tolist()
    [[0.0, 0.0, 3.0]]
    """
    scale, zero_point = (search_qparams if search else choose_qparams)(weight, fmt)
    return dequantize(quantize(weight, scale, zero_point, fmt), scale, zero_point, fmt)


def importance(groups: torch.Tensor) -> torch.Tensor:
    """Return how much an error at each weight should count: |weight| + the group's RMS.

    Without data nobody knows which weights matter. Large ones do more often than not, so plain
    squared error, which happily clips the largest weight of a group to please the small ones,
    makes models worse. llama.cpp's k-quants use the same guess.

    groups: [rows, n_groups, columns].
    Returns the same shape, positive wherever the group is not all zero.

    >>> importance(torch.tensor([[[3.0, -4.0]]])).round(decimals=2).tolist()
    [[[6.539999961853027, 7.539999961853027]]]
    """
    return groups.abs() + groups.pow(2).mean(dim=2, keepdim=True).sqrt()


def _rounding_error(
    groups: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, fmt: Format
) -> torch.Tensor:
    """Return dequantize(quantize(groups)) - groups in one buffer: a search does this many times."""
    if fmt.code is not None:
        code = torch.tensor(fmt.code, device=groups.device)
        nearest = torch.bucketize(groups / scale, code_bounds(fmt).to(groups.device))
        return code[nearest].mul_(scale).sub_(groups)
    steps = (groups / scale).round_()  # q - zero_point, before clamping
    low, high = (float(end) - zero_point for end in (fmt.qmin, fmt.qmax))
    torch.minimum(steps, high, out=steps)  # three times as fast as clamping between tensors
    torch.maximum(steps, low, out=steps)
    return steps.mul_(scale).sub_(groups)


def search_qparams(
    weight: torch.Tensor,
    fmt: Format,
    *,
    ratios: tuple[float, ...] = tuple(1 + 0.02 * i for i in range(-8, 5)),
    column_importance: torch.Tensor | None = None,
    exponent: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose, for each group, the range whose rounding error counts least.

    argmin over r in ratios of sum importance * (weight - fake_quantize(weight, range * r))**2.
    The ratio 1 is always tried, so no group ends up worse than with `choose_qparams` in that error.

    weight: [out_features, in_features], finite.
    ratios: of the min-max range; below 1 clips the ends, above 1 shifts the grid points.
    column_importance: [in_features], what a squared error in each column counts, where data says
        so (the Hessian's diagonal); None: |weight| + rms of the group, a guess without data.
    exponent: [out_features, 1] of scales of 8 bits or less, where the row is more than these
        columns; None: of the largest scale here.
    Returns scale and zero_point as `choose_qparams` does.

    >>> fmt = Format(2, True, "per_channel", scale_bits=32)
    >>> scale, _ = search_qparams(torch.tensor([[0.8, 0.8, 0.8, 1.0]]), fmt)
    >>> round(scale.item(), 2)  # min and max would give 1.0
    0.86
    """
    weight = _check_weight(weight)
    groups = group(weight, fmt)  # [rows, n_groups, columns]
    low, high = groups.amin(dim=2).clamp(max=0), groups.amax(dim=2).clamp(min=0)
    short = groups[0].numel() - weight.numel() // groups.shape[0]
    if column_importance is not None:
        if column_importance.shape != weight.shape[1:]:
            raise InputError(
                f"column_importance has shape {tuple(column_importance.shape)}; one number for "
                f"each of the {weight.shape[1]} columns is needed."
            )
        given = column_importance.float().expand_as(weight if groups.shape[0] == 1 else weight[:1])
        counts = torch.nn.functional.pad(given.reshape(1, -1), (0, short))
        counts = counts.view(1, -1, groups.shape[2])
    elif short:  # the repeated columns that fill up the last group do not count
        real = torch.nn.functional.pad(torch.ones_like(weight[:1]), (0, short))
        real = real.view(1, -1, groups.shape[2])
        counts = importance(groups * real) * real
    else:
        counts = importance(groups)
    if fmt.row_exponent and exponent is None:  # all ratios share the row's exponent
        exponent = scale_exponent(scale_of_range(low, high, fmt), fmt)
    best: tuple[torch.Tensor, ...] = ()
    for ratio in sorted({1.0, *ratios}, key=lambda r: abs(r - 1)):
        scale, zero_point = qparams_of_range(low * ratio, high * ratio, fmt, exponent)
        squared = _rounding_error(groups, scale[..., None], zero_point[..., None], fmt).square_()
        tried = squared.mul_(counts).sum(dim=2), scale, zero_point  # [rows, n_groups] each
        if best:
            better = tried[0] < best[0]
            tried = tuple(
                torch.where(better, new, old) for new, old in zip(tried, best, strict=True)
            )
        best = tried
    return best[1], best[2]
