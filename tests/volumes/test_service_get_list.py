import asyncio
from dataclasses import replace

import pytest

from tests.volumes.world import LocalDriver, World, spec_of
from volplug.errors import BackendUnavailable, VolumeNotFound
from volplug.models import Usage, VolumeState
from volplug.sizes import GIB, MIB
from volplug.volumes.ledger import Desired, Entry
from volplug.volumes.node import Deadlines
from volplug.volumes.views import VolumeView

OUTAGE = BackendUnavailable("no route to the cloud")
ANONYMOUS = "0123456789abcdef" * 4


async def test_a_volume_mounted_here_is_described_from_memory(world: World) -> None:
    volume = await world.mounted()
    before = len(world.cloud.calls)
    view = await world.service.get("v")
    assert (view.name, view.mountpoint, view.created_at) == ("v", "/mounts/v/data", volume.created_at)
    assert view.mount_count == 1
    assert world.calls_since(before) == []


async def test_a_volume_not_mounted_here_has_no_mountpoint(world: World) -> None:
    await world.create("v")
    assert (await world.service.get("v")).mountpoint == ""
    assert await world.service.path("v") == ""


async def test_path_of_a_mounted_volume(world: World) -> None:
    await world.mounted()
    assert await world.service.path("v") == "/mounts/v/data"


@pytest.mark.parametrize("name", ["never", "", "../etc", "a b", "\x00"])
async def test_a_volume_that_certainly_does_not_exist_is_not_found(world: World, name: str) -> None:
    with pytest.raises(VolumeNotFound) as missing:
        await world.service.get(name)
    assert missing.value.cause == "no such volume"
    assert str(missing.value).startswith("no such volume [get")


async def test_during_an_outage_a_known_volume_is_described_as_last_known(world: World) -> None:
    await world.create("v")
    volume = world.volume()
    world.cloud.outage = OUTAGE
    view = await world.service.get("v")
    assert view.volume_id == volume.volume_id
    assert view.state is VolumeState.AVAILABLE


async def test_during_an_outage_a_get_of_an_unknown_volume_is_the_outage(world: World) -> None:
    world.cloud.outage = OUTAGE
    with pytest.raises(BackendUnavailable) as unknown:
        await world.service.get("v")
    assert str(unknown.value) == 'no route to the cloud [get "v"].'


