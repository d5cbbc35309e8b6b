"""Sizes: parses, rounds and formats them. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from volplug.errors import InvalidSize
from volplug.masking import quoted

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
TIB: Final = 1024**4

_UNITS: Final = {"": GIB, "B": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB, "P": 1024**5, "E": 1024**6}
_PATTERN: Final = re.compile(
    r"\s*(?P<number>\d{1,18}(?:\.\d{1,18})?(?:E[+-]?\d{1,2})?)\s*(?:(?P<unit>[KMGTPE])I?B?|(?P<byte>B))?\s*",
    re.IGNORECASE | re.ASCII,
)
_ADVICE: Final = "Write a number and a unit, such as 10GiB or 512MiB"


def parse_size(text: str) -> int:
    """Read a size as users write it; a bare number is GiB and every unit is a power of 1024.

    Args:
        text: For example `10`, `10GiB`, `10G`, `10Gi`, `512mb`, `1.5T`, `1e+06`.

    Returns:
        The size in bytes.

    Raises:
        InvalidSize: If it cannot be read or is not above zero.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidSize(f"size {quoted(text)} cannot be read", _ADVICE)
    size_bytes = int(Decimal(match["number"]) * _UNITS[(match["unit"] or match["byte"] or "").upper()])
    if size_bytes <= 0:
        raise InvalidSize(f"size {quoted(text)} is not above zero", _ADVICE)
    return size_bytes


def round_up(size_bytes: int, unit_bytes: int) -> int:
    """Round up to a whole number of allocation units, never down."""
    return -(-size_bytes // unit_bytes) * unit_bytes


def format_size(size_bytes: int) -> str:
    """Write a size in the largest unit that divides it; `parse_size` reads the same number back."""
    for name, unit in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return f"{size_bytes}B"


def rounded_size(size_bytes: int) -> str:
    """Write a size for people, with one decimal; `parse_size` reads about the same number back."""
    for name, unit in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.1f}{name}"
    return f"{size_bytes}B"
