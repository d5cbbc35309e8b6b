import asyncio
from dataclasses import replace

import pytest

from tests.volumes.world import LocalDriver, World
from volplug.errors import (
    BackendUnavailable,
    ConfigurationError,
    InvalidName,
    InvalidOption,
    InvalidSize,
    OperationTimeout,
    Unsupported,
    VolplugError,
    VolumeExists,
    VolumeInUse,
    VolumeNotFound,
)
from volplug.models import Volume, VolumeState
from volplug.sizes import GIB
from volplug.testing.memory import MemoryDriver
from volplug.volumes.ledger import Desired
from volplug.volumes.node import Deadlines
from volplug.volumes.options import read_options


async def test_a_created_volume_is_at_the_backend_and_not_attached(world: World) -> None:
    await world.create("v", size="2GiB", fs="xfs", uid="999")
    volume = world.volume()
    assert (volume.size_bytes, volume.spec.fs_type, volume.spec.uid) == (2 * GIB, "xfs", 999)
    assert (volume.state, volume.holder) == (VolumeState.AVAILABLE, None)
    assert world.entry().desired is Desired.NONE


async def test_a_creation_is_recorded_durably_before_it_begins(world: World) -> None:
    gate = world.driver.hold("create")
    creating = asyncio.create_task(world.create("v"))
    await gate.reached.wait()
    assert world.store.writes == [("v", "present", True)]
    gate.opened.set()
    await creating


async def test_the_same_create_twice_is_one_volume(world: World) -> None:
    await world.create("v", size="2GiB")
    before = world.volume()
    await world.create("v", size="2G")
    await world.create("v")
    assert world.volume() == before


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"size": "3GiB"}, "size is 2GiB, not 3GiB"),
        ({"fs": "xfs"}, "fs is ext4, not xfs"),
        ({"size": "3GiB", "uid": "5"}, "size is 2GiB, not 3GiB, uid is 0, not 5"),
    ],
)
async def test_a_different_create_is_refused_naming_the_difference(
    world: World, options: dict[str, str], difference: str
) -> None:
    await world.create("v", size="2GiB")
    before = world.volume()
    with pytest.raises(VolumeExists) as refused:
        await world.create("v", **options)
    assert str(refused.value) == (
        f'a volume of this name exists and differs: {difference} [create "v"]. '
        "Use it as it is, or choose another name."
    )
    assert world.volume() == before


async def test_a_volume_that_another_host_has_removed_since_the_look_up_is_created_again(
    world: World,
) -> None:
    await world.create("v")
    await world.service.get("v")  # whose answer is cached for some seconds
    world.cloud.volumes.clear()
    await world.create("v")
    assert world.volume().state is VolumeState.AVAILABLE


async def test_fifty_concurrent_creates_give_one_volume(world: World) -> None:
    gate = world.driver.hold("create")
    creating = [asyncio.create_task(world.create("v", size="1GiB")) for _ in range(50)]
    await gate.reached.wait()
    gate.opened.set()
    await asyncio.gather(*creating)
    assert world.cloud.calls.count("create") == 1
    assert world.volume().size_bytes == GIB


async def test_of_two_concurrent_different_creates_one_is_refused(world: World) -> None:
    gate = world.driver.hold("create")
    creating = [asyncio.create_task(world.create("v", size=size)) for size in ("1GiB", "2GiB")]
    await gate.reached.wait()
    gate.opened.set()
    first, second = await asyncio.gather(*creating, return_exceptions=True)
    assert first is None
    assert str(second) == (
        'a volume of this name exists and differs: size is 1GiB, not 2GiB [create "v"]. '
        "Use it as it is, or choose another name."
    )


