"""A backend that does not answer."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from volplug.drivers.base import Diagnoses, Driver
from volplug.errors import BackendUnavailable
from volplug.findings import Level
from volplug.models import Volume
from volplug.testing.conformance.calls import change, located, problem_of
from volplug.testing.driver_fixtures import DriverFixtures, Eventually, MakeSpec, NewDriver, Outage


class OutageConformance(DriverFixtures):
    """For drivers whose backend can be unavailable: without an answer, nothing may be concluded."""

    @pytest.mark.parametrize(
        "call", ["get", "list", "health", "create", "delete", "attach", "tag_filesystem"]
    )
    async def test_outage_is_reported_and_changes_nothing(
        self, driver: Driver, make_spec: MakeSpec, outage: Outage, call: str
    ) -> None:
        """Never "no such volume", never an empty list; after the outage, all is as before."""
        volume = await driver.create(make_spec())
        async with outage():
            with pytest.raises(BackendUnavailable) as away:
                await _ask(driver, volume, call)
        assert away.value.cause
        assert await driver.get(volume.name) == volume
        assert list(await driver.list()) == [volume]

    async def test_diagnosis_during_an_outage_names_it(
        self, driver: Driver, make_spec: MakeSpec, outage: Outage
    ) -> None:
        """Of a driver that diagnoses: it raises nothing, and says what is wrong and what to do."""
        if not isinstance(driver, Diagnoses):
            return
        await driver.create(make_spec())
        async with outage():
            findings = await driver.diagnose()
        assert [each for each in findings if problem_of(each)] == []
        assert [each for each in findings if each.level is Level.RED]

    async def test_device_is_located_during_an_outage(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, outage: Outage
    ) -> None:
        """This host identifies attached volumes, also after a restart; unmounts depend on it."""
        here, not_here = [await driver.create(make_spec()) for _ in range(2)]
        source = await driver.attach(here)
        async with outage():
            assert await located(driver, here) == source
            assert await located(new_driver(), here) == source
            assert await located(driver, not_here) is None

    async def test_detach_during_an_outage_is_done_or_refused(
        self, driver: Driver, make_spec: MakeSpec, outage: Outage, eventually: Eventually
    ) -> None:
        """A host that can detach without the backend may do so; after the outage detaching works."""
        volume = await driver.create(make_spec())
        await driver.attach(volume)
        async with outage():
            with suppress(BackendUnavailable):
                await driver.detach(volume)
        await driver.detach(volume)
        assert await located(driver, volume) is None
        await eventually(lambda: driver.get(volume.name), volume)

    async def test_constants_are_known_during_an_outage(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, outage: Outage
    ) -> None:
        """A driver is built and has its constants without its backend: volplug starts before the network."""
        spec = (await driver.create(make_spec())).spec
        async with outage():
            again = new_driver()
            assert (again.info, again.node_id) == (driver.info, driver.node_id)
            again.check_spec(spec)


async def _ask(driver: Driver, volume: Volume, call: str) -> None:
    if call == "get":
        await driver.get(volume.name)
    elif call in ("list", "health"):
        await getattr(driver, call)()
    elif call == "create":
        await driver.create(replace(volume.spec, name=f"{volume.name}-2"))
    else:
        await change(driver, volume, call)
