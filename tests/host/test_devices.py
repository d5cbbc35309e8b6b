import asyncio
import os
import threading

import pytest

from tests.host.disks import MIB, Disks, end, run
from tests.host.pool import POOL
from volplug.errors import DeviceNotFound, HostError
from volplug.host import devices

pytestmark = pytest.mark.loop


def test_the_size_of_a_device_is_the_kernels(disks: Disks) -> None:
    assert devices.size_bytes(disks.blank(5).path) == 5 * MIB


def test_the_size_of_what_is_no_device_is_an_error() -> None:
    with pytest.raises(DeviceNotFound, match="/dev/nothing is not there"):
        devices.size_bytes("/dev/nothing")
    with pytest.raises(HostError, match="Inappropriate ioctl"):
        devices.size_bytes("/dev/null")


def test_only_a_block_device_has_a_device_number(disks: Disks) -> None:
    disk = disks.blank(1)
    assert devices.device_number(disk.path) == os.stat(disk.path).st_rdev
    assert devices.device_number("/dev/null") is None
    assert devices.device_number("/dev/nothing") is None


async def test_a_device_that_nobody_uses_is_not_held(disks: Disks) -> None:
    assert not await devices.is_held(POOL, disks.blank(1).path, patience_s=0)


async def test_a_plain_reader_does_not_hold_a_device(disks: Disks) -> None:
    disk = disks.blank(1)
    with open(disk.path, "rb"):  # noqa: ASYNC230
        assert not await devices.is_held(POOL, disk.path, patience_s=0)


async def test_a_mount_holds_its_device(disks: Disks) -> None:
    disk = disks.blank(8)
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    await asyncio.to_thread(run, "mkfs.ext4", "-q", disk.path)
    await asyncio.to_thread(run, "mount", disk.path, str(mountpoint))
    assert await devices.is_held(POOL, disk.path, patience_s=0.01)
    await asyncio.to_thread(run, "umount", str(mountpoint))
    assert not await devices.is_held(POOL, disk.path, patience_s=20)


async def test_a_device_held_only_in_another_mount_namespace_is_held_until_that_ends(disks: Disks) -> None:
    disk = disks.blank(8)
    mountpoint = disks.directory / "mountpoint"
    mountpoint.mkdir()
    await asyncio.to_thread(run, "mkfs.ext4", "-q", disk.path)
    await asyncio.to_thread(run, "mount", disk.path, str(mountpoint))
    namespace = await asyncio.to_thread(disks.in_another_namespace, "true")
    await asyncio.to_thread(run, "umount", str(mountpoint))  # succeeds, and proves nothing
    assert await devices.is_held(POOL, disk.path, patience_s=0.01)
    await asyncio.to_thread(end, namespace)
    assert not await devices.is_held(POOL, disk.path, patience_s=20)


async def test_a_device_let_go_within_the_patience_is_not_held(disks: Disks) -> None:
    disk = disks.blank(1)
    asked = threading.Event()
    holder = os.open(disk.path, os.O_RDONLY | os.O_EXCL)

    def let_go_once_asked() -> None:
        asked.wait(20)
        os.close(holder)

    thread = threading.Thread(target=let_go_once_asked)
    thread.start()
    assert await devices.is_held(POOL, disk.path, patience_s=0)
    asked.set()
    assert not await devices.is_held(POOL, disk.path, patience_s=20)
    thread.join()


async def test_of_a_missing_device_nothing_is_concluded() -> None:
    with pytest.raises(DeviceNotFound):
        await devices.is_held(POOL, "/dev/nothing", patience_s=1)