async def test_remove_waits_for_a_running_creation(world: World) -> None:
    gate = world.driver.hold("create")
    creating = asyncio.create_task(world.create("v"))
    await gate.reached.wait()
    removing = asyncio.create_task(world.service.remove("v"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not removing.done()
    gate.opened.set()
    await asyncio.gather(creating, removing)
    assert world.cloud.volumes == {}


async def test_a_create_that_takes_too_long_continues_and_a_retry_joins_it(world: World) -> None:
    world.deadlines = Deadlines(slow_answer_s=0.2)
    world.restart()
    gate = world.driver.hold("create")
    with pytest.raises(OperationTimeout) as late:
        await world.create("v")
    assert str(late.value) == ('still in progress after 0 s [create "v"]. Try again: a retry joins it.')
    retry = asyncio.create_task(world.create("v"))
    gate.opened.set()
    await retry
    assert world.cloud.calls.count("create") == 1


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        (
            "a/b",
            {},
            InvalidName,
            "volume name 'a/b' is not allowed [create]. "
            "Use 1 to 128 of a-z A-Z 0-9 _ . - beginning with a letter or digit.",
        ),
        ("v", {"size": "0"}, InvalidSize, None),
        ("v", {"sise": "10"}, InvalidOption, None),
        ("v", {"backend": "ebs"}, ConfigurationError, None),
    ],
)
async def test_bad_input_reaches_no_backend(
    world: World, name: str, options: dict[str, str], kind: type[VolplugError], text: str | None
) -> None:
    with pytest.raises(kind) as refused:
        await world.create(name, **options)
    assert text is None or str(refused.value) == text
    assert (world.cloud.calls, world.store.writes) == ([], [])


async def test_an_unknown_backend_is_refused_naming_the_existing_ones(world: World) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await world.create("v", backend="ebs")
    assert str(refused.value) == "backend 'ebs' is not configured [create \"v\"]. Backends are memory."


async def test_a_missing_mkfs_is_refused_before_anything_is_created(world: World) -> None:
    world.host.programs = ("ext4",)
    with pytest.raises(Unsupported) as refused:
        await world.create("v", fs="xfs")
    assert str(refused.value) == (
        'mkfs.xfs is not installed on this host [create "v"]. Install it, or use one of ext4.'
    )
    assert world.cloud.volumes == {}


@pytest.mark.parametrize("key", ["backend", "BACKEND", "back-end", "Back_End"])
async def test_the_backend_is_chosen_by_option_however_it_is_spelt(world: World, key: str) -> None:
    other, _ = world.add_backend("other")
    await world.service.create(read_options("v", {key: "other"}))
    assert [volume.name for volume in other.volumes.values()] == ["v"]
    assert world.cloud.volumes == {}


async def test_a_volume_of_another_backend_is_found_by_name(world: World) -> None:
    other, _ = world.add_backend("other")
    await world.create("v", backend="other")
    await world.create("v")
    assert (len(other.volumes), len(world.cloud.volumes)) == (1, 0)


async def test_a_name_that_another_backend_has_is_refused(world: World) -> None:
    world.add_backend("other")
    await world.create("v", backend="other")
    with pytest.raises(VolumeExists) as refused:
        await world.create("v", backend="memory")
    assert str(refused.value) == (
        'backend other has a volume of this name [create "v"]. Choose another name.'
    )


@pytest.mark.parametrize("state", [VolumeState.INCOMPLETE, VolumeState.DELETING])
async def test_a_creation_begun_at_another_backend_is_finished_there(
    world: World, state: VolumeState
) -> None:
    other, driver = world.add_backend("other")
    await world.create("v", backend="other")
    (volume_id,) = other.volumes
    other.volumes[volume_id] = replace(other.volumes[volume_id], state=state)
    await world.create("v")
    assert world.cloud.volumes == {}
    assert [volume.state for volume in other.volumes.values()] == [VolumeState.AVAILABLE]
    assert driver.info.remote


async def test_a_failed_create_leaves_nothing_to_be_done(world: World) -> None:
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    with pytest.raises(BackendUnavailable) as failed:
        await world.create("v")
    assert str(failed.value) == 'no route to the cloud [create "v"].'
    world.cloud.outage = None
    assert world.ledger.get("v") is None or world.entry().desired is Desired.NONE
    assert world.cloud.volumes == {}


async def test_an_anonymous_volume_of_dockers_is_created_like_any_other(world: World) -> None:
    name = "0123456789abcdef" * 4
    await world.create(name)
    assert world.volume(name).name == name


# Remove


async def test_a_removed_volume_is_gone_everywhere(world: World) -> None:
    await world.create("v")
    await world.service.remove("v")
    assert world.cloud.volumes == {}
    assert world.ledger.get("v") is None
    assert world.store.entries == {}


async def test_removing_what_does_not_exist_is_success(world: World) -> None:
    await world.service.remove("never")
    assert world.cloud.calls == ["get"]


async def test_a_removal_is_recorded_durably_before_it_begins(world: World) -> None:
    await world.create("v")
    gate = world.driver.hold("delete")
    removing = asyncio.create_task(world.service.remove("v"))
    await gate.reached.wait()
    assert world.store.writes[-1] == ("v", "absent", True)
    gate.opened.set()
    await removing


