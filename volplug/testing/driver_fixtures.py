"""What a driver brings to the shared suite, and how the suite looks at its devices."""

# ruff: noqa: S101  # a fixture of pytest's tests, which assert

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import pytest

from volplug.drivers.base import Driver
from volplug.models import MountSource, Volume, VolumeSpec, VolumeState
from volplug.testing.leftovers import Watch

_MARK: Final = b"written before the detach"
WRITTEN: Final = _MARK * 2
BLANK: Final = bytes(len(WRITTEN))


class MakeSpec(Protocol):
    """Makes specs that the driver accepts; each call without a name gives a name not used before."""

    def __call__(self, name: str = "", size_bytes: int = 0) -> VolumeSpec:
        """Return a spec; no size means the smallest that is practical."""
        ...


NewDriver = Callable[[], Driver]
Interrupt = Callable[[VolumeSpec], Awaitable[None]]
Outage = Callable[[], AbstractAsyncContextManager[None]]
Duplicate = Callable[[Volume], Awaitable[Volume]]
Describe = Callable[[Volume, Volume], Awaitable[None]]
_READ_PAUSE_S: Final = 0.01


class Eventually(Protocol):
    """Asserts what a read shows, once or, of a backend with stale reads, in the end."""

    async def __call__(self, read: Callable[[], Awaitable[object]], expected: object) -> None:
        """Read until the result is as expected; fail with the last one after the time for stale reads."""
        ...


def eventually_within(stale_s: float) -> Eventually:
    """Return what reads again for so many seconds, as long as a read is not as expected."""

    async def eventually(read: Callable[[], Awaitable[object]], expected: object) -> None:
        clock = asyncio.get_running_loop().time
        ends_s = clock() + stale_s
        found = await read()
        while found != expected and clock() < ends_s:
            await asyncio.sleep(_READ_PAUSE_S)
            found = await read()
        assert found == expected

    return eventually


class DriverFixtures:
    """What a driver's test class provides: the first three always, those marked so for one capability.

    The last ones are the suite's own and stay as they are.
    """

    @pytest.fixture
    def new_driver(self) -> NewDriver:
        """Return what builds one more driver object of the same node and backend, as after a restart."""
        raise NotImplementedError

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        """Return what makes specs."""
        raise NotImplementedError

    @pytest.fixture
    def interrupt_create(self) -> Interrupt:
        """Return what leaves behind what a crash in the middle of `create` leaves."""
        raise NotImplementedError

    @pytest.fixture
    def has_devices(self) -> bool:
        """Tell whether the device of a MountSource can be opened; False for backends in memory."""
        return True

    @pytest.fixture
    def many(self) -> int:
        """Return how many volumes are more than fit one answer of the backend."""
        return 20

    @pytest.fixture
    def stale_s(self) -> float:
        """Return for how many seconds reads may miss changes of holders and tags; 0 if they never do."""
        return 0.0

    @pytest.fixture
    def second_node(self) -> Driver:
        """`SharedDriverConformance`: return the driver of another node on the same backend."""
        raise NotImplementedError

    @pytest.fixture
    def other_cluster(self) -> Driver:
        """`ClusterConformance`: return a driver on the same backend, configured for another cluster."""
        raise NotImplementedError

    @pytest.fixture
    def outage(self) -> Outage:
        """`OutageConformance`: return what keeps the backend from answering while its context lasts."""
        raise NotImplementedError

    @pytest.fixture
    def duplicate(self) -> Duplicate:
        """`DuplicateConformance`: return what makes a second volume of a volume's name behind the driver."""
        raise NotImplementedError

    @pytest.fixture
    def describe(self) -> Describe:
        """`DescriptionConformance`: return what describes a volume otherwise, behind the driver."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    async def watch(self, new_driver: NewDriver) -> AsyncIterator[Watch]:
        """Take away what the test made, by a driver that has nothing in memory; fail if something stays."""
        watch = Watch()
        watch.watched(new_driver())
        yield watch
        if left := await watch.end():
            pytest.fail("left behind: " + "; ".join(left))

    @pytest.fixture
    def eventually(self, stale_s: float) -> Eventually:
        """Return what asserts holders and tags: these may be read late, see `Driver.get`."""
        return eventually_within(stale_s)

    @pytest.fixture
    def driver(self, new_driver: NewDriver, watch: Watch) -> Driver:
        """Return the driver under test."""
        return watch.watched(new_driver())

    @pytest.fixture
    def other_node(self, second_node: Driver, watch: Watch) -> Driver:
        """Return the driver of the other node under test."""
        return watch.watched(second_node)

    @pytest.fixture
    def foreign_node(self, other_cluster: Driver, watch: Watch) -> Driver:
        """Return the driver of the other cluster under test."""
        return watch.watched(other_cluster)

    @pytest.fixture
    def unknown_volume(self, driver: Driver, make_spec: MakeSpec) -> Volume:
        """Return a volume that never existed."""
        spec = make_spec()
        return Volume(
            spec.name, "vol-0123456789abcdef0", "backend", spec.size_bytes, VolumeState.AVAILABLE, spec
        )


def _ends(source: MountSource) -> tuple[int, int]:
    return 0, source.size_bytes - len(_MARK)


def device_size(source: MountSource) -> int:
    """Ask the kernel for the size of a device; blocks, as all three do."""
    with open(source.device, "rb") as device:
        return device.seek(0, os.SEEK_END)


def write_ends(source: MountSource) -> None:
    """Write a mark at both ends of a device, durably."""
    with open(source.device, "r+b") as device:
        for offset in _ends(source):
            device.seek(offset)
            device.write(_MARK)
        device.flush()
        os.fsync(device.fileno())


def read_ends(source: MountSource) -> bytes:
    """Read what `write_ends` writes."""
    found = b""
    with open(source.device, "rb") as device:
        for offset in _ends(source):
            device.seek(offset)
            found += device.read(len(_MARK))
    return found
