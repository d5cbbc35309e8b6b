"""Creations where another host is faster."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.volumes.world import GatedDriver, World
from volplug.errors import ConfigurationError, VolumeExists
from volplug.models import Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.memory import MemoryCloud, MemoryDriver


async def test_creating_costs_one_look_up_and_one_creation(world: World) -> None:
    await world.create("v")
    assert world.cloud.calls == ["get", "create"]


class SlowerDriver(GatedDriver):
    """Another host creates a volume of 2 GiB between the look-up and the creation."""

    async def create(self, spec: VolumeSpec) -> Volume:
        await MemoryDriver(self._cloud, "node-b").create(VolumeSpec("v", 2 * GIB))
        return await super().create(spec)


def world_with(driver: Callable[[MemoryCloud], GatedDriver]) -> World:
    world = World()
    world.driver = driver(world.cloud)
    world.backends["memory"] = world.driver
    world.restart()
    return world


async def test_the_volume_of_a_faster_host_is_accepted_if_it_equals_the_request() -> None:
    world = world_with(SlowerDriver)
    await world.create("v")
    assert world.volume().size_bytes == 2 * GIB


async def test_the_volume_of_a_faster_host_that_differs_is_named_as_different() -> None:
    world = world_with(SlowerDriver)
    with pytest.raises(VolumeExists, match="size is 2GiB, not 1GiB"):
        await world.create("v", size="1GiB")


async def test_a_broken_volume_of_a_faster_host_is_not_accepted() -> None:
    class BrokenDriver(SlowerDriver):
        async def create(self, spec: VolumeSpec) -> Volume:
            try:
                return await super().create(spec)
            finally:
                found = self._named(spec.name)
                assert found is not None
                self._cloud.volumes[found.volume_id] = replace(found, state=VolumeState.ERROR)

    world = world_with(BrokenDriver)
    with pytest.raises(VolumeExists):
        await world.create("v")


class FinishingDriver(GatedDriver):
    """Another host finishes the creation that this one is about to finish."""

    async def create(self, spec: VolumeSpec) -> Volume:
        if (begun := self._named(spec.name)) is not None:
            self._put(replace(begun, state=VolumeState.AVAILABLE))
        return await super().create(spec)


@pytest.mark.parametrize("driver", [GatedDriver, FinishingDriver])
async def test_a_creation_that_was_begun_is_finished_as_it_was_begun(driver: type[GatedDriver]) -> None:
    world = world_with(driver)
    begun = await MemoryDriver(world.cloud, "node-b").create(VolumeSpec("v", 2 * GIB))
    world.cloud.volumes[begun.volume_id] = replace(begun, state=VolumeState.INCOMPLETE)
    await world.create("v")
    assert world.volume() == begun
    assert world.entry().record == begun


async def test_a_doubtful_default_backend_is_refused_until_it_has_a_volume_or_is_named() -> None:
    world = World(doubt=ConfigurationError("no backend is chosen", "Set VOLPLUG_BACKEND=memory"))
    for options in ({}, {"volumeType": "gp3"}):  # an option of the backend that was meant
        with pytest.raises(ConfigurationError) as refused:
            await world.create("v", **options)
        assert (refused.value.cause, refused.value.remedy) == (
            "no backend is chosen",
            "Set VOLPLUG_BACKEND=memory",
        )
    assert world.cloud.volumes == {}
    await world.create("v", backend="memory")
    await world.create("other")
    assert {volume.name for volume in world.cloud.volumes.values()} == {"v", "other"}
