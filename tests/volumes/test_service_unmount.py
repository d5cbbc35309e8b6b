import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

import pytest

from tests.volumes.world import World
from volplug.errors import BackendUnavailable, VolplugError, VolumeInUse
from volplug.models import MountSource
from volplug.testing.host import MemoryHost
from volplug.volumes.ledger import Desired
from volplug.volumes.node import Deadlines


async def test_the_last_unmount_unmounts_now_and_detaches_after_the_linger(world: World) -> None:
    world.deadlines = Deadlines(linger_s=5)
    world.restart()
    await world.mounted()
    await world.service.unmount("v", "c1")
    assert world.host.mounts == {}
    assert world.volume().holder == "node-a"
    assert world.timers.delays == [("v", 5)]
    assert world.entry().desired.value == "detached"
    assert world.store.writes[-1] == ("v", "detached", True)
    await world.run_timers()
    assert world.volume().holder is None
    assert world.store.writes[-1] == ("v", "none", False)


async def test_a_mount_ends_the_linger(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.mount("v", "c2")
    before = len(world.cloud.calls)
    await world.run_timers()
    assert world.is_mounted()
    assert world.calls_since(before) == []


class KeptHost(MemoryHost):
    """A host on which an unmount fails the test."""

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        raise AssertionError(f"{target} was unmounted")


@pytest.mark.parametrize("is_mount_first", [True, False])
async def test_an_unmount_while_another_mount_is_answered_unmounts_nothing(is_mount_first: bool) -> None:
    world = World(host=KeptHost())
    await world.mounted()
    calls: list[Callable[[], Coroutine[object, object, object]]] = [
        partial(world.mount, "v", "c2"),
        partial(world.service.unmount, "v", "c1"),
    ]
    async with world.node.locks.of("v"):
        running = []
        for call in calls if is_mount_first else reversed(calls):
            running.append(asyncio.create_task(call()))
            for _ in range(5):
                await asyncio.sleep(0)
    await asyncio.gather(*running)
    await world.run_timers()
    assert world.is_mounted()
    assert (world.entry().confirmed, world.entry().desired) == ({"c2": 1}, Desired.MOUNTED)


async def test_an_unmount_of_a_volume_that_a_container_still_holds_is_an_error_and_retried(
    world: World,
) -> None:
    volume = await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse) as held:
        await world.service.unmount("v", "c1")
    assert str(held.value) == (
        "the volume is still in use by container web "
        f'[unmount "v", memory {volume.volume_id}, node node-a]. '
        "Stop what uses it; volplug retries until it is free."
    )
    assert world.volume().holder == "node-a"
    world.vacate("v")
    await world.run_timers()
    assert world.volume().holder is None


class BrieflyBusyHost(MemoryHost):
    """A process has a file of the mount open for a moment."""

    attempts = 2

    async def unmount(self, target: str, source: MountSource | None = None) -> bool:
        self.attempts -= 1
        if self.attempts >= 0:
            raise VolumeInUse(f"{target} is busy")
        return await super().unmount(target, source)


async def test_a_mount_that_is_busy_for_a_moment_is_unmounted() -> None:
    world = World(host=BrieflyBusyHost())
    await world.mounted()
    await world.service.unmount("v", "c1")
    assert not world.is_mounted()


async def test_a_mount_kept_busy_by_a_process_is_reported_with_it(world: World) -> None:
    await world.mounted()
    world.host.busy_targets["/mounts/v"] = "process 77 (vim)"
    with pytest.raises(VolumeInUse) as held:
        await world.service.unmount("v", "c1")
    assert "the volume is still in use by process 77 (vim)" in str(held.value)
    assert world.is_mounted()


async def test_an_unmount_needs_no_backend(world: World) -> None:
    await world.mounted()
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    before = len(world.cloud.calls)
    await world.service.unmount("v", "c1")
    assert (world.calls_since(before), world.host.mounts) == ([], {})


async def test_a_read_only_filesystem_is_checked_and_mounted_again_if_not_in_use(world: World) -> None:
    await world.mounted()
    disk = world.host.disk(world.device())
    world.host.read_only.add(world.device())
    disk.is_dirty = True
    await world.mount("v", "c2")
    assert not disk.is_dirty
    assert world.host.read_only == set()


async def test_a_read_only_filesystem_in_use_is_not_mounted_again(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    world.host.read_only.add(world.device())
    world.host.disk(world.device()).is_dirty = True
    with pytest.raises(VolplugError) as refused:
        await world.mount("v", "c2")
    assert str(refused.value) == (
        "the filesystem went read-only after an error and is still in use "
        f'[mount "v", memory {world.volume().volume_id}, node node-a]. '
        "Stop the containers that use it; the next mount checks it."
    )
    assert world.host.disk(world.device()).is_dirty
    assert world.entry().confirmed == {"c1": 1}


async def test_stopping_detaches_what_lingers_and_unmounts_nothing(world: World) -> None:
    world.deadlines = Deadlines(linger_s=5)
    world.restart()
    await world.mounted("stays")
    await world.mounted("lingers")
    await world.service.unmount("lingers", "c1")
    await world.service.stop(5)
    assert world.volume("lingers").holder is None
    assert world.is_mounted("stays")
    assert world.volume("stays").holder == "node-a"


async def test_the_unmount_of_a_volume_that_was_replaced_at_its_backend_unmounts_the_old(
    world: World,
) -> None:
    await world.mounted()
    world.cloud.volumes.clear()
    await world.create("v")
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert world.host.mounts == {}
    assert (world.entry().confirmed, world.volume().holder) == ({}, None)


async def test_creating_a_volume_again_keeps_its_pending_detach(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse):
        await world.service.unmount("v", "c1")
    await world.create("v")
    assert world.entry().desired is Desired.DETACHED
    world.vacate("v")
    await world.run_timers()
    assert world.volume().holder is None
