"""A disk takes no writes and gives no errors: its volumes hang, those of another disk do not."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.disks import SmallDisk, small_disk
from tests.faults.records import Records
from tests.lab import lane, loops
from tests.lab.leftovers import mounted_below
from tests.lab.waiting import wait_until
from tests.volumes.world import Caller
from volplug.drivers.loop.directory import unlock_all
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import BackendUnavailable
from volplug.host.machine import Machine
from volplug.host.threads import DevicePool
from volplug.models import VolumeSpec
from volplug.sizes import MIB
from volplug.store.sqlite import SqliteStore
from volplug.testing.conformance.calls import located
from volplug.volumes.ledger import Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.options import CreateRequest, Defaults
from volplug.volumes.service import VolumeService

pytestmark = [pytest.mark.faults, pytest.mark.loop]

_THREADS = 3
_HUNG_AFTER_S = 2.0  # of many that are let go at once on a busy machine one ends sooner
_MORE_THAN_THE_DRIVER_HAS = 40
_SLOW = [f"slow{number}" for number in range(_THREADS + 2)]


@dataclass
class Disks:
    """Two disks with a loop backend on each, called slow and healthy.

    Attributes:
        directory: All is below it.
        slow: The one that the test freezes.
        drivers: The backends.
    """

    directory: Path
    slow: SmallDisk
    drivers: dict[str, LoopDriver]

    @property
    def mounts(self) -> Path:
        return self.directory / "volplug" / "mounts"

    def attached(self) -> set[str]:
        return {Path(device.image).stem for device in loops.attached_below(self.slow.directory)}


@pytest.fixture
def disks() -> Iterator[Disks]:
    directory = lane.new_directory()
    with ExitStack() as stack:
        places = {name: directory / "volplug" / name for name in ("slow", "healthy")}
        slow, _ = (
            stack.enter_context(small_disk(directory / f"{name}.disk", place, 128))
            for name, place in places.items()
        )
        stack.callback(unlock_all)
        drivers = {name: LoopDriver(name, "host1", place) for name, place in places.items()}
        yield Disks(directory, slow, drivers)


class Host:
    """One volplug without its socket."""

    def __init__(self, service: VolumeService) -> None:
        self.service = service
        self._records: dict[str, Records] = {}

    async def create(self, name: str) -> None:
        backend = name.rstrip("0123456789")
        await self.service.create(CreateRequest(name=name, size_bytes=8 * MIB, backend=backend))

    async def mount(self, name: str) -> None:
        """Mount a volume, read what was written, and write more."""
        answer = await self.service.mount(name, "c1", Caller())
        answer.answered(True)
        records = self._records.setdefault(name, Records(Path(answer.path)))
        records.check()
        records.write(3)

    async def unmount(self, name: str) -> None:
        await self.service.unmount(name, "c1")


@pytest.fixture
async def host(disks: Disks) -> AsyncIterator[Host]:
    store = SqliteStore(disks.directory / "state.sqlite", "boot")
    loaded = await store.load()
    site = LocalNode(
        backends=dict(disks.drivers),
        default_backend="healthy",
        hosts={
            name: Machine(str(disks.mounts), DevicePool(name, _THREADS, name, _HUNG_AFTER_S))
            for name in disks.drivers
        },
        ledger=Ledger(store, loaded.entries, loaded.engine),
        mount_root=str(disks.mounts),
        boot_clock=time.monotonic,
        deadlines=Deadlines(linger_s=0, retry_max_s=0.1),
    )
    service = VolumeService(site, Defaults(fs_type="ext4", size_bytes=None, profiles={}))
    await service.start()
    yield Host(service)
    await service.stop(20)
    await store.close()


async def test_more_hung_volumes_than_there_are_threads_stop_no_volume_of_another_disk(
    disks: Disks, host: Host
) -> None:
    for name in (*_SLOW, "healthy"):
        await host.create(name)
        await host.mount(name)
    await host.create("slow99")
    with disks.slow.frozen():
        hanging = {asyncio.create_task(host.unmount(name)) for name in _SLOW}
        refused: set[asyncio.Task[None]] = set()
        while len(hanging) > _THREADS:
            done, hanging = await asyncio.wait(hanging, return_when=asyncio.FIRST_COMPLETED)
            refused |= done
        for error in [each.exception() for each in refused]:
            assert isinstance(error, BackendUnavailable), error
            assert error.cause == (
                f"backend slow does not answer: none of {_THREADS} calls on its devices has ended for 2 s"
            )
        with pytest.raises(BackendUnavailable, match="none of 3 calls on its devices has ended"):
            await host.mount("slow99")
        await host.unmount("healthy")
        await host.mount("healthy")
        shown = {view.name: view for view in await host.service.list()}
        assert shown.keys() == {*_SLOW, "slow99", "healthy"}
        for name, count in (dict.fromkeys(_SLOW, 0) | {"slow99": 0, "healthy": 1}).items():
            assert (await host.service.get(name)).mount_count == count
        assert len(hanging) == len([each for each in hanging if not each.done()]) == _THREADS
    await asyncio.gather(*hanging)
    await asyncio.to_thread(wait_until, lambda: disks.attached() == set(), 20, "all are released")
    assert mounted_below(disks.mounts) == [str(disks.mounts / "healthy")]
    for name in (*_SLOW, "slow99"):
        await host.mount(name)
    for name in (*_SLOW, "slow99", "healthy"):
        await host.unmount(name)


async def test_changes_that_hang_leave_look_ups_their_threads(disks: Disks) -> None:
    driver = disks.drivers["slow"]
    existing = await driver.create(VolumeSpec("existing", MIB))
    specs = [VolumeSpec(f"v{number}", MIB) for number in range(_MORE_THAN_THE_DRIVER_HAS)]
    with disks.slow.frozen():
        creations = [asyncio.create_task(driver.create(spec)) for spec in specs]
        await asyncio.sleep(0)
        assert await driver.get("existing") == existing
        assert list(await driver.list()) == [existing]
        assert await located(driver, existing) is None
        assert not any(creation.done() for creation in creations)
    await asyncio.gather(*creations)
