"""Compares the clock of this host with that of a cloud: the header Date of its last answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


class ServiceClock:
    """Compares the two clocks; noting is cheap, and done in threads.

    Args:
        read_s: This host's clock: seconds since 1970.
    """

    def __init__(self, read_s: Callable[[], float] = time.time) -> None:
        self._read_s = read_s
        self._noted = ("", 0.0)

    def note(self, date: str) -> None:
        """Note the header Date of an answer that has just come, "" if it has none."""
        if date:
            self._noted = date, self._read_s()

    @property
    def ahead_s(self) -> float | None:
        """Return how many seconds this host is ahead of the service; None if no answer had a date.

        Too large by the time that the answer took, and by up to a second, in which Date counts.
        """
        date, noted_s = self._noted
        try:
            return noted_s - parsedate_to_datetime(date).timestamp()
        except ValueError:
            return None

    def now(self) -> datetime:
        """Return the time by the service's clock, by this host's if that is unknown."""
        return datetime.fromtimestamp(self._read_s(), UTC) - timedelta(seconds=self.ahead_s or 0.0)
