"""Copies in memory, and drivers with one fault in them each."""

import asyncio
import os
import pickle
from contextlib import suppress
from dataclasses import replace

from volplug.errors import UnexpectedState, VolumeExists, VolumeNotFound
from volplug.models import Volume
from volplug.testing.memory import MemoryCloud, MemoryDriver


class CopiesInMemory(MemoryDriver):
    """Keeps the contract."""

    def __init__(self, cloud: MemoryCloud, node_id: str = "node-a") -> None:
        super().__init__(cloud, node_id)
        self._copies: dict[str, Volume] = {}

    async def received(self, name: str) -> str:
        return "some" if name in self._copies else ""

    async def send_to(self, stream: int, volume: Volume, received: str) -> None:
        await asyncio.to_thread(os.write, stream, pickle.dumps(self._current(volume)))

    async def receive(self, stream: int, name: str) -> None:
        if self._named(name):
            raise VolumeExists(f"{name} exists")
        await self._read(stream, name)

    async def _read(self, stream: int, name: str) -> None:
        try:
            text = await asyncio.to_thread(os.read, stream, 2**20)
            self._copies[name] = pickle.loads(text)  # noqa: S301  # of the test
        except (EOFError, pickle.UnpicklingError):
            raise UnexpectedState("the stream is cut") from None

    async def adopt(self, name: str) -> Volume:
        if copy := self._copies.pop(name, None):
            return self._put(replace(copy, volume_id=f"{copy.volume_id}-copy"))
        if existing := self._named(name):
            return existing
        raise VolumeNotFound(f"there is no copy {name}")


class AdoptsAtOnce(CopiesInMemory):
    async def receive(self, stream: int, name: str) -> None:
        await super().receive(stream, name)
        await self.adopt(name)


class TakesACutStreamForAWholeOne(CopiesInMemory):
    async def _read(self, stream: int, name: str) -> None:
        with suppress(UnexpectedState):
            await super()._read(stream, name)


class OverwritesVolumes(CopiesInMemory):
    async def receive(self, stream: int, name: str) -> None:
        if existing := self._named(name):
            await self.delete(existing)
        await self._read(stream, name)
        if existing:
            await self.adopt(name)
