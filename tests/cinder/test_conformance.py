"""The shared suite on a real OpenStack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.cinder.sites import SIZE, SMALLEST_PAGE, CinderSite, spec_of
from tests.lab.openstack.lab import OpenStackLab
from tests.lab.openstack.shared import CINDER
from volplug.drivers.base import Driver
from volplug.drivers.cinder.options import TOKEN, metadata_of
from volplug.drivers.cloud.tags import SUBPATH, filesystem_tags
from volplug.errors import BackendUnavailable
from volplug.models import Volume, VolumeSpec
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

pytestmark = [*CINDER, pytest.mark.conformance, pytest.mark.usefixtures("identified")]

_NUMBERS: Final = count()


class CinderFixtures(DriverFixtures):
    """One cloud for all tests; each test has a cluster of its own."""

    @pytest.fixture
    def cluster(self) -> str:
        return f"cluster-{next(_NUMBERS)}"

    @pytest.fixture
    def new_driver(self, sites: list[CinderSite], cluster: str, tmp_path: Path) -> NewDriver:
        return lambda: sites[0].driver(tmp_path / "first", cluster)

    @pytest.fixture
    def second_node(self, sites: list[CinderSite], cluster: str, tmp_path: Path) -> Driver:
        return sites[1].driver(tmp_path / "second", cluster)

    @pytest.fixture
    def other_cluster(self, sites: list[CinderSite], cluster: str, tmp_path: Path) -> Driver:
        return sites[1].driver(tmp_path / "other", f"{cluster}-other")

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE)

        return make

    @pytest.fixture
    def many(self) -> int:
        return SMALLEST_PAGE + 2

    @pytest.fixture
    def interrupt_create(self, sites: list[CinderSite], cluster: str, tmp_path: Path) -> Interrupt:
        """The process ends while Cinder is creating the volume."""

        async def interrupt(spec: VolumeSpec) -> None:
            sites[0].line.lost["POST /volumes"] = True
            with pytest.raises(BackendUnavailable):
                await sites[0].driver(tmp_path / "first", cluster).create(spec)
            sites[0].line.is_cut = False

        return interrupt

    @pytest.fixture
    def outage(self, sites: list[CinderSite]) -> Outage:
        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            for site in sites:
                site.line.is_cut = True
            try:
                yield
            finally:
                for site in sites:
                    site.line.is_cut = False

        return outage

    @pytest.fixture
    def describe(self, lab: OpenStackLab, cluster: str) -> Describe:
        """Write the metadata, as every principal may who can change volumes of the project."""
        cloud = lab.connection("demo")

        def write(volume_id: str, metadata: Mapping[str, str]) -> None:
            cloud.block_storage.set_volume_metadata(volume_id, **metadata)

        async def describe(volume: Volume, otherwise: Volume) -> None:
            metadata = {
                **metadata_of(otherwise.spec, cluster, {}, "token"),
                **filesystem_tags(otherwise.filesystem),
                SUBPATH: otherwise.subpath,
            }
            await asyncio.to_thread(write, volume.volume_id, metadata)

        return describe

    @pytest.fixture
    def duplicate(self, lab: OpenStackLab, driver: Driver, cluster: str) -> Duplicate:
        """Another volume gets the same metadata."""
        cloud = lab.connection("demo")

        async def duplicate(volume: Volume) -> Volume:
            metadata = metadata_of(volume.spec, cluster, {}, "")
            del metadata[TOKEN]

            def make() -> str:
                made = cloud.block_storage.create_volume(size=1, metadata=metadata)
                cloud.block_storage.wait_for_status(made, "available", interval=0.1, wait=60)
                return str(made.id)

            made = await asyncio.to_thread(make)
            return next(each for each in await driver.list() if each.volume_id == made)

        return duplicate


class TestCinder(
    DriverConformance,
    SharedDriverConformance,
    ClusterConformance,
    OutageConformance,
    DuplicateConformance,
    DescriptionConformance,
    CinderFixtures,
):
    """Every capability."""
