from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from volplug.drivers.base import Driver
from volplug.errors import BackendUnavailable, DuplicateVolumes, VolumeInUse
from volplug.models import HolderState, Volume, VolumeSpec, VolumeState
from volplug.sizes import GIB
from volplug.testing.conformance import (
    ClusterConformance,
    DescriptionConformance,
    DriverConformance,
    DuplicateConformance,
    OutageConformance,
    SharedDriverConformance,
)
from volplug.testing.driver_fixtures import (
    Describe,
    DriverFixtures,
    Duplicate,
    Interrupt,
    MakeSpec,
    NewDriver,
    Outage,
)
from volplug.testing.memory import MemoryCloud, MemoryDriver, MemoryFilesystemDriver


class MemoryFixtures(DriverFixtures):
    @pytest.fixture
    def cloud(self) -> MemoryCloud:
        return MemoryCloud()

    @pytest.fixture
    def kind(self) -> type[MemoryDriver]:
        return MemoryDriver

    @pytest.fixture
    def new_driver(self, cloud: MemoryCloud, kind: type[MemoryDriver]) -> NewDriver:
        return lambda: kind(cloud)

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return VolumeSpec(name or f"v{next(numbers)}", size_bytes or GIB)

        return make

    @pytest.fixture
    def interrupt_create(self, cloud: MemoryCloud, kind: type[MemoryDriver]) -> Interrupt:
        async def interrupt(spec: VolumeSpec) -> None:
            volume = await kind(cloud).create(spec)
            cloud.volumes[volume.volume_id] = replace(volume, state=VolumeState.INCOMPLETE)

        return interrupt

    @pytest.fixture
    def describe(self, cloud: MemoryCloud) -> Describe:
        async def describe(volume: Volume, otherwise: Volume) -> None:
            now = cloud.volumes[volume.volume_id]
            cloud.volumes[volume.volume_id] = replace(otherwise, state=now.state, holder=now.holder)

        return describe

    @pytest.fixture
    def has_devices(self) -> bool:
        return False

    @pytest.fixture
    def outage(self, cloud: MemoryCloud) -> Outage:
        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            cloud.outage = BackendUnavailable("no route to the cloud", "Wait")
            try:
                yield
            finally:
                cloud.outage = None

        return outage

    @pytest.fixture
    def duplicate(self, cloud: MemoryCloud) -> Duplicate:
        async def duplicate(volume: Volume) -> Volume:
            copy = replace(volume, volume_id=f"{volume.volume_id}-copy")
            cloud.volumes[copy.volume_id] = copy
            return copy

        return duplicate

    @pytest.fixture
    def other_cluster(self, cloud: MemoryCloud, kind: type[MemoryDriver]) -> Driver:
        return kind(cloud, cluster="other")

    @pytest.fixture
    def second_node(self, cloud: MemoryCloud, kind: type[MemoryDriver]) -> Driver:
        return kind(cloud, "node-b")


@pytest.mark.conformance
class TestMemory(
    DriverConformance,
    SharedDriverConformance,
    ClusterConformance,
    OutageConformance,
    DuplicateConformance,
    DescriptionConformance,
    MemoryFixtures,
):
    pass


class TestMemoryFilesystems(TestMemory):
    """The same for volumes that are filesystems without devices."""

    @pytest.fixture
    def kind(self) -> type[MemoryDriver]:
        return MemoryFilesystemDriver

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return VolumeSpec(name or f"v{next(numbers)}", size_bytes or GIB, "zfs")

        return make


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


async def test_two_volumes_of_one_name_are_reported_with_both_ids(cloud: MemoryCloud) -> None:
    driver = MemoryDriver(cloud)
    first = await driver.create(VolumeSpec("v", GIB))
    cloud.volumes["mem-2"] = replace(first, volume_id="mem-2")
    with pytest.raises(DuplicateVolumes) as twice:
        await driver.get("v")
    assert (
        str(twice.value) == f"{first.volume_id} and mem-2 carry this name. Nothing was changed; rename one."
    )
    assert twice.value.volume_ids == (first.volume_id, "mem-2")


async def test_an_outage_is_raised_anew_by_every_call_and_ends(cloud: MemoryCloud) -> None:
    driver = MemoryDriver(cloud)
    cloud.outage = BackendUnavailable("no route", "Wait")
    raised = []
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="no route") as outage:
            await driver.get("v")
        raised.append(outage.value)
    assert raised[0] is not raised[1]
    cloud.outage = None
    assert await driver.get("v") is None
    assert cloud.calls == ["get"] * 3


async def test_a_node_is_dead_once_the_test_says_so(cloud: MemoryCloud) -> None:
    cloud.dead_nodes.add("node-b")
    holder = await MemoryDriver(cloud).holder_state("node-b")
    assert (holder.state, holder.evidence) == (HolderState.DEAD, "node-b is stopped")


async def test_a_volume_is_taken_from_the_dead_node_that_has_it_and_from_no_other(cloud: MemoryCloud) -> None:
    driver, other = MemoryDriver(cloud), MemoryDriver(cloud, "node-b")
    volume = await driver.create(VolumeSpec("v", GIB))
    await other.attach(volume)
    with pytest.raises(VolumeInUse, match="node-b holds the volume and is not proven dead"):
        await driver.take_from(volume, "node-b")
    cloud.dead_nodes |= {"node-b", "node-c"}
    await driver.take_from(volume, "node-c")
    assert cloud.volumes[volume.volume_id].holder == "node-b"
    await driver.take_from(volume, "node-b")
    assert cloud.volumes[volume.volume_id].holder is None
