"""The event log: what happens to volumes on this node, for the log and for readers of the control API.

Each event is one line of the log, and one entry in a ring in memory. Readers keep a cursor, the id of the
last event that they have seen, and all wait for the same signal: a thousand readers cost no queue each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What an event tells.

    CHANGE: a change of the world. OPERATION: one began, succeeded or was cancelled. ERROR: an operation
    failed. RETRY: a desired state is not reached yet, and why.
    """

    CHANGE = "change"
    OPERATION = "operation"
    ERROR = "error"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    Attributes:
        event_id: `RUN-N`: unique, also across restarts; N counts up within one run of volplug.
        at: With time zone.
        kind: What it tells.
        text: A full phrase, as in the log.
        volume: Docker's name of the volume; empty if it is about none.
        backend: Name of the backend; empty where it is not known.
        operation_id: Of the operation that it is part of; empty for none.
        fields: What else the log's line shows, as pairs in their order; secrets are masked.
    """

    event_id: str
    at: datetime
    kind: EventKind
    text: str
    volume: str = ""
    backend: str = ""
    operation_id: str = ""
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a reader wants; what is empty excludes nothing.

    Attributes:
        volume: Docker's name.
        backend: Name of the backend.
        operation_id: Of one operation.
        kinds: Any of them.
    """

    volume: str = ""
    backend: str = ""
    operation_id: str = ""
    kinds: frozenset[EventKind] = frozenset()


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Some events, the oldest first.

    Attributes:
        events: Those that passed the filter.
        cursor: Where to go on reading: id of the last event that was looked at.
        is_lost: Whether events between the given cursor and the first one here are no longer known, or the
            cursor is of another run: the reader lists anew what it follows.
    """

    events: Sequence[Event]
    cursor: str
    is_lost: bool = False


class EventLog:
    """The events of this run of volplug; the last 10,000 are kept."""

    def read(self, after: str = "", wanted: EventFilter = EventFilter(), limit: int = 1000) -> EventBatch:
        """Return the events after a cursor, at once; from the oldest that is kept for an empty one."""
        raise NotImplementedError

    async def wait(self, after: str, wanted: EventFilter = EventFilter(), limit: int = 1000) -> EventBatch:
        """Return the events after a cursor as soon as there is one, or events were lost.

        Waits without a limit; to be cancelled. For `after` take the cursor of a batch, or `latest`.
        """
        raise NotImplementedError

    @property
    def latest(self) -> str:
        """Return the cursor behind the newest event."""
        raise NotImplementedError
