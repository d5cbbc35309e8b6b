"""Release and detach with retries, and trial releases of unconfirmed counts."""

import asyncio
from dataclasses import replace

import pytest

from tests.volumes.world import Caller, World
from volplug.errors import BackendUnavailable, ClientGone, MountFailed, VolumeInUse
from volplug.host.base import HostReading, Locate, MountRequest
from volplug.models import EngineIdentity, Volume
from volplug.volumes.converge import Converger
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import Deadlines
from volplug.volumes.operations import Operation
from volplug.volumes.options import Defaults
from volplug.volumes.release import Releaser
from volplug.volumes.service import VolumeService

FIRST_ENGINE, NEXT_ENGINE = EngineIdentity(100, 5), EngineIdentity(200, 7)


async def _no_mount(request: MountRequest, locate: Locate) -> HostReading:
    raise MountFailed(f"{request.source.name} does not answer")


async def unmounted_while_held(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse):
        await world.service.unmount("v", "c1")


async def test_a_volume_in_use_is_retried_after_longer_and_longer_pauses(world: World) -> None:
    world.deadlines = Deadlines(retry_max_s=5)
    world.restart()
    await unmounted_while_held(world)
    world.timers.delays.clear()
    for _ in range(6):
        await world.run_timers()
    assert world.timers.delays == [("v", delay) for delay in (1.0, 2.0, 4.0, 5.0, 5.0, 5.0)]
    assert world.volume().holder == "node-a"


async def test_a_pause_is_never_longer_than_the_limit(world: World) -> None:
    world.deadlines = Deadlines(retry_max_s=0.25)
    world.restart()
    await unmounted_while_held(world)
    world.timers.delays.clear()
    await world.run_timers()
    assert world.timers.delays == [("v", 0.25)]


async def test_it_is_detached_once_it_is_free_and_the_error_is_cleared(world: World) -> None:
    await unmounted_while_held(world)
    await world.run_timers()
    failure = world.entry().failure
    assert failure is not None
    assert "container web" in failure.text
    world.vacate("v")
    await world.run_timers()
    assert world.volume().holder is None
    assert (world.entry().desired, world.entry().failure) == (Desired.NONE, None)


@pytest.mark.parametrize("error", [BackendUnavailable("no route to the cloud"), RuntimeError("a bug")])
async def test_no_error_ends_the_retries(world: World, error: Exception) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")

    async def fail(volume: Volume) -> None:
        raise error

    detach, world.driver.detach = world.driver.detach, fail  # type: ignore[method-assign]
    await world.run_timers()
    assert world.entry().desired is Desired.DETACHED
    world.driver.detach = detach  # type: ignore[method-assign]
    await world.run_timers()
    assert world.volume().holder is None


