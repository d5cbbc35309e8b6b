import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.host.disks import MIB, Disks, end, run
from tests.host.pool import POOL
from volplug.errors import DeviceNotFound, HostError
from volplug.host import devices, loopdev
from volplug.host.threads import Pool

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


async def test_waiting_ends_with_the_kernel_event_and_not_with_the_next_look(
    disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_RECHECK_S", 3600)
    image = disks.image(1)
    file = image.stat()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def attached() -> str | None:
        device = loopdev.find(file.st_dev, file.st_ino, image.name)
        loop.call_soon_threadsafe(asked.set)
        return device.path if device else None

    waiting = asyncio.create_task(devices.wait_for(POOL, attached, timeout_s=60))
    await asked.wait()  # and saw nothing
    disk = await asyncio.to_thread(disks.attach, image)
    assert await waiting == disk.path


async def test_waiting_looks_again_where_no_event_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_RECHECK_S", 0.001)
    monkeypatch.setitem(sys.modules, "pyudev", None)  # it needs libudev
    answers = iter([None, None, "there"])
    assert await devices.wait_for(POOL, lambda: next(answers), timeout_s=60) == "there"


async def test_waiting_in_vain_ends_with_none() -> None:
    def never() -> str | None:
        return None

    assert await devices.wait_for(POOL, never, timeout_s=0.01) is None


async def test_what_the_predicate_raises_ends_the_waiting() -> None:
    def contradiction() -> None:
        raise HostError("wrong device")

    with pytest.raises(HostError, match="wrong device"):
        await devices.wait_for(POOL, contradiction, timeout_s=60)


class _Heard(asyncio.Event):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_awaited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.is_awaited.set()
        return await super().wait()


async def test_a_wait_that_is_cancelled_as_an_event_comes_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    event = _Heard()

    @contextlib.asynccontextmanager
    async def events(_: Pool) -> AsyncIterator[asyncio.Event]:
        yield event

    monkeypatch.setattr(devices, "_block_events", events)
    waiting = asyncio.create_task(devices.wait_for(POOL, lambda: None, timeout_s=60))
    await event.is_awaited.wait()
    event.set()
    waiting.cancel()
    done, _ = await asyncio.wait({waiting}, timeout=20)
    assert done == {waiting}
    assert waiting.cancelled()
