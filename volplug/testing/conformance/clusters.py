"""Several clusters on one backend, such as a test environment and production in one account."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import pytest

from volplug.drivers.base import Driver
from volplug.errors import VolumeNotFound
from volplug.testing.conformance.calls import CHANGES, change
from volplug.testing.driver_fixtures import DriverFixtures, MakeSpec


class ClusterConformance(DriverFixtures):
    """For drivers of backends that several clusters may use: only the own cluster's volumes are visible."""

    async def test_volumes_of_another_cluster_are_not_seen(
        self, driver: Driver, foreign_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Neither listed nor found by name."""
        foreign = await foreign_node.create(make_spec())
        own = await driver.create(make_spec())
        assert await driver.get(foreign.name) is None
        assert list(await driver.list()) == [own]
        assert list(await foreign_node.list()) == [foreign]

    async def test_clusters_do_not_share_names(
        self, driver: Driver, foreign_node: Driver, make_spec: MakeSpec
    ) -> None:
        """Each has a volume of the same name, and finds its own."""
        foreign = await foreign_node.create(make_spec())
        own = await driver.create(foreign.spec)
        assert await driver.get(own.name) == own
        assert await foreign_node.get(own.name) == foreign
        assert own.volume_id != foreign.volume_id

    @pytest.mark.parametrize("call", CHANGES)
    async def test_volumes_of_another_cluster_are_not_touched(
        self, driver: Driver, foreign_node: Driver, make_spec: MakeSpec, call: str
    ) -> None:
        """Not even by a caller that knows the id."""
        foreign = await foreign_node.create(make_spec())
        await foreign_node.attach(foreign)
        before = await foreign_node.get(foreign.name)
        with pytest.raises(VolumeNotFound):
            await change(driver, foreign, call)
        assert await foreign_node.get(foreign.name) == before
