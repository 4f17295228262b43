"""One switch, SHRINKKIT_PACE, that sets how much work a lesson does.

Every lesson runs at two paces with the same code and the same assertions. `full` is what the
committed outputs come from: enough samples for steady numbers, at most three minutes on two
cores. `quick` is for tests and for the impatient: fewer samples and steps, noisier numbers.
A lesson asks for a number once, with both values side by side:

    n_samples = scaled(full=32, quick=4)

so that nobody has to hunt for hidden "if testing" branches, and a recorded row can say at which
pace it was measured.
"""

from __future__ import annotations

import os
from typing import Literal, TypeVar, cast

from shrinkkit.errors import InputError

T = TypeVar("T")
PACES = ("quick", "full")


def pace() -> Literal["quick", "full"]:
    """Return the pace set by the environment variable SHRINKKIT_PACE (default "full").

    Raises InputError: the variable holds anything but "quick" or "full".
    """
    value = os.environ.get("SHRINKKIT_PACE", "").strip() or "full"
    if value not in PACES:
        raise InputError(
            f"The environment variable SHRINKKIT_PACE must be 'quick' or 'full', but {value!r} "
            "was given. Set it to one of the two, or unset it for 'full'."
        )
    return cast(Literal["quick", "full"], value)


def scaled(*, full: T, quick: T) -> T:
    """Return the value that belongs to the current pace.

    Raises InputError: SHRINKKIT_PACE holds anything but "quick" or "full".

    >>> scaled(full=32, quick=4) in (32, 4)
    True
    """
    return quick if pace() == "quick" else full
