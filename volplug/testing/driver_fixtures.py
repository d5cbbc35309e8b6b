"""The fixtures that a driver provides to the shared suite, and access to what its volumes hold."""

# ruff: noqa: S101  # fixtures of pytest's tests, which assert

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, Protocol

import pytest

from volplug.drivers.base import Driver
from volplug.host.base import MountRequest
from volplug.host.machine import Machine
from volplug.host.threads import DevicePool
from volplug.models import BlockDevice, MountSource, NamedFilesystem, Volume, VolumeSpec, VolumeState
from volplug.testing.leftovers import Cleanup

_MARK: Final = b"written before the detach"
WRITTEN: Final = _MARK * 2
BLANK: Final = bytes(len(WRITTEN))


class MakeSpec(Protocol):
    """Makes specs that the driver accepts; each call without a name gives a name not used before."""

    def __call__(self, name: str = "", size_bytes: int = 0) -> VolumeSpec:
        """Return a spec; without a size, of the smallest practical one."""
        ...


NewDriver = Callable[[], Driver]
Interrupt = Callable[[VolumeSpec], Awaitable[None]]
Outage = Callable[[], AbstractAsyncContextManager[None]]
Duplicate = Callable[[Volume], Awaitable[Volume]]
Describe = Callable[[Volume, Volume], Awaitable[None]]
_READ_PAUSE_S: Final = 0.01


class Eventually(Protocol):
    """Asserts the result of a read; of a backend with stale reads, that of a later read."""

    async def __call__(self, read: Callable[[], Awaitable[object]], expected: object) -> None:
        """Read until the result is as expected; fail with the last one once no read may be stale."""
        ...


def eventually_within(stale_s: float) -> Eventually:
    """Return an assertion that retries for some seconds while a read is not as expected."""

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
    """The fixtures of a driver's test class: the first three are required, the marked ones for a capability.

    The last ones are the suite's own and are not overridden.
    """

    @pytest.fixture
    def new_driver(self) -> NewDriver:
        """Return a function that builds a new driver of the same node and backend, as after a restart."""
        raise NotImplementedError

    @pytest.fixture
    def make_spec(self) -> MakeSpec:
        """Return a function that makes specs."""
        raise NotImplementedError

    @pytest.fixture
    def interrupt_create(self) -> Interrupt:
        """Return a function that leaves the state of a crash in the middle of `create`."""
        raise NotImplementedError

    @pytest.fixture
    def has_devices(self) -> bool:
        """Tell whether a MountSource can be opened, or mounted; False for backends in memory."""
        return True

    @pytest.fixture
    def many(self) -> int:
        """Return a number of volumes that does not fit into one page of the backend."""
        return 20

    @pytest.fixture
    def stale_s(self) -> float:
        """Return how many seconds reads of holders and tags may be stale; 0 if they never are."""
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
    def copying_host(self) -> Driver:
        """`CopyConformance`: return the driver of another host, with a backend of its own."""
        raise NotImplementedError

    @pytest.fixture
    def outage(self) -> Outage:
        """`OutageConformance`: return a context during which the backend does not answer."""
        raise NotImplementedError

    @pytest.fixture
    def duplicate(self) -> Duplicate:
        """`DuplicateConformance`: return a function that adds a second volume of a name at the backend."""
        raise NotImplementedError

    @pytest.fixture
    def describe(self) -> Describe:
        """`DescriptionConformance`: return a function that changes a description at the backend."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    async def cleanup(self, new_driver: NewDriver) -> AsyncIterator[Cleanup]:
        """Delete the test's volumes through a driver without memory of them; fail if something remains."""
        cleanup = Cleanup()
        cleanup.track(new_driver())
        yield cleanup
        if left := await cleanup.end():
            pytest.fail("left behind: " + "; ".join(left))

    @pytest.fixture
    def eventually(self, stale_s: float) -> Eventually:
        """Return the assertion for holders and tags: their reads may be stale, see `Driver.get`."""
        return eventually_within(stale_s)

    @pytest.fixture
    def driver(self, new_driver: NewDriver, cleanup: Cleanup) -> Driver:
        """Return the driver under test."""
        return cleanup.track(new_driver())

    @pytest.fixture
    def other_node(self, second_node: Driver, cleanup: Cleanup) -> Driver:
        """Return the driver of the other node under test."""
        return cleanup.track(second_node)

    @pytest.fixture
    def foreign_node(self, other_cluster: Driver, cleanup: Cleanup) -> Driver:
        """Return the driver of the other cluster under test."""
        return cleanup.track(other_cluster)

    @pytest.fixture
    def other_host(self, copying_host: Driver, cleanup: Cleanup) -> Driver:
        """Return the driver of the host that copies go to."""
        return cleanup.track(copying_host)

    @pytest.fixture
    def unknown_volume(self, driver: Driver, make_spec: MakeSpec) -> Volume:
        """Return a volume that never existed."""
        spec = make_spec()
        return Volume(
            spec.name, "vol-0123456789abcdef0", "backend", spec.size_bytes, VolumeState.AVAILABLE, spec
        )


def _ends(source: BlockDevice) -> tuple[int, int]:
    return 0, source.size_bytes - len(_MARK)


def device_size(source: BlockDevice) -> int:
    """Return the kernel's size of a device. Blocks."""
    with open(source.device, "rb") as device:
        return device.seek(0, os.SEEK_END)


async def write_content(source: MountSource) -> None:
    """Write a mark at both ends of a device, or into a file of a filesystem, durably."""
    if isinstance(source, BlockDevice):
        await asyncio.to_thread(_write_ends, source)
    else:
        async with _mounted(source) as file:
            await asyncio.to_thread(file.write_bytes, WRITTEN)


async def read_content(source: MountSource) -> bytes:
    """Read what was written; of a filesystem without it what a blank device has there."""
    if isinstance(source, BlockDevice):
        return await asyncio.to_thread(_read_ends, source)
    async with _mounted(source) as file:
        return await asyncio.to_thread(lambda: file.read_bytes() if file.exists() else BLANK)


@asynccontextmanager
async def _mounted(source: NamedFilesystem) -> AsyncIterator[Path]:
    """Mount a filesystem for a moment; return a file in it."""
    root = await asyncio.to_thread(mkdtemp)
    host, target = Machine(root, DevicePool("content", 4, "content")), f"{root}/v"
    try:
        await host.mount(MountRequest(source, target, source.fs_type), lambda: source)
        yield Path(target) / "content"
    finally:
        await host.unmount(target)
        await asyncio.to_thread(os.rmdir, root)


def _write_ends(source: BlockDevice) -> None:
    with open(source.device, "r+b") as device:
        for offset in _ends(source):
            device.seek(offset)
            device.write(_MARK)
        device.flush()
        os.fsync(device.fileno())


def _read_ends(source: BlockDevice) -> bytes:
    found = b""
    with open(source.device, "rb") as device:
        for offset in _ends(source):
            device.seek(offset)
            found += device.read(len(_MARK))
    return found
