"""What the host does with datasets on a real pool: mounted, tested, released."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.disks import Disks, aside, end
from tests.host.pool import POOL
from tests.lab.requirements import HAS_OPENZFS, ZFS
from tests.lab.waiting import wait_until
from tests.lab.zfs import ZfsFuse, ZfsPool
from volplug.errors import DeviceNotFound, MountFailed, VolumeInUse
from volplug.host import mountinfo, mounts
from volplug.host.base import HostReading, MountRequest
from volplug.host.machine import Machine
from volplug.models import MountState, NamedFilesystem, VolumeSpec

pytestmark = ZFS
by_tools = pytest.mark.skipif(HAS_OPENZFS, reason="the kernel mounts datasets here")


Mount = Callable[[], asyncio.Future[HostReading]]


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    with contextlib.closing(Disks(tmp_path)) as disks:
        yield disks


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(str(tmp_path / "mounts"), POOL)


@pytest.fixture
def source(pool: ZfsPool, parent: str, tmp_path: Path) -> NamedFilesystem:
    name, staging = f"{parent}/db", "" if HAS_OPENZFS else str(tmp_path / "staging" / "db")
    aside(pool.zfs.zfs, "create", "-o", "canmount=noauto", "-o", f"mountpoint={staging or 'legacy'}", name)
    guid = aside(pool.zfs.zfs, "get", "-H", "-p", "-o", "value", "guid", name).strip()
    return NamedFilesystem(name, guid, "zfs", staging=staging)


@pytest.fixture
def mount(machine: Machine, disks: Disks, source: NamedFilesystem) -> Mount:
    request = MountRequest(source, disks.target(), "zfs", ("nosuid", "noatime"))
    return lambda: asyncio.ensure_future(machine.mount(request, lambda: source))


def shown(target: str) -> str:
    """The lines of mountinfo with a path."""
    return "\n".join(line for line in aside(mountinfo.read).splitlines() if target in line)


async def test_a_volumes_life(machine: Machine, disks: Disks, source: NamedFilesystem, mount: Mount) -> None:
    target = disks.target()
    assert not await machine.is_held(source, 0)
    assert await mount() == HostReading(source, MountState.OK)
    assert "nosuid,noatime" in shown(target)
    assert shown("staging") == ""
    await machine.make_data_directory(target, "data", VolumeSpec("db", 1, "zfs", uid=999, mode=0o750))
    usage = await machine.usage(target, None)
    assert (usage.device, usage.device_bytes, usage.free_bytes > 0) == (source.name, 0, True)
    assert await machine.is_held(source, 0)
    assert await machine.mount_state(target, source) is MountState.OK
    await machine.unmount(target, source)
    assert not await machine.is_held(source, 5)
    assert (await mount()).mount is MountState.OK
    assert (Path(target) / "data").stat().st_uid == 999


async def test_what_a_container_uses_is_in_use_until_it_ends(
    machine: Machine, disks: Disks, source: NamedFilesystem, mount: Mount, tmp_path: Path
) -> None:
    target, place = disks.target(), tmp_path / "place"
    place.mkdir()
    await mount()
    user = disks.in_another_namespace(f"mount --bind {target} {place} && umount {target}")
    assert not await machine.unmount(target, source)
    assert await machine.is_held(source, 0.1)
    assert f"process {user.pid} (sh) in another" in await machine.describe_holders(source, target)
    if HAS_OPENZFS:
        assert (await mount()).mount is MountState.OK
        assert not await machine.unmount(target, source)
    else:
        with pytest.raises(VolumeInUse, match="zfs-fuse mounts nothing twice"):
            await mount()
    aside(end, user)
    assert not await machine.is_held(source, 5)


@by_tools
async def test_what_a_killed_process_left_staged_is_put_away(
    pool: ZfsPool, machine: Machine, source: NamedFilesystem, mount: Mount
) -> None:
    aside(Path(source.staging).mkdir, parents=True)
    aside(pool.zfs.zfs, "mount", source.name)
    assert not await machine.is_held(source, 5)
    aside(Path(source.staging).mkdir)
    again = [
        "zfs",
        "mount",
        source.name,
    ]  # the daemon hears of the end of the test's own mount a little later
    aside(wait_until, lambda: pool.zfs.run(again).returncode == 0, 20, "it is left staged once more")
    assert (await mount()).mount is MountState.OK
    assert shown(source.staging) == ""


@by_tools
async def test_what_is_staged_has_answered_before_it_is_unmounted(
    machine: Machine, source: NamedFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zfs-fuse gets stuck, or aborts, in one of some dozen mounts that end before it serves them."""
    seen: list[str] = []
    statvfs, unmount = os.statvfs, mounts.unmount

    def answered(path: str) -> os.statvfs_result:
        seen.append("answered")
        return statvfs(path)

    def unmounted(target: str) -> None:
        if shown(target):
            seen.append("unmounted")
        unmount(target)

    monkeypatch.setattr(os, "statvfs", answered)
    monkeypatch.setattr(mounts, "unmount", unmounted)
    assert not await machine.is_held(source, 5)
    assert seen == ["answered", "unmounted"]


@by_tools
async def test_without_a_proof_there_is_no_permit(
    pool: ZfsPool, machine: Machine, source: NamedFilesystem, tmp_path: Path
) -> None:
    aside(pool.zfs.zfs, "set", f"mountpoint={tmp_path / 'elsewhere'}", source.name)
    with pytest.raises(MountFailed, match="but not at"):
        await machine.is_held(source, 0)
    aside(pool.zfs.zfs, "unmount", source.name)
    aside(pool.zfs.zfs, "set", "mountpoint=legacy", source.name)
    with pytest.raises(MountFailed, match=f"zfs does not mount {source.name}: .*legacy mountpoint"):
        await machine.is_held(source, 0)
    aside(pool.zfs.zfs, "destroy", source.name)
    with pytest.raises(DeviceNotFound, match=f"^the filesystem {source.name} is not there"):
        await machine.is_held(source, 0)


async def test_another_dataset_of_its_name_is_not_mounted_and_proves_nothing(
    pool: ZfsPool, machine: Machine, source: NamedFilesystem, mount: Mount
) -> None:
    aside(pool.zfs.zfs, "rename", source.name, f"{source.name}-before")
    with pytest.raises(DeviceNotFound, match="is not there"):
        await mount()
    mountpoint = f"mountpoint={source.staging or 'legacy'}"
    aside(pool.zfs.zfs, "create", "-o", "canmount=noauto", "-o", mountpoint, source.name)
    with pytest.raises(DeviceNotFound, match="is another dataset now"):
        await mount()
    if source.staging:
        with pytest.raises(DeviceNotFound, match="is another dataset now"):
            await machine.is_held(source, 0)
    assert shown(f" {source.name} ") == ""


@by_tools
async def test_what_a_daemon_that_ended_has_mounted_is_mounted_anew(
    pool: ZfsPool, machine: Machine, disks: Disks, source: NamedFilesystem, mount: Mount
) -> None:
    await mount()
    assert isinstance(pool.zfs, ZfsFuse)
    aside(pool.zfs.kill)
    aside(pool.zfs.start)
    assert await machine.mount_state(disks.target(), source) is MountState.READ_ONLY
    await machine.unmount(disks.target(), source)
    assert (await mount()).mount is MountState.OK
    assert os.statvfs(disks.target()).f_blocks > 0
