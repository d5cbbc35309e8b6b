"""Which calls were made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with its outcome.

    Attributes:
        action: Such as AttachVolume.
        parameters: As sent, such as {"VolumeId.1": "vol-0..."}.
        caller: The instance whose credentials or address it came with, or empty.
        outcome: "ok", the code of the error that was answered, "lost" (error after the effect), "closed"
            (effect, but no answer) or "dropped" (neither).
    """

    action: str
    parameters: Mapping[str, str]
    caller: str
    outcome: str


class Calls:
    """All calls since the last reset. Calls that were refused or not answered count, too."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        """Take note of a call."""
        with self._lock:
            self._calls.append(call)

    def log(self) -> list[Call]:
        """Return all calls in the order in which they ended."""
        with self._lock:
            return list(self._calls)

    def counts(self, caller: str | None = None) -> Counter[str]:
        """Return how often each action was called, by anybody or by one instance."""
        return Counter(each.action for each in self.log() if caller is None or each.caller == caller)

    def reset(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()
