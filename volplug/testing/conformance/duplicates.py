"""Two volumes of one name, such as a copy made by hand or the result of a race between hosts."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import pytest

from volplug.drivers.base import Driver
from volplug.errors import DuplicateVolumes
from volplug.testing.conformance.calls import by_id
from volplug.testing.driver_fixtures import DriverFixtures, Duplicate, MakeSpec


class DuplicateConformance(DriverFixtures):
    """For drivers of backends whose names are not unique: an operator has to choose one of two volumes."""

    @pytest.mark.parametrize("call", ["get", "create"])
    async def test_name_of_two_volumes_is_refused_naming_both(
        self, driver: Driver, make_spec: MakeSpec, duplicate: Duplicate, call: str
    ) -> None:
        """Neither is chosen, and no third one created."""
        first = await driver.create(make_spec())
        second = await duplicate(first)
        with pytest.raises(DuplicateVolumes) as twice:
            await (driver.get(first.name) if call == "get" else driver.create(first.spec))
        ids = {first.volume_id, second.volume_id}
        assert set(twice.value.volume_ids) == ids
        assert all(volume_id in str(twice.value) for volume_id in ids)
        assert {volume.volume_id for volume in await driver.list()} == ids

    async def test_duplicates_do_not_hide_other_volumes(
        self, driver: Driver, make_spec: MakeSpec, duplicate: Duplicate
    ) -> None:
        """All other volumes are listed and found."""
        first, other = [await driver.create(make_spec()) for _ in range(2)]
        second = await duplicate(first)
        assert by_id(await driver.list()) == by_id([first, second, other])
        assert await driver.get(other.name) == other

    async def test_deletion_of_one_duplicate_leaves_the_other(
        self, driver: Driver, make_spec: MakeSpec, duplicate: Duplicate
    ) -> None:
        """Volumes are deleted by id, which ends the ambiguity."""
        first = await driver.create(make_spec())
        second = await duplicate(first)
        await driver.delete(first)
        assert await driver.get(first.name) == second
