"""Recovery of all that a previous process left half done."""

from dataclasses import replace

import pytest

from tests.volumes.world import ROOT, World, spec_of
from volplug.errors import BackendUnavailable, FilesystemMismatch
from volplug.models import EngineIdentity, MountSource, Volume, VolumeState
from volplug.volumes.ledger import Desired, Entry

OUTAGE = BackendUnavailable("no route to the cloud")


async def crash(world: World, *, reboot: bool = False) -> None:
    """Restart; a reboot also ends all mounts, and the store drops the counts from before it."""
    if reboot:
        world.host.mounts.clear()
        world.host.holders.clear()
        entries = world.store.entries.values()
        world.store.entries = {entry.name: entry.without_claims() for entry in entries}
    world.restart()
    await world.recover()


async def test_a_mounted_and_counted_volume_in_use_stays_as_it_is(world: World) -> None:
    await world.create("v")
    await world.mount("v", container="db")
    world.clock.now_s += world.deadlines.mount_grace_s
    before = world.entry()
    await crash(world)
    assert ("v", world.deadlines.mount_grace_s) in world.timers.delays
    await world.run_timers()
    assert world.is_mounted()
    assert world.entry() == before.with_none_confirmed()


async def test_a_counted_volume_is_mounted_once_more_without_asking_its_backend(world: World) -> None:
    await world.mounted()
    await crash(world)
    before = len(world.cloud.calls)
    await world.mount("v", "c2")
    assert world.calls_since(before) == []


async def test_a_counted_volume_whose_unmount_was_sent_while_volplug_did_not_run_is_released(
    world: World,
) -> None:
    await world.mounted()
    await crash(world)
    await world.run_timers()
    await world.run_timers()
    assert (world.is_mounted(), world.volume().holder) == (False, None)


async def test_a_counted_volume_that_is_neither_mounted_nor_held_is_detached(world: World) -> None:
    await world.mounted()
    world.host.mounts.clear()
    await crash(world)
    await world.run_timers()
    assert (world.entry().confirmed, world.entry().desired) == ({}, Desired.NONE)
    assert world.volume().holder is None


async def test_a_counted_volume_held_by_containers_keeps_its_counts_without_our_mount(world: World) -> None:
    """As after a plugin's restart, which ends its mount namespace but no container."""
    await world.mounted()
    world.occupy("v", "container web")
    world.host.mounts.clear()
    await crash(world)
    await world.run_timers()
    assert world.entry().mount_count == 1
    assert world.volume().holder == "node-a"
    assert await world.mount("v", "c2") == "/mounts/v/data"
    assert world.host.disk(world.device()).formats == 1


async def test_a_mount_that_was_never_answered_is_taken_back(world: World) -> None:
    await world.mounted()
    await world.ledger.put(replace(world.entry(), confirmed={}))
    await crash(world)
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_after_a_reboot_what_was_mounted_is_detached(world: World) -> None:
    await world.mounted()
    await crash(world, reboot=True)
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().desired is Desired.NONE


