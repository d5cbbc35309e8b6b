from dataclasses import replace
from pathlib import Path

import pytest

from tests.host.disks import FS_TYPES, MIB, SMALL_MIB, Disks, aside, formatted, plan
from tests.host.pool import POOL
from volplug.errors import DeviceNotFound, HostError, UnexpectedState
from volplug.host import loopdev
from volplug.host.base import Host, HostReading, MountRequest
from volplug.host.machine import Machine
from volplug.models import BlockDevice, ContentKind, FilesystemTag, MountSource, MountState, VolumeSpec


@pytest.fixture
def machine(tmp_path: Path) -> Host:
    return Machine(str(tmp_path / "mounts"), POOL)


async def test_the_types_that_can_be_made_are_known(machine: Host) -> None:
    assert list(await machine.filesystems()) == ["btrfs", "ext4", "xfs"]


@pytest.mark.loop
@pytest.mark.parametrize("fs_type", FS_TYPES)
async def test_a_volumes_life(machine: Host, disks: Disks, fs_type: str) -> None:
    disk, target, tag = disks.blank(SMALL_MIB[fs_type]), disks.target(), plan(fs_type)
    spec = VolumeSpec("volume", SMALL_MIB[fs_type] * MIB, fs_type, uid=999, gid=999, mode=0o750)
    request = MountRequest(disk.source, target, fs_type)

    def locate() -> MountSource:
        return disk.source

    assert (await machine.read_contents(disk.source, FilesystemTag())).kind is ContentKind.BLANK
    await machine.make_filesystem(disk.source, spec, tag)
    assert await machine.mount(request, locate) == HostReading(disk.source, MountState.OK)
    assert await machine.mount_state(target, disk.source) is MountState.OK
    await machine.make_data_directory(target, "data", spec)
    assert 0 < (await machine.usage(target, None)).free_bytes < spec.size_bytes
    assert await machine.is_held(disk.source, patience_s=0)
    assert await machine.unmount(target, disk.source)

    assert not await machine.is_held(disk.source, patience_s=5)
    assert (await machine.read_contents(disk.source, formatted(tag))).kind is ContentKind.OURS
    reading = await machine.inspect(target, locate, tag=formatted(tag), test_release=True)
    assert reading.contents is not None
    assert (reading.mount, reading.contents.kind, reading.is_free) == (
        MountState.NONE,
        ContentKind.OURS,
        True,
    )
    await machine.check_filesystem(disk.source, fs_type)
    for directory in ("other", "data"):
        reading = await machine.mount(replace(request, data_directory=directory), locate)
        assert reading.lacks_data_directory == (directory == "other")
        await machine.unmount(target)
    await machine.mount(request, locate)
    assert await machine.inspect(target, locate, test_release=True) == HostReading(disk.source, MountState.OK)
    assert await machine.mounts_below(str(disks.directory / "mounts")) == [target]
    await machine.unmount(target)
    await machine.describe_holders(disk.source, target)
    assert not await machine.is_held(disk.source, patience_s=5)
    aside(loopdev.detach, disk.path, expected=disk.device)


async def test_of_a_device_that_has_gone_release_is_not_concluded(machine: Host) -> None:
    with pytest.raises(DeviceNotFound):
        await machine.is_held(BlockDevice("/dev/nothing", "gone", 1), patience_s=0)


@pytest.mark.parametrize(
    "place", ["victim", "mounts/../victim", "mounts/a/b", "mounts/..", "mounts/.", "mounts/"]
)
async def test_nothing_is_done_at_a_place_that_is_not_directly_below_the_mount_root(
    machine: Host, tmp_path: Path, place: str
) -> None:
    victim = tmp_path / "victim"
    (victim / "data").mkdir(parents=True, mode=0o700)
    target, spec = f"{tmp_path}/{place}", VolumeSpec("volume", MIB, uid=999, gid=999)
    for call in (
        machine.mount(MountRequest(BlockDevice("/dev/null", "serial", MIB), target, "ext4"), lambda: None),
        machine.unmount(target),
        machine.make_data_directory(target, "data", spec),
    ):
        with pytest.raises(UnexpectedState, match="is not directly below"):
            await call
    assert (victim / "data").stat().st_uid == 0


@pytest.mark.loop
@pytest.mark.parametrize("what", ["link", "file"])
async def test_a_link_in_place_of_the_data_directory_is_not_followed(
    machine: Host, disks: Disks, tmp_path: Path, what: str
) -> None:
    victim, target = tmp_path / "victim", disks.target()
    victim.mkdir(mode=0o700)
    disk, tag = disks.blank(SMALL_MIB["ext4"]), plan("ext4")
    spec = VolumeSpec("volume", SMALL_MIB["ext4"] * MIB, uid=999, gid=999, mode=0o777)
    await machine.make_filesystem(disk.source, spec, tag)
    await machine.mount(MountRequest(disk.source, target, "ext4"), lambda: disk.source)
    place = Path(target, "data")
    if what == "link":
        place.symlink_to(victim)
    else:
        place.touch()
    with pytest.raises(HostError, match=r"the data directory .* cannot be made"):
        await machine.make_data_directory(target, "data", spec)
    assert (victim.stat().st_uid, victim.stat().st_mode & 0o777) == (0, 0o700)
    await machine.unmount(target)
