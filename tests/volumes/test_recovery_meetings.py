"""Recovery concurrent with Mounts, lost mounts and other hosts."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from tests.volumes.world import World, spec_of
from volplug.errors import BackendUnavailable
from volplug.models import Volume, VolumeState
from volplug.volumes.ledger import Desired, Entry

OUTAGE = BackendUnavailable("no route to the cloud")


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


async def test_recovery_after_an_outage_is_left_to_a_waiting_mount(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.mounted()
    world.host.mounts.clear()
    with monkeypatch.context() as outage:
        outage.setattr(world.driver, "locate", failing(OUTAGE))
        world.restart()
        await world.recover()
    lock = world.node.locks.of("v")
    async with lock:
        world.timers.fire()
        await asyncio.sleep(0)  # it waits for the lock now, and before the Mount
        mounting = asyncio.create_task(world.mount("v", "c2"))
        while not lock.mounts_in_progress:  # noqa: ASYNC110  # it has no event
            await asyncio.sleep(0)
    await mounting
    assert world.entry().mount_count == 2


async def test_a_volume_of_which_only_its_claim_is_known_is_released(world: World) -> None:
    """The mount that it was found by ended with the old mount namespace."""
    await world.mounted()
    world.host.mounts.clear()
    await world.store.save(Entry("v", "memory", holders_unknown=True), durable=True)
    world.restart()
    await world.recover()
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().desired is Desired.NONE


async def test_a_begun_creation_is_not_repeated_when_its_volume_has_gone(world: World) -> None:
    volume = await world.driver.create(spec_of("v"))
    world.cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.INCOMPLETE)
    await world.store.save(Entry("v", "memory", desired=Desired.PRESENT), durable=True)
    get = world.driver.get

    async def get_once(name: str) -> Volume | None:
        found = await get(name)
        world.cloud.volumes.clear()  # another host removes it
        return found

    world.driver.get = get_once  # type: ignore[method-assign]  # the other host acts in between
    world.restart()
    await world.recover()
    await world.run_timers()
    assert (world.cloud.volumes, world.store.entries) == ({}, {})


async def test_calls_for_a_volume_wait_for_its_recovery_and_for_no_other(world: World) -> None:
    await world.create("slow")
    await world.create("quick")
    await world.store.save(Entry("slow", "memory", desired=Desired.ABSENT), durable=True)
    world.restart()
    gate = world.driver.hold("get")
    await world.service.start()
    await gate.reached.wait()
    world.driver.gates.clear()
    mounting = asyncio.create_task(world.mount("slow"))
    assert await world.mount("quick") == "/mounts/quick/data"
    assert not mounting.done()
    gate.opened.set()
    assert await mounting == "/mounts/slow/data"
