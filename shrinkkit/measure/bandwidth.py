"""Compute the speed limit of decoding: how fast weights can come from memory.

To write one token, every weight of the linear layers has to travel from memory to the processor
once. So, whatever the kernels do,

    decode_bound = memory_bandwidth / bytes_per_token

Half the bytes, twice the limit: this is the whole reason why a quantized model can write faster,
even where its arithmetic is slower. Compare a measured speed with this bound (a "roofline", after
Williams et al. 2009, with one roof) to see how much is left to gain: a good C++ runtime reaches
nearly all of it, eager PyTorch less.
"""

from __future__ import annotations

import torch
from torch import nn

from shrinkkit.errors import InputError, require_int
from shrinkkit.measure.size import MIB
from shrinkkit.measure.timing import time_paired
from shrinkkit.surgery.matrices import is_packed, is_transposed
from shrinkkit.surgery.parts import input_embedding


def memory_bandwidth(
    size_bytes: int = 256 * MIB, repeats: int = 5, device: str | torch.device = "cpu"
) -> float:
    """Measure how many bytes a second can be read from memory.

    Reads a buffer much larger than the processor's caches from end to end with all of torch's
    threads, in two ways that cost little arithmetic (largest element, sum), and takes the fastest
    of all passes: what is sought is a ceiling, and other programs only ever slow a pass down.
    Reading is what decoding does; a copy would be slower, since it writes too.

    size_bytes: of the buffer. Below four times the last cache level this measures the cache.
    repeats: passes of each way.
    Returns bytes per second.
    """
    require_int("size_bytes", size_bytes, 1024)
    require_int("repeats", repeats, 1)
    buffer = torch.ones(size_bytes // 4, dtype=torch.float32, device=device)
    timings = time_paired({"max": buffer.max, "sum": buffer.sum}, warmup=1, repeats=repeats)
    fastest_ms = min(min(timing.samples_ms) for timing in timings.values())
    return buffer.numel() * 4 / (fastest_ms / 1e3)


def bytes_per_token(model: nn.Module) -> int:
    """Count the bytes of weights that decoding one token reads: all linear layers and the head.

    Packed weights count as they lie in memory. Of an embedding only one row is read, so it does not
    count; but where it is tied to the head, the head's full read does. Two layers that share one
    weight read it twice: sharing saves memory, not reading.

    model: any module with linear layers.
    Returns bytes.
    Raises InputError for a model without linear layers.

    >>> bytes_per_token(nn.Sequential(nn.Embedding(100, 4), nn.Linear(4, 3)))  # 15 numbers
    60
    """
    total = 0
    embedding = input_embedding(model)  # a packed one of its own holds a packed layer as its table
    looked_up = set() if embedding is None else set(model.get_submodule(embedding).modules())
    for module in model.modules():
        if module in looked_up:
            continue
        if is_packed(module):
            total += int(module.nbytes)
        elif isinstance(module, nn.Linear) or is_transposed(module):
            for tensor in (module.weight, module.bias):
                if tensor is not None:
                    total += tensor.numel() * tensor.element_size()
    if total == 0:
        raise InputError(f"model is a {type(model).__name__} without linear layers.")
    return total


def decode_bound(model: nn.Module, bandwidth: float) -> float:
    """Give the tokens per second that memory allows at most, one answer at a time.

    decode_bound = bandwidth / bytes_per_token(model)

    The KV cache and activations are left out (small for short answers), so the true limit is a
    little lower. Weights that fit into the cache may beat it.

    bandwidth: bytes per second, from `memory_bandwidth()`.
    Returns tokens per second.
    Raises InputError for a bandwidth that is not a positive number.

    >>> decode_bound(nn.Linear(100, 100, bias=False), bandwidth=4e6)
    100.0
    """
    if not isinstance(bandwidth, (int, float)) or not bandwidth > 0:
        raise InputError(f"bandwidth is {bandwidth!r}: give bytes per second, above 0.")
    return bandwidth / bytes_per_token(model)
