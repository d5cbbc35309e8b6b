"""Sizes, ages and times, as the docker command prints them. Pure.

https://github.com/docker/go-units: `BytesSize`, for powers of 1024, as sizes of volumes are; `HumanDuration`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from volplug.sizes import KIB

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MINUTE_S: Final = 60
_HOUR_S: Final = 60 * _MINUTE_S
_DAY_S: Final = 24 * _HOUR_S
# Below which duration which unit is used, and what it is called.
_STEPS: Final = (
    (_MINUTE_S, 1, "seconds"),
    (_HOUR_S, _MINUTE_S, "minutes"),
    (48 * _HOUR_S, _HOUR_S, "hours"),
    (14 * _DAY_S, _DAY_S, "days"),
    (60 * _DAY_S, 7 * _DAY_S, "weeks"),
    (730 * _DAY_S, 30 * _DAY_S, "months"),
)
_ONE: Final = {"seconds": "1 second", "minutes": "About a minute", "hours": "About an hour"}


def human_size(size_bytes: int) -> str:
    """Return a size with four significant digits, such as 10GiB or 1.465TiB."""
    size = float(size_bytes)
    unit = 0
    while size >= KIB and unit < len(_UNITS) - 1:
        size, unit = size / KIB, unit + 1
    return f"{size:.4g}{_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Return a duration, such as `3 minutes` or `About an hour`."""
    if seconds < 1:
        return "Less than a second"
    for below, unit_s, name in _STEPS:
        if seconds < below:
            number = int(seconds // unit_s)
            return _ONE[name] if number == 1 else f"{number} {name}"
    return f"{int(seconds // (365 * _DAY_S))} years"


def age(written: str | None, now: datetime | None = None) -> str:
    """Return how long ago a time of the API was, such as `2 hours ago`; "" for none."""
    return f"{human_duration(seconds_since(written, now))} ago" if written else ""


def seconds_since(written: str, until: datetime | None = None) -> float:
    """Return the seconds from a time of the API until another, by default now; clocks may differ a little."""
    return max(((until or datetime.now(UTC)) - datetime.fromisoformat(written)).total_seconds(), 0.0)
