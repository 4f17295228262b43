"""What this processor can do, as far as fast kernels care.

A quantized layer is only faster if the processor has instructions for small integers or short
floats; which ones a machine has explains most of the difference between two readers' speed-ups:

- AVX2 / AVX-512 (NEON on ARM): one instruction works on 32 / 64 (16) bytes at once;
- VNNI ("dot product" on ARM): multiplies 8-bit integers and adds them up in one instruction;
- bf16: the same for 16-bit floats; AMX ("int8 products"): whole tiles of a matrix at once.

torch and the operating system both know a part of it; what either reports counts.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection
from pathlib import Path

# Name -> the flags that stand for it, as torch or Linux call them (lower case, no underscores).
FEATURES = {
    "x86": {
        "AVX2": {"avx2"},
        "AVX-512": {"avx512f"},
        "VNNI": {"avx512vnni", "avxvnni"},
        "bf16": {"avx512bf16", "amxbf16"},
        "AMX": {"amxtile"},
    },
    "arm": {
        "NEON": {"asimd", "neon"},
        "dot product": {"asimddp", "dot", "neondot"},
        "int8 products": {"i8mm", "armi8mm"},
        "bf16": {"bf16", "armbf16"},
    },
}


def usable_cores() -> int:
    """Return how many cores this process may use (a container may get fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_features(
    flags: Collection[str] | None = None, machine: str | None = None
) -> tuple[list[str], list[str]]:
    """Return the features of FEATURES that a processor has, and those that it lacks.

    flags: its flags; None asks this machine.
    machine: its architecture, as `platform.machine()` says it; None asks this machine.

    >>> cpu_features({"avx2", "avx512_vnni"}, "x86_64")
    (['AVX2', 'VNNI'], ['AVX-512', 'bf16', 'AMX'])
    """
    flags = cpu_flags() if flags is None else flags
    machine = (machine or platform.machine()).lower()
    names = {flag.lower().replace("_", "") for flag in flags}
    family = FEATURES["arm" if machine.startswith(("arm", "aarch")) else "x86"]
    there = [feature for feature, keys in family.items() if keys & names]
    return there, [feature for feature in family if feature not in there]


def cpu_flags() -> set[str]:
    """Return what torch and the operating system call this processor's features."""
    flags: set[str] = set()
    try:
        import torch

        capabilities = torch.cpu.get_capabilities()
        flags |= {name for name, value in capabilities.items() if value is True}
    except (ImportError, OSError, AttributeError, RuntimeError):
        pass  # an older torch cannot tell; the operating system may
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        text = listing.read_text(errors="replace")
        first = re.search(r"^(?:flags|Features)\s*:(.*)$", text, flags=re.MULTILINE)
        flags |= set(first[1].split()) if first else set()
    return flags
