import asyncio
from dataclasses import replace

import pytest

from tests.volumes.world import Caller, Gate, World
from volplug.errors import (
    ClientGone,
    FilesystemMismatch,
    OperationTimeout,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import FilesystemPhase, FilesystemTag, VolumeState
from volplug.testing.memory import MemoryDriver
from volplug.volumes.ledger import Desired
from volplug.volumes.node import Deadlines


async def test_the_first_mount_attaches_formats_and_mounts(world: World) -> None:
    await world.create("v")
    assert await world.mount("v", "c1") == "/mounts/v/data"
    volume, disk = world.volume(), world.host.disk(world.device())
    assert (volume.holder, volume.state) == ("node-a", VolumeState.IN_USE)
    assert volume.filesystem == FilesystemTag(FilesystemPhase.FORMATTED, "ext4", disk.uuid)
    assert (disk.formats, disk.directories) == (1, {"data"})
    assert (world.entry().confirmed, world.entry().desired) == ({"c1": 1}, Desired.MOUNTED)


async def test_the_next_mount_formats_nothing_and_keeps_the_data(world: World) -> None:
    await world.mounted()
    world.host.disk(world.device()).directories.add("data/mysql")
    await world.service.unmount("v", "c1")
    await world.run_timers()
    await world.mount("v", "c2")
    disk = world.host.disk(world.device())
    assert (disk.formats, disk.directories) == (1, {"data", "data/mysql"})


async def test_a_cold_mount_costs_one_look_up_and_one_attach(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.run_timers()
    before = len(world.cloud.calls)
    await world.mount("v")
    assert world.calls_since(before) == ["get", "attach"]


async def test_a_mount_of_a_mounted_volume_calls_no_backend(world: World) -> None:
    await world.mounted()
    before = len(world.cloud.calls)
    assert await world.mount("v", "c2") == "/mounts/v/data"
    assert world.calls_since(before) == []


async def test_mounted_is_recorded_durably_before_the_first_change(world: World) -> None:
    await world.create("v")
    gate = world.driver.hold("attach")
    mounting = asyncio.create_task(world.mount("v"))
    await gate.reached.wait()
    assert world.store.writes[-1] == ("v", "mounted", True)
    gate.opened.set()
    await mounting


async def test_an_unknown_volume_is_not_found_and_leaves_no_trace(world: World) -> None:
    with pytest.raises(VolumeNotFound) as refused:
        await world.mount("v")
    assert str(refused.value) == (
        'no such volume [mount "v", memory, node node-a]. Create it: docker volume create -d volplug NAME.'
    )
    assert (world.ledger.get("v"), world.store.entries, world.timers.delays) == (None, {}, [])


async def test_a_volume_held_by_another_node_is_refused_naming_it(world: World) -> None:
    await world.create("v")
    await MemoryDriver(world.cloud, "node-b").attach(world.volume())
    with pytest.raises(VolumeInUse) as refused:
        await world.mount("v")
    assert str(refused.value) == (
        "node node-b holds the volume (node-b is running) "
        f'[mount "v", memory {world.volume().volume_id}, node node-a]. '
        "Stop its containers (Swarm: order stop-first)."
    )


async def test_fifty_concurrent_mounts_of_one_volume_share_the_work(world: World) -> None:
    await world.create("v")
    before = len(world.cloud.calls)
    paths = await asyncio.gather(*(world.mount("v", f"c{number}") for number in range(50)))
    assert set(paths) == {"/mounts/v/data"}
    assert world.calls_since(before).count("attach") == 1
    assert world.host.disk(world.device()).formats == 1
    assert world.entry().confirmed == {f"c{number}": 1 for number in range(50)}


async def test_fifty_volumes_are_mounted_concurrently(world: World) -> None:
    names = [f"v{number}" for number in range(50)]
    await asyncio.gather(*(world.create(name) for name in names))
    gate = world.driver.hold("attach")
    mounting = [asyncio.create_task(world.mount(name)) for name in names]
    await gate.reached.wait()
    gate.opened.set()
    assert await asyncio.gather(*mounting) == [f"/mounts/{name}/data" for name in names]


@pytest.mark.parametrize("disk", [{"foreign": "an LVM2_member signature"}, {"fs_type": "ext4", "uuid": "x"}])
async def test_a_volume_that_should_be_blank_and_is_not_is_never_formatted(
    world: World, disk: dict[str, str]
) -> None:
    await world.create("v")
    seen = world.host.disk(world.device())
    for attribute, value in disk.items():
        setattr(seen, attribute, value)
    before = replace(seen)
    found = disk.get("foreign", "an ext4 filesystem with another UUID")
    with pytest.raises(FilesystemMismatch) as refused:
        await world.mount("v")
    assert str(refused.value) == (
        f"a new volume should be blank, but holds {found}; it is not formatted "
        f'[mount "v", memory {world.volume().volume_id}, node node-a]. '
        "Nothing was changed; see what is on it. If that is not needed, remove the volume."
    )
    assert (seen, world.volume().filesystem) == (before, FilesystemTag())


async def test_a_formatted_volume_found_blank_is_not_formatted_again(world: World) -> None:
    await world.mounted()
    await world.service.unmount("v", "c1")
    await world.run_timers()
    world.host.disk(world.device()).fs_type = ""
    with pytest.raises(FilesystemMismatch) as refused:
        await world.mount("v")
    assert "the volume holds only zeros, not its ext4 filesystem" in str(refused.value)
    assert world.host.disk(world.device()).formats == 1


async def test_the_volume_of_a_failed_mount_is_detached(world: World) -> None:
    await world.create("v")
    world.host.disk(world.device()).foreign = "a LUKS header"
    with pytest.raises(FilesystemMismatch):
        await world.mount("v")
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().desired is Desired.NONE


async def test_a_failed_mount_does_not_affect_other_mounts(world: World) -> None:
    await world.mounted()
    with pytest.raises(ClientGone):
        await world.service.mount("v", "c2", Caller(gone=True))
    await world.run_timers()
    assert world.entry().confirmed == {"c1": 1}
    assert world.is_mounted()


# Counting


@pytest.mark.parametrize(
    ("mounts", "unmounts", "left"),
    [
        (["a"], [], {"a": 1}),
        (["a"], ["a"], {}),
        (["a", "a"], ["a"], {"a": 1}),
        (["a", "a"], ["a", "a"], {}),
        (["a", "b"], ["a"], {"b": 1}),
        (["a"], ["unknown"], {"a": 1}),
        (["a"], ["unknown", "unknown", "a"], {}),
        ([""], [""], {}),
        (["a"], [""], {"a": 1}),
        (["a"], ["a", "a"], {}),
    ],
)
async def test_mounts_are_counted_per_id(
    world: World, mounts: list[str], unmounts: list[str], left: dict[str, int]
) -> None:
    await world.create("v")
    for mount_id in mounts:
        await world.mount("v", mount_id)
    for mount_id in unmounts:
        await world.service.unmount("v", mount_id)
    assert world.entry().confirmed == left
    assert world.store.entries["v"].with_none_confirmed().unconfirmed == left
    assert world.is_mounted() == bool(left)


async def test_unmount_of_an_unknown_volume_is_success(world: World) -> None:
    await world.service.unmount("never", "c1")
    assert (world.cloud.calls, world.store.writes) == ([], [])


async def test_a_mount_whose_client_left_is_not_counted_and_lingers_for_its_retry(world: World) -> None:
    await world.create("v")
    with pytest.raises(ClientGone) as gone:
        await world.service.mount("v", "c1", Caller(gone=True))
    assert str(gone.value) == 'the client left before the answer [mount "v"].'
    assert world.entry().confirmed == {}
    assert world.timers.delays == [("v", 60.0)]
    before = len(world.cloud.calls)
    await world.mount("v", "c1")
    assert world.calls_since(before) == []
    assert world.entry().confirmed == {"c1": 1}


async def test_a_mount_whose_client_left_is_detached_without_a_retry(world: World) -> None:
    await world.create("v")
    with pytest.raises(ClientGone):
        await world.service.mount("v", "c1", Caller(gone=True))
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_full_disk_of_the_state_does_not_prevent_mounting_and_unmounting(world: World) -> None:
    await world.mounted()
    world.store.broken = True
    await world.mount("v", "c2")
    await world.service.unmount("v", "c1")
    assert world.entry().confirmed == {"c2": 1}
    await world.service.unmount("v", "c2")
    assert world.host.mounts == {}
    await world.run_timers()
    assert world.volume().holder is None


async def test_a_mount_that_ends_after_its_answer_was_due_keeps_the_volume_attached_for_its_retry(
    world: World,
) -> None:
    world.deadlines = replace(world.deadlines, slow_answer_s=0.2, linger_s=5)
    world.restart()
    await world.mounted()
    await world.service.unmount("v", "c1")
    async with world.node.locks.of("v"):
        mounting = asyncio.create_task(world.mount("v", "c2"))
        for _ in range(5):
            await asyncio.sleep(0)
        world.timers.fire()  # the Unmount's linger would be over
        with pytest.raises(OperationTimeout):
            await mounting
    while world.service.is_working:  # noqa: ASYNC110 - the end of work without a waiting caller
        await asyncio.sleep(0)
    assert world.volume().holder == "node-a"


async def test_a_mount_whose_client_leaves_while_its_count_is_written_is_taken_back(world: World) -> None:
    await world.create("v")
    world.store.gate, caller = Gate(), Caller()
    mounting = asyncio.create_task(world.service.mount("v", "c1", caller))
    await world.store.gate.reached.wait()
    caller.gone = True
    world.store.gate.opened.set()
    with pytest.raises(ClientGone):
        await mounting
    assert not world.entry().is_claimed
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_mount_whose_answer_was_not_delivered_is_taken_back(world: World) -> None:
    await world.create("v")
    mounted = await world.service.mount("v", "c1", Caller())
    mounted.answered(False)
    await asyncio.sleep(0)
    assert not world.entry().is_claimed
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_an_answer_to_docker_cp_that_was_not_delivered_leaves_the_container_its_count(
    world: World,
) -> None:
    await world.mounted("v", "c1")
    mounted = await world.service.mount("v", "c1", Caller())
    mounted.answered(False)
    await asyncio.sleep(0)
    assert (world.entry().confirmed, dict(world.entry().unconfirmed)) == ({"c1": 1}, {})
    await world.run_timers()
    assert world.is_mounted()


async def test_a_count_without_a_confirmed_answer_stays_unconfirmed(world: World) -> None:
    await world.create("v")
    await world.service.mount("v", "c1", Caller())
    await asyncio.sleep(0.01)
    assert (dict(world.entry().confirmed), world.entry().unconfirmed) == ({}, {"c1": 1})


# Time


async def test_the_limit_of_an_answer_holds_for_the_writing_of_the_count(world: World) -> None:
    await world.create("v")
    world.deadlines = Deadlines(slow_answer_s=0.2)
    world.restart()
    world.store.gate = gate = Gate()
    with pytest.raises(OperationTimeout):
        await world.service.mount("v", "c1", Caller())
    assert gate.reached.is_set()
    gate.opened.set()
    await world.service.stop(5)
    assert not world.entry().is_claimed
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_mount_that_takes_too_long_continues_and_its_retry_joins_it(world: World) -> None:
    await world.create("v")
    world.deadlines = Deadlines(slow_answer_s=0.2)
    world.restart()
    gate = world.driver.hold("attach")
    with pytest.raises(OperationTimeout) as late:
        await world.mount("v")
    assert str(late.value) == ('still in progress after 0 s [mount "v"]. Try again: a retry joins it.')
    assert world.timers.delays == [("v", 60.0)]
    retry = asyncio.create_task(world.mount("v"))
    gate.opened.set()
    assert await retry == "/mounts/v/data"
    assert world.cloud.calls.count("attach") == 1
    assert (world.entry().confirmed, dict(world.entry().unconfirmed)) == ({"c1": 1}, {})


@pytest.mark.parametrize("held_at", ["get", "attach"])
async def test_a_mount_without_a_waiting_client_is_released_once_it_is_done(
    world: World, held_at: str
) -> None:
    await world.create("v")
    world.deadlines = Deadlines(slow_answer_s=0.2)
    world.restart()
    gate = world.driver.hold(held_at)
    with pytest.raises(OperationTimeout):
        await world.mount("v")
    gate.opened.set()
    async with world.node.locks.of("v"):
        pass
    await world.run_timers()
    assert (world.host.mounts, world.volume().holder) == ({}, None)


async def test_a_volume_that_another_node_is_detaching_is_waited_for(world: World) -> None:
    await world.create("v")
    volume = world.volume()
    world.cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.DETACHING)
    gate = world.driver.hold("get")
    mounting = asyncio.create_task(world.mount("v"))
    await gate.reached.wait()
    world.cloud.volumes[volume.volume_id] = volume
    gate.opened.set()
    assert await mounting == "/mounts/v/data"


async def test_a_volume_that_stays_in_transition_is_an_error_in_time(world: World) -> None:
    await world.create("v")
    volume = world.volume()
    world.cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.DETACHING)
    with pytest.raises(OperationTimeout) as late:
        await world.mount("v")
    assert str(late.value) == (
        "the backend reports detaching for 0 s "
        f'[mount "v", memory {volume.volume_id}, node node-a]. Check the volume at its backend.'
    )
