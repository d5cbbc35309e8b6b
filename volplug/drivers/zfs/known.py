"""The datasets of a backend as commands have shown them, for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from volplug.drivers.zfs.datasets import Dataset

_FRESH_S: Final = 5.0


class KnownDatasets:
    """What commands showed; look-ups of all datasets that come together share one.

    Args:
        read_all: Lists all datasets.
        read_one: Reads the dataset of a volume's name; None if there is none.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        read_all: Callable[[], Awaitable[tuple[Dataset, ...]]],
        read_one: Callable[[str], Awaitable[Dataset | None]],
        clock: Callable[[], float],
    ) -> None:
        self._read_all = read_all
        self._read_one = read_one
        self._clock = clock
        self._found: dict[str, tuple[Dataset, float]] = {}  # until when each is fresh
        self._all: Mapping[str, Dataset] = {}
        self._complete_until_s = 0.0
        self._reading: asyncio.Task[Mapping[str, Dataset]] | None = None
        self._changes = 0

    async def all(self) -> Mapping[str, Dataset]:
        """Return all datasets by the names of their volumes; may raise what the command raises.

        The same object is returned until they are read anew.
        """
        if self._clock() < self._complete_until_s:
            return self._all
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._refresh())
        return await asyncio.shield(self._reading)

    async def one(self, name: str) -> Dataset | None:
        """Return one; that there is none is read anew. May raise what the command raises."""
        now_s, changes = self._clock(), self._changes
        known, fresh_until_s = self._found.get(name, (None, 0.0))
        if now_s < fresh_until_s:
            return known
        found = await self._read_one(name)
        if changes == self._changes:
            self._keep(name, found, now_s)
        return found

    def forget(self, name: str) -> None:
        """Void what is known of a name, and that all are known: a command that runs may miss a change."""
        self._changes += 1
        self._reading = None
        self._complete_until_s = 0.0
        self._found.pop(name, None)

    def changed(self, name: str, dataset: Dataset) -> None:
        """Keep what a change has made of a dataset."""
        self.forget(name)
        self._keep(name, dataset, self._clock())

    def _keep(self, name: str, dataset: Dataset | None, read_s: float) -> None:
        self._found = {each: kept for each, kept in self._found.items() if read_s < kept[1] and each != name}
        if dataset is not None:
            self._found[name] = (dataset, read_s + _FRESH_S)

    async def _refresh(self) -> Mapping[str, Dataset]:
        fresh_until_s, reading = self._clock() + _FRESH_S, asyncio.current_task()
        try:
            found = {each.name.rpartition("/")[2]: each for each in await self._read_all()}
            if self._reading is reading:
                self._found = {name: (each, fresh_until_s) for name, each in found.items()}
                self._all, self._complete_until_s = found, fresh_until_s
            return found
        finally:
            if self._reading is reading:
                self._reading = None