async def test_a_defect_of_a_driver_is_not_answered_as_not_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer at all: dockerd takes any error for 'no such volume'."""

    async def get(name: str) -> None:
        raise RuntimeError("defect")

    await world.create("v")
    monkeypatch.setattr(world.driver, "get", get)
    assert (await world.service.get("v")).state is VolumeState.AVAILABLE
    with pytest.raises(RuntimeError, match="defect"):
        await world.service.get("w")


async def test_a_get_from_a_backend_that_hangs_times_out(world: World) -> None:
    world.deadlines = Deadlines(lookup_s=0.01)
    world.restart()
    gate = world.driver.hold("get")
    with pytest.raises(BackendUnavailable) as unknown:
        await world.service.get("v")
    assert str(unknown.value) == 'backend memory did not answer within 0 s [get "v"]. Try again.'
    gate.opened.set()


async def test_a_record_confirmed_missing_is_dropped(world: World) -> None:
    await world.create("v")
    world.cloud.volumes.clear()
    with pytest.raises(VolumeNotFound):
        await world.service.get("v")
    await world.finish_tasks()
    assert (world.ledger.get("v"), world.store.entries) == (None, {})


async def test_a_volume_found_at_the_backend_is_recorded_for_the_next_outage(world: World) -> None:
    await world.create("v")
    await world.ledger.forget("v")
    await world.service.get("v")
    await world.finish_tasks()
    world.restart()
    world.cloud.outage = OUTAGE
    assert (await world.service.get("v")).name == "v"


async def test_an_anonymous_volume_is_found_after_the_state_is_lost_and_on_other_hosts(world: World) -> None:
    await world.create(ANONYMOUS)
    world.store.entries.clear()
    world.restart()
    assert (await world.service.get(ANONYMOUS)).name == ANONYMOUS


async def test_a_look_up_that_ends_after_a_mount_changes_nothing(world: World) -> None:
    """The volume was removed elsewhere; while a slow Get reads that, it is created and mounted again."""
    await world.create("v")
    world.cloud.volumes.clear()
    gate = world.driver.hold("get")
    getting = asyncio.create_task(world.service.get("v"))
    await gate.reached.wait()
    world.driver.gates.clear()
    await world.driver.create(spec_of("v"))
    await world.mount("v")
    gate.opened.set()
    await asyncio.gather(getting, return_exceptions=True)
    assert world.entry().confirmed == {"c1": 1}
    assert world.store.entries["v"].record == world.volume()


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_name_of_two_volumes_exists_and_is_in_error(world: World, is_known: bool) -> None:
    await world.create("v")
    first = world.volume()
    world.cloud.volumes["mem-2"] = replace(first, volume_id="mem-2")
    if not is_known:
        await world.ledger.forget("v")
    view = await world.service.get("v")
    assert (view.state, view.volume_id) == (VolumeState.ERROR, f"{first.volume_id}, mem-2")
    assert view.detail == f"{first.volume_id} and mem-2 carry this name"
    assert (view.backend, view.driver) == ("memory", "memory")
    await world.finish_tasks()
    assert (world.ledger.get("v") is not None) == is_known


async def test_a_name_of_volumes_of_two_backends_exists_and_is_in_error(world: World) -> None:
    _, other = world.add_backend("other")
    for driver in (world.driver, other):
        await driver.create(spec_of("v"))
    view = await world.service.get("v")
    assert (view.state, view.backend, view.driver) == (VolumeState.ERROR, "", "")
    assert view.volume_id.startswith("memory:mem-")


# List


async def test_all_volumes_are_listed_by_name(world: World) -> None:
    for name in ("b", "a", "c"):
        await world.create(name)
    await world.mount("b")
    views = await world.service.list()
    assert [(view.name, view.mountpoint) for view in views] == [
        ("a", ""),
        ("b", "/mounts/b/data"),
        ("c", ""),
    ]


async def test_with_one_backend_down_the_others_are_fresh_and_that_one_is_last_known(world: World) -> None:
    world.add_backend("other", LocalDriver)
    await world.create("mine")
    await world.create("theirs", backend="other")
    world.cloud.outage = OUTAGE
    views = await world.service.list()
    assert [(view.name, view.backend) for view in views] == [
        ("mine", "memory"),
        ("theirs", "other"),
    ]


async def test_a_backend_that_hangs_does_not_delay_the_list_of_the_others(world: World) -> None:
    world.deadlines = Deadlines(lookup_s=0.01)
    world.add_backend("other", LocalDriver)
    await world.create("theirs", backend="other")
    gate = world.driver.hold("list")
    assert [view.name for view in await world.service.list()] == ["theirs"]
    gate.opened.set()


async def test_a_volume_that_its_backend_no_longer_has_is_not_listed(world: World) -> None:
    await world.create("v")
    world.cloud.volumes.clear()
    assert await world.service.list() == []


async def test_a_mounted_volume_is_listed_although_its_backend_has_lost_it(world: World) -> None:
    await world.mounted()
    world.cloud.volumes.clear()
    assert [view.name for view in await world.service.list()] == ["v"]


# Status


async def test_a_view_has_all_known_values(world: World) -> None:
    volume = await world.mounted()
    view = await world.service.get("v")
    assert view == VolumeView(
        name="v",
        volume_id=volume.volume_id,
        backend="memory",
        driver="memory",
        mountpoint="/mounts/v/data",
        created_at=volume.created_at,
        size_bytes=GIB,
        state=VolumeState.IN_USE,
        filesystem=volume.filesystem,
        profile="default",
        mount_count=1,
        sample=view.sample,
        holder="node-a",
        desired=Desired.MOUNTED,
    )
    assert view.sample is not None
    assert view.sample.usage == Usage(MIB, GIB)


async def test_a_list_and_a_path_sample_no_usage(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    samples: list[str] = []

    async def usage(target: str, last: Usage | None) -> Usage:
        samples.append(target)
        return Usage(1, 2)

    monkeypatch.setattr(world.host, "usage", usage)
    await world.mounted()
    await world.service.list()
    await world.service.path("v")
    await asyncio.sleep(0)
    assert samples == []
    await world.service.get("v")
    assert samples == ["/mounts/v"]


async def test_a_desired_state_that_is_not_reached_shows_the_reason(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    with pytest.raises(Exception, match="container web"):
        await world.service.unmount("v", "c1")
    await world.run_timers()
    view = await world.service.get("v")
    assert view.desired is Desired.DETACHED
    assert view.failure is not None
    assert "the volume is still in use by container web" in view.failure.text


async def test_lists_that_come_while_one_hangs_share_its_call(world: World) -> None:
    """Otherwise a path that hangs would use a thread for each."""
    world.deadlines = Deadlines(lookup_s=0.01)
    world.restart()
    gate = world.driver.hold("list")
    for _ in range(5):
        with pytest.raises(BackendUnavailable, match="backend memory cannot be listed"):
            await world.service.list()
    gate.opened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert world.cloud.calls.count("list") == 1


async def test_a_get_during_a_creation_keeps_its_desired_state(world: World) -> None:
    await world.ledger.put(Entry("v", "memory", desired=Desired.PRESENT))
    with pytest.raises(VolumeNotFound):
        await world.service.get("v")
    assert world.entry().desired is Desired.PRESENT


async def test_a_volume_that_moved_to_another_backend_is_found_there(world: World) -> None:
    other, _ = world.add_backend("other")
    await world.create("v")
    world.cloud.volumes.clear()
    await world.create("v", backend="other")
    await world.ledger.put(Entry("v", "memory", record=next(iter(other.volumes.values()))))
    assert (await world.service.get("v")).backend == "other"
    assert await world.mount("v") == "/mounts/v/data"


async def test_a_volume_mounted_here_is_never_not_found(world: World) -> None:
    await world.ledger.put(Entry("v", "memory", holders_unknown=True))
    with pytest.raises(BackendUnavailable, match="the volume is mounted here, but no backend has it"):
        await world.service.get("v")


async def test_changes_here_during_a_look_up_are_newer_than_its_answer(world: World) -> None:
    gate = world.driver.hold("get")
    getting = asyncio.create_task(world.service.get("v"))
    await gate.reached.wait()
    record = await world.driver.create(spec_of("v"))
    await world.ledger.put(Entry("v", "memory", desired=Desired.MOUNTED, record=record))
    gate.opened.set()
    assert (await getting).name == "v"


async def test_a_removed_volume_is_not_answered_from_the_cache(world: World) -> None:
    await world.create("v")
    await world.service.get("v")
    await world.service.remove("v")
    with pytest.raises(VolumeNotFound):
        await world.service.get("v")
