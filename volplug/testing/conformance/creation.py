"""Creating, listing and looking up."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from volplug.drivers.base import Driver
from volplug.errors import InvalidSize, LimitExceeded, VolumeExists
from volplug.models import VolumeState
from volplug.testing.conformance.calls import by_id, is_new
from volplug.testing.driver_fixtures import DriverFixtures, MakeSpec, NewDriver

_ALIKE: Final = ("web.db", "WEB.db", "web_db", "web.d", "web.db1", "web.db.json", "web.db.img")
_CLOCK_SKEW: Final = timedelta(minutes=5)


class CreationCases(DriverFixtures):
    """Results of `create`, `get` and `list` for volumes that were never attached."""

    async def test_nothing_exists_at_first(self, driver: Driver, make_spec: MakeSpec) -> None:
        """An empty backend is usable, lists nothing and finds nothing."""
        await driver.health()
        assert list(await driver.list()) == []
        assert await driver.get(make_spec().name) is None

    async def test_created_volume_is_what_was_asked_for(self, driver: Driver, make_spec: MakeSpec) -> None:
        """It is available, blank by its own record, and not attached."""
        spec, before = make_spec(), datetime.now(UTC)
        volume = await driver.create(spec)
        assert (volume.name, volume.spec, volume.state) == (spec.name, spec, VolumeState.AVAILABLE)
        assert is_new(driver, volume.filesystem)
        assert (volume.subpath, volume.holder) == ("data", None)
        assert volume.volume_id
        if volume.created_at is not None:
            assert volume.created_at.tzinfo is not None, "created_at needs a time zone"
            assert abs(volume.created_at - before) < _CLOCK_SKEW

    async def test_created_volume_is_listed_and_found_by_name(
        self, driver: Driver, make_spec: MakeSpec
    ) -> None:
        """All three calls return the same description."""
        volumes = [await driver.create(make_spec()) for _ in range(3)]
        assert by_id(await driver.list()) == by_id(volumes)
        assert [await driver.get(volume.name) for volume in volumes] == volumes

    async def test_identity_survives_a_restart(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec
    ) -> None:
        """A new driver, without memory of it, returns the same volume."""
        volume = await driver.create(make_spec())
        assert await new_driver().get(volume.name) == volume
        assert list(await new_driver().list()) == [volume]

    async def test_size_is_never_below_what_was_asked_for(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A size is rounded up to a whole number of allocation units, never down."""
        unit = driver.info.allocation_unit_bytes
        asked = make_spec().size_bytes + unit
        volume = await driver.create(make_spec(size_bytes=asked))
        assert asked <= volume.size_bytes < asked + unit
        assert volume.size_bytes % unit == 0

    async def test_name_taken_is_refused(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Neither the same spec nor another one creates a second volume, or changes the first."""
        spec = make_spec()
        volume = await driver.create(spec)
        for again in (spec, replace(spec, size_bytes=spec.size_bytes * 2)):
            with pytest.raises(VolumeExists):
                await driver.create(again)
        assert list(await driver.list()) == [volume]

    async def test_volumes_are_created_concurrently(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Concurrent creations of different names do not affect each other."""
        volumes = await asyncio.gather(*(driver.create(make_spec()) for _ in range(5)))
        assert len({volume.volume_id for volume in volumes}) == 5
        assert by_id(await driver.list()) == by_id(volumes)

    async def test_longest_name_goes_all_the_way(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A name of 128 characters, of every kind that is allowed."""
        name = "Z" + "a_.-9" * 25 + "-."
        volume = await driver.create(make_spec(name))
        assert (len(volume.name), await driver.get(name)) == (128, volume)
        await driver.attach(volume)
        await driver.detach(volume)
        await driver.delete(volume)
        assert await driver.get(name) is None

    async def test_similar_names_are_different(self, driver: Driver, make_spec: MakeSpec) -> None:
        """Other case, a prefix, or characters that are special in searches and file names."""
        first = await driver.create(make_spec(_ALIKE[0]))
        assert [await driver.get(name) for name in _ALIKE[1:]] == [None] * len(_ALIKE[1:])
        others = [await driver.create(make_spec(name)) for name in _ALIKE[1:]]
        await driver.delete(first)
        assert [await driver.get(name) for name in _ALIKE] == [None, *others]

    async def test_every_volume_of_many_is_listed(
        self, driver: Driver, make_spec: MakeSpec, many: int
    ) -> None:
        """Also where the backend answers in pages."""
        volumes = [await driver.create(make_spec()) for _ in range(many)]
        assert by_id(await driver.list()) == by_id(volumes)

    async def test_sizes_outside_of_the_limits_are_refused(self, driver: Driver, make_spec: MakeSpec) -> None:
        """With a typed error and without leftovers; the limits are those of `info`."""
        info = driver.info
        below = info.minimum_size_bytes - info.allocation_unit_bytes
        for size_bytes in (info.maximum_size_bytes + info.allocation_unit_bytes, below):
            spec = replace(make_spec(), size_bytes=size_bytes)
            with pytest.raises((InvalidSize, LimitExceeded)):
                await driver.create(spec)
            assert await driver.get(spec.name) is None
        assert list(await driver.list()) == []

    async def test_built_in_profiles_can_be_chosen(self, driver: Driver, make_spec: MakeSpec) -> None:
        """A profile's values of the driver's own options are accepted and kept."""
        for profile, defaults in driver.info.profiles.items():
            own = tuple(sorted((key, text) for key, text in defaults.items() if key in driver.info.options))
            spec = replace(make_spec(), profile=profile, driver_options=own)
            driver.check_spec(spec)
            assert (await driver.create(spec)).spec == spec
