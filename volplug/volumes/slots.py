"""One slot per volume: its lock, the mounts that are being answered, and what is scheduled for later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary


class Slot:
    """What must not happen to one volume at the same time. Locked by `async with`.

    The lock is part of the slot and not handed out: whoever holds it keeps the slot alive.

    Attributes:
        name: Docker's name of the volume.
        pending: Mounts that have come in and are not answered; they keep others from unmounting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.pending = 0
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def acquire(self) -> None:
        """Wait until nobody else changes the volume on this host."""
        await self._lock.acquire()

    def release(self) -> None:
        """Let the next in line change the volume."""
        self._lock.release()

    def begin_mount(self) -> None:
        """Count a Mount that has come in."""
        self.pending += 1

    def end_mount(self) -> None:
        """Count it no more: it has failed, or its answer is out or lost."""
        self.pending -= 1


class Slots:
    """The slots in use; a slot lives as long as somebody holds it."""

    def __init__(self) -> None:
        self._slots: WeakValueDictionary[str, Slot] = WeakValueDictionary()

    def of(self, name: str) -> Slot:
        """Return the slot of a volume."""
        slot = self._slots.get(name)
        if slot is None:
            slot = self._slots[name] = Slot(name)
        return slot


@dataclass(frozen=True, slots=True)
class _Waiting:
    handle: asyncio.TimerHandle
    action: Callable[[], Awaitable[None]]
    at_stop: bool


class Timers:
    """At most one scheduled action per volume; a new one replaces the old."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        self._running: set[asyncio.Future[None]] = set()

    def schedule(
        self, name: str, delay_s: float, action: Callable[[], Awaitable[None]], *, at_stop: bool = False
    ) -> None:
        """Run the action after the delay, in a task of its own; or at once when the process stops."""
        self.cancel(name)
        handle = asyncio.get_running_loop().call_later(delay_s, self._start, name)
        self._waiting[name] = _Waiting(handle, action, at_stop)

    def cancel(self, name: str) -> None:
        """Forget what is scheduled for the volume; what runs already goes on."""
        if waiting := self._waiting.pop(name, None):
            waiting.handle.cancel()

    def flush(self) -> None:
        """Start now what was scheduled to happen at the latest when the process stops."""
        for name, waiting in list(self._waiting.items()):
            if waiting.at_stop:
                waiting.handle.cancel()
                self._start(name)

    @property
    def running(self) -> set[asyncio.Future[None]]:
        """Return the actions that run now."""
        return set(self._running)

    def _start(self, name: str) -> None:
        task = asyncio.ensure_future(self._waiting.pop(name).action())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
