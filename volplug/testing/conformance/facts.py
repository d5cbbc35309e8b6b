"""Tags, holders and constants."""

# ruff: noqa: S101  # these are pytest's tests, which assert

from __future__ import annotations

from dataclasses import replace
from functools import partial

from volplug.drivers.base import Diagnoses, Driver, ReportsLimits, Scope
from volplug.drivers.copies import SendsCopies
from volplug.findings import Level
from volplug.models import HolderState, Volume, VolumeState
from volplug.testing.conformance.calls import by_id, located, problem_of, tags_of
from volplug.testing.conformance.clusters import ClusterConformance
from volplug.testing.conformance.copies import CopyConformance
from volplug.testing.conformance.outages import OutageConformance
from volplug.testing.conformance.shared import SharedDriverConformance
from volplug.testing.driver_fixtures import DriverFixtures, Eventually, MakeSpec, NewDriver


class FactCases(DriverFixtures):
    """A driver's reports of volumes, nodes and itself."""

    async def test_filesystem_tag_is_kept_with_the_volume(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Every phase is read back, also after a restart; nothing else changes."""
        volume = await driver.create(make_spec())
        for tag in tags_of(driver):
            tagged = await driver.tag_filesystem(volume, tag)
            assert tagged == replace(volume, filesystem=tag)
            await eventually(partial(driver.get, volume.name), tagged)
            await eventually(partial(new_driver().get, volume.name), tagged)

    async def test_filesystem_tag_of_an_attached_volume(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Formats are tagged while the volume is attached, and it remains attached."""
        volume = await driver.create(make_spec())
        source = await driver.attach(volume)
        assert (await driver.tag_filesystem(volume, tags_of(driver)[0])).filesystem == tags_of(driver)[0]
        tagged = replace(volume, filesystem=tags_of(driver)[0])
        in_use = replace(tagged, state=VolumeState.IN_USE, holder=driver.node_id)
        await eventually(lambda: driver.get(volume.name), in_use)
        assert await located(driver, volume) == source

    async def test_filesystem_tag_outlives_calls_with_an_older_description(
        self, driver: Driver, new_driver: NewDriver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """A caller's description may be older than the backend's tag."""
        old = await driver.create(make_spec())
        tagged = await driver.tag_filesystem(old, tags_of(driver)[1])
        await driver.attach(old)
        await driver.detach(old)
        await eventually(lambda: new_driver().get(old.name), tagged)

    async def test_node_is_never_declared_dead_by_guess(self, driver: Driver) -> None:
        """This node is alive; a node that the backend does not know is not dead for that."""
        own = await driver.holder_state(driver.node_id)
        other = await driver.holder_state("node-never-heard-of")
        assert own.state is HolderState.ALIVE
        assert other.state is not HolderState.DEAD
        assert own.evidence
        assert other.evidence

    async def test_constants_make_sense(self, driver: Driver, make_spec: MakeSpec) -> None:
        """They are consistent, and a plain spec is accepted."""
        info = driver.info
        assert 0 < info.minimum_size_bytes <= info.default_size_bytes <= info.maximum_size_bytes
        assert info.default_size_bytes % info.allocation_unit_bytes == 0
        assert all(name == name.lower() and "_" not in name for name in info.options)
        driver.check_spec(make_spec())

    async def test_constants_are_constant(self, driver: Driver, new_driver: NewDriver) -> None:
        """A restart changes neither `info` nor the node id."""
        again = new_driver()
        assert again.info == driver.info
        assert driver.node_id
        assert again.node_id == driver.node_id

    async def test_limits_are_plausible_and_volumes_count(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Of a driver that reports limits: none is exceeded, and those that count volumes count a new one."""
        if not isinstance(driver, ReportsLimits):
            return
        before = {limit.name: limit for limit in await driver.limits()}
        await driver.create(make_spec())

        async def uncounted() -> set[str]:
            after = {limit.name: limit.used for limit in await driver.limits()}
            return {
                name
                for name, limit in before.items()
                if name not in after or (limit.unit == "volumes" and after[name] <= limit.used)
            }

        await eventually(uncounted, set())
        for limit in (*before.values(), *await driver.limits()):
            assert limit.unit
            assert 0 <= limit.used <= (limit.used if limit.maximum is None else limit.maximum)

    async def test_diagnosis_is_well_formed_and_changes_nothing(
        self, driver: Driver, make_spec: MakeSpec, eventually: Eventually
    ) -> None:
        """Of a driver that diagnoses: what is wrong has a remedy, and volumes stay as they are."""
        if not isinstance(driver, Diagnoses):
            return
        idle, used = [await driver.create(make_spec()) for _ in range(2)]
        source = await driver.attach(used)
        in_use = replace(used, state=VolumeState.IN_USE, holder=driver.node_id)

        async def volumes() -> list[Volume]:
            return by_id(await driver.list())

        await eventually(volumes, by_id([idle, in_use]))
        findings = await driver.diagnose()
        assert [each for each in findings if problem_of(each)] == []
        assert findings
        assert [each for each in findings if each.level is Level.RED] == []
        await eventually(volumes, by_id([idle, in_use]))
        assert await located(driver, used) == source

    async def test_capabilities_are_declared(self, driver: Driver) -> None:
        """`info` decides from which further classes the test class has to inherit."""
        wanted: set[type] = set()
        if driver.info.scope is Scope.GLOBAL:
            wanted |= {SharedDriverConformance, ClusterConformance}
        if driver.info.remote:
            wanted.add(OutageConformance)
        if isinstance(driver, SendsCopies):
            wanted.add(CopyConformance)
        assert {each for each in wanted if not isinstance(self, each)} == set()
