"""Transitions at a backend: they are waited for, and reads during them may be stale."""

from dataclasses import replace

import pytest

from tests.volumes.bench import FINISHED, UUID, Bench
from tests.volumes.world import IMPATIENT, World, spec_of
from volplug.errors import OperationTimeout
from volplug.models import Volume, VolumeState
from volplug.testing.memory import MemoryDriver
from volplug.volumes.decision import Goal
from volplug.volumes.ledger import Desired, Entry

PATIENT = replace(IMPATIENT, backend_s=10.0)


class SettlingDriver(MemoryDriver):
    """A driver that waits for transitions itself; each ends with the first wait that is not in vain."""

    waits_in_vain = 0

    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        self._cloud.record_call("wait_settled")
        assert timeout_s > 0
        if self.waits_in_vain:
            self.waits_in_vain -= 1
            return None
        return self._put(replace(self._current(volume), state=VolumeState.AVAILABLE, holder=None))


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    bench.driver = SettlingDriver(bench.cloud)
    return bench


@pytest.mark.parametrize(
    ("state", "goal"),
    [
        (VolumeState.CREATING, Goal.PRESENT),
        (VolumeState.CREATING, Goal.MOUNTED),
        (VolumeState.CREATING, Goal.ABSENT),
        (VolumeState.DETACHING, Goal.MOUNTED),
        (VolumeState.DETACHING, Goal.DETACHED),
        (VolumeState.DETACHING, Goal.ABSENT),
    ],
)
async def test_a_transition_is_waited_for_by_the_driver_and_not_polled(
    bench: Bench, state: VolumeState, goal: Goal
) -> None:
    await bench.volume(state=state)
    bench.cloud.calls.clear()
    await bench.to(goal, spec=spec_of("v"))
    assert bench.cloud.calls[:2] == ["get", "wait_settled"]
    assert bench.cloud.calls.count("get") == 1
    assert "create" not in bench.cloud.calls


async def test_a_wait_in_vain_is_followed_by_a_look_up(bench: Bench) -> None:
    await bench.volume(state=VolumeState.CREATING)
    bench.cloud.calls.clear()
    bench.driver.waits_in_vain = 1  # type: ignore[attr-defined]  # of the fixture's driver
    await bench.to(Goal.ABSENT)
    assert bench.cloud.calls == ["get", "wait_settled", "get", "wait_settled", "delete"]


async def test_a_driver_that_cannot_wait_is_polled_until_the_timeout(bench: Bench) -> None:
    bench.driver = MemoryDriver(bench.cloud)
    await bench.volume(state=VolumeState.CREATING)
    bench.cloud.calls.clear()
    with pytest.raises(OperationTimeout, match="the backend reports creating"):
        await bench.to(Goal.MOUNTED)
    assert bench.cloud.calls.count("get") > 1
    assert set(bench.cloud.calls) == {"get"}


async def test_a_device_found_before_a_wait_is_located_again(bench: Bench) -> None:
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.DETACHING)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    await bench.to(Goal.MOUNTED)
    assert bench.cloud.calls[-2:] == ["wait_settled", "attach"]


class StaleDriver(MemoryDriver):
    """Some more reads show the volume attached although it is being detached; then the detach ends."""

    stale_reads = 0

    async def get(self, name: str) -> Volume | None:
        found = await super().get(name)
        self.stale_reads -= 1
        if found is None or self.stale_reads:
            return found
        return self._put(replace(found, state=VolumeState.AVAILABLE, holder=None))


@pytest.mark.parametrize("stale_reads", [1, IMPATIENT.recheck_limit])
async def test_a_device_with_a_possible_detach_is_not_mounted_because_of_a_stale_read(
    bench: Bench, stale_reads: int
) -> None:
    """A detach was requested and its answer lost; a cloud takes none back."""
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    driver = bench.driver = StaleDriver(bench.cloud)
    driver.stale_reads = stale_reads + 1
    await bench.run(Goal.MOUNTED, known=volume, detach_pending=True, timeouts=PATIENT).to_goal()
    assert bench.cloud.calls.count("attach") == 1


async def test_a_device_that_stays_in_spite_of_a_lost_detach_is_mounted_in_the_end(bench: Bench) -> None:
    bench.driver = MemoryDriver(bench.cloud)
    volume = await bench.volume(FINISHED, holder="node-a", state=VolumeState.IN_USE)
    bench.disk(volume, fs_type="ext4", uuid=UUID, directories={"data"})
    before = len(bench.cloud.calls)
    await bench.run(Goal.MOUNTED, known=volume, detach_pending=True, timeouts=PATIENT).to_goal()
    assert bench.cloud.calls[before:] == ["get"] * (IMPATIENT.recheck_limit + 1)


@pytest.mark.parametrize(
    ("desired", "state", "holder"),
    [
        (Desired.PRESENT, VolumeState.CREATING, None),
        (Desired.DETACHED, VolumeState.DETACHING, "node-a"),
    ],
)
async def test_a_transition_that_volplug_was_killed_in_is_waited_for_by_the_next_start(
    desired: Desired, state: VolumeState, holder: str | None
) -> None:
    """EC2 had answered CreateVolume or DetachVolume, and continues without volplug."""
    world = World()
    volume = await world.driver.create(spec_of("v"))
    world.cloud.volumes[volume.volume_id] = replace(volume, state=state, holder=holder)
    await world.store.save(Entry("v", "memory", record=volume, desired=desired), durable=True)
    world.backends["memory"] = SettlingDriver(world.cloud)
    world.restart()
    world.cloud.calls.clear()
    await world.recover()
    await world.run_timers()
    assert world.volume() == volume
    assert "wait_settled" in world.cloud.calls
    assert not {"create", "detach", "delete"} & set(world.cloud.calls)
    assert world.entry().desired is Desired.NONE


async def test_detaching_waits_for_a_backend_that_is_detaching_already(world: World) -> None:
    volume = await world.mounted()
    await world.service.unmount("v", "c1")
    detaching = replace(volume, state=VolumeState.DETACHING)
    world.cloud.volumes[volume.volume_id] = replace(detaching, holder=None)
    before = len(world.cloud.calls)
    gate = world.driver.hold("get")
    world.timers.fire()
    await gate.reached.wait()
    world.cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.AVAILABLE, holder=None)
    gate.opened.set()
    await world.run_timers()
    assert "detach" not in world.calls_since(before)
    assert world.entry().desired is Desired.NONE


async def test_a_volume_in_error_that_was_detached_is_looked_up_again(world: World) -> None:
    """As after a failed format."""
    await world.driver.attach(await world.driver.create(spec_of("v")))
    broken = replace(world.volume(), state=VolumeState.ERROR)
    world.cloud.volumes[broken.volume_id] = broken
    await world.store.save(Entry("v", "memory", desired=Desired.DETACHED, record=broken), durable=True)
    world.restart()
    await world.recover()
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().record == world.volume()
