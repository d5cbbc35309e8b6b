"""Deleting, and volumes that are not there."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

from dataclasses import replace

import pytest

from volplug.drivers.base import Driver
from volplug.errors import VolumeExists, VolumeInUse, VolumeNotFound
from volplug.models import Volume, VolumeState
from volplug.testing.conformance.calls import CHANGES, change, is_new, located, tags_of
from volplug.testing.driver_fixtures import (
    BLANK,
    WRITTEN,
    DriverFixtures,
    Eventually,
    MakeSpec,
    read_content,
    write_content,
)


class DeletionCases(DriverFixtures):
    """Exactly the deleted volume is gone."""

    @pytest.mark.parametrize("call", CHANGES)
    async def test_unknown_volume_is_not_found(
        self, driver: Driver, unknown_volume: Volume, call: str
    ) -> None:
        """Every call that changes a volume raises it."""
        with pytest.raises(VolumeNotFound):
            await change(driver, unknown_volume, call)

    async def test_delete_of_an_attached_volume_is_refused(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """It keeps its data."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        if has_devices:
            await write_content(source)
        with pytest.raises(VolumeInUse):
            await driver.delete(volume)
        assert await driver.attach(volume) == source
        if has_devices:
            assert await read_content(source) == WRITTEN

    async def test_delete_removes_that_volume_and_no_other(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A second deletion does not find it."""
        goes, stays = [await driver.create(make_spec()) for _ in range(2)]
        await driver.delete(goes)
        assert await driver.get(goes.name) is None
        assert list(await driver.list()) == [stays]
        with pytest.raises(VolumeNotFound):
            await driver.delete(goes)

    async def test_name_of_a_deleted_volume_can_be_used_again(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """The new volume has another id, is tagged as new, and is blank."""
        old = await driver.create(make_spec())
        source = await driver.attach(old)
        if has_devices:
            await write_content(source)
        await driver.detach(old)
        await driver.tag_filesystem(old, tags_of(driver)[1])
        await driver.delete(old)
        new = await driver.create(old.spec)
        assert new.volume_id != old.volume_id
        assert is_new(driver, new.filesystem)
        source = await driver.attach(new)
        if has_devices:
            assert await read_content(source) == BLANK

    @pytest.mark.parametrize("call", CHANGES)
    async def test_volume_created_anew_is_not_touched_in_the_name_of_the_old(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually, call: str
    ) -> None:
        """The description of the deleted volume has no effect on the new one."""
        old = await driver.create(make_spec())
        await driver.delete(old)
        new = await driver.create(old.spec)
        source = await driver.attach(new)
        in_use = replace(new, state=VolumeState.IN_USE, holder=driver.node_id)
        with pytest.raises(VolumeNotFound):
            await change(driver, old, call)
        await eventually(lambda: driver.get(new.name), in_use)
        assert await located(driver, new) == source

    async def test_device_of_a_volume_created_anew_is_not_taken_for_the_old_ones(
        self, driver: Driver, make_spec: MakeSpec
    ) -> None:
        """A device belongs to a volume's id, not to its name."""
        old = await driver.create(make_spec())
        await driver.attach(old)
        await driver.detach(old)
        await driver.delete(old)
        await driver.attach(await driver.create(old.spec))
        assert await located(driver, old) is None

    async def test_refusals_name_the_volume_and_its_holder(
        self, driver: Driver, make_spec: MakeSpec, unknown_volume: Volume
    ) -> None:
        """Operators need the id to find a volume in a cloud's console."""
        volume = await driver.create(make_spec())
        with pytest.raises(VolumeExists) as exists:
            await driver.create(volume.spec)
        with pytest.raises(VolumeNotFound) as unknown:
            await driver.attach(unknown_volume)
        await driver.attach(volume)
        with pytest.raises(VolumeInUse) as used:
            await driver.delete(volume)
        assert volume.volume_id in exists.value.cause
        assert unknown_volume.volume_id in unknown.value.cause
        assert used.value.holder == driver.node_id
        assert not any(error.value.cause.endswith(".") for error in (exists, unknown, used))
