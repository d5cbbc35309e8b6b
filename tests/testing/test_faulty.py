import pytest

from tests.drivers.test_memory import MemoryFixtures
from volplug.drivers.base import Driver
from volplug.drivers.memory import MemoryCloud, MemoryDriver
from volplug.errors import BackendUnavailable
from volplug.models import VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.conformance import (
    ClusterConformance,
    DriverConformance,
    DuplicateConformance,
    OutageConformance,
    SharedDriverConformance,
)
from volplug.testing.driver_fixtures import NewDriver
from volplug.testing.faulty import FaultPlan, FaultyDriver

SPEC = VolumeSpec("v", GIB)


@pytest.mark.conformance
class TestFaultyWithoutFaults(
    DriverConformance,
    SharedDriverConformance,
    ClusterConformance,
    OutageConformance,
    DuplicateConformance,
    MemoryFixtures,
):
    @pytest.fixture
    def new_driver(self, cloud: MemoryCloud) -> NewDriver:
        return lambda: FaultyDriver(MemoryDriver(cloud), FaultPlan())

    @pytest.fixture
    def second_node(self, cloud: MemoryCloud) -> Driver:
        return FaultyDriver(MemoryDriver(cloud, "node-b"), FaultPlan())

    @pytest.fixture
    def other_cluster(self, cloud: MemoryCloud) -> Driver:
        return FaultyDriver(MemoryDriver(cloud, cluster="other"), FaultPlan())


def _faulty(**plan: float) -> tuple[FaultyDriver, MemoryCloud]:
    cloud = MemoryCloud()
    faults = FaultPlan(**plan)  # type: ignore[arg-type]  # rates and numbers only
    return FaultyDriver(MemoryDriver(cloud), faults), cloud


async def test_a_call_that_fails_has_had_no_effect() -> None:
    driver, cloud = _faulty(error_rate=1.0)
    with pytest.raises(BackendUnavailable, match="create was throttled"):
        await driver.create(SPEC)
    assert (cloud.volumes, driver.plan.errors) == ({}, 1)


async def test_a_change_whose_answer_is_lost_has_happened() -> None:
    driver, cloud = _faulty(lost_answer_rate=1.0)
    with pytest.raises(BackendUnavailable, match="the answer to create was lost"):
        await driver.create(SPEC)
    assert [volume.name for volume in cloud.volumes.values()] == ["v"]


async def test_look_ups_hear_late_of_a_change_and_at_once_of_a_deletion() -> None:
    driver, _ = _faulty(seed=1, stale_looks=3)
    volume = await driver.create(SPEC)
    assert await driver.get("v") == volume
    await driver.attach(volume)
    states = [found.state for _ in range(4) if (found := await driver.get("v"))]
    late = driver.plan.stale_answers
    assert 0 < late < 4
    assert states == [VolumeState.AVAILABLE] * late + [VolumeState.IN_USE] * (4 - late)
    await driver.detach(volume)
    await driver.delete(volume)
    assert await driver.get("v") is None
    assert await driver.list() == []


async def test_lists_hear_as_late_as_look_ups() -> None:
    driver, _ = _faulty(seed=1, stale_looks=3)
    volume = await driver.create(SPEC)
    await driver.attach(volume)
    assert [each.state for each in await driver.list()] == [VolumeState.AVAILABLE]
    driver.plan.end()
    assert [each.state for each in await driver.list()] == [VolumeState.IN_USE]


async def test_the_same_seed_gives_the_same_faults() -> None:
    async def outcomes(seed: int) -> list[bool]:
        driver, _ = _faulty(seed=seed, error_rate=0.5)
        seen = []
        for _ in range(50):
            try:
                await driver.health()
            except BackendUnavailable:
                seen.append(False)
            else:
                seen.append(True)
        return seen

    assert await outcomes(7) == await outcomes(7)
    assert await outcomes(7) != await outcomes(8)
