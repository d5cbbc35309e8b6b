"""How often each verb calls a thread, and how often it writes the state file."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.lab import lane
from tests.volumes.world import Caller
from volplug.drivers.loop.driver import LoopDriver
from volplug.host.machine import Machine
from volplug.host.threads import DevicePool
from volplug.sizes import MIB
from volplug.store.sqlite import SqliteStore
from volplug.volumes.ledger import Desired, Ledger
from volplug.volumes.node import Deadlines, LocalNode
from volplug.volumes.options import CreateRequest, Defaults
from volplug.volumes.service import VolumeService

pytestmark = pytest.mark.loop


class Counted:
    """A volplug without its socket, and the calls that its threads were given.

    Attributes:
        calls: The name of each call's pool, in their order.
    """

    def __init__(self, service: VolumeService, node: LocalNode, calls: list[str]) -> None:
        self.service = service
        self.node = node
        self.calls = calls

    async def mount_and_unmount(self) -> None:
        answer = await self.service.mount("v", "c1", Caller())
        answer.answered(True)
        await self.service.unmount("v", "c1")
        while self._is_detaching():  # noqa: ASYNC110 - no event tells that the detach after the answer has ended
            await asyncio.sleep(0.001)

    def _is_detaching(self) -> bool:
        entry = self.node.ledger.get("v")
        return entry is None or entry.desired is not Desired.NONE or self.service.is_working

    def taken(self) -> tuple[int, int]:
        """Return the calls in threads and how many of them were writes of the state, and begin anew."""
        calls, self.calls[:] = list(self.calls), []
        return len(calls), calls.count("volplug-store")


@pytest.fixture
async def counted(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counted]:
    directory, calls = lane.new_directory(), list[str]()
    submit = ThreadPoolExecutor.submit

    def counting(pool: ThreadPoolExecutor, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401
        calls.append(pool._thread_name_prefix or "")
        return submit(pool, *args, **kwargs)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", counting)
    store = SqliteStore(directory / "state.sqlite", "boot")
    loaded = await store.load()
    node = LocalNode(
        backends={"disks": LoopDriver("disks", "host1", directory / "images")},
        default_backend="disks",
        hosts={"disks": Machine(str(directory / "mounts"), DevicePool("disks", 8, "disks"))},
        ledger=Ledger(store, loaded.entries, loaded.engine),
        mount_root=str(directory / "mounts"),
        boot_clock=time.monotonic,
        deadlines=Deadlines(linger_s=0),
    )
    service = VolumeService(node, Defaults())
    await service.start()
    calls.clear()
    yield Counted(service, node, calls)
    await service.stop(20)
    await store.close()


async def test_each_verb_takes_as_few_hops_as_it_needs(counted: Counted) -> None:
    """A pair: record, intent, attach, read, mount, count; count, read, unmount; read, detach, end."""
    await counted.service.create(CreateRequest(name="v", size_bytes=64 * MIB))
    assert counted.taken() == (5, 2)
    await counted.mount_and_unmount()  # formats
    counted.taken()
    await counted.mount_and_unmount()
    assert counted.taken() == (12, 4)
    await counted.service.remove("v")
    assert counted.taken() == (5, 2)
