"""Work out the truths of lesson 01's exercises.

They are exact: whole numbers and fractions, worked out in the order in which one would explain
them, and independent of the package.
"""

from __future__ import annotations

from fractions import Fraction

GIB = 2**30


def load_gib(n_parameters: int, bits: float) -> float:
    """Give the GiB that so many weights take."""
    return float(n_parameters * Fraction(bits) / 8 / GIB)


def cache_bytes(
    n_layers: int,
    hidden_size: int,
    n_heads: int,
    n_kv_heads: int,
    n_users: int,
    context_tokens: int,
    bits: int,
) -> float:
    """Collect what is kept for a token, list by list and layer by layer, then count bits."""
    head_dim = hidden_size // n_heads
    in_a_layer = sum(head_dim for _ in ("key", "value") for _ in range(n_kv_heads))
    for_a_token = sum(in_a_layer for _ in range(n_layers))
    return float(Fraction(for_a_token * n_users * context_tokens * bits, 8))


def tokens_per_s(
    weights: int, kv: float, n_users: int, context_tokens: int, bandwidth: float
) -> float:
    """Give how long a step reads, then tokens over seconds."""
    caches = sum(context_tokens * Fraction(kv) for _ in range(n_users))
    step_s = (weights + caches) / (Fraction(bandwidth) * 10**9)
    return float(n_users / step_s)


def gpu_hours(n_parameters: int, n_tokens: int, peak_tflops: float, utilisation: float) -> float:
    """Add up the operations of forward and backward, then give seconds, then hours."""
    forward = 2 * n_parameters * n_tokens  # a multiplication and an addition for each weight
    backward = 2 * forward
    achieved = Fraction(peak_tflops) * 10**12 * Fraction(utilisation)
    return float((forward + backward) / achieved / 3600)
