import asyncio
from itertools import count
from pathlib import Path

import pytest

from tests.drivers.loop_volumes import SIZE, driver_of, leave_creation, spec_of
from volplug.models import VolumeSpec
from volplug.testing.conformance import DriverConformance
from volplug.testing.driver_fixtures import DriverFixtures, Interrupt, MakeSpec, NewDriver


class LoopFixtures(DriverFixtures):
    @pytest.fixture
    def new_driver(self, images: Path) -> NewDriver:
        return lambda: driver_of(images)

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE)

        return make

    @pytest.fixture
    def interrupt_create(self, images: Path) -> Interrupt:
        async def interrupt(spec: VolumeSpec) -> None:
            await asyncio.to_thread(leave_creation, images, spec, spec.size_bytes // 2)

        return interrupt


@pytest.mark.loop
@pytest.mark.conformance
class TestLoop(DriverConformance, LoopFixtures):
    pass


class SparseFixtures(LoopFixtures):
    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        numbers = count()

        def make(name: str = "", size_bytes: int = 0) -> VolumeSpec:
            return spec_of(name or f"v{next(numbers)}", size_bytes or SIZE, allocation="sparse")

        return make


@pytest.mark.loop
@pytest.mark.conformance
class TestSparseLoop(DriverConformance, SparseFixtures):
    pass
