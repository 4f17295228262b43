"""What the processor can do, from the names that torch and Linux use."""

from __future__ import annotations

import os

import pytest

from shrinkkit.system.hardware import FEATURES, cpu_features, cpu_flags, usable_cores


@pytest.mark.parametrize(
    ("flags", "machine", "there"),
    [
        pytest.param({"avx", "sse4_2"}, "x86_64", [], id="old PC"),
        pytest.param({"avx2", "avx_vnni"}, "AMD64", ["AVX2", "VNNI"], id="Windows laptop"),
        pytest.param(
            {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile"},
            "x86_64",
            ["AVX2", "AVX-512", "VNNI", "bf16", "AMX"],
            id="server, as Linux says it",
        ),
        pytest.param({"avx2", "avx512_f"}, "x86_64", ["AVX2", "AVX-512"], id="as torch says it"),
        pytest.param({"asimd", "asimddp"}, "aarch64", ["NEON", "dot product"], id="ARM board"),
        pytest.param({"neon", "bf16"}, "arm64", ["NEON", "bf16"], id="Apple laptop"),
    ],
)
def test_features_of_a_processor(flags: set[str], machine: str, there: list[str]) -> None:
    family = "x86" if machine in ("x86_64", "AMD64") else "arm"
    absent = [name for name in FEATURES[family] if name not in there]
    assert cpu_features(flags, machine) == (there, absent)


def test_this_processor_has_flags_that_are_read_as_words() -> None:
    flags = cpu_flags()
    assert len(flags) > 5
    assert all(flag and not set(flag) & set(" \t\n:") for flag in flags)


def test_usable_cores_are_those_the_process_may_use() -> None:
    assert 1 <= usable_cores() <= os.cpu_count()
