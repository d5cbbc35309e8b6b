"""Descriptions that other parties can write."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from volplug.drivers.base import Driver
from volplug.errors import VolplugError
from volplug.models import FilesystemPhase, FilesystemTag, Volume, VolumeSpec, VolumeState
from volplug.names import is_name
from volplug.testing.conformance.calls import located
from volplug.testing.driver_fixtures import Describe, DriverFixtures, MakeSpec, NewDriver

_READS: Final = 12  # reads may be stale
_SPOILT: Final = (
    "directory above",
    "path of the host",
    "mkfs option",
    "mount option",
    "owner",
    "mode",
    "filesystem",
    "planned UUID",
    "name",
)


def _spoil(volume: Volume, what: str) -> Volume:
    """Return the volume as an attacker would describe it."""
    spec, tag = volume.spec, volume.filesystem
    described = {
        "directory above": replace(volume, subpath="../../.."),
        "path of the host": replace(volume, subpath="/etc"),
        "mkfs option": replace(volume, spec=replace(spec, mkfs_options=("-d", "/etc"))),
        "mount option": replace(volume, spec=replace(spec, mount_options=("loop",))),
        "owner": replace(volume, spec=replace(spec, uid=2**40)),
        "mode": replace(volume, spec=replace(spec, mode=0o27777)),
        "filesystem": replace(volume, filesystem=FilesystemTag(FilesystemPhase.FORMATTED, "vfat", tag.uuid)),
        "planned UUID": replace(volume, filesystem=FilesystemTag(FilesystemPhase.FORMATTING, "ext4", "-F")),
        "name": replace(volume, name="../../victim", spec=replace(spec, name="../../victim")),
    }
    return described[what]


class DescriptionConformance(DriverFixtures):
    """The backend's description of a volume is input like a user's options: other parties can write it."""

    @pytest.mark.parametrize("what", _SPOILT)
    async def test_description_that_must_not_be_believed_is_an_error(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, describe: Describe, what: str
    ) -> None:
        """It has a reason, permits neither mkfs nor a mount, and no path of it is used."""
        volume = await driver.create(make_spec())
        await describe(volume, _spoil(volume, what))
        for each in (driver, new_driver()):
            listed = await _listed(each, volume)
            shown = await each.get(listed.name)
            assert shown is not None
            for found in (listed, shown):
                assert (found.volume_id, found.state) == (volume.volume_id, VolumeState.ERROR)
                assert found.detail
                assert is_name(found.name)
                assert found.subpath == "data"
                assert found.spec == VolumeSpec(found.name, found.size_bytes)
                assert found.filesystem.phase is FilesystemPhase.FORMATTED
        await describe(volume, volume)

    async def test_spoilt_description_does_not_hide_the_device(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, describe: Describe
    ) -> None:
        """A volume that is attached already can be released, whatever its description."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        await describe(volume, _spoil(volume, "directory above"))
        for each in (driver, new_driver()):
            found = await _listed(each, volume)
            assert found.holder == driver.node_id
            assert await located(each, found) == source
        await driver.detach(volume)
        assert await located(new_driver(), volume) is None
        await describe(volume, volume)


async def _listed(driver: Driver, volume: Volume) -> Volume:
    """Return the listed volume once it is in state ERROR, or as last read."""
    for _ in range(_READS):
        found = [each for each in await driver.list() if each.volume_id == volume.volume_id]
        if found and found[0].state is VolumeState.ERROR:
            break
    if not found:
        raise VolplugError(f"{volume.volume_id} is not listed")
    return found[0]
