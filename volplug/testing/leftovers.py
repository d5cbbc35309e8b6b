"""Deletes the volumes of a driver's tests through the driver's own calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

from volplug.drivers.base import Driver
from volplug.errors import VolumeNotFound
from volplug.models import Volume, VolumeSpec


class Cleanup:
    """The drivers of one test and the volumes that they created."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []
        self._made: list[Volume] = []

    def track(self, driver: Driver) -> Driver:
        """Return the driver, wrapped so that the volumes it creates are recorded."""
        self._drivers.append(driver)
        return cast(Driver, _TrackedDriver(driver, self._made))

    async def end(self) -> list[str]:
        """Detach and delete everything, the newest first, and return failures and leftovers."""
        volumes = {volume.volume_id: volume for volume in self._made}
        for driver in self._drivers:
            for volume in await driver.list():
                volumes.setdefault(volume.volume_id, volume)
        problems = []
        for volume in reversed(volumes.values()):
            # All nodes detach before any deletes, so that it does not matter which one had it attached.
            calls = [("detach", driver.detach) for driver in self._drivers]
            calls += [("delete", driver.delete) for driver in self._drivers]
            for name, call in calls:
                problems += await _problem(name, volume, call(volume))
        problems += await self._left(list(volumes.values()))
        return list(dict.fromkeys(problems))  # several drivers may report the same

    async def _left(self, volumes: list[Volume]) -> list[str]:
        left = []
        for driver in self._drivers:
            left += [f"{each.volume_id} is still listed" for each in await driver.list()]
            for volume in volumes:
                source = await asyncio.to_thread(driver.locate, volume)
                if source is not None:
                    left.append(f"{volume.volume_id} is still attached as {source.name}")
        return left


class _TrackedDriver:
    """A driver whose created volumes are recorded."""

    def __init__(self, driver: Driver, made: list[Volume]) -> None:
        self._driver = driver
        self._made = made

    async def create(self, spec: VolumeSpec) -> Volume:
        volume = await self._driver.create(spec)
        self._made.append(volume)
        return volume

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every other call of the driver
        return getattr(self._driver, name)


async def _problem(name: str, volume: Volume, call: Awaitable[None]) -> list[str]:
    try:
        await call
    except VolumeNotFound:
        return []  # the test, or another driver, has deleted it
    except Exception as error:  # of any type: the other volumes are still deleted
        return [f"{name} of {volume.volume_id}: {error!r}"]
    return []
