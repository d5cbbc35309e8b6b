"""The event log: what happens to volumes on this node, for the log and for readers of the control API.

Each event is one line of the log, and one entry in a ring in memory. Readers keep a cursor, the id of the
last event that they have seen, and all wait for the same signal: a thousand readers cost no queue each.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Final, Literal, NamedTuple

import structlog

from volplug.masking import masked

_LOG = structlog.get_logger(__name__)
_KEPT: Final = 5_000  # some 1.5 MB
_MAX_VALUE_LENGTH: Final = 1_000  # what an event shows of a text; the log has all of it
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

Level = Literal["debug", "info", "warning", "error"]


def run_id(started_ms: int) -> str:
    """Return the id of a run of volplug, from its start in milliseconds: short, in the order of starts."""
    digits = ""
    while started_ms:
        started_ms, digit = divmod(started_ms, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


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


class _Recorded(NamedTuple):
    """An event as it is kept, quickly and in little memory: its texts are made for the reader."""

    number: int
    at_s: float
    kind: EventKind
    text: str
    volume: str
    backend: str
    operation_id: str
    keys: tuple[str, ...]
    values: tuple[object, ...]


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

    def accepts(self, event: Event) -> bool:
        """Tell whether the reader wants this event."""
        return (
            self.volume in ("", event.volume)
            and self.backend in ("", event.backend)
            and self.operation_id in ("", event.operation_id)
            and (not self.kinds or event.kind in self.kinds)
        )


ALL_EVENTS: Final = EventFilter()


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
    """The last events of this run of volplug. Used by one thread.

    Args:
        run: Id of this run of volplug; by default, of its start.
        kept: How many are kept.
    """

    def __init__(self, run: str = "", kept: int = _KEPT) -> None:
        self.run = run or run_id(time.time_ns() // 1_000_000)
        self._kept: deque[_Recorded] = deque(maxlen=kept)
        self._keys: dict[tuple[str, ...], tuple[str, ...]] = {}  # shared by the events of one kind
        self._count = 0
        self._news: asyncio.Event | None = None  # while readers wait

    @property
    def latest(self) -> str:
        """Return the cursor behind the newest event."""
        return self._id(self._count)

    def record(self, level: Level, kind: EventKind, text: str, **fields: object) -> None:
        """Write a line of the log, and keep it as an event.

        Args:
            level: Of the line.
            kind: Of the event.
            text: A full phrase.
            fields: As the line shows them; `volume`, `backend` and `operation` are the event's.
        """
        getattr(_LOG, level)(text, **fields)
        self._count += 1
        self._kept.append(self._recorded(kind, text, fields))
        if self._news is not None:
            self._news.set()
            self._news = None

    def _recorded(self, kind: EventKind, text: str, fields: dict[str, object]) -> _Recorded:
        volume, backend = str(fields.pop("volume", "")), str(fields.pop("backend", ""))
        operation_id = getattr(fields.pop("operation", None), "operation_id", "")
        fields.pop("exc_info", None)  # how the log shows a traceback
        keys = self._keys.setdefault(keys := tuple(fields), keys)
        values = tuple(fields.values())
        return _Recorded(self._count, time.time(), kind, text, volume, backend, operation_id, keys, values)

    def read(self, after: str = "", wanted: EventFilter = ALL_EVENTS, limit: int = 1000) -> EventBatch:
        """Return the events after a cursor, at once; from the oldest that is kept for an empty one."""
        oldest = self._count - len(self._kept)
        seen = self._number(after) if after else oldest
        is_lost = seen is None or seen < oldest
        if seen is None or is_lost:
            seen = oldest
        found: list[Event] = []
        for recorded in self._from(seen - oldest):
            if len(found) >= limit:
                break
            seen = recorded.number
            if wanted.accepts(event := self._event(recorded)):
                found.append(event)
        return EventBatch(found, self._id(seen), is_lost)

    async def wait(self, after: str, wanted: EventFilter = ALL_EVENTS, limit: int = 1000) -> EventBatch:
        """Return the events after a cursor as soon as there is one, or events were lost.

        Waits without a limit; to be cancelled. For `after` take the cursor of a batch, or `latest`.
        """
        while True:
            batch = self.read(after, wanted, limit)
            if batch.events or batch.is_lost:
                return batch
            after = batch.cursor
            if self._news is None:
                self._news = asyncio.Event()
            await self._news.wait()

    def _from(self, index: int) -> Iterator[_Recorded]:
        """Return what is kept from an index on; readers are most often near the end."""
        count = len(self._kept)
        if index <= count // 2:
            return islice(self._kept, index, None)
        newest_first = islice(reversed(self._kept), count - index)
        return reversed(list(newest_first))

    def _id(self, number: int) -> str:
        return f"{self.run}-{number}"

    def _number(self, cursor: str) -> int | None:
        """Return the number of a cursor of this run; None if it is of none of its events."""
        run, _, number = cursor.rpartition("-")
        is_ours = run == self.run and number.isdecimal() and len(number) <= len(f"{self._count}")
        return int(number) if is_ours and int(number) <= self._count else None

    def _event(self, recorded: _Recorded) -> Event:
        return Event(
            event_id=self._id(recorded.number),
            at=datetime.fromtimestamp(recorded.at_s, UTC),
            kind=recorded.kind,
            text=recorded.text,
            volume=recorded.volume,
            backend=recorded.backend,
            operation_id=recorded.operation_id,
            fields=tuple(
                (key, masked(str(value))[:_MAX_VALUE_LENGTH])
                for key, value in zip(recorded.keys, recorded.values, strict=True)
            ),
        )
