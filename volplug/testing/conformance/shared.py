"""Two nodes on one backend."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import asyncio

import pytest

from volplug.drivers.base import Driver, Scope
from volplug.errors import VolumeExists, VolumeInUse
from volplug.models import Volume
from volplug.testing.conformance.calls import located
from volplug.testing.driver_fixtures import DriverFixtures, MakeSpec


class SharedDriverConformance(DriverFixtures):
    """The contract between two nodes, for drivers whose volumes several hosts share."""

    async def test_scope_is_global(self, driver: Driver) -> None:
        """Docker has to know that the volumes are shared."""
        assert driver.info.scope is Scope.GLOBAL

    async def test_both_nodes_see_the_same_volumes(
        self, driver: Driver, other_node: Driver, make_spec: MakeSpec
    ) -> None:
        """A volume that one node creates is found by the other."""
        volume = await driver.create(make_spec())
        assert await other_node.get(volume.name) == volume
        assert driver.node_id != other_node.node_id

    async def test_volume_of_another_node_is_not_taken(
        self, driver: Driver, other_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Attach and delete are refused, attach with the holder, until the holder detaches it."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        with pytest.raises(VolumeInUse) as refused:
            await other_node.attach(volume)
        assert refused.value.holder == driver.node_id
        with pytest.raises(VolumeInUse):
            await other_node.delete(volume)
        assert await located(other_node, volume) is None
        assert await located(driver, volume) == source
        await driver.detach(volume)
        await other_node.attach(volume)
        await other_node.detach(volume)

    async def test_detach_never_takes_a_volume_from_another_node(
        self, driver: Driver, other_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Detaching a volume of another node changes nothing."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        await other_node.detach(volume)
        assert await located(driver, volume) == source

    async def test_concurrent_creations_of_one_name_give_one_volume(
        self, driver: Driver, other_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Hosts are not serialised: one creation wins, and the name remains unique."""
        spec = make_spec()
        results = await asyncio.gather(driver.create(spec), other_node.create(spec), return_exceptions=True)
        made = {result.volume_id for result in results if isinstance(result, Volume)}
        assert all(isinstance(result, (Volume, VolumeExists)) for result in results)
        assert {volume.volume_id for volume in await driver.list()} == made
        assert len(made) == 1