async def test_a_pending_detach_is_done(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    await crash(world)
    await world.run_timers()
    assert world.volume().holder is None


async def test_an_unmount_that_was_only_recorded_is_done(world: World) -> None:
    await world.mounted()
    await world.ledger.put(replace(world.entry(), confirmed={}, desired=Desired.DETACHED))
    await crash(world)
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_mount_without_an_entry_is_kept_until_a_trial_passes(world: World) -> None:
    volume = await world.mounted()
    world.occupy("v", "db")
    world.store.entries.clear()
    await crash(world)
    await world.run_timers()
    assert world.is_mounted()
    assert (world.entry().holders_unknown, world.entry().record) == (True, volume)
    assert (await world.service.get("v")).holders_unknown
    world.vacate("v")
    await world.service.remove("v")
    assert (world.host.mounts, world.cloud.volumes) == ({}, {})


async def test_a_mount_without_an_entry_is_identified_at_any_backend(world: World) -> None:
    world.add_backend("other")
    await world.create("v", backend="other")
    await world.mount("v")
    world.store.entries.clear()
    await crash(world)
    assert world.entry().backend == "other"
    assert world.entry().record is not None


async def test_a_mount_without_an_entry_is_kept_during_an_outage(world: World) -> None:
    await world.mounted()
    world.store.entries.clear()
    world.cloud.outage = OUTAGE
    await crash(world)
    await world.run_timers()
    assert world.is_mounted()
    assert world.entry().holders_unknown


@pytest.mark.parametrize(
    ("desired", "state", "left"),
    [
        (Desired.PRESENT, VolumeState.INCOMPLETE, [VolumeState.AVAILABLE]),
        (Desired.PRESENT, VolumeState.AVAILABLE, [VolumeState.AVAILABLE]),
        (Desired.PRESENT, None, []),
        (Desired.ABSENT, VolumeState.DELETING, []),
        (Desired.ABSENT, VolumeState.AVAILABLE, [VolumeState.AVAILABLE]),
        (Desired.ABSENT, None, []),
    ],
)
async def test_operations_that_the_backend_began_are_finished_and_others_are_not(
    world: World, desired: Desired, state: VolumeState | None, left: list[VolumeState]
) -> None:
    if state is not None:
        volume = await world.driver.create(spec_of("v"))
        world.cloud.volumes[volume.volume_id] = replace(volume, state=state)
    await world.store.save(Entry("v", "memory", desired=desired), durable=True)
    await crash(world)
    await world.run_timers()
    assert [volume.state for volume in world.cloud.volumes.values()] == left
    entry = world.store.entries.get("v")
    assert (entry.desired if entry else Desired.NONE) is Desired.NONE
    assert (entry is not None) == bool(left)


async def test_a_volume_whose_removal_had_not_begun_is_detached(world: World) -> None:
    await world.mounted()
    world.host.mounts.clear()
    await world.ledger.put(replace(world.entry().without_claims(), desired=Desired.ABSENT))
    await crash(world)
    await world.run_timers()
    assert world.volume().holder is None


@pytest.mark.parametrize(
    ("desired", "state", "left"),
    [
        (Desired.PRESENT, VolumeState.INCOMPLETE, [VolumeState.AVAILABLE]),
        (Desired.ABSENT, VolumeState.DELETING, []),
    ],
)
async def test_a_volume_that_an_outage_kept_from_recovery_is_recovered_after_it(
    world: World, desired: Desired, state: VolumeState, left: list[VolumeState]
) -> None:
    volume = await world.driver.create(spec_of("v"))
    world.cloud.volumes[volume.volume_id] = replace(volume, state=state)
    await world.store.save(Entry("v", "memory", desired=desired, record=volume), durable=True)
    world.cloud.outage = OUTAGE
    await crash(world)
    await world.run_timers()
    with pytest.raises(BackendUnavailable):
        await world.mount("v")
    world.cloud.outage = None
    for _ in range(3):
        await world.run_timers()
    assert [volume.state for volume in world.cloud.volumes.values()] == left


async def test_a_retried_recovery_leaves_the_volume_to_a_mount_that_came_meanwhile(
    world: World,
) -> None:
    await world.store.save(Entry("v", "memory", desired=Desired.PRESENT), durable=True)
    world.cloud.outage = OUTAGE
    await crash(world)
    world.cloud.outage = None
    lock, before = world.node.locks.of("v"), len(world.cloud.calls)
    lock.begin_mount()
    await world.run_timers()
    lock.end_mount()
    assert "get" not in world.calls_since(before)


async def test_a_bare_directory_without_a_mount_is_tidied_up(world: World) -> None:
    unmounted: list[str] = []
    remove = world.host.unmount

    async def unmount(target: str, source: MountSource | None = None) -> bool:
        unmounted.append(target)
        return await remove(target, source)

    world.host.unmount = unmount  # type: ignore[method-assign]
    await world.create("v")
    await crash(world)
    assert unmounted == [f"{ROOT}/v"]


async def test_one_volume_that_cannot_be_recovered_does_not_prevent_others(world: World) -> None:
    await world.mounted("a")
    await world.mounted("b")
    world.host.mounts.clear()
    entries = world.store.entries
    entries["a"] = replace(entries["a"], backend="no longer configured")
    await crash(world)
    await world.run_timers()
    assert world.volume("b").holder is None
    assert world.entry("a").mount_count == 1


# Lost state


async def lingering(world: World) -> None:
    """The last unmount has just been answered."""
    world.deadlines = replace(world.deadlines, linger_s=5)
    world.restart()
    await world.mounted()
    await world.service.unmount("v", "c1")


async def test_volumes_attached_before_the_state_was_lost_are_detached_after_a_while(world: World) -> None:
    await lingering(world)
    await world.create("other")
    del world.store.entries["v"]
    await crash(world)
    assert ("search of memory", world.deadlines.mount_grace_s) in world.timers.delays
    await world.run_timers()
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().desired is Desired.NONE


async def test_an_outage_does_not_end_the_search_for_what_is_attached(world: World) -> None:
    await lingering(world)
    world.store.entries.clear()
    world.cloud.outage = OUTAGE
    await crash(world)
    await world.run_timers()
    world.cloud.outage = None
    for _ in range(3):
        await world.run_timers()
    assert world.volume().holder is None


async def test_the_search_does_not_touch_volumes_in_use_or_of_other_nodes(world: World) -> None:
    await world.mounted("used")
    world.occupy("used", "container web")
    await world.mounted("found")
    world.occupy("found", "container db")
    del world.store.entries["found"]
    await world.create("others")
    world.cloud.volumes = {
        key: replace(volume, holder="node-b") if volume.name == "others" else volume
        for key, volume in world.cloud.volumes.items()
    }
    await crash(world)
    for _ in range(3):
        await world.run_timers()
    assert (world.is_mounted("used"), world.is_mounted("found")) == (True, True)
    assert not {("found", 0), ("others", 0)} & set(world.timers.delays), "to be detached"
    assert (world.volume("used").holder, world.volume("others").holder) == ("node-a", "node-b")


async def test_a_mount_that_fails_detaches_a_volume_that_a_previous_process_left_attached(
    world: World,
) -> None:
    await lingering(world)
    world.store.entries.clear()
    await crash(world)
    world.host.disk(world.device()).foreign = "an LVM2_member signature"
    with pytest.raises(FilesystemMismatch):
        await world.mount("v", "c2")
    assert world.entry().desired is Desired.DETACHED
    world.timers.cancel("search of memory")
    await world.run_timers()
    assert world.volume().holder is None


async def test_a_mount_without_an_entry_that_the_cloud_does_not_show_yet_is_identified_later(
    world: World,
) -> None:
    await world.mounted()
    present, world.cloud.volumes = world.cloud.volumes, {}
    world.store.entries.clear()
    await crash(world)
    with pytest.raises(BackendUnavailable, match="the volume is mounted here, but no backend has it"):
        await world.service.get("v")
    world.cloud.volumes = present
    world.clock.now_s += world.deadlines.mount_grace_s
    for _ in range(2):
        await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_begun_deletion_never_deletes_a_new_volume_of_the_name(world: World) -> None:
    old = await world.driver.create(spec_of("v"))
    world.cloud.volumes[old.volume_id] = replace(old, state=VolumeState.DELETING)
    await world.store.save(Entry("v", "memory", desired=Desired.ABSENT, record=old), durable=True)
    get, reads = world.driver.get, 0

    async def get_and_create_anew(name: str) -> Volume | None:
        nonlocal reads
        reads += 1
        found = await get(name)
        if reads == 1:  # between the look-up and the deletion another host deletes it and creates a new one
            del world.cloud.volumes[old.volume_id]
            await world.driver.create(spec_of("v"))
        return found

    world.driver.get = get_and_create_anew  # type: ignore[method-assign]  # the other host acts in between
    await crash(world)
    await world.run_timers()
    assert world.volume().state is VolumeState.AVAILABLE


async def test_a_mount_answered_just_before_a_restart_is_not_tried_before_its_container_has_started(
    world: World,
) -> None:
    """Docker has its path and is about to bind it; meanwhile another container ends."""
    await world.mounted("v", "c1")
    await world.mount("v", "c2")
    await crash(world)
    await world.service.unmount("v", "c1")
    await world.run_timers()
    assert world.is_mounted()
    world.clock.now_s += world.deadlines.mount_grace_s
    await world.run_timers()
    assert not world.is_mounted()


async def test_a_restart_of_the_engine_ends_that_protection(world: World) -> None:
    """As when both restart together: no container of the old engine is about to start."""
    await world.service.engine_seen(EngineIdentity(100, 5))
    await world.create("v")
    await world.mount("v", "c1")
    await crash(world)
    await world.service.engine_seen(EngineIdentity(200, 7))
    await world.mount("v", "c2")
    await world.service.unmount("v", "c2")
    await world.run_timers()
    assert not world.is_mounted()


async def test_a_trial_that_did_not_pass_is_retried_until_it_passes(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    await crash(world)
    world.timers.delays.clear()
    for _ in range(4):
        await world.run_timers()
    assert [delay_s for name, delay_s in world.timers.delays if name == "v"] == [60.0, 120.0, 240.0, 300.0]
    assert world.is_mounted()
    world.vacate("v")
    for _ in range(2):
        await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)
