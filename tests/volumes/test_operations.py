"""Operations in progress and ended: phases, results, history, waiting, cancelling."""

import asyncio
from operator import attrgetter

import pytest

from tests.volumes.world import Caller, World, call
from volplug.errors import BackendUnavailable, NotCancellable, OperationNotFound, OptionHelp, VolumeInUse
from volplug.volumes.operations import Operation, OperationState, Origin

SHOWN = attrgetter("kind", "volume", "phase")
RESULT = attrgetter("kind", "origin", "state")


def shown(world: World) -> list[tuple[str, str, str]]:
    """What is in progress: kind, volume and phase of each operation."""
    return [SHOWN(operation) for operation in world.node.operations.running]


def ended(world: World) -> list[tuple[str, Origin, OperationState]]:
    """How operations have ended, the oldest first."""
    return [RESULT(each) for each in reversed(world.service.operations.list())]


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


async def test_an_ended_operation_is_shown_with_its_origin_and_result(world: World) -> None:
    before = world.node.wall_clock()
    await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse) as refused:
        await world.service.unmount("v", "c1")
    await world.run_timers()
    assert ended(world) == [
        ("create", Origin.DOCKER, OperationState.SUCCEEDED),
        ("mount", Origin.DOCKER, OperationState.SUCCEEDED),
        ("unmount", Origin.DOCKER, OperationState.FAILED),
        ("detach", Origin.VOLPLUG, OperationState.FAILED),
    ]
    unmount = world.service.operations.list()[1]
    assert unmount.failure is not None
    assert (unmount.failure.text, unmount.failure.retryable) == (str(refused.value), True)
    assert unmount.ended_at is not None
    assert before <= unmount.started_at <= unmount.ended_at <= world.node.wall_clock()


async def test_a_trial_release_and_a_recovery_that_fail_are_shown_as_failed(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    world.restart()
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    await world.recover()
    await world.run_timers()
    assert ended(world) == [
        ("recover", Origin.VOLPLUG, OperationState.SUCCEEDED),
        ("trial release", Origin.VOLPLUG, OperationState.FAILED),
    ]


async def test_the_options_that_a_user_asks_for_are_no_failure(world: World) -> None:
    with pytest.raises(OptionHelp):
        await world.create("v", help="")
    assert ended(world) == [("create", Origin.DOCKER, OperationState.SUCCEEDED)]


async def test_a_get_is_no_operation_and_a_mount_writes_no_more_than_its_count(world: World) -> None:
    await world.mounted()
    before = len(world.service.operations.list()), len(world.store.operations)
    await world.service.get("v")
    await world.service.list()
    assert (len(world.service.operations.list()), len(world.store.operations)) == before == (2, 0)


async def test_the_last_thousand_that_ended_are_kept_and_all_that_run(world: World) -> None:
    go_on = asyncio.Event()

    async def wait(_: Operation) -> None:
        await go_on.wait()

    async def end(_: Operation) -> None:
        pass

    operations = world.service.operations
    running = world.node.operations.run("mount", "w", wait)
    for _ in range(1_005):
        await world.node.operations.wait_for("mount", "v", end, 1)
    numbers = [int(each.operation_id.partition("-")[2]) for each in operations.list()]
    assert numbers == [*range(1_006, 6, -1), 1]
    assert [each.volume for each in operations.running] == ["w"]
    go_on.set()
    await running


async def test_a_client_waits_for_the_end_of_an_operation(world: World) -> None:
    operations, gate = world.service.operations, world.driver.hold("create")
    creating = asyncio.create_task(world.create("v"))
    await gate.reached.wait()
    (running,) = operations.running
    early = await operations.wait(running.operation_id, 0.001)
    assert (early.state, early.phase) == (OperationState.RUNNING, "create")
    waiting = [asyncio.create_task(operations.wait(running.operation_id, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.opened.set()
    assert {(await each).state for each in waiting} == {OperationState.SUCCEEDED}
    assert (await operations.wait(running.operation_id, 60)).state is OperationState.SUCCEEDED
    await creating


async def test_an_operation_that_is_not_known_is_not_found(world: World) -> None:
    for act in (world.service.operations.get, world.service.operations.cancel):
        with pytest.raises(OperationNotFound):
            act("run-1")
    with pytest.raises(OperationNotFound):
        await world.service.operations.wait("run-1", 1)


async def test_only_operations_of_the_api_that_run_can_be_cancelled(world: World) -> None:
    gate = world.driver.hold("create")
    creating = asyncio.create_task(world.create("v"))
    await gate.reached.wait()
    (of_docker,) = world.service.operations.running
    with pytest.raises(NotCancellable, match="started by docker"):
        world.service.operations.cancel(of_docker.operation_id)
    gate.opened.set()
    await creating
    of_api = await world.service.start_delete("v", call())
    await world.finish_tasks()
    with pytest.raises(NotCancellable, match="has succeeded already"):
        world.service.operations.cancel(of_api.operation_id)
