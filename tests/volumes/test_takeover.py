"""Mounts of volumes that another node has, and races between hosts."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.volumes.world import GENEROUS, Caller, GatedDriver, World
from volplug.drivers.base import Holder
from volplug.errors import (
    BackendDenied,
    BackendUnavailable,
    ClientGone,
    OperationTimeout,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import (
    FilesystemTag,
    HolderState,
    MountSource,
    TakeoverPolicy,
    Volume,
    VolumeState,
)
from volplug.testing.memory import MemoryCloud, MemoryDriver
from volplug.volumes.takeover import TakeoverOutcome

LONG = 3600.0


def world_with(
    policy: TakeoverPolicy = TakeoverPolicy.PROOF,
    wait_s: float = GENEROUS.release_wait_s,
    driver: Callable[[MemoryCloud], GatedDriver] = GatedDriver,
) -> World:
    world = World(takeover=policy, deadlines=replace(GENEROUS, release_wait_s=wait_s))
    world.driver = driver(world.cloud)
    world.backends["memory"] = world.driver
    world.restart()
    return world


async def held_by_b(world: World) -> MemoryDriver:
    await world.create("v")
    node_b = MemoryDriver(world.cloud, "node-b")
    await node_b.attach(world.volume())
    return node_b


async def await_look_ups(world: World, count: int) -> None:
    """Wait until the volume has been looked up that many times more."""
    target = world.cloud.calls.count("get") + count
    while world.cloud.calls.count("get") < target:  # noqa: ASYNC110 - a list of calls has no event
        await asyncio.sleep(0)


async def test_a_mount_waits_for_the_other_node_to_detach() -> None:
    world = world_with(wait_s=LONG)
    node_b = await held_by_b(world)
    mounting = asyncio.create_task(world.mount("v"))
    await await_look_ups(world, 3)
    assert not mounting.done()
    await node_b.detach(world.volume())
    assert await mounting == "/mounts/v/data"
    assert world.volume().holder == "node-a"


async def test_a_client_that_leaves_ends_the_wait_and_nothing_is_attached() -> None:
    world = world_with(wait_s=LONG)
    node_b = await held_by_b(world)
    caller = Caller()
    mounting = asyncio.create_task(world.service.mount("v", "c1", caller))
    await await_look_ups(world, 1)
    caller.gone = True
    await node_b.detach(world.volume())
    with pytest.raises(ClientGone):
        await mounting
    assert world.volume().holder is None


async def test_nothing_is_attached_for_a_client_that_leaves_during_the_look_up_after_the_wait() -> None:
    world = world_with(wait_s=LONG)
    node_b = await held_by_b(world)
    caller = Caller()
    mounting = asyncio.create_task(world.service.mount("v", "c1", caller))
    await await_look_ups(world, 2)
    await node_b.detach(world.volume())
    last_look = world.driver.hold("get")
    await last_look.reached.wait()
    caller.gone = True
    last_look.opened.set()
    with pytest.raises(ClientGone):
        await mounting
    assert world.volume().holder is None


class ObservedDriver(GatedDriver):
    """The client leaves while the other node is judged."""

    caller = Caller()

    async def holder_state(self, node_id: str) -> Holder:
        self.caller.gone = True
        return await super().holder_state(node_id)


@pytest.mark.parametrize("marked", ["dead_nodes", "silent_nodes"])
async def test_nothing_is_taken_over_and_no_node_stopped_for_a_client_that_has_left(marked: str) -> None:
    world = world_with(TakeoverPolicy.FENCE, wait_s=0, driver=ObservedDriver)
    await held_by_b(world)
    getattr(world.cloud, marked).add("node-b")
    with pytest.raises(ClientGone):
        await world.service.mount("v", "c1", ObservedDriver.caller)
    assert not {"fence", "take_from"} & set(world.cloud.calls)


async def test_a_volume_of_a_dead_node_is_taken_at_once() -> None:
    world = world_with(wait_s=LONG)
    await held_by_b(world)
    world.cloud.dead_nodes.add("node-b")
    before = len(world.cloud.calls)
    await world.mount("v")
    assert world.volume().holder == "node-a"
    assert world.calls_since(before)[:4] == ["get", "holder_state", "take_from", "attach"]


async def test_the_verdict_on_one_node_is_not_applied_to_the_next() -> None:
    world = world_with(wait_s=LONG)
    node_b = await held_by_b(world)
    world.cloud.dead_nodes.add("node-c")
    mounting = asyncio.create_task(world.mount("v"))
    await await_look_ups(world, 1)
    await node_b.detach(world.volume())
    await MemoryDriver(world.cloud, "node-c").attach(world.volume())
    await mounting
    assert world.cloud.calls.count("holder_state") == 2


class RestartedNodeDriver(GatedDriver):
    """The node is started right after the volume was taken from it, and attaches it again."""

    async def take_from(self, volume: Volume, node_id: str) -> None:
        await super().take_from(volume, node_id)
        self._cloud.dead_nodes.clear()
        await MemoryDriver(self._cloud, node_id).attach(volume)


async def test_a_node_that_has_the_volume_again_after_the_takeover_is_judged_again() -> None:
    world = world_with(wait_s=LONG, driver=RestartedNodeDriver)
    node_b = await held_by_b(world)
    world.cloud.dead_nodes.add("node-b")
    mounting = asyncio.create_task(world.mount("v"))
    await await_look_ups(world, 3)
    await node_b.detach(world.volume())
    await mounting
    assert world.volume().holder == "node-a"


async def test_a_node_that_dies_during_the_wait_is_detected() -> None:
    world = world_with(wait_s=0.05)
    await held_by_b(world)
    mounting = asyncio.create_task(world.mount("v"))
    await await_look_ups(world, 2)
    world.cloud.dead_nodes.add("node-b")
    await mounting
    assert world.volume().holder == "node-a"


@pytest.mark.parametrize(
    ("policy", "state", "outcome"),
    [
        (TakeoverPolicy.PROOF, HolderState.DEAD, TakeoverOutcome.TAKE),
        (TakeoverPolicy.PROOF, HolderState.UNKNOWN, TakeoverOutcome.REFUSE),
        (TakeoverPolicy.PROOF, HolderState.ALIVE, TakeoverOutcome.REFUSE),
        (TakeoverPolicy.FENCE, HolderState.DEAD, TakeoverOutcome.TAKE),
        (TakeoverPolicy.FENCE, HolderState.UNKNOWN, TakeoverOutcome.FENCE),
        (TakeoverPolicy.FENCE, HolderState.ALIVE, TakeoverOutcome.REFUSE),
        (TakeoverPolicy.NEVER, HolderState.DEAD, TakeoverOutcome.REFUSE),
        (TakeoverPolicy.NEVER, HolderState.UNKNOWN, TakeoverOutcome.REFUSE),
        (TakeoverPolicy.NEVER, HolderState.ALIVE, TakeoverOutcome.REFUSE),
    ],
)
async def test_the_policy_decides_and_the_dry_run_predicts_it(
    policy: TakeoverPolicy, state: HolderState, outcome: TakeoverOutcome
) -> None:
    world = world_with(policy)
    await held_by_b(world)
    marked = {HolderState.DEAD: world.cloud.dead_nodes, HolderState.UNKNOWN: world.cloud.silent_nodes}
    marked.get(state, set()).add("node-b")
    plan = await world.service.plan_takeover("v")
    assert (plan.holder, plan.state, plan.policy, plan.outcome) == ("node-b", state, policy, outcome)
    assert plan.evidence
    assert world.volume().holder == "node-b", "a dry run changes nothing"
    before = len(world.cloud.calls)
    if outcome is TakeoverOutcome.REFUSE:
        with pytest.raises(VolumeInUse):
            await world.mount("v")
    else:
        await world.mount("v")
    changes = [call for call in world.calls_since(before) if call in {"fence", "take_from"}]
    expected = {
        TakeoverOutcome.TAKE: ["take_from"],
        TakeoverOutcome.FENCE: ["fence", "take_from"],
        TakeoverOutcome.REFUSE: [],
    }
    assert changes == expected[outcome]
    assert world.volume().holder == ("node-b" if outcome is TakeoverOutcome.REFUSE else "node-a")


async def test_a_refusal_has_the_evidence_and_the_remedy() -> None:
    world = world_with()
    await held_by_b(world)
    world.cloud.silent_nodes.add("node-b")
    with pytest.raises(VolumeInUse) as refused:
        await world.mount("v")
    assert str(refused.value) == (
        "node node-b holds the volume (node-b does not answer) "
        f'[mount "v", memory {world.volume().volume_id}, node node-a]. '
        "Stop its containers (Swarm: order stop-first); if it is dead, stop node-b."
    )


async def test_a_node_that_the_backend_does_not_name_is_neither_alive_nor_dead() -> None:
    world = world_with(TakeoverPolicy.FENCE)
    await held_by_b(world)
    world.cloud.volumes = {key: replace(each, holder=None) for key, each in world.cloud.volumes.items()}
    before = len(world.cloud.calls)
    with pytest.raises(VolumeInUse, match="the backend does not name the node"):
        await world.mount("v")
    assert set(world.calls_since(before)) == {"get"}


async def test_the_plan_for_a_volume_without_another_holder_is_to_do_nothing(world: World) -> None:
    await world.create("v")
    assert (await world.service.plan_takeover("v")).outcome is TakeoverOutcome.NOTHING_TO_DO
    await world.mount("v")
    assert (await world.service.plan_takeover("v")).outcome is TakeoverOutcome.NOTHING_TO_DO
    with pytest.raises(VolumeNotFound):
        await world.service.plan_takeover("w")


class DeniedDriver(GatedDriver):
    """Has no permission to read nodes."""

    async def holder_state(self, node_id: str) -> Holder:
        raise BackendDenied("ec2:DescribeInstances is not allowed")


async def test_a_node_whose_state_cannot_be_read_is_neither_alive_nor_dead() -> None:
    world = world_with(driver=DeniedDriver)
    await held_by_b(world)
    plan = await world.service.plan_takeover("v")
    assert (plan.state, plan.outcome) == (HolderState.UNKNOWN, TakeoverOutcome.REFUSE)
    with pytest.raises(VolumeInUse, match="whether it is alive is not known"):
        await world.mount("v")


class RacingDriver(GatedDriver):
    """Another node attaches just before this one does, and detaches after some tries."""

    losses = 2

    async def attach(self, volume: Volume) -> MountSource:
        if self.losses:
            self.losses -= 1
            raise VolumeInUse("node-b was faster", holder="node-b")
        return await super().attach(volume)


async def test_a_lost_race_for_the_volume_is_waited_out() -> None:
    world = world_with(wait_s=LONG, driver=RacingDriver)
    await world.create("v")
    await world.mount("v")
    assert world.volume().holder == "node-a"


async def test_a_lost_race_without_a_wait_is_an_error() -> None:
    world = world_with(wait_s=0, driver=RacingDriver)
    await world.create("v")
    with pytest.raises(VolumeInUse, match="node-b was faster"):
        await world.mount("v")


class StaleTagDriver(GatedDriver):
    """Shows the first filesystem tag for some reads."""

    late_looks = 0

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        if found is not None and self.late_looks:
            self.late_looks -= 1
            return replace(found, filesystem=FilesystemTag())
        return found


async def test_a_stale_filesystem_tag_is_read_again_and_the_data_kept() -> None:
    world = world_with(driver=StaleTagDriver)
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.run_timers()
    formats = world.host.disk(world.device()).formats
    await world.ledger.forget("v")  # as on another host
    assert isinstance(world.driver, StaleTagDriver)
    world.driver.late_looks = 3
    await world.mount("v", "c2")
    assert world.host.disk(world.device()).formats == formats


async def test_no_node_is_fenced_because_the_backend_does_not_answer() -> None:
    world = world_with(TakeoverPolicy.FENCE, driver=DeniedDriver)
    await held_by_b(world)
    with pytest.raises(VolumeInUse):
        await world.mount("v")
    assert "fence" not in world.cloud.calls
    assert (await world.service.plan_takeover("v")).outcome is TakeoverOutcome.REFUSE


async def test_a_volume_stuck_in_its_detach_from_a_dead_node_is_taken_over() -> None:
    world = world_with()
    world.timeouts = replace(world.timeouts, leaving_s=0.002, backend_s=1.0)
    world.restart()
    await held_by_b(world)
    stuck = replace(world.volume(), state=VolumeState.DETACHING)
    world.cloud.volumes[stuck.volume_id] = stuck
    world.cloud.dead_nodes.add("node-b")
    before = len(world.cloud.calls)
    await world.mount("v")
    assert world.volume().holder == "node-a"
    assert world.calls_since(before).index("holder_state") > 1, (
        "it is given time to detach without a takeover"
    )


async def test_a_client_that_leaves_ends_the_wait_for_the_backend() -> None:
    world = world_with()
    world.timeouts = replace(world.timeouts, backend_s=LONG)
    world.restart()
    await held_by_b(world)
    world.cloud.volumes[world.volume().volume_id] = replace(world.volume(), state=VolumeState.DETACHING)
    caller = Caller()
    mounting = asyncio.create_task(world.service.mount("v", "c1", caller))
    await await_look_ups(world, 2)
    caller.gone = True
    with pytest.raises(ClientGone):
        await mounting


class ChangingHolderDriver(GatedDriver):
    """Every read shows another node."""

    nodes = 0

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        self.nodes += 1
        return replace(found, holder=f"node-{self.nodes}") if found and found.holder else found


async def test_a_holder_that_keeps_changing_is_refused_by_name() -> None:
    world = world_with(wait_s=0.02, driver=ChangingHolderDriver)
    await held_by_b(world)
    with pytest.raises(VolumeInUse, match="holds the volume"):
        await world.mount("v")


class LostDetachDriver(GatedDriver):
    """The backend begins a detach whose answer is lost; the device still shows."""

    async def detach(self, volume: Volume) -> None:
        self._put(replace(self._current(volume), state=VolumeState.DETACHING))
        raise BackendUnavailable("the answer was lost")


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_device_with_a_possible_detach_is_not_mounted_without_a_look_up(
    is_restarted: bool,
) -> None:
    world = world_with(driver=LostDetachDriver)
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert world.volume().state is VolumeState.DETACHING
    if is_restarted:
        world.restart()
        await world.recover()
    with pytest.raises(OperationTimeout, match="the backend reports detaching"):
        await world.mount("v", "c2")
    assert not world.is_mounted()
