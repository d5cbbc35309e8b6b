"""Operations of the control API: begun durably, once per key; ended durably; cancelled between two steps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from tests.volumes.world import Gate, MemoryStore, World, call
from volplug.errors import HostError, IdempotencyKeyReused, InvalidName, TooManyWaiting
from volplug.models import VolumeState
from volplug.testing.memory import MemoryDriver
from volplug.volumes.durable_operations import DurableOperations
from volplug.volumes.ledger import Desired
from volplug.volumes.operations import Operation, Operations, OperationState
from volplug.volumes.options import CreateRequest

RUNNING, SUCCEEDED = OperationState.RUNNING, OperationState.SUCCEEDED
FAILED, CANCELLED = OperationState.FAILED, OperationState.CANCELLED


async def ended(world: World, operation: Operation) -> Operation:
    """Wait for its end."""
    return await world.service.operations.wait(operation.operation_id, 60)


async def test_an_operation_is_durable_when_it_is_answered_and_when_it_has_ended(world: World) -> None:
    gate = world.driver.hold("create")
    begun = await world.service.start_create(CreateRequest(name="v"), call("k", "f"))
    kept = world.store.operations[begun.operation_id]
    assert (kept.kind, kept.volume, kept.state, kept.idempotency_key) == ("create", "v", RUNNING, "k")
    gate.opened.set()
    assert (await ended(world, begun)).state is SUCCEEDED
    assert world.store.operations[begun.operation_id] == begun
    assert world.volume().state is VolumeState.AVAILABLE


async def test_what_fails_is_its_result_is_kept_and_is_one_line_of_the_log(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    with capture_logs() as lines:
        deleted = await ended(world, await world.service.start_delete("v", call()))
    assert deleted.failure is not None
    assert (deleted.state, deleted.failure.code) == (FAILED, "volume-in-use")
    assert '[delete "v", memory' in deleted.failure.text
    assert world.store.operations[deleted.operation_id].failure == deleted.failure
    (line,) = (each for each in lines if each["log_level"] == "warning")
    assert (line["event"], line["request_id"], line["code"]) == (
        "operation failed",
        "request-1",
        "volume-in-use",
    )
    assert world.is_mounted(), "it is used"


async def test_a_bug_is_logged_with_its_traceback_and_ends_the_operation(world: World) -> None:
    world.host.mounts = None  # type: ignore[assignment]  # an AttributeError for whoever uses it
    await world.create("v")
    with capture_logs() as lines:
        released = await ended(world, await world.service.start_release("v", call()))
    assert released.failure is not None
    assert (released.state, released.failure.code) == (FAILED, "internal-error")
    assert [line["event"] for line in lines if line.get("exc_info")] == ["internal error"]


async def test_nothing_is_started_that_cannot_be_kept(world: World) -> None:
    world.store.broken = True
    with pytest.raises(HostError):
        await world.service.start_create(CreateRequest(name="v"), call("k"))
    assert (world.cloud.volumes, world.service.operations.list()) == ({}, [])
    world.store.broken = False
    assert (
        await ended(world, await world.service.start_create(CreateRequest(name="v"), call("k")))
    ).volume == "v"


async def test_an_end_that_cannot_be_kept_is_the_end_all_the_same(world: World) -> None:
    gate = world.driver.hold("create")
    begun = await world.service.start_create(CreateRequest(name="v"), call())
    await gate.reached.wait()
    world.store.broken = True
    gate.opened.set()
    assert (await ended(world, begun)).state is SUCCEEDED
    assert world.store.operations[begun.operation_id].state is RUNNING, "the next start resolves it"
    world.store.broken = False
    other = await ended(world, await world.service.start_create(CreateRequest(name="w"), call()))
    kept = {each.operation_id: each.state for each in world.store.operations.values()}
    assert kept == {begun.operation_id: SUCCEEDED, other.operation_id: SUCCEEDED}, "written with the next"


async def test_a_caller_that_leaves_ends_nothing(world: World) -> None:
    class SlowStore(MemoryStore):
        slow = Gate()

        async def save_operation(self, operation: Operation, outdated: object) -> None:
            await self.slow.pass_through()
            await super().save_operation(operation, [])

    world.store = store = SlowStore()
    world.restart()
    starting = asyncio.create_task(world.service.start_create(CreateRequest(name="v"), call("k", "f")))
    await store.slow.reached.wait()
    starting.cancel()
    await asyncio.wait({starting})
    store.slow.opened.set()
    again = await ended(world, await world.service.start_create(CreateRequest(name="v"), call("k", "f")))
    assert [*store.operations] == [again.operation_id]
    assert world.cloud.calls.count("create") == 1


async def test_a_name_that_is_none_starts_nothing(world: World) -> None:
    for start in (world.service.start_delete, world.service.start_release, world.service.start_takeover):
        with pytest.raises(InvalidName):
            await start("../v", call())
    assert world.store.operations == {}


# Idempotency keys


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_repeated_request_gets_the_operation_of_the_first(world: World, is_restarted: bool) -> None:
    first = await world.service.start_create(CreateRequest(name="v"), call("k", "f"))
    second = await world.service.start_create(CreateRequest(name="v"), call("k", "f"))
    assert second is first
    await ended(world, first)
    if is_restarted:
        world.restart()
    before = len(world.cloud.calls)
    again = await world.service.start_create(CreateRequest(name="v"), call("k", "f"))
    assert (again.operation_id, again.state) == (first.operation_id, SUCCEEDED)
    assert world.calls_since(before) == []
    with pytest.raises(IdempotencyKeyReused, match=f"create {first.operation_id}"):
        await world.service.start_delete("v", call("k", "other"))


async def test_requests_with_one_key_that_come_together_start_one_operation(world: World) -> None:
    found = await asyncio.gather(
        *(world.service.start_create(CreateRequest(name="v"), call("k", "f")) for _ in range(20))
    )
    assert len({each.operation_id for each in found}) == len(world.store.operations) == 1


async def test_requests_without_a_key_are_operations_of_their_own(world: World) -> None:
    first = await world.service.start_delete("v", call())
    second = await world.service.start_delete("v", call())
    assert (await ended(world, first)).operation_id != (await ended(world, second)).operation_id


# Bounds


class Days:
    """A clock, set by hand."""

    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def test_the_last_thousand_of_the_last_day_are_kept() -> None:
    store, days = MemoryStore(), Days()
    operations = Operations(clock=days)
    durable = DurableOperations(operations, store, lambda _: None)

    async def done(_: Operation) -> None:
        pass

    async def start() -> Operation:
        return await operations.wait((await durable.start("delete", "v", call(), done)).operation_id, 60)

    first = await start()
    days.now += timedelta(hours=23)
    others = [await start() for _ in range(3)]
    assert [*store.operations] == [first.operation_id, *(each.operation_id for each in others)]
    days.now += timedelta(hours=2)
    newest = [await start() for _ in range(1_000)]
    assert [*store.operations] == [each.operation_id for each in newest]
    assert [each.operation_id for each in operations.list()] == [*reversed(store.operations)]


async def test_of_operations_that_do_not_end_there_is_a_limit(world: World) -> None:
    gate = world.driver.hold("get")
    running = [await world.service.start_delete("v", call()) for _ in range(1_000)]
    with pytest.raises(TooManyWaiting, match="1000 operations"):
        await world.service.start_delete("v", call())
    gate.opened.set()
    for each in running:
        await ended(world, each)
    await ended(world, await world.service.start_delete("v", call()))


# Cancelling


async def create(world: World) -> Operation:
    return await world.service.start_create(CreateRequest(name="v"), call())


async def delete(world: World) -> Operation:
    return await world.service.start_delete("v", call())


async def release(world: World) -> Operation:
    return await world.service.start_release("v", call())


async def cancelled(world: World, start: Callable[[World], Awaitable[Operation]], held: str) -> Operation:
    """Start an operation, and cancel it while a call of the driver is held up."""
    gate = world.driver.hold(held)
    operation = await start(world)
    await gate.reached.wait()
    world.service.operations.cancel(operation.operation_id)
    gate.opened.set()
    return await ended(world, operation)


async def test_a_cancelled_operation_takes_no_further_step(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    before = len(world.cloud.calls)
    operation = await cancelled(world, delete, "detach")
    assert (operation.state, operation.failure and operation.failure.code) == (CANCELLED, "cancelled")
    assert "delete" not in world.calls_since(before)
    assert world.volume().state is VolumeState.AVAILABLE
    assert (await world.service.get("v")).failure is None, "it is no failure of the volume"
    await world.run_timers()
    assert world.entry().desired is Desired.NONE


async def test_a_cancelled_creation_leaves_no_desire(world: World) -> None:
    operation = await cancelled(world, create, "get")
    assert (operation.state, world.cloud.volumes) == (CANCELLED, {})
    assert world.ledger.get("v") is None or world.entry().desired is Desired.NONE
    assert (await ended(world, await create(world))).state is SUCCEEDED


async def test_what_lingers_is_detached_although_its_release_was_cancelled(world: World) -> None:
    world.deadlines = replace(world.deadlines, linger_s=60)
    world.restart()
    await world.mounted()
    await world.service.unmount("v", "c1")
    lock = world.node.locks.of("v")
    async with lock:
        operation = await release(world)
        await asyncio.sleep(0)
        world.service.operations.cancel(operation.operation_id)
    assert (await ended(world, operation)).state is CANCELLED
    await world.run_timers()
    assert world.volume().holder is None


async def test_a_cancel_that_comes_too_late_changes_nothing(world: World) -> None:
    await world.create("v")
    operation = await cancelled(world, delete, "delete")
    assert (operation.state, world.cloud.volumes) == (SUCCEEDED, {})


async def test_a_trial_release_is_not_cancelled_between_its_unmount_and_its_remount(world: World) -> None:
    """The container may need the mount for `docker cp`."""
    await world.mounted()
    world.occupy("v", "container web")
    unmounting = Gate()
    unmount = world.host.unmount

    async def held_up(*args: object) -> bool:
        is_free = await unmount(*args)  # type: ignore[arg-type]  # as they come
        await unmounting.pass_through()
        return is_free

    world.host.unmount = held_up  # type: ignore[method-assign,assignment]
    operation = await delete(world)
    await unmounting.reached.wait()
    world.service.operations.cancel(operation.operation_id)
    unmounting.opened.set()
    assert (await ended(world, operation)).state is FAILED
    assert world.is_mounted()


async def test_no_node_is_stopped_or_robbed_by_a_takeover_that_was_cancelled(world: World) -> None:
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    world.cloud.dead_nodes.add("node-b")
    take_over = partial(world.service.start_takeover, "v", call())
    operation = await cancelled(world, lambda _: take_over(), "get")
    assert (operation.state, world.volume().holder) == (CANCELLED, "node-b")
