"""Waiting for disks: scans and the listener are shared, and nothing runs while nothing waits."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Literal

import pytest

from tests.host.disks import Disks
from tests.host.pool import POOL
from volplug.errors import DeviceMismatch, HostError
from volplug.host import loopdev
from volplug.host.disk_watch import DiskWatch
from volplug.host.threads import Pool

LONG_S = 30.0
NEVER_S = 3600.0

Present = frozenset[str]


class AwaitedEvent(asyncio.Event):
    """Tells when it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.is_awaited = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.is_awaited.set()
        return await super().wait()


class Kernel:
    """Disks that appear when the test says so, with an event each time."""

    def __init__(self) -> None:
        self.present: set[str] = set()
        self.scans = 0
        self.listeners = 0
        self.is_broken = False
        self.changed = AwaitedEvent()

    def watch(self) -> DiskWatch[Present]:
        return DiskWatch(self.scan, POOL, self.listen, NEVER_S)

    def scan(self) -> Present:
        self.scans += 1
        if self.is_broken:
            raise HostError("no sysfs")
        return frozenset(self.present)

    def add(self, *disks: str) -> None:
        self.present |= set(disks)
        self.changed.set()

    @contextlib.asynccontextmanager
    async def listen(self, _: Pool) -> AsyncIterator[asyncio.Event]:
        self.listeners += 1
        try:
            yield self.changed
        finally:
            self.listeners -= 1


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def shows(disk: str) -> Callable[[Present], str | None]:
    return lambda present: disk if disk in present else None


async def turns_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # a scan in a thread tells no one
        await asyncio.sleep(0)


async def test_all_waiters_share_one_listener_and_one_scan_per_event(kernel: Kernel) -> None:
    watch = kernel.watch()
    disks = [f"disk-{number}" for number in range(50)]
    waits = [asyncio.ensure_future(watch.until(shows(disk), LONG_S)) for disk in disks]
    await turns_until(lambda: kernel.scans == 51)  # one when each came, and one of the listener
    await kernel.changed.is_awaited.wait()
    assert kernel.listeners == 1
    kernel.add(*disks)
    assert await asyncio.gather(*waits) == disks
    assert kernel.scans == 52
    await turns_until(lambda: kernel.listeners == 0)


async def test_disk_that_is_there_already_needs_no_listener(kernel: Kernel) -> None:
    kernel.add("disk")
    assert await kernel.watch().until(shows("disk"), LONG_S) == "disk"
    assert (kernel.scans, kernel.listeners) == (1, 0)


async def test_without_time_the_question_is_asked_once(kernel: Kernel) -> None:
    assert await kernel.watch().until(shows("disk"), 0) is None
    assert (kernel.scans, kernel.changed.is_awaited.is_set()) == (1, False)


async def test_timeout_ends_the_listening(kernel: Kernel) -> None:
    before = asyncio.all_tasks()
    assert await kernel.watch().until(shows("disk"), 0.01) is None
    await turns_until(lambda: asyncio.all_tasks() == before)
    assert kernel.listeners == 0


async def test_listening_goes_on_for_the_waiters_that_stay_and_begins_again_for_later_ones(
    kernel: Kernel,
) -> None:
    watch = kernel.watch()
    one, two = (asyncio.ensure_future(watch.until(shows(disk), LONG_S)) for disk in ("one", "two"))
    await kernel.changed.is_awaited.wait()
    kernel.add("one")
    assert await one == "one"
    kernel.add("two")
    assert await two == "two"
    await turns_until(lambda: kernel.listeners == 0)
    kernel.changed.is_awaited.clear()
    three = asyncio.ensure_future(watch.until(shows("three"), LONG_S))
    await kernel.changed.is_awaited.wait()
    kernel.add("three")
    assert await three == "three"


@pytest.mark.parametrize("is_there", [True, False], ids=["in the first scan", "in a later one"])
async def test_question_that_fails_fails_for_its_waiter_alone(kernel: Kernel, is_there: bool) -> None:
    asked = []

    def refuse(present: Present) -> str | None:
        asked.append(present)
        if "wrong" in present:
            raise DeviceMismatch("not this one")
        return None

    watch = kernel.watch()
    other = asyncio.ensure_future(watch.until(shows("right"), LONG_S))
    await kernel.changed.is_awaited.wait()
    kernel.present |= {"wrong"} if is_there else set()
    refused = asyncio.ensure_future(watch.until(refuse, LONG_S))
    if not is_there:
        await turns_until(lambda: bool(asked))
        kernel.add("wrong")
    with pytest.raises(DeviceMismatch):
        await refused
    kernel.add("right")
    assert await other == "right"


async def test_scan_that_fails_fails_for_all_waiters_and_for_none_later(kernel: Kernel) -> None:
    watch = kernel.watch()
    waits = [asyncio.ensure_future(watch.until(shows(disk), LONG_S)) for disk in ("one", "two")]
    await kernel.changed.is_awaited.wait()
    kernel.is_broken = True
    kernel.add("one")
    assert [type(each) for each in await asyncio.gather(*waits, return_exceptions=True)] == [HostError] * 2
    with pytest.raises(HostError, match="no sysfs"):
        await watch.until(shows("one"), 0)
    kernel.is_broken = False
    assert await watch.until(shows("one"), LONG_S) == "one"


async def test_answer_stands_when_an_older_scan_ends_after_it(kernel: Kernel) -> None:
    may_end = threading.Event()

    def scan() -> Present:
        present = kernel.scan()
        if kernel.scans == 3:
            may_end.wait(20)
        return present

    watch = DiskWatch(scan, POOL, kernel.listen, NEVER_S)
    first = asyncio.ensure_future(watch.until(shows("disk"), LONG_S))
    await kernel.changed.is_awaited.wait()
    second = asyncio.ensure_future(watch.until(lambda present: len(present), LONG_S))
    await turns_until(lambda: kernel.scans == 3)
    kernel.add("disk")
    assert await first == "disk"
    may_end.set()
    assert await second == 1


async def test_wait_that_is_cancelled_as_an_event_comes_ends_with_its_listening(kernel: Kernel) -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(kernel.watch().until(shows("disk"), LONG_S))
    await kernel.changed.is_awaited.wait()
    kernel.changed.set()
    waiting.cancel()
    await asyncio.wait({waiting}, timeout=20)
    assert waiting.cancelled()
    await turns_until(lambda: asyncio.all_tasks() == before)
    assert kernel.listeners == 0


@pytest.mark.loop
async def test_waiting_ends_with_the_kernels_event_and_not_with_the_recheck(disks: Disks) -> None:
    image = disks.image(1)
    file = image.stat()
    listening = asyncio.Event()
    loop = asyncio.get_running_loop()
    scans = 0

    def scan() -> str | None:
        nonlocal scans
        scans += 1
        device = loopdev.find(file.st_dev, file.st_ino, image.name)
        if scans == 2:
            loop.call_soon_threadsafe(listening.set)
        return device.path if device else None

    watch = DiskWatch(scan, POOL, recheck_s=NEVER_S)
    waiting = asyncio.create_task(watch.until(lambda path: path, LONG_S))
    await listening.wait()  # and saw nothing
    disk = await asyncio.to_thread(disks.attach, image)
    assert await waiting == disk.path


async def test_disk_is_found_by_the_recheck_where_no_event_comes(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyudev", None)  # it needs libudev
    watch = DiskWatch(kernel.scan, POOL, recheck_s=0.001)
    waiting = asyncio.ensure_future(watch.until(shows("disk"), LONG_S))
    await turns_until(lambda: kernel.scans > 3)
    kernel.present.add("disk")
    assert await waiting == "disk"
