import asyncio
from operator import attrgetter

import pytest

from tests.volumes.world import Caller, World
from volplug.errors import VolumeInUse
from volplug.volumes.operations import Operation

SHOWN = attrgetter("kind", "volume", "phase")


def shown(world: World) -> list[tuple[str, str, str]]:
    """What is in progress: kind, volume and phase of each operation."""
    return [SHOWN(operation) for operation in world.node.operations.running]


# Operations


async def test_an_operation_shows_its_phase_until_it_ends(world: World) -> None:
    await world.create("v")
    attach, tag = world.driver.hold("attach"), world.driver.hold("tag_filesystem")
    first = asyncio.create_task(world.service.mount("v", "c1", Caller()))
    await attach.reached.wait()
    second = asyncio.create_task(world.service.remove("v"))
    await asyncio.sleep(0)
    assert shown(world) == [("mount", "v", "attach"), ("remove", "v", "waiting")]
    attach.opened.set()
    await tag.reached.wait()
    assert shown(world)[0] == ("mount", "v", "tag_formatting")
    tag.opened.set()
    await first
    with pytest.raises(VolumeInUse):
        await second
    assert shown(world) == []


async def test_work_without_a_caller_is_an_operation_too(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    detach = world.driver.hold("detach")
    world.timers.fire()
    await detach.reached.wait()
    assert shown(world) == [("detach", "v", "detach")]
    detach.opened.set()
    await world.run_timers()
    assert shown(world) == []


async def test_a_recovery_is_an_operation_from_the_start_of_the_process(world: World) -> None:
    await world.mounted()
    world.restart()
    await world.service.start()
    assert [kind for kind, _, _ in shown(world)] == ["recover"]
    await world.finish_tasks()
    assert shown(world) == []


async def test_no_two_operations_have_one_id(world: World) -> None:
    operations = world.node.operations
    seen: list[str] = []

    async def note(operation: Operation) -> None:
        seen.append(operation.operation_id)

    for _ in range(3):
        await operations.wait_for("mount", "v", note, 1)
    assert len(set(seen)) == 3


# Timers


async def test_a_new_timer_replaces_the_old(world: World) -> None:
    done: list[str] = []

    async def note(text: str) -> None:
        done.append(text)

    world.timers.schedule("v", 60, lambda: note("first"))
    world.timers.schedule("v", 60, lambda: note("second"))
    world.timers.schedule("w", 60, lambda: note("other"))
    world.timers.cancel("w")
    await world.run_timers()
    assert done == ["second"]


async def test_stopping_starts_only_what_has_to_happen_before_the_end(world: World) -> None:
    done: list[str] = []

    async def note(text: str) -> None:
        done.append(text)

    world.timers.schedule("v", 60, lambda: note("can wait for the next start"))
    world.timers.schedule("w", 60, lambda: note("cannot"), at_stop=True)
    world.timers.flush()
    await asyncio.wait(world.timers.running)
    assert done == ["cannot"]


async def test_a_running_task_is_not_cancelled(world: World) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def act() -> None:
        started.set()
        await go_on.wait()
        done.append("all")

    world.timers.schedule("v", 60, act)
    world.timers.fire()
    await started.wait()
    world.timers.cancel("v")
    go_on.set()
    await world.run_timers()
    assert done == ["all"]
