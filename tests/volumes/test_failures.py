"""Why operations failed, as `docker volume inspect` shows it, and until when."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest

from tests.volumes.world import Caller, World
from volplug.errors import BackendUnavailable, FilesystemMismatch, OperationTimeout, VolplugError, VolumeInUse
from volplug.models import VolumeState
from volplug.volumes.node import Deadlines
from volplug.volumes.views import VolumeView

OUTAGE = BackendUnavailable("no route to the cloud")


async def refused_mount(world: World) -> str:
    """A new volume whose device holds data."""
    await world.create("v")
    world.host.disk(world.device("v")).foreign = "a swap signature"
    with pytest.raises(FilesystemMismatch) as refused:
        await world.mount("v")
    return str(refused.value)


async def shown(world: World) -> VolumeView:
    await world.finish_tasks()
    return await world.service.get("v")


async def test_a_failed_mount_is_shown_until_one_succeeds_also_after_the_detach_and_a_restart(
    world: World,
) -> None:
    text = await refused_mount(world)
    for _ in range(2):
        await world.run_timers()
        view = await shown(world)
        assert view.failure is not None
        assert (view.failure.operation, view.failure.text) == ("mount", text)
        assert (view.state, view.detail) == (VolumeState.ERROR, view.failure.cause)
        assert "a swap signature" in view.detail
        await world.finish_tasks()
        world.restart()
    world.host.disk(world.device("v")).foreign = ""
    await world.mount("v")
    view = await shown(world)
    assert (view.failure, view.state) == (None, VolumeState.IN_USE)


async def remove_while_used(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    await world.service.remove("v")


async def unmount_while_used(world: World) -> None:
    await world.mounted()
    world.occupy("v", "container web")
    await world.service.unmount("v", "c1")


async def mount_of_another_node(world: World) -> None:
    await world.create("v")
    await world.ledger.forget("v")
    volume = world.volume()
    world.cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.IN_USE, holder="node-b")
    await world.mount("v")


@pytest.mark.parametrize(
    ("fail", "kind"),
    [(remove_while_used, "remove"), (unmount_while_used, "unmount"), (mount_of_another_node, "mount")],
)
async def test_the_failure_of_every_operation_is_shown_with_its_time(
    world: World, fail: Callable[[World], Awaitable[None]], kind: str
) -> None:
    before = world.node.wall_clock()
    with pytest.raises(VolumeInUse) as failed:
        await fail(world)
    failure = (await shown(world)).failure
    assert failure is not None
    assert (failure.operation, failure.text) == (kind, str(failed.value))
    assert before <= failure.at <= world.node.wall_clock()


async def test_a_release_that_failed_is_over_once_the_volume_is_detached(world: World) -> None:
    with pytest.raises(VolumeInUse):
        await unmount_while_used(world)
    world.vacate("v")
    await world.run_timers()
    assert (await shown(world)).failure is None


async def test_a_removal_that_failed_is_over_once_one_of_a_new_volume_succeeds(world: World) -> None:
    with pytest.raises(VolumeInUse):
        await remove_while_used(world)
    world.vacate("v")
    await world.service.remove("v")
    await world.finish_tasks()
    await world.create("v")
    assert (await shown(world)).failure is None


async def test_an_operation_that_takes_too_long_is_shown_and_then_how_it_ended(world: World) -> None:
    world.deadlines = Deadlines(slow_answer_s=0.2)
    world.restart()
    await world.create("v")
    world.host.disk(world.device("v")).foreign = "a swap signature"
    gate = world.driver.hold("attach")
    with pytest.raises(OperationTimeout):
        await world.service.mount("v", "c1", Caller())
    waiting = world.entry().failure
    assert waiting is not None
    assert waiting.code == "operation-timeout"
    gate.opened.set()
    view = await shown(world)
    assert view.failure is not None
    assert view.failure.code == "filesystem-mismatch"


@pytest.mark.parametrize("is_outage", [False, True])
@pytest.mark.parametrize("operation", ["mount", "unmount", "remove", "create"])
async def test_nothing_is_kept_of_a_name_that_does_not_exist(
    world: World, operation: str, is_outage: bool
) -> None:
    world.cloud.outage = OUTAGE if is_outage else None
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "mount": partial(world.service.mount, "never", "c1", Caller()),
        "unmount": partial(world.service.unmount, "never", "c1"),
        "remove": partial(world.service.remove, "never"),
        "create": partial(world.create, "never", size="0.5MiB"),
    }
    with suppress(VolplugError):
        await calls[operation]()
    await world.finish_tasks()
    assert (world.ledger.entries(), world.store.entries) == ([], {})


async def test_a_creation_of_an_existing_volume_fails_without_a_trace(world: World) -> None:
    await world.create("v")
    with pytest.raises(VolplugError, match="exists and differs"):
        await world.create("v", size="2GiB")
    assert (await shown(world)).failure is None


async def test_a_client_that_left_is_no_failure_of_the_volume(world: World) -> None:
    await world.create("v")
    with pytest.raises(VolplugError, match="the client left"):
        await world.service.mount("v", "c1", Caller(gone=True))
    assert (await shown(world)).failure is None
