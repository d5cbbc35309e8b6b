"""The toy keeps the contract; needs root and loop devices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from volplug_toy import ToyDriver, build

from volplug.drivers.base import BackendConfig
from volplug.errors import ConfigurationError
from volplug.models import VolumeSpec
from volplug.sizes import MIB
from volplug.testing.conformance import DriverConformance, OutageConformance
from volplug.testing.driver_fixtures import DriverFixtures, Interrupt, MakeSpec, NewDriver, Outage


class ToyFixtures(DriverFixtures):
    @pytest.fixture
    def shelf(self, tmp_path: Path) -> Path:
        (tmp_path / ".shelf").touch()
        return tmp_path

    @pytest.fixture
    def new_driver(self, shelf: Path) -> NewDriver:
        return lambda: ToyDriver("toy", "host1", shelf)

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return VolumeSpec(name or f"v{next(numbers)}", size_bytes or 4 * MIB)

        return make

    @pytest.fixture
    def interrupt_create(self, shelf: Path) -> Interrupt:
        async def interrupt(spec: VolumeSpec) -> None:
            await asyncio.to_thread((shelf / f"{spec.name}.toy").write_bytes, b"half a disk")

        return interrupt

    @pytest.fixture
    def outage(self, shelf: Path) -> Outage:
        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            await asyncio.to_thread((shelf / ".shelf").unlink)
            try:
                yield
            finally:
                await asyncio.to_thread((shelf / ".shelf").touch)

        return outage


class TestToy(DriverConformance, OutageConformance, ToyFixtures):
    pass


async def test_a_deletion_that_was_begun_shows_and_is_finished(tmp_path: Path) -> None:
    (tmp_path / ".shelf").touch()
    driver = ToyDriver("toy", "host1", tmp_path)
    volume = await driver.create(VolumeSpec("v", 4 * MIB))
    (tmp_path / "v.toy").unlink()
    shown = await driver.get("v")
    assert shown is not None
    assert shown.state == "deleting"
    await driver.delete(volume)
    assert await driver.get("v") is None


@pytest.mark.parametrize("settings", [{}, {"shelf": 3}, {"shelf": "/srv/shelf", "colour": "red"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        build(BackendConfig("toy", "host1", "", tmp_path, settings))
