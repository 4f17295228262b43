"""The grids that weights are rounded to, as frozen data.

A format says four things: how many bits a stored value has, whether the grid is centred on zero
(`symmetric`), how many weights share one scale (`granularity`, `group_size`), and, for grids whose
steps are not even, the table of their values (`code`). Nothing here touches a tensor: `affine.py`
does the rounding, `packing.py` the bits, `linear.py` the layer.

What a format costs is part of it. A group of 64 four-bit weights with one 16-bit scale and one
4-bit zero point takes 64 * 4 + 16 + 4 = 276 bits, or 4.3125 bits a weight; `bits_per_weight` counts
that for a whole matrix, a short last group included. Adverts that say "4-bit" leave the 0.3125 out.

Small groups follow outliers better and cost more scales, unless the scales are made smaller too:
with `scale_bits=6` a scale is a 6-bit integer times a power of two that the row shares, so that
groups of 32 cost what groups of 64 did (double quantization in QLoRA, arXiv 2305.14314; k-quants in
llama.cpp). Symmetric grids spare the zero point and waste a level. Production kernels (llama.cpp,
Marlin, torch's int4 matmul) fix these choices in code, because a kernel is fast only for the layout
that it was written for.
"""

from __future__ import annotations

from dataclasses import dataclass

from shrinkkit.errors import InputError, require_choice, require_int

GRANULARITIES = ("per_tensor", "per_channel", "per_group", "per_token")


@dataclass(frozen=True)
class Format:
    """Describe one grid: real = scale * (q - zero_point), or scale * code[q] for a code table.

    bits: 2 to 8; bits of one stored value.
    symmetric: the grid is centred on zero and has no zero point.
    granularity: which values share a scale; `per_token` is `per_channel` for activations, whose
        rows are tokens.
    group_size: columns that share a scale, for `per_group` only.
    code: 2**bits increasing values in [-1, 1] of an uneven grid (NF4), else None.
    scale_bits: 16 keeps scales at bfloat16 precision, the precision that torch's CPU kernels
        read; 32 keeps them in float32; 4 to 8 stores each as an integer of so many bits, times
        2**exponent with one 8-bit exponent a row (every such scale is a bfloat16 number).

    Raises InputError for any other combination.

    >>> Format(bits=4, symmetric=False, granularity="per_group", group_size=64).qmax
    15
    """

    bits: int
    symmetric: bool = True
    granularity: str = "per_channel"
    group_size: int | None = None
    code: tuple[float, ...] | None = None
    scale_bits: int = 16

    def __post_init__(self) -> None:
        require_int("bits", self.bits, 2, 8)
        require_choice("granularity", self.granularity, GRANULARITIES)
        require_choice("scale_bits", self.scale_bits, (4, 5, 6, 7, 8, 16, 32))
        if self.granularity == "per_group":
            require_int("group_size", self.group_size, 1)
        elif self.group_size is not None:
            raise InputError(
                f"group_size={self.group_size!r} was given with granularity="
                f"{self.granularity!r}; only per_group takes one."
            )
        if self.code is not None and len(self.code) != 2**self.bits:
            raise InputError(
                f"code has {len(self.code)} values; {self.bits} bits need {2**self.bits}."
            )

    @property
    def qmin(self) -> int:
        """Smallest stored integer: -(2**(bits-1) - 1) when symmetric, else 0."""
        return -(2 ** (self.bits - 1) - 1) if self.symmetric and self.code is None else 0

    @property
    def qmax(self) -> int:
        """Largest stored integer: 2**(bits-1) - 1 when symmetric, else 2**bits - 1."""
        return 2 ** (self.bits - 1) - 1 if self.symmetric and self.code is None else self.levels - 1

    @property
    def levels(self) -> int:
        """How many patterns the stored bits can take: 2**bits."""
        return 2**self.bits

    def columns_per_scale(self, in_features: int) -> int:
        """Return how many columns share a scale in a row of `in_features` columns.

        Raises InputError where the group is larger than the row.

        >>> int_format(4, group_size=64).columns_per_scale(576)
        64
        """
        if self.granularity != "per_group":
            return in_features
        if self.group_size > in_features:
            raise InputError(
                f"group_size={self.group_size} is larger than the row, which has {in_features} "
                f"columns; choose 1 to {in_features}, or None for one scale a row."
            )
        return self.group_size

    def n_groups(self, in_features: int) -> int:
        """Return how many scales a row of `in_features` columns has; the last may be short.

        >>> int_format(4, group_size=128).n_groups(576)
        5
        """
        return -(-in_features // self.columns_per_scale(in_features))

    def bits_per_weight(self, shape: tuple[int, int]) -> float:
        """Return the mean bits that a weight of `shape` [out, in] takes, scales and zeros counted.

        >>> int_format(4, group_size=64).bits_per_weight((576, 576))
        4.3125
        """
        out_features, in_features = shape
        rows = 1 if self.granularity == "per_tensor" else out_features
        zero_bits = 0 if self.symmetric or self.code is not None else self.bits
        n_scales = rows * self.n_groups(in_features)
        exponent_bits = 8 * rows if self.scale_bits <= 8 else 0
        beside = n_scales * (self.scale_bits + zero_bits) + exponent_bits
        return self.bits + beside / (out_features * in_features)

    def __str__(self) -> str:
        kind = "nf" if self.code is not None else "int"
        share = f"g{self.group_size}" if self.group_size else self.granularity.replace("_", " ")
        sign = "" if self.code is not None else (" symmetric" if self.symmetric else " asymmetric")
        small = f", {self.scale_bits}-bit scales" if self.scale_bits <= 8 else ""
        return f"{kind}{self.bits} {share}{sign}{small}"


def int_format(
    bits: int, *, group_size: int | None = None, symmetric: bool | None = None, scale_bits: int = 16
) -> Format:
    """Return the usual integer grid for weights of so many bits.

    bits: 2 to 8.
    group_size: columns that share a scale; None: one scale a row (per channel).
    scale_bits: as for Format.
    symmetric: None chooses symmetric at 8 bits, where a level more or less does not matter and
        the kernels want it, and asymmetric below.
    Returns a Format. Raises InputError for bad arguments.

    >>> str(int_format(8)), str(int_format(4, group_size=64))
    ('int8 per channel symmetric', 'int4 g64 asymmetric')
    """
    require_int("bits", bits, 2, 8)
    return Format(
        bits=bits,
        symmetric=bits == 8 if symmetric is None else bool(symmetric),
        granularity="per_channel" if group_size is None else "per_group",
        group_size=group_size,
        scale_bits=scale_bits,
    )


# NormalFloat (QLoRA, Dettmers et al. 2023, arXiv 2305.14314, appendix E): the values are quantiles
# of a normal distribution, so that each of the 16 is used about equally often by normal weights;
# tests/quant/test_formats.py recomputes them from scipy's quantile function.
NF4_CODE = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
NF4 = Format(bits=4, symmetric=True, granularity="per_group", group_size=64, code=NF4_CODE)
