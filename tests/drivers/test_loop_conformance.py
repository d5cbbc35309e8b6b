"""The shared suite on image files: both allocations, and a host disk of every filesystem."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import SIZE, driver_of, leave_creation, spec_of
from tests.lab import loops
from volplug.models import Volume, VolumeSpec
from volplug.testing.conformance import DescriptionConformance, DriverConformance, OutageConformance
from volplug.testing.driver_fixtures import Describe, DriverFixtures, Interrupt, MakeSpec, NewDriver, Outage
from volplug.volume_json import volume_to_json


class LoopFixtures(DriverFixtures):
    allocation = ""

    @pytest.fixture
    def nothing_attached(self, images: Path) -> Iterator[None]:
        """Look after the clean-up of the suite: what is attached now, the driver does not know of."""
        yield
        assert loops.attached_below(images) == []
        assert [path.name for path in images.glob("[!.]*")] == []

    @pytest.fixture
    def new_driver(self, images: Path, nothing_attached: None) -> NewDriver:
        return lambda: driver_of(images, id_copy=images.with_suffix(".id"))

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE, self.allocation)

        return make

    @pytest.fixture
    def interrupt_create(self, images: Path) -> Interrupt:
        async def interrupt(spec: VolumeSpec) -> None:
            await asyncio.to_thread(leave_creation, images, spec, spec.size_bytes // 2)

        return interrupt

    @pytest.fixture
    def describe(self, images: Path) -> Describe:
        """Write a record by hand."""

        async def describe(volume: Volume, otherwise: Volume) -> None:
            record = json.dumps({"format": 1, "volume": json.loads(volume_to_json(otherwise))})
            await asyncio.to_thread((images / f"{volume.name}.json").write_text, record)

        return describe

    @pytest.fixture
    def outage(self, images: Path) -> Outage:
        """The disk is not mounted: the directory is there and empty."""
        mounted = images.with_suffix(".mounted")

        def begin() -> None:
            images.rename(mounted)
            images.mkdir()

        def end() -> None:
            images.rmdir()
            mounted.rename(images)

        @asynccontextmanager
        async def outage() -> AsyncIterator[None]:
            await asyncio.to_thread(begin)
            try:
                yield
            finally:
                await asyncio.to_thread(end)

        return outage


@pytest.mark.loop
@pytest.mark.conformance
class TestLoop(DriverConformance, OutageConformance, DescriptionConformance, LoopFixtures):
    pass


@pytest.mark.loop
@pytest.mark.conformance
class TestSparseLoop(DriverConformance, OutageConformance, DescriptionConformance, LoopFixtures):
    allocation = "sparse"


@pytest.mark.loop
@pytest.mark.conformance
class TestLoopOnEachFilesystem(DriverConformance, OutageConformance, DescriptionConformance, LoopFixtures):
    @pytest.fixture
    def images(self, host_disk: Path) -> Path:
        return host_disk / "images"