async def test_remove_is_refused_while_a_container_holds_it_and_nothing_changes(world: World) -> None:
    volume = await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(VolumeInUse) as refused:
        await world.service.remove("v")
    assert str(refused.value) == (
        "the volume is still in use by container web "
        f'[remove "v", memory {volume.volume_id}, node node-a]. '
        "Stop what uses it; volplug retries until it is free."
    )
    assert world.is_mounted()
    assert world.entry().confirmed == {"c1": 1}
    assert world.volume() == volume


async def test_remove_is_refused_for_a_volume_mounted_just_now(world: World) -> None:
    await world.create("v")
    await world.mount("v")
    world.clock.now_s += 20
    with pytest.raises(VolumeInUse) as refused:
        await world.service.remove("v")
    assert str(refused.value) == (
        'the volume was mounted for Docker 20 s ago and not unmounted [remove "v"]. '
        "Stop the container that uses it, or try again in 40 s."
    )
    assert world.is_mounted()


async def test_remove_drops_counts_of_mounts_that_are_not_in_use(world: World) -> None:
    await world.mounted()
    await world.service.remove("v")
    assert world.cloud.volumes == {}
    assert world.host.mounts == {}


async def test_remove_of_a_volume_held_by_another_node_names_it(world: World) -> None:
    await world.create("v")
    volume = world.volume()
    await MemoryDriver(world.cloud, "node-b").attach(volume)
    with pytest.raises(VolumeInUse) as refused:
        await world.service.remove("v")
    assert str(refused.value) == (
        "node node-b holds the volume (node-b is running) "
        f'[remove "v", memory {volume.volume_id}, node node-a]. '
        "Stop its containers (Swarm: order stop-first)."
    )
    assert refused.value.holder == "node-b"
    assert len(world.cloud.volumes) == 1


async def test_a_remove_that_fails_after_the_release_still_detaches_the_volume(world: World) -> None:
    await world.mounted()
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    with pytest.raises(BackendUnavailable):
        await world.service.remove("v")
    world.cloud.outage = None
    await world.run_timers()
    assert world.volume().holder is None
    assert world.entry().desired is Desired.NONE


async def test_remove_waits_for_a_running_mount_and_then_refuses(world: World) -> None:
    await world.create("v")
    gate = world.driver.hold("attach")
    mounting = asyncio.create_task(world.mount("v"))
    await gate.reached.wait()
    removing = asyncio.create_task(world.service.remove("v"))
    gate.opened.set()
    assert await mounting == "/mounts/v/data"
    with pytest.raises(VolumeInUse):
        await removing
    assert world.is_mounted()


async def test_remove_refuses_while_a_mount_waits_behind_it(world: World) -> None:
    await world.create("v")
    async with world.node.locks.of("v"):
        removing = asyncio.create_task(world.service.remove("v"))
        for _ in range(5):
            await asyncio.sleep(0)
        mounting = asyncio.create_task(world.mount("v"))
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(VolumeInUse, match="the volume is being mounted"):
        await removing
    await mounting
    assert world.is_mounted()


async def test_a_mount_waits_for_a_running_removal(world: World) -> None:
    await world.create("v")
    gate = world.driver.hold("delete")
    removing = asyncio.create_task(world.service.remove("v"))
    await gate.reached.wait()
    mounting = asyncio.create_task(world.mount("v"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert "attach" not in world.cloud.calls
    gate.opened.set()
    await removing
    with pytest.raises(VolplugError) as refused:
        await mounting
    assert str(refused.value) == (
        'no such volume [mount "v", memory, node node-a]. Create it: docker volume create -d volplug NAME.'
    )
    assert (world.host.mounts, world.cloud.volumes) == ({}, {})


async def test_a_local_volume_is_removed_the_same_way(world: World) -> None:
    other, _ = world.add_backend("other", LocalDriver)
    await world.create("v", backend="other")
    await world.service.remove("v")
    assert other.volumes == {}


class LostDeleteDriver(MemoryDriver):
    """Deletes, but its answer is lost and the call is retried."""

    async def delete(self, volume: Volume) -> None:
        await super().delete(volume)
        raise VolumeNotFound("it does not exist")


async def test_deleting_a_volume_that_is_gone_is_success(world: World) -> None:
    world.backends["memory"] = LostDeleteDriver(world.cloud)
    world.restart()
    await world.create("v")
    await world.service.remove("v")
    assert world.cloud.volumes == {}
    assert world.ledger.get("v") is None
