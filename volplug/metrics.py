"""What this process counts: plain numbers in memory, which `handlers/control/prometheus.py` shows on request.

Used by the event loop's thread alone, so that no count needs a lock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable
from enum import StrEnum
from itertools import accumulate
from typing import Final

# From a call that memory answers to a check of a large filesystem.
BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)


class TryResult(StrEnum):
    """How one try of a call of a backend ended.

    THROTTLED: the backend limits how often it is called. UNAVAILABLE: there was no usable answer. REFUSED:
    the answer was any other error.
    """

    OK = "ok"
    REFUSED = "refused"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"


OnTry = Callable[[str, TryResult, bool], None]
"""Told of each try of a call: the call's name, how the try ended, and whether it was a retry."""


def uncounted(action: str, result: TryResult, is_retry: bool) -> None:
    """Do nothing: the default."""


class Durations:
    """How long something took, as a histogram over `BOUNDS_S`."""

    __slots__ = ("_counts", "sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one; a clock that was set back makes it no less than zero."""
        duration_s = max(duration_s, 0.0)
        self._counts[bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    def buckets(self) -> list[tuple[str, float]]:
        """Return each upper bound, and how many were not longer."""
        names = [*map(str, BOUNDS_S), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class Metrics:
    """The counts of this run of volplug.

    Attributes:
        operations: Ended operations of this run, by kind, origin and result.
        steps: What convergences did and waited for, by backend and step.
        tries: Tries of calls of clouds, by backend, action and result.
        retries: Those of them that were not the first of their call, by backend and action.
        loop_lag: How late the event loop was, while it is measured.
    """

    def __init__(self) -> None:
        self.operations: defaultdict[tuple[str, str, str], Durations] = defaultdict(Durations)
        self.steps: defaultdict[tuple[str, str], Durations] = defaultdict(Durations)
        self.tries: Counter[tuple[str, str, str]] = Counter()
        self.retries: Counter[tuple[str, str]] = Counter()
        self.loop_lag = Durations()

    def tries_of(self, backend: str) -> OnTry:
        """Return what counts the tries of a backend's calls."""

        def count(action: str, result: TryResult, is_retry: bool) -> None:
            self.tries[backend, action, result.value] += 1
            if is_retry:
                self.retries[backend, action] += 1

        return count
