"""The grids that weights are rounded to, as frozen data.

A format says four things: how many bits a stored value has, whether the grid is centred on zero
(`symmetric`), how many weights share one scale (`granularity`, `group_size`), and, for grids whose
steps are not even, the table of their values (`code`). Nothing here touches a tensor: `affine.py`
does the rounding, `packing.py` the bits, `layers/linear.py` the layer.

What a format costs is part of it. A group of 64 four-bit weights with one 16-bit scale and one
4-bit zero point takes 64 * 4 + 16 + 4 = 276 bits, or 4.3125 bits a weight; `bits_per_weight` counts
that for a whole matrix, a short last group included. Adverts that say "4-bit" leave the 0.3125 out.

Small groups follow outliers better and cost more scales, unless the scales are made smaller too:
with `scale_bits=6` a scale is a 6-bit integer times a power of two that the row shares, so that
groups of 32 cost what groups of 64 did (double quantization in QLoRA, arXiv 2305.14314; k-quants in
llama.cpp). Symmetric grids spare the zero point and waste a level. Production kernels (llama.cpp,
Marlin, torch's int4 matmul) fix these choices in code, because a kernel is fast only for the layout
that it was written for.

A small floating-point number is a code table too: FP8's 253 and FP4's 15 different values lie close
together near zero and far apart at the ends. MXFP4 adds a scale that is nothing but an exponent
(`power_of_two`), 8 bits for 32 weights, which hardware multiplies by in passing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from shrinkkit.errors import InputError, require_choice, require_int

GRANULARITIES = ("per_tensor", "per_channel", "per_group")


@dataclass(frozen=True)
class Format:
    """Describe one grid: real = scale * (q - zero_point), or scale * code[q] for a code table.

    bits: 2 to 8; bits of one stored value.
    symmetric: the grid is centred on zero and has no zero point.
    granularity: which values share a scale: the matrix's, a row's, or `group_size` of a row.
    group_size: columns that share a scale, for `per_group` only.
    code: the increasing values of an uneven grid (NF4, FP8), zero among them and 2**bits at most,
        else None. q is a value's place in the table.
    scale_bits: 16 keeps scales at bfloat16 precision, the precision that torch's CPU kernels
        read; 32 keeps them in float32; 4 to 8 stores each as an integer of so many bits, times
        2**exponent with one 8-bit exponent a row (every such scale is a bfloat16 number).
    power_of_two: a scale is a power of two and stored as its exponent; needs a code and
        scale_bits=8 (E8M0).

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
    power_of_two: bool = False

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
        if self.code is not None:
            self._check_code(self.code)
        if self.power_of_two and (self.code is None or self.scale_bits != 8):
            raise InputError("power_of_two needs a code, and scale_bits=8 for the exponent.")

    def _check_code(self, code: tuple[float, ...]) -> None:
        if not 2 <= len(code) <= 2**self.bits:
            raise InputError(f"code has {len(code)} values; {self.bits} bits hold {2**self.bits}.")
        if 0.0 not in code or any(low >= high for low, high in pairwise(code)):
            raise InputError("code must hold increasing values, zero among them.")

    @property
    def qmin(self) -> int:
        """Smallest stored integer: -(2**(bits-1) - 1) when symmetric, else 0."""
        return -(2 ** (self.bits - 1) - 1) if self.symmetric and self.code is None else 0

    @property
    def qmax(self) -> int:
        """Largest stored integer: 2**(bits-1) - 1 when symmetric, else 2**bits - 1; of a code, its
        last place."""
        if self.code is not None:
            return len(self.code) - 1
        return 2 ** (self.bits - 1) - 1 if self.symmetric else self.levels - 1

    @property
    def levels(self) -> int:
        """How many patterns the stored bits can take: 2**bits."""
        return 2**self.bits

    @property
    def row_exponent(self) -> bool:
        """Whether the scales of a row are small integers times one power of two."""
        return self.scale_bits <= 8 and not self.power_of_two

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

    def for_rows_of(self, in_features: int) -> Format:
        """Return the grid for rows of that many columns: one scale a row where a group is longer.

        >>> str(int_format(4, group_size=64).for_rows_of(48))
        'int4 per channel asymmetric'
        """
        if self.granularity == "per_group" and self.group_size > in_features:
            return replace(self, granularity="per_channel", group_size=None)
        return self

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
        exponent_bits = 8 * rows if self.row_exponent else 0
        beside = n_scales * (self.scale_bits + zero_bits) + exponent_bits
        return self.bits + beside / (out_features * in_features)

    def __str__(self) -> str:
        share = f"g{self.group_size}" if self.group_size else self.granularity.replace("_", " ")
        small = f", {self.scale_bits}-bit scales" if self.row_exponent else ""
        if self.code is not None:
            name = CODE_NAMES.get(self.code, f"code{self.bits}")
            return f"{'mx' if self.power_of_two else ''}{name} {share}{small}"
        sign = "symmetric" if self.symmetric else "asymmetric"
        return f"int{self.bits} {share} {sign}{small}"


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
# tests/quant/grids/test_formats.py recomputes them from scipy's quantile function.
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


def float_code(exponent_bits: int, mantissa_bits: int, largest: float) -> tuple[float, ...]:
    """Return every value of a small floating-point format, sign bit included, in order.

    With the bias 2**(exponent_bits - 1) - 1, a pattern means 2**(1 - bias) * m / 2**mantissa_bits
    where the exponent's bits are zero, else 2**(exponent - bias) * (1 + m / 2**mantissa_bits).

    exponent_bits, mantissa_bits: their widths.
    largest: the largest finite value; patterns above it stand for infinity or NaN.
    Returns the increasing values; the two zeros are one.
    Raises InputError for widths that are not whole numbers from 1 up.

    >>> float_code(2, 1, largest=6.0)[7:]  # E2M1
    (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    """
    require_int("exponent_bits", exponent_bits, 1, 5)
    require_int("mantissa_bits", mantissa_bits, 1, 5)
    bias, steps = 2 ** (exponent_bits - 1) - 1, 2**mantissa_bits
    positive = [2.0 ** (1 - bias) * m / steps for m in range(1, steps)]
    for exponent in range(1, 2**exponent_bits):
        positive += [2.0 ** (exponent - bias) * (1 + m / steps) for m in range(steps)]
    positive = [value for value in positive if value <= largest]
    return (*(-value for value in reversed(positive)), 0.0, *positive)


# FP8 (Micikevicius et al. 2022, arXiv 2209.05433, table 1): E4M3 gives all its patterns but one to
# numbers, E5M2 is a short float16. FP4 is E2M1 of the Open Compute Project's Microscaling Formats
# specification (MX, version 1.0, 2023), where 32 of them share an E8M0 scale.
E4M3_CODE = float_code(4, 3, largest=448.0)
E5M2_CODE = float_code(5, 2, largest=57344.0)
E2M1_CODE = float_code(2, 1, largest=6.0)
FP8_E4M3 = Format(bits=8, code=E4M3_CODE)
FP8_E5M2 = Format(bits=8, code=E5M2_CODE)
MXFP4 = Format(
    bits=4,
    granularity="per_group",
    group_size=32,
    code=E2M1_CODE,
    scale_bits=8,
    power_of_two=True,
)
CODE_NAMES = {NF4_CODE: "nf4", E4M3_CODE: "fp8 e4m3", E5M2_CODE: "fp8 e5m2", E2M1_CODE: "fp4"}
