"""The shared suite on a real pool of zfs-fuse."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from tests.drivers.zfs.volumes import SIZE, driver_of, spec_of
from tests.lab.requirements import ZFS
from tests.lab.zfs import ZfsPool, run_program
from volplug.drivers.base import Driver
from volplug.drivers.zfs.capabilities import ZFS_FUSE
from volplug.drivers.zfs.commands import Datasets
from volplug.drivers.zfs.properties import filesystem_properties, volume_properties
from volplug.drivers.zfs.tools import ZfsTools
from volplug.drivers.zfs.volumes import new_tag
from volplug.models import Volume, VolumeSpec
from volplug.testing.conformance import (
    CopyConformance,
    DescriptionConformance,
    DriverConformance,
    OutageConformance,
)
from volplug.testing.driver_fixtures import Describe, DriverFixtures, Interrupt, MakeSpec, NewDriver, Outage

pytestmark = ZFS


class ZfsFixtures(DriverFixtures):
    @pytest.fixture
    def datasets(self, parent: str) -> Datasets:
        return Datasets(ZfsTools(run_program, 30), parent, ZFS_FUSE)

    @pytest.fixture
    def new_driver(self, parent: str, tmp_path: Path) -> NewDriver:
        return lambda: driver_of(parent, tmp_path)

    @pytest.fixture
    def copying_host(self, pool: ZfsPool, tmp_path: Path) -> Driver:
        return driver_of(pool.new_parent(), tmp_path / "other-host")

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE)

        return make

    @pytest.fixture
    def interrupt_create(self, datasets: Datasets) -> Interrupt:
        async def interrupt(spec: VolumeSpec) -> None:
            properties = volume_properties(spec, "", ZFS_FUSE.property_length)
            properties |= filesystem_properties(new_tag(uuid4()))
            await datasets.create(spec.name, {"mountpoint": "none"}, properties)

        return interrupt

    @pytest.fixture
    def describe(self, datasets: Datasets) -> Describe:
        """Set properties by hand."""

        async def describe(volume: Volume, otherwise: Volume) -> None:
            properties = volume_properties(otherwise.spec, "", ZFS_FUSE.property_length)
            properties |= filesystem_properties(otherwise.filesystem)
            properties["org.volplug:subpath"] = otherwise.subpath
            await datasets.set(datasets.path(volume.name), properties)

        return describe

    @pytest.fixture
    def outage(self, pool: ZfsPool) -> Outage:
        """The pool is exported: to ZFS, its datasets do not exist."""

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            await asyncio.to_thread(pool.zfs.zpool, "export", pool.name)
            try:
                yield
            finally:
                directory = str(pool.zfs.directory)
                await asyncio.to_thread(pool.zfs.zpool, "import", "-d", directory, pool.name)

        return outage


@pytest.mark.conformance
class TestZfs(DriverConformance, OutageConformance, DescriptionConformance, CopyConformance, ZfsFixtures):
    pass
