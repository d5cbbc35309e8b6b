from pathlib import Path

import pytest

from tests.testing.test_memory import MemoryFixtures
from volplug.drivers.base import (
    CAPABILITIES,
    Diagnoses,
    Driver,
    ExplainsAbsence,
    ReportsLimits,
    Settles,
    TakesOver,
)
from volplug.drivers.loop.driver import LoopDriver
from volplug.errors import BackendUnavailable, VolumeNotFound
from volplug.findings import Level
from volplug.models import Volume, VolumeSpec, VolumeState
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
from volplug.testing.memory import MemoryCloud, MemoryDriver

SPEC = VolumeSpec("v", GIB)
VOLUME = Volume("v", "mem-1", "memory", GIB, VolumeState.AVAILABLE, SPEC)


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


async def test_reads_are_stale_after_a_change_and_never_after_a_deletion() -> None:
    driver, _ = _faulty(seed=1, stale_reads=3)
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


async def test_lists_are_as_stale_as_look_ups() -> None:
    driver, _ = _faulty(seed=1, stale_reads=3)
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


async def test_taking_over_suffers_like_all_else() -> None:
    faulty, cloud = _faulty(lost_answer_rate=1.0)
    driver: Driver = faulty
    volume = await MemoryDriver(cloud, "node-b").create(SPEC)
    await MemoryDriver(cloud, "node-b").attach(volume)
    assert isinstance(driver, TakesOver)
    await driver.fence("node-b")
    with pytest.raises(BackendUnavailable, match="the answer to take_from was lost"):
        await driver.take_from(volume, "node-b")
    assert cloud.volumes[volume.volume_id].holder is None
    faulty.plan.error_rate = 1.0
    with pytest.raises(BackendUnavailable, match="fence was throttled"):
        await driver.fence("node-c")
    assert cloud.dead_nodes == {"node-b"}


@pytest.mark.parametrize("kind", ["memory", "loop", "cloud"])
async def test_it_has_the_capabilities_of_the_driver_behind_it_and_no_others(
    kind: str, tmp_path: Path
) -> None:
    behind: Driver = (
        LoopDriver("loop", "host1", tmp_path, 1.0) if kind == "loop" else MemoryDriver(MemoryCloud())
    )
    if kind == "cloud":
        behind = SettlingDriver(MemoryCloud())
    faulty = FaultyDriver(behind, FaultPlan())
    has = [capability for capability in CAPABILITIES if isinstance(behind, capability)]
    assert [capability for capability in CAPABILITIES if isinstance(faulty, capability)] == has
    assert has


class SettlingDriver(MemoryDriver):
    async def wait_settled(self, volume: Volume, timeout_s: float) -> Volume | None:
        return volume

    async def absence(self, name: str) -> VolumeNotFound:
        return VolumeNotFound("no such volume")


async def test_a_capability_that_calls_the_backend_fails_like_all_else_and_others_do_not() -> None:
    faulty = FaultyDriver(SettlingDriver(MemoryCloud()), FaultPlan(error_rate=1.0))
    driver: Driver = faulty
    assert isinstance(driver, Settles)
    assert isinstance(driver, ReportsLimits)
    with pytest.raises(BackendUnavailable, match="wait_settled was throttled"):
        await driver.wait_settled(VOLUME, 1.0)
    with pytest.raises(BackendUnavailable, match="limits was throttled"):
        await driver.limits()
    assert isinstance(driver, ExplainsAbsence)
    assert isinstance(driver, Diagnoses)
    assert (await driver.absence("v")).cause == "no such volume"
    assert [each.level for each in await driver.diagnose()] == [Level.GREEN]
