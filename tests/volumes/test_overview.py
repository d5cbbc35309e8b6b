"""This node and its backends, and volumes by backend and name, as the control API shows them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.volumes.world import GatedDriver, LocalDriver, World, spec_of
from volplug import __version__
from volplug.drivers.base import BackendLimit
from volplug.errors import BackendDenied, BackendNotFound, BackendUnavailable, VolumeNotFound
from volplug.models import EngineIdentity


class CheckedDriver(GatedDriver):
    """A driver whose health and limits can be held up, or be bad."""

    problem: Exception | None = None
    unreadable: Exception | None = None
    checks = readings = 0

    async def health(self) -> None:
        self.checks += 1
        await self._gate("health")
        if self.problem is not None:
            raise self.problem

    async def limits(self) -> Sequence[BackendLimit]:
        self.readings += 1
        await self._gate("limits")
        if self.unreadable is not None:
            raise self.unreadable
        return await super().limits()


@pytest.fixture
def world() -> World:
    world = World()
    world.add_backend("local", LocalDriver)
    return world


def checked(world: World) -> CheckedDriver:
    _, driver = world.add_backend("checked", CheckedDriver)
    assert isinstance(driver, CheckedDriver)
    return driver


async def test_backends_are_shown_with_their_drivers_health_and_number_of_volumes(world: World) -> None:
    await world.create("v")
    await world.create("w", backend="local")
    await world.create("x", backend="local")
    first, second = await world.service.backends()
    assert (first.name, first.is_default, first.volume_count) == ("memory", True, 1)
    assert (second.name, second.is_default, second.volume_count) == ("local", False, 2)
    assert (first.node_id, second.info.driver, first.problem, second.problem) == (
        "node-a",
        "local",
        None,
        None,
    )


async def test_a_backend_that_cannot_be_used_hides_no_other(world: World) -> None:
    driver = checked(world)
    driver.problem = BackendDenied("access denied")
    world.cloud.outage = BackendUnavailable("no route to the cloud")
    views = {view.name: view for view in await world.service.backends()}
    assert views["checked"].problem is driver.problem
    assert [views[name].volume_count for name in ("memory", "checked", "local")] == [None, 0, 0]
    driver.problem = ValueError("a bug")
    problem = {view.name: view.problem for view in await world.service.backends()}["checked"]
    assert problem is not None
    assert problem.code == "internal-error"


async def test_a_health_check_in_progress_is_shared_and_waited_for_only_so_long(world: World) -> None:
    driver = checked(world)
    world.deadlines = replace(world.deadlines, lookup_s=0.01)
    world.restart()
    gate = driver.hold("health")
    for views in await asyncio.gather(*(world.service.backends() for _ in range(3))):
        problem = {view.name: view.problem for view in views}["checked"]
        assert isinstance(problem, BackendUnavailable)
    assert driver.checks == 1
    gate.opened.set()
    await asyncio.sleep(0)
    assert {view.problem for view in await world.service.backends()} == {None}


async def test_limits_are_shown_as_the_driver_reports_them(world: World) -> None:
    checked(world)
    await world.create("v", backend="checked")
    limits = {view.name: view.limits for view in await world.service.backends()}
    assert limits["checked"] == [BackendLimit("volumes", 1, None, "volumes")]


@pytest.mark.parametrize("error", [BackendDenied("access denied"), ValueError("a bug")])
async def test_a_backend_whose_limits_cannot_be_read_is_usable(world: World, error: Exception) -> None:
    checked(world).unreadable = error
    views = {view.name: view for view in await world.service.backends()}
    assert (views["checked"].limits, views["checked"].problem) == (None, None)
    assert views["local"].limits is not None


async def test_a_reading_of_limits_in_progress_is_shared_and_waited_for_only_so_long(world: World) -> None:
    driver = checked(world)
    world.deadlines = replace(world.deadlines, lookup_s=0.01)
    world.restart()
    gate = driver.hold("limits")
    for views in await asyncio.gather(*(world.service.backends() for _ in range(3))):
        view = next(each for each in views if each.name == "checked")
        assert (view.limits, view.problem) == (None, None)
    assert driver.readings == 1
    gate.opened.set()
    await asyncio.sleep(0)
    assert None not in [view.limits for view in await world.service.backends()]


async def test_the_node_is_shown_from_memory(world: World) -> None:
    await world.mounted()
    await world.create("w")
    before = len(world.cloud.calls)
    node = world.service.node()
    assert (node.version, node.node_ids) == (__version__, {"memory": "node-a", "local": "node-a"})
    assert (node.volumes_in_use, node.volumes_attached, node.operations_running) == (1, 1, 0)
    assert (node.has_engine, node.name, world.calls_since(before)) == (False, world.node.name, [])
    await world.service.engine_seen(EngineIdentity(1, 2))
    gate = world.driver.hold("detach")
    await world.service.unmount("v", "c1")
    world.timers.fire()
    await gate.reached.wait()
    node = world.service.node()
    assert (node.volumes_in_use, node.volumes_attached, node.operations_running) == (0, 1, 1)
    assert node.has_engine
    gate.opened.set()
    await world.run_timers()


# Selectors


async def test_a_volume_is_shown_only_of_the_backend_that_has_it(world: World) -> None:
    await world.create("v", backend="local")
    assert (await world.service.get("v", "local")).backend == "local"
    with pytest.raises(VolumeNotFound, match="backend local has one of this name"):
        await world.service.get("v", "memory")
    for name in ("v", "w"):
        with pytest.raises(BackendNotFound):
            await world.service.get(name, "other")
    with pytest.raises(VolumeNotFound):
        await world.service.get("w", "local")


async def test_of_a_name_in_two_backends_each_volume_is_shown_by_its_backend(world: World) -> None:
    for backend in ("memory", "local"):
        await world.backends[backend].create(spec_of("v"))
    for backend in ("memory", "local"):
        assert (await world.service.get("v", backend)).backend == backend
    assert (await world.service.get("v")).backend == "", "it is not known which is meant"
