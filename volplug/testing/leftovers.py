"""What a driver's tests made, taken away again through the driver's own calls."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from volplug.drivers.base import Driver
from volplug.errors import VolumeNotFound
from volplug.models import Volume, VolumeSpec


class Watch:
    """Knows the drivers of one test and the volumes that they made."""

    def __init__(self) -> None:
        self._drivers: list[Driver] = []
        self._made: list[Volume] = []

    def watched(self, driver: Driver) -> Driver:
        """Return the driver; what it creates from here on is remembered, also if it is deleted again."""
        self._drivers.append(driver)
        return cast(Driver, _Watched(driver, self._made))

    async def end(self) -> list[str]:
        """Detach and delete everything, the newest first, and return what went wrong or stayed."""
        volumes = {volume.volume_id: volume for volume in self._made}
        for driver in self._drivers:
            for volume in await driver.list():
                volumes.setdefault(volume.volume_id, volume)
        problems = []
        for volume in reversed(volumes.values()):
            # All nodes let go before any deletes: whose volume it is does not matter then.
            calls = [("detach", driver.detach) for driver in self._drivers]
            calls += [("delete", driver.delete) for driver in self._drivers]
            for name, call in calls:
                problems += await _problem(name, volume, call(volume))
        problems += await self._left(list(volumes.values()))
        return list(dict.fromkeys(problems))  # several drivers may say the same

    async def _left(self, volumes: list[Volume]) -> list[str]:
        left = []
        for driver in self._drivers:
            left += [f"{each.volume_id} is still listed" for each in await driver.list()]
            for volume in volumes:
                source = await driver.locate(volume)
                if source is not None:
                    left.append(f"{volume.volume_id} is still attached as {source.device}")
        return left


class _Watched:
    """A driver that remembers what it creates."""

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
    except Exception as error:  # whatever a driver raises, the others' volumes go, too
        return [f"{name} of {volume.volume_id}: {error!r}"]
    return []
