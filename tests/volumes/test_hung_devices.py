"""The devices of one backend hang, more than it has threads for."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.volumes.world import World
from volplug.errors import BackendUnavailable
from volplug.host.base import HostReading, Locate, MountRequest
from volplug.host.threads import DevicePool
from volplug.models import MountSource
from volplug.testing.host import MemoryHost

THREADS = 2
CAUSE = f"backend memory does not answer: none of {THREADS} calls on its devices has ended for 0.01 s"


class FreezingHost(MemoryHost):
    """A machine whose disks can freeze: writes hang in their threads until they thaw."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = DevicePool("test", THREADS, "memory", hung_after_s=0.01)
        self._thawed = threading.Event()
        self._thawed.set()

    def freeze(self) -> None:
        self._thawed.clear()

    def thaw(self) -> None:
        self._thawed.set()

    async def mount(self, request: MountRequest, locate: Locate) -> HostReading:
        await self._pool.blocking(self._thawed.wait)
        return await super().mount(request, locate)

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        await self._pool.blocking(self._thawed.wait)
        return await super().unmount(target, source)


@pytest.fixture
def host() -> Iterator[FreezingHost]:
    host = FreezingHost()
    yield host
    host.thaw()  # or its threads would outlive a test that failed


@pytest.fixture
def world(host: FreezingHost) -> World:
    """A host with volumes v0 to v4 of the backend that freezes, and one called healthy of another."""
    world = World(hosts={"memory": host})
    world.add_backend("other")
    return world


VOLUMES = [f"v{number}" for number in range(5)]
HANGING, REFUSED = VOLUMES[:THREADS], VOLUMES[THREADS:]


@pytest.fixture
async def unmounts(world: World, host: FreezingHost) -> list[asyncio.Task[None]]:
    """All volumes were mounted, then the disk froze, and those of the backend are being unmounted."""
    for name in VOLUMES:
        await world.create(name)
        await world.mount(name)
    await world.create("new")
    await world.create("healthy", backend="other")
    await world.mount("healthy")
    host.freeze()
    return [asyncio.create_task(world.service.unmount(name, "c1")) for name in VOLUMES]


async def test_a_call_without_a_free_thread_is_refused_with_the_reason(
    world: World, unmounts: list[asyncio.Task[None]]
) -> None:
    for name, unmount in zip(REFUSED, unmounts[THREADS:], strict=True):
        with pytest.raises(BackendUnavailable) as refused:
            await unmount
        assert refused.value.cause == CAUSE
        context = f'[unmount "{name}", memory {world.volume(name).volume_id}, node node-a]'
        assert str(refused.value).startswith(f"{CAUSE} {context}. ")
    with pytest.raises(BackendUnavailable) as refused:
        await world.mount("new")
    assert refused.value.cause == CAUSE
    assert [unmount.done() for unmount in unmounts[:THREADS]] == [False] * THREADS


async def test_volumes_of_other_backends_work_and_all_can_be_inspected(
    world: World, unmounts: list[asyncio.Task[None]]
) -> None:
    await asyncio.wait(unmounts[THREADS:])
    await world.service.unmount("healthy", "c1")
    await world.mount("healthy")
    assert {view.name for view in await world.service.list()} == {*VOLUMES, "new", "healthy"}
    counts = {name: (await world.service.get(name)).mount_count for name in (*VOLUMES, "healthy")}
    assert counts == dict.fromkeys(VOLUMES, 0) | {"healthy": 1}


async def test_once_they_thaw_everything_is_released_and_can_be_mounted(
    world: World, host: FreezingHost, unmounts: list[asyncio.Task[None]]
) -> None:
    await asyncio.wait(unmounts[THREADS:])
    await world.run_timers()  # in vain
    assert host.mounts.keys() == {f"/mounts/{name}" for name in VOLUMES}
    host.thaw()
    await asyncio.gather(*unmounts[:THREADS])
    while host.mounts:  # a pause of a busy machine, too, lasts longer than it takes here to call a disk hung
        await world.run_timers()
    assert host.mounts == {}
    await world.run_timers()
    assert {name: world.volume(name).holder for name in VOLUMES} == dict.fromkeys(VOLUMES)
    for name in (*VOLUMES, "new"):
        await world.mount(name)
