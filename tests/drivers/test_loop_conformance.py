"""The shared suite on image files: both allocations, and a host disk of every filesystem."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import SIZE, driver_of, leave_creation, spec_of
from tests.lab import loops
from volplug.models import VolumeSpec
from volplug.testing.conformance import DriverConformance, OutageConformance
from volplug.testing.driver_fixtures import DriverFixtures, Interrupt, MakeSpec, NewDriver, Outage


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
class TestLoop(DriverConformance, OutageConformance, LoopFixtures):
    pass


@pytest.mark.loop
@pytest.mark.conformance
class TestSparseLoop(DriverConformance, OutageConformance, LoopFixtures):
    allocation = "sparse"


@pytest.mark.loop
@pytest.mark.conformance
class TestLoopOnEachFilesystem(DriverConformance, OutageConformance, LoopFixtures):
    @pytest.fixture
    def images(self, host_disk: Path) -> Path:
        return host_disk / "images"