async def test_a_detach_that_fails_does_not_end_the_retries(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    gate = world.driver.hold("detach")
    world.timers.fire()
    await gate.reached.wait()
    volume = world.cloud.volumes.pop(world.volume().volume_id)
    gate.opened.set()
    await world.run_timers()
    world.cloud.volumes[volume.volume_id] = volume
    await world.run_timers()
    assert world.volume().holder is None


async def test_a_volume_mounted_again_is_not_detached_by_an_old_timer(world: World) -> None:
    await unmounted_while_held(world)
    await world.mount("v", "c2")
    world.vacate("v")
    await world.run_timers()
    assert world.is_mounted()
    assert world.volume().holder == "node-a"


async def test_a_detach_that_waits_for_the_lock_leaves_a_mount_alone_that_came_meanwhile(
    world: World,
) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    before = len(world.cloud.calls)
    world.timers.fire()
    await world.mount("v", "c2")
    await world.run_timers()
    assert world.is_mounted()
    assert "detach" not in world.calls_since(before)


# Trial releases


class Trials:
    """Trial releases of the volume v."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.releaser = Releaser(world.node, Converger(world.node))

    async def trial_release(self) -> None:
        operation = Operation("1", "release", "v")
        await self.releaser.trial_release(self._world.entry(), 0, operation)


@pytest.fixture
async def trials(world: World) -> Trials:
    return Trials(world)


async def test_a_passed_trial_drops_the_counts_and_unmounts(world: World, trials: Trials) -> None:
    await world.mounted()
    await trials.trial_release()
    assert world.host.mounts == {}
    entry = world.store.entries["v"]
    assert (entry.confirmed, entry.desired) == ({}, Desired.DETACHED)


async def test_a_trial_that_does_not_pass_remounts_and_keeps_the_counts(world: World, trials: Trials) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    world.host.disk(world.device()).is_dirty = True  # as every filesystem in use is
    with pytest.raises(VolumeInUse) as held:
        await trials.trial_release()
    assert "the volume is still in use by container web" in str(held.value)
    assert world.is_mounted()
    assert (world.entry().confirmed, world.entry().desired) == ({"c1": 1}, Desired.MOUNTED)
    assert world.host.disk(world.device()).is_dirty, "a filesystem in use was checked"


@pytest.mark.parametrize("age_s", [0.0, 59.0])
async def test_a_recent_mount_is_not_tried(world: World, trials: Trials, age_s: float) -> None:
    await world.create("v")
    await world.mount("v")
    world.clock.now_s += age_s
    with pytest.raises(VolumeInUse) as refused:
        await trials.trial_release()
    assert str(refused.value) == (
        f"the volume was mounted for Docker {age_s:.0f} s ago and not unmounted. "
        f"Stop the container that uses it, or try again in {60 - age_s:.0f} s."
    )
    assert world.is_mounted()


async def test_a_volume_that_is_being_mounted_is_not_tried(world: World, trials: Trials) -> None:
    await world.mounted()
    lock = world.node.locks.of("v")
    lock.begin_mount()
    with pytest.raises(VolumeInUse) as refused:
        await trials.trial_release()
    lock.end_mount()
    assert str(refused.value) == (
        "the volume is being mounted. Wait for the container to start, then stop it."
    )
    assert world.is_mounted()


async def test_a_mount_with_an_unknown_device_is_not_touched(world: World, trials: Trials) -> None:
    """Without a device there is no test; an unmount alone proves nothing."""
    await world.mounted()
    world.occupy("v", "container web")
    await world.ledger.put(Entry("v", "memory", holders_unknown=True))
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    with pytest.raises(VolumeInUse) as refused:
        await trials.trial_release()
    assert str(refused.value) == (
        "what is mounted here cannot be identified as a volume. See the log of volplug."
    )
    assert world.is_mounted()
    assert world.entry().holders_unknown


async def test_a_trial_whose_remount_fails_reports_the_holder_and_retries(
    world: World, trials: Trials
) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    mounting, world.host.mount = world.host.mount, _no_mount  # type: ignore[method-assign]  # a disk with a transient fault
    with pytest.raises(VolumeInUse, match="container web"):
        await trials.trial_release()
    assert not world.is_mounted()
    world.host.mount = mounting  # type: ignore[method-assign]  # and recovers
    await world.run_timers()
    assert world.is_mounted()
    assert world.entry().mount_count == 1


async def test_the_next_trial_does_not_replace_a_pending_remount(world: World, trials: Trials) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    await trials.releaser.unconfirm("v", may_begin=False)
    mounting, world.host.mount = world.host.mount, _no_mount  # type: ignore[method-assign]
    await world.run_timers()
    assert not world.is_mounted()
    world.host.mount = mounting  # type: ignore[method-assign]
    await world.run_timers()
    assert world.is_mounted()


async def test_a_mount_without_counts_is_not_remounted(world: World, trials: Trials) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    tried: list[str] = []

    async def hiccup(request: MountRequest, locate: Locate) -> HostReading:
        tried.append(request.target)
        return await _no_mount(request, locate)

    world.host.mount = hiccup  # type: ignore[method-assign]
    with pytest.raises(VolumeInUse):
        await trials.trial_release()
    world.vacate("v")
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert len(tried) == 1
    assert world.volume().holder is None


async def test_a_volume_found_mounted_is_released_after_an_unmount_that_passes_the_trial(
    world: World,
) -> None:
    await world.mounted()
    await world.ledger.put(replace(world.entry(), confirmed={}, desired=Desired.NONE, holders_unknown=True))
    await world.service.unmount("v", "other")
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_volume_found_mounted_and_held_stays_after_an_unmount(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    await world.ledger.put(replace(world.entry(), confirmed={}, desired=Desired.NONE, holders_unknown=True))
    await world.service.unmount("v", "other")
    assert world.is_mounted()
    assert world.entry().holders_unknown


# The engine's restart


async def test_a_restart_of_the_engine_makes_its_counts_unconfirmed(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    await world.service.engine_seen(FIRST_ENGINE)
    assert world.entry().unconfirmed == {}
    world.timers.delays.clear()
    await world.service.engine_seen(NEXT_ENGINE)
    assert (world.entry().confirmed, world.entry().unconfirmed) == ({}, {"c1": 1})
    assert world.timers.delays == [("v", 60.0)]
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_containers_that_outlive_their_engine_keep_their_volume(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    world.occupy("v", "container web")
    await world.service.engine_seen(NEXT_ENGINE)
    await world.run_timers()
    assert world.is_mounted()
    assert world.entry().mount_count == 1


async def test_a_copy_into_a_container_that_outlived_its_engine_changes_nothing(world: World) -> None:
    """`docker cp` repeats the container's ID; after its Unmount only the unconfirmed count is left."""
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    world.occupy("v", "container web")
    await world.service.engine_seen(NEXT_ENGINE)
    await world.mount("v", "c1")
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert world.is_mounted()
    assert world.entry().mount_count == 1
    world.vacate("v")
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_mount_whose_client_left_does_not_end_the_trial_of_other_counts(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    await world.service.engine_seen(NEXT_ENGINE)
    with pytest.raises(ClientGone):
        await world.service.mount("v", "c2", Caller(gone=True))
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_calls_that_come_while_an_engines_restart_is_recorded_are_not_undone(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    for name in ("a", "b"):
        await world.create(name)
        await world.mount(name)
    await asyncio.gather(
        world.service.engine_seen(NEXT_ENGINE), world.mount("b", "c2"), world.service.unmount("a", "c1")
    )
    assert world.entry("b").confirmed.get("c2", 0) + world.entry("b").unconfirmed.get("c2", 0) == 1
    assert world.entry("a").mount_count == 0


async def test_a_second_engine_while_the_first_is_alive_leaves_counts_confirmed(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    world.node = replace(world.node, is_engine_alive=lambda _: True)
    world.service = VolumeService(world.node, Defaults())
    await world.service.engine_seen(NEXT_ENGINE)
    assert world.entry().unconfirmed == {}


async def test_an_engine_recorded_by_a_previous_process_is_recognised(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    world.restart()
    await world.service.engine_seen(FIRST_ENGINE)
    assert world.timers.delays == []
    await world.service.engine_seen(NEXT_ENGINE)
    assert world.timers.delays == [("v", 60.0)], "no trial release is scheduled"


async def test_stopping_leaves_counts_confirmed(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    await world.service.engine_seen(NEXT_ENGINE)
    await world.service.stop(5)
    assert world.is_mounted()
    assert world.store.entries["v"].mount_count == 1


async def test_a_container_restarted_by_a_new_engine_keeps_the_volume_until_its_unmount(world: World) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    await world.service.engine_seen(NEXT_ENGINE)
    await world.mount("v", "c1")
    assert (world.entry().confirmed, world.entry().unconfirmed) == ({"c1": 1}, {"c1": 1})
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert world.host.mounts == {}


@pytest.mark.parametrize("lived_s", [5.0, 90.0])
async def test_remaining_unconfirmed_counts_are_tried_once_the_others_have_gone(
    world: World, lived_s: float
) -> None:
    await world.service.engine_seen(FIRST_ENGINE)
    await world.mounted()
    await world.service.engine_seen(NEXT_ENGINE)
    await world.mount("v", "c2")
    world.clock.now_s += lived_s
    await world.service.unmount("v", "c2")
    await world.run_timers()
    world.clock.now_s += 60
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)
