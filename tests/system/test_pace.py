"""SHRINKKIT_PACE has two values and no silent third."""

from __future__ import annotations

import pytest

from shrinkkit.errors import InputError
from shrinkkit.system.pace import pace, scaled


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "full"), ("", "full"), ("full", "full"), ("quick", "quick")]
)
def test_pace(value: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("SHRINKKIT_PACE", raising=False)
    else:
        monkeypatch.setenv("SHRINKKIT_PACE", value)
    assert pace() == expected
    assert scaled(full=32, quick=4) == {"full": 32, "quick": 4}[expected]


@pytest.mark.parametrize("value", ["fast", "Quick", "1"])
def test_unknown_pace(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHRINKKIT_PACE", value)
    with pytest.raises(InputError, match=f"must be 'quick' or 'full', but '{value}' was given"):
        scaled(full=1, quick=2)
