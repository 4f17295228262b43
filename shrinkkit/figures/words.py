"""Write numbers the way people say them: 175 B parameters, 12.5 GiB, $1.2 M."""

from __future__ import annotations

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SIZES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))


def count(number: float) -> str:
    """Write a large count with its letter: k thousand, M million, B billion, T trillion.

    >>> count(134_515_008), count(175e9), count(7e9), count(12), count(82_432)
    ('135 M', '175 B', '7 B', '12', '82.4 k')
    """
    for unit, letter in _COUNTS:
        if number >= unit * 0.9995:
            return f"{_three(number / unit)} {letter}"
    return _three(number)


def size(n_bytes: float) -> str:
    """Write bytes in binary units: 1 GiB = 2**30 bytes.

    >>> size(538_060_032), size(350e9), size(12)
    ('513 MiB', '326 GiB', '12 bytes')
    """
    for unit, letters in _SIZES:
        if n_bytes >= unit * 0.9995:
            return f"{_three(n_bytes / unit)} {letters}"
    return f"{_three(n_bytes)} bytes"


def dollars(amount: float) -> str:
    """Write an amount of money in dollars.

    >>> dollars(164864), dollars(12.3)
    ('$165 k', '$12.3')
    """
    return f"${count(amount)}"


def mass(kg: float) -> str:
    """Write a mass in kilograms or tonnes.

    >>> mass(13_964), mass(420)
    ('14 tonnes', '420 kg')
    """
    return f"{_three(kg / 1000)} tonnes" if kg >= 1000 else f"{_three(kg)} kg"


def energy(kwh: float) -> str:
    """Write an energy in kilowatt-hours, or megawatt-hours from 1,000 on.

    >>> energy(36_270), energy(12)
    ('36.3 MWh', '12 kWh')
    """
    return f"{_three(kwh / 1000)} MWh" if kwh >= 1000 else f"{_three(kwh)} kWh"


def _three(number: float) -> str:
    """Round to three significant digits, without an exponent or useless zeros."""
    if number >= 100:
        return f"{number:,.0f}"
    text = f"{number:#.3g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
