"""Attaching, locating and detaching."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace

from volplug.drivers.base import Driver
from volplug.models import BlockDevice, Volume, VolumeState
from volplug.testing.conformance.calls import by_id, located, size_of
from volplug.testing.driver_fixtures import (
    BLANK,
    WRITTEN,
    DriverFixtures,
    Eventually,
    MakeSpec,
    NewDriver,
    device_size,
    read_content,
    write_content,
)


class AttachmentCases(DriverFixtures):
    """The device of a volume, and its contents."""

    async def test_unknown_volume_has_no_device(self, driver: Driver, unknown_volume: Volume) -> None:
        """Locating it is no error."""
        assert await located(driver, unknown_volume) is None

    async def test_attached_volume_is_located_and_shown_so(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Kernel and backend agree."""
        volume = await driver.create(make_spec())
        assert await located(driver, volume) is None
        source = await driver.attach(volume)
        assert await located(driver, volume) == source
        shown = replace(volume, state=VolumeState.IN_USE, holder=driver.node_id)
        await eventually(lambda: driver.get(volume.name), shown)
        assert list(await driver.list()) == [shown]

    async def test_device_is_as_large_as_the_volume(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """The volume, the source and the kernel have the same size; a filesystem by name has none."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        assert source.serial
        if not isinstance(source, BlockDevice):
            assert source.fs_type == driver.info.own_filesystem
            return
        assert not driver.info.own_filesystem
        assert source.size_bytes == volume.size_bytes
        if has_devices:
            assert await asyncio.to_thread(device_size, source) == volume.size_bytes

    async def test_device_is_identified_whatever_size_is_described(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """It is identified by its serial; a volume whose size differs can still be detached."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        larger = replace(volume, size_bytes=volume.size_bytes * 2)
        for each in (driver, new_driver()):
            assert (await located(each, larger), await each.attach(larger)) == (source, source)
        await driver.detach(larger)
        assert await located(driver, volume) is None

    async def test_attach_twice_is_one_attachment(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """The second call, and one of a restarted driver, return the same source."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        assert await driver.attach(volume) == source
        assert await new_driver().attach(volume) == source
        await driver.detach(volume)
        assert await located(new_driver(), volume) is None

    async def test_detached_volume_is_available_again(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """No device, no holder; detaching once more changes nothing."""
        volume = await driver.create(make_spec())
        await driver.attach(volume)
        for _ in range(2):
            await driver.detach(volume)
            assert await located(driver, volume) is None
            await eventually(lambda: driver.get(volume.name), volume)

    async def test_device_is_a_block_device(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """The source has the path of its node, not of a link, which may change."""
        source = await driver.attach(await driver.create(make_spec()))
        if has_devices and isinstance(source, BlockDevice):
            assert stat.S_ISBLK((await asyncio.to_thread(os.lstat, source.device)).st_mode)

    async def test_volumes_are_attached_concurrently(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Each has a device of its own, and detaching one does not affect the other."""
        first, second = [await driver.create(make_spec()) for _ in range(2)]
        sources = await asyncio.gather(driver.attach(first), driver.attach(second))
        assert sources[0].name != sources[1].name
        assert sources[0].serial != sources[1].serial
        await driver.detach(first)
        assert await located(driver, second) == sources[1]
        in_use = replace(second, state=VolumeState.IN_USE, holder=driver.node_id)

        async def listed() -> list[Volume]:
            return by_id(await driver.list())

        await eventually(listed, by_id([first, in_use]))

    async def test_data_survives_detach_and_restart(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """Data, of a device at both ends, is read back after it was attached again."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        if has_devices:
            assert await read_content(source) == BLANK, "a new volume is blank"
            await write_content(source)
        await driver.detach(volume)
        again = await new_driver().attach(volume)
        assert (again.serial, size_of(again)) == (source.serial, size_of(source))
        if has_devices:
            assert await read_content(again) == WRITTEN

    async def test_each_volume_has_data_of_its_own(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """Data written to one device is on no other."""
        sources = [await driver.attach(await driver.create(make_spec())) for _ in range(2)]
        if has_devices:
            await write_content(sources[0])
            assert await read_content(sources[1]) == BLANK
