"""What is remembered for a while only: it neither grows nor outlives what it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Lately(Generic[_Key, _Value]):
    """Values that are kept for a time.

    Args:
        clock: Seconds that never go back.
        kept_s: For how long.
    """

    def __init__(self, clock: Callable[[], float], kept_s: float) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._notes: dict[_Key, tuple[float, _Value]] = {}

    def __len__(self) -> int:
        """Return how many are remembered."""
        self._prune()
        return len(self._notes)

    def note(self, key: _Key, value: _Value) -> None:
        """Remember a value from now on, in place of the one before."""
        self._prune()
        self._notes.pop(key, None)  # they stay in the order of their times
        self._notes[key] = (self._clock() + self._kept_s, value)

    def get(self, key: _Key) -> _Value | None:
        """Return what is remembered."""
        self._prune()
        _, value = self._notes.get(key, (0.0, None))
        return value

    def pop(self, key: _Key) -> _Value | None:
        """Return what was remembered, and forget it."""
        value = self.get(key)
        self._notes.pop(key, None)
        return value

    def _prune(self) -> None:
        now = self._clock()
        while self._notes:
            oldest = next(iter(self._notes))
            if self._notes[oldest][0] > now:
                return
            del self._notes[oldest]
