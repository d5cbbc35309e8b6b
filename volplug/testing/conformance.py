"""The tests that every driver passes: the contract of `volplug.drivers.base`, and life after a crash.

A driver joins with its fixtures and a few lines:

    @pytest.mark.conformance
    class TestMine(DriverConformance, MyFixtures):
        pass

Drivers whose volumes several hosts share add `SharedDriverConformance`.
"""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from volplug.drivers.base import Driver, Scope
from volplug.errors import VolumeExists, VolumeInUse, VolumeNotFound
from volplug.models import FilesystemPhase, FilesystemTag, HolderState, Volume, VolumeState
from volplug.testing.driver_fixtures import (
    BLANK,
    WRITTEN,
    DriverFixtures,
    Interrupt,
    MakeSpec,
    NewDriver,
    device_size,
    read_ends,
    write_ends,
)

_UUID: Final = "0c6f6d3c-9a0b-4f0e-8a4e-111122223333"
_TAGS: Final = (
    FilesystemTag(FilesystemPhase.FORMATTING, "xfs", _UUID),
    FilesystemTag(FilesystemPhase.FORMATTED, "xfs", _UUID),
    FilesystemTag(FilesystemPhase.PENDING),
)
_CLOCK_SKEW: Final = timedelta(minutes=5)


