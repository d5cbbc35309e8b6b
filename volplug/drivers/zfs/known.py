"""The datasets of a backend as one command has shown them, for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from volplug.drivers.zfs.datasets import Dataset

_FRESH_S: Final = 5.0


class KnownDatasets:
    """What the last command showed; look-ups that come together share one.

    Args:
        read: Lists all datasets.
        clock: A monotonic clock.
    """

    def __init__(
        self, read: Callable[[], Awaitable[tuple[Dataset, ...]]], clock: Callable[[], float]
    ) -> None:
        self._read = read
        self._clock = clock
        self._found: Mapping[str, Dataset] = {}
        self._fresh_until_s = 0.0
        self._reading: asyncio.Task[Mapping[str, Dataset]] | None = None

    async def all(self) -> Mapping[str, Dataset]:
        """Return all datasets by name; may raise what the command raises."""
        if self._clock() < self._fresh_until_s:
            return self._found
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._refresh())
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Void what is known: something was changed. A command that runs may have missed it."""
        self._fresh_until_s = 0.0
        self._reading = None

    async def _refresh(self) -> Mapping[str, Dataset]:
        begun_s, reading = self._clock(), asyncio.current_task()
        try:
            found = {each.name: each for each in await self._read()}
            if self._reading is reading:
                self._found, self._fresh_until_s = found, begun_s + _FRESH_S
            return found
        finally:
            if self._reading is reading:
                self._reading = None
