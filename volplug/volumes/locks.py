"""One lock per volume, with the mounts of it that are in progress."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary


class VolumeLock:
    """The lock of one volume on this host. Held by `async with`.

    The asyncio lock is part of the object and not handed out: a task that holds it keeps the object alive.

    Attributes:
        name: Docker's name of the volume.
        mounts_in_progress: Mounts that were received and are not answered; they keep others from unmounting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.mounts_in_progress = 0
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    async def acquire(self) -> None:
        """Wait until no other task changes the volume on this host."""
        await self._lock.acquire()

    def release(self) -> None:
        """Let the next task in line change the volume."""
        self._lock.release()

    def begin_mount(self) -> None:
        """Count a Mount that was received."""
        self.mounts_in_progress += 1

    def end_mount(self) -> None:
        """Count it no more: it has failed, or its answer is written or lost."""
        self.mounts_in_progress -= 1


class VolumeLocks:
    """The locks in use; a lock lives as long as a task refers to it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, VolumeLock] = WeakValueDictionary()

    def of(self, name: str) -> VolumeLock:
        """Return the lock of a volume."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = VolumeLock(name)
        return lock