class DriverConformance(DriverFixtures):
    """The contract of one node."""

    # Create, get, list

    async def test_nothing_exists_at_first(self, driver: Driver, make_spec: MakeSpec) -> None:
        """An empty backend is usable, lists nothing and finds nothing."""
        await driver.health()
        assert list(await driver.list()) == []
        assert await driver.get(make_spec().name) is None

    async def test_created_volume_is_what_was_asked_for(self, driver: Driver, make_spec: MakeSpec) -> None:
        """It is available, blank by its own record, and not attached."""
        spec, before = make_spec(), datetime.now(UTC)
        volume = await driver.create(spec)
        assert (volume.name, volume.spec, volume.state) == (spec.name, spec, VolumeState.AVAILABLE)
        assert (volume.filesystem, volume.subpath, volume.holder) == (FilesystemTag(), "data", None)
        assert volume.volume_id
        if volume.created_at is not None:
            assert abs(volume.created_at - before) < _CLOCK_SKEW, "created_at needs a time zone and the truth"

    async def test_created_volume_is_listed_and_found_by_name(
        self, driver: Driver, make_spec: MakeSpec
    ) -> None:
        """All three calls describe it alike."""
        volumes = [await driver.create(make_spec()) for _ in range(3)]
        assert sorted(await driver.list(), key=_id) == sorted(volumes, key=_id)
        assert [await driver.get(volume.name) for volume in volumes] == volumes

    async def test_identity_survives_a_restart(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """Another driver object, which has nothing in memory, describes the same volume."""
        volume = await driver.create(make_spec())
        assert await new_driver().get(volume.name) == volume
        assert list(await new_driver().list()) == [volume]

    async def test_size_is_never_below_what_was_asked_for(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A size that is no whole number of allocation units is rounded up, never down."""
        unit = driver.info.allocation_unit_bytes
        asked = make_spec().size_bytes + unit
        volume = await driver.create(make_spec(size_bytes=asked))
        assert asked <= volume.size_bytes < asked + unit
        assert volume.size_bytes % unit == 0

    async def test_name_taken_is_refused(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Neither the same spec nor another one makes a second volume, or touches the first."""
        spec = make_spec()
        volume = await driver.create(spec)
        for again in (spec, replace(spec, size_bytes=spec.size_bytes * 2)):
            with pytest.raises(VolumeExists):
                await driver.create(again)
        assert list(await driver.list()) == [volume]

    async def test_creation_that_was_begun_is_finished(
        self, driver: Driver, make_spec: MakeSpec, interrupt_create: Interrupt
    ) -> None:
        """After a crash in `create`, the same call again leads to one volume."""
        spec = make_spec()
        await interrupt_create(spec)
        volume = await driver.create(spec)
        assert (volume.state, volume.spec) == (VolumeState.AVAILABLE, spec)
        assert list(await driver.list()) == [volume]
        assert await driver.locate(volume) is None

    async def test_creation_that_was_begun_is_not_turned_into_another(
        self, driver: Driver, make_spec: MakeSpec, interrupt_create: Interrupt
    ) -> None:
        """A different spec under the name of an unfinished creation is refused."""
        spec = make_spec()
        await interrupt_create(spec)
        with pytest.raises(VolumeExists):
            await driver.create(replace(spec, fs_type="btrfs"))

    async def test_volumes_are_created_beside_each_other(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Concurrent creations of different names do not disturb each other."""
        volumes = await asyncio.gather(*(driver.create(make_spec()) for _ in range(5)))
        assert len({volume.volume_id for volume in volumes}) == 5
        assert sorted(await driver.list(), key=_id) == sorted(volumes, key=_id)

    async def test_longest_name_goes_all_the_way(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A name of 128 characters, with every kind that is allowed."""
        name = "Z" + "a_.-9" * 25 + "-."
        volume = await driver.create(make_spec(name))
        assert (len(volume.name), await driver.get(name)) == (128, volume)
        await driver.attach(volume)
        await driver.detach(volume)
        await driver.delete(volume)
        assert await driver.get(name) is None

    # Unknown volumes

    @pytest.mark.parametrize("call", ["delete", "attach", "detach", "tag_filesystem"])
    async def test_unknown_volume_is_not_found(
        self, driver: Driver, unknown_volume: Volume, call: str
    ) -> None:
        """Every call that changes something says so."""
        with pytest.raises(VolumeNotFound):
            await _change(driver, unknown_volume, call)

    async def test_unknown_volume_has_no_device(self, driver: Driver, unknown_volume: Volume) -> None:
        """Looking for its device is no error."""
        assert await driver.locate(unknown_volume) is None

    # Attach, locate, detach

    async def test_attached_volume_is_located_and_shown_so(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Kernel and backend tell the same."""
        volume = await driver.create(make_spec())
        assert await driver.locate(volume) is None
        source = await driver.attach(volume)
        assert await driver.locate(volume) == source
        shown = await driver.get(volume.name)
        assert shown == replace(volume, state=VolumeState.IN_USE, holder=driver.node_id)
        assert list(await driver.list()) == [shown]

    async def test_device_is_as_large_as_the_volume(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """What the record says, what the source says and what the kernel says are one number."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        assert source.size_bytes == volume.size_bytes
        assert source.serial
        if has_devices:
            assert await asyncio.to_thread(device_size, source) == volume.size_bytes

    async def test_attach_twice_is_one_attachment(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """The second call, and one of a restarted driver, return the same source."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        assert await driver.attach(volume) == source
        assert await new_driver().attach(volume) == source
        await driver.detach(volume)
        assert await new_driver().locate(volume) is None

    async def test_detached_volume_is_available_again(self, driver: Driver, make_spec: MakeSpec) -> None:
        """No device, no holder; detaching once more changes nothing."""
        volume = await driver.create(make_spec())
        await driver.attach(volume)
        for _ in range(2):
            await driver.detach(volume)
            assert await driver.locate(volume) is None
            assert await driver.get(volume.name) == volume

    async def test_volumes_are_attached_beside_each_other(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Each has a device of its own, and detaching one leaves the other alone."""
        first, second = [await driver.create(make_spec()) for _ in range(2)]
        sources = await asyncio.gather(driver.attach(first), driver.attach(second))
        assert sources[0].device != sources[1].device
        await driver.detach(first)
        assert await driver.locate(second) == sources[1]

    async def test_data_survives_detach_and_restart(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """What was written at both ends of the device is read after it was attached anew."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        if has_devices:
            assert await asyncio.to_thread(read_ends, source) == BLANK, "a new volume is blank"
            await asyncio.to_thread(write_ends, source)
        await driver.detach(volume)
        again = await new_driver().attach(volume)
        assert (again.serial, again.size_bytes) == (source.serial, source.size_bytes)
        if has_devices:
            assert await asyncio.to_thread(read_ends, again) == WRITTEN

    # Delete

    async def test_delete_of_an_attached_volume_is_refused(
        self, driver: Driver, make_spec: MakeSpec, has_devices: bool
    ) -> None:
        """Nothing of it is lost."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        if has_devices:
            await asyncio.to_thread(write_ends, source)
        with pytest.raises(VolumeInUse):
            await driver.delete(volume)
        assert await driver.attach(volume) == source
        if has_devices:
            assert await asyncio.to_thread(read_ends, source) == WRITTEN

    async def test_delete_removes_that_volume_and_no_other(self, driver: Driver, make_spec: MakeSpec) -> None:
        """The second deletion finds nothing."""
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
            await asyncio.to_thread(write_ends, source)
        await driver.detach(old)
        await driver.tag_filesystem(old, _TAGS[1])
        await driver.delete(old)
        new = await driver.create(old.spec)
        assert new.volume_id != old.volume_id
        assert new.filesystem == FilesystemTag()
        source = await driver.attach(new)
        if has_devices:
            assert await asyncio.to_thread(read_ends, source) == BLANK

    @pytest.mark.parametrize("call", ["delete", "attach", "detach", "tag_filesystem"])
    async def test_volume_created_anew_is_not_touched_in_the_name_of_the_old(
        self, driver: Driver, make_spec: MakeSpec, call: str
    ) -> None:
        """Who still holds the description of the deleted volume reaches nothing with it."""
        old = await driver.create(make_spec())
        await driver.delete(old)
        new = await driver.create(old.spec)
        source = await driver.attach(new)
        before = await driver.get(new.name)
        with pytest.raises(VolumeNotFound):
            await _change(driver, old, call)
        assert await driver.get(new.name) == before
        assert await driver.locate(new) == source

    async def test_device_of_a_volume_created_anew_is_not_taken_for_the_old_ones(
        self, driver: Driver, make_spec: MakeSpec
    ) -> None:
        """A device belongs to a volume id, not to a name."""
        old = await driver.create(make_spec())
        await driver.attach(old)
        await driver.detach(old)
        await driver.delete(old)
        await driver.attach(await driver.create(old.spec))
        assert await driver.locate(old) is None

    # Tags, holders

    async def test_filesystem_tag_is_kept_with_the_volume(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """Every phase reads back as it was written, and after a restart; nothing else changes."""
        volume = await driver.create(make_spec())
        for tag in _TAGS:
            tagged = await driver.tag_filesystem(volume, tag)
            assert tagged == replace(volume, filesystem=tag)
            assert await driver.get(volume.name) == tagged
            assert await new_driver().get(volume.name) == tagged

    async def test_filesystem_tag_of_an_attached_volume(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Formats are tagged while the volume is attached, and it stays so."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        await driver.tag_filesystem(volume, _TAGS[0])
        shown = await driver.get(volume.name)
        assert shown is not None
        assert (shown.filesystem, shown.holder) == (_TAGS[0], driver.node_id)
        assert await driver.locate(volume) == source

    async def test_nobody_is_declared_dead_by_guess(self, driver: Driver) -> None:
        """This node is alive; one that the backend has never heard of is not dead for that."""
        own = await driver.holder_state(driver.node_id)
        other = await driver.holder_state("node-never-heard-of")
        assert own.state is HolderState.ALIVE
        assert other.state is not HolderState.DEAD
        assert own.evidence
        assert other.evidence

    async def test_constants_make_sense(self, driver: Driver, make_spec: MakeSpec) -> None:
        """What the core computes with them works out, and a plain spec is accepted."""
        info = driver.info
        assert 0 < info.minimum_size_bytes <= info.default_size_bytes <= info.maximum_size_bytes
        assert info.default_size_bytes % info.allocation_unit_bytes == 0
        assert all(name == name.lower() and "_" not in name for name in info.options)
        driver.check_spec(make_spec())

    async def test_whole_life_again_and_again(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Five lives under one name; none leaves anything behind."""
        spec, ids = make_spec(), set()
        for _ in range(5):
            volume = await driver.create(spec)
            await driver.attach(volume)
            await driver.detach(volume)
            await driver.delete(volume)
            ids.add(volume.volume_id)
            assert list(await driver.list()) == []
        assert len(ids) == 5


class SharedDriverConformance(DriverFixtures):
    """The contract between two nodes, for drivers whose volumes several hosts share."""

    async def test_scope_is_global(self, driver: Driver) -> None:
        """Docker is told that the volumes are shared."""
        assert driver.info.scope is Scope.GLOBAL

    async def test_both_nodes_see_the_same_volumes(
        self, driver: Driver, second_node: Driver, make_spec: MakeSpec
    ) -> None:
        """What one creates the other finds."""
        volume = await driver.create(make_spec())
        assert await second_node.get(volume.name) == volume
        assert driver.node_id != second_node.node_id

    async def test_volume_of_another_node_is_not_taken(
        self, driver: Driver, second_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Attach and delete are refused, attach naming the holder; the other one's detach frees it."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        with pytest.raises(VolumeInUse) as refused:
            await second_node.attach(volume)
        assert refused.value.holder == driver.node_id
        with pytest.raises(VolumeInUse):
            await second_node.delete(volume)
        assert await second_node.locate(volume) is None
        assert await driver.locate(volume) == source
        await driver.detach(volume)
        await second_node.attach(volume)
        await second_node.detach(volume)

    async def test_detach_never_takes_a_volume_from_another_node(
        self, driver: Driver, second_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Detaching what another node has changes nothing."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        await second_node.detach(volume)
        assert await driver.locate(volume) == source

    async def test_concurrent_creations_of_one_name_give_one_volume(
        self, driver: Driver, second_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Other hosts do what they like: one wins, and the name stays unique."""
        spec = make_spec()
        results = await asyncio.gather(driver.create(spec), second_node.create(spec), return_exceptions=True)
        made = {result.volume_id for result in results if isinstance(result, Volume)}
        assert all(isinstance(result, (Volume, VolumeExists)) for result in results)
        assert {volume.volume_id for volume in await driver.list()} == made
        assert len(made) == 1


def _id(volume: Volume) -> str:
    return volume.volume_id


async def _change(driver: Driver, volume: Volume, call: str) -> None:
    if call == "tag_filesystem":
        await driver.tag_filesystem(volume, _TAGS[0])
    else:
        await getattr(driver, call)(volume)
