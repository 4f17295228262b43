"""Which tests of the judges `make check` leaves to `make test`."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker, and before workers share the items
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Call the sets of attacks and of odd answers slow: they try some 2,500 answers on a judge.

    What a change is likely to break stays in `make check`: every solution, every stub and every
    registered mistake (test_gates.py), and other right answers.
    """
    for item in items:
        name = item.path.name
        if "lessons" in item.path.parts and ("attacks" in name or "odd_answers" in name):
            item.add_marker(pytest.mark.slow)
