"""Release and takeover on request."""

from dataclasses import replace

import pytest

from tests.volumes.world import Caller, LocalDriver, World, call
from volplug.errors import BackendUnavailable, VolumeInUse
from volplug.models import HolderState, TakeoverPolicy, VolumeState
from volplug.testing.memory import MemoryDriver
from volplug.volumes.ledger import Desired
from volplug.volumes.operations import Operation, OperationState
from volplug.volumes.takeover import TakeoverOutcome

SUCCEEDED, FAILED = OperationState.SUCCEEDED, OperationState.FAILED


async def release(world: World) -> Operation:
    started = await world.service.start_release("v", call())
    return await world.service.operations.wait(started.operation_id, 60)


async def take_over(world: World) -> Operation:
    started = await world.service.start_takeover("v", call())
    return await world.service.operations.wait(started.operation_id, 60)


def code(operation: Operation) -> str:
    assert operation.failure is not None
    return operation.failure.code


@pytest.fixture
async def lingering() -> World:
    """A volume that is unmounted, and attached for a minute more."""
    world = World()
    world.deadlines = replace(world.deadlines, linger_s=60)
    world.restart()
    await world.mounted()
    await world.service.unmount("v", "c1")
    return world


async def test_a_release_ends_the_linger(lingering: World) -> None:
    assert lingering.volume().holder == "node-a"
    assert (await release(lingering)).state is SUCCEEDED
    assert (lingering.volume().holder, lingering.entry().desired) == (None, Desired.NONE)
    before = len(lingering.cloud.calls)
    await lingering.run_timers()
    assert lingering.calls_since(before) == [], "nothing is left to do"


async def test_what_is_not_attached_here_is_released(world: World) -> None:
    await world.create("v")
    assert (await release(world)).state is SUCCEEDED
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    assert (await release(world)).state is SUCCEEDED
    assert world.volume().holder == "node-b"


async def test_what_is_in_use_is_not_released(world: World) -> None:
    await world.mounted(mount_id="container-1")
    refused = await release(world)
    assert (refused.state, code(refused)) == (FAILED, "volume-in-use")
    assert "container-1" in str(refused.failure and refused.failure.text)
    assert world.is_mounted()


@pytest.mark.parametrize("is_unknown", [False, True])
async def test_what_may_be_in_use_is_not_released(world: World, is_unknown: bool) -> None:
    await world.mounted()
    if is_unknown:
        world.store.entries.clear()
    world.restart()
    await world.recover()
    assert code(await release(world)) == "volume-in-use"
    assert world.is_mounted()


async def test_what_is_being_mounted_is_not_released(world: World) -> None:
    await world.create("v")
    answer = await world.service.mount("v", "c1", Caller())
    answer.settle(False)
    assert code(await release(world)) == "volume-in-use"
    answer.lock.end_mount()


async def test_a_volume_whose_device_is_held_is_released_once_it_is_free(lingering: World) -> None:
    lingering.occupy("v", "a backup")
    held = await release(lingering)
    assert code(held) == "volume-in-use"
    assert "a backup" in str(held.failure and held.failure.text)
    lingering.vacate("v")
    await lingering.run_timers()
    assert lingering.volume().holder is None
    assert (await lingering.service.get("v")).failure is None


@pytest.mark.parametrize("act", [release, take_over])
async def test_a_volume_that_does_not_exist_is_not_found(world: World, act: object) -> None:
    assert callable(act)
    assert code(await act(world)) == "volume-not-found"
    assert world.ledger.get("v") is None


async def test_an_unfinished_deletion_is_left_to_recovery(world: World) -> None:
    await world.create("v")
    await world.ledger.put(replace(world.entry(), desired=Desired.ABSENT))
    assert code(await release(world)) == "unexpected-state"
    assert world.entry().desired is Desired.ABSENT


async def test_without_the_backend_nothing_is_released_and_it_is_detached_later(lingering: World) -> None:
    lingering.cloud.outage = BackendUnavailable("no route to the cloud")
    assert (await release(lingering)).state is FAILED
    lingering.cloud.outage = None
    await lingering.run_timers()
    assert lingering.volume().holder is None


# Takeover


@pytest.mark.parametrize("policy", TakeoverPolicy)
@pytest.mark.parametrize("state", HolderState)
async def test_a_takeover_does_what_the_plan_says(policy: TakeoverPolicy, state: HolderState) -> None:
    world = World(takeover=policy)
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    marked = {HolderState.DEAD: world.cloud.dead_nodes, HolderState.UNKNOWN: world.cloud.silent_nodes}
    marked.get(state, set()).add("node-b")
    plan = await world.service.plan_takeover("v")
    before = len(world.cloud.calls)
    operation = await take_over(world)
    changes = [each for each in world.calls_since(before) if each in {"fence", "take_from", "attach"}]
    expected = {
        TakeoverOutcome.TAKE: ["take_from"],
        TakeoverOutcome.FENCE: ["fence", "take_from"],
        TakeoverOutcome.REFUSE: [],
    }
    assert changes == expected[plan.outcome]
    if plan.outcome is TakeoverOutcome.REFUSE:
        assert (code(operation), world.volume().holder) == ("volume-in-use", "node-b")
        assert plan.evidence in str(operation.failure and operation.failure.text)
    else:
        assert operation.state is SUCCEEDED
        assert (world.volume().state, world.volume().holder) == (VolumeState.AVAILABLE, None)


async def test_what_no_other_node_has_needs_no_takeover(world: World) -> None:
    await world.create("v")
    assert (await take_over(world)).state is SUCCEEDED
    await world.mount("v")
    before = len(world.cloud.calls)
    assert (await take_over(world)).state is SUCCEEDED
    assert (set(world.calls_since(before)), world.is_mounted()) == ({"get"}, True)


async def test_a_takeover_waits_for_a_detach_that_is_in_progress(world: World) -> None:
    world.timeouts = replace(world.timeouts, leaving_s=0.002, backend_s=1.0)
    world.restart()
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    world.cloud.volumes[world.volume().volume_id] = replace(world.volume(), state=VolumeState.DETACHING)
    world.cloud.dead_nodes.add("node-b")
    before = len(world.cloud.calls)
    assert (await take_over(world)).state is SUCCEEDED
    assert world.volume().holder is None
    assert world.calls_since(before).index("holder_state") > 1, "it is given time to detach"


async def test_a_driver_that_cannot_take_volumes_refuses() -> None:
    class Local(LocalDriver):
        take_from = None  # type: ignore[assignment]  # not able to

    world = World()
    world.backends["memory"] = driver = Local(world.cloud)
    world.restart()
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    world.cloud.dead_nodes.add("node-b")
    refused = await take_over(world)
    assert (code(refused), driver.node_id, world.volume().holder) == ("volume-in-use", "node-a", "node-b")


async def test_the_volume_can_be_mounted_elsewhere_after_a_release(lingering: World) -> None:
    other = MemoryDriver(lingering.cloud, "node-b")
    with pytest.raises(VolumeInUse):
        await other.attach(lingering.volume())
    await release(lingering)
    await other.attach(lingering.volume())
    assert lingering.volume().holder == "node-b"
