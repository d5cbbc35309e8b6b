"""Block devices: their size, whether somebody holds them, and waiting for one to appear."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, TypeVar

from volplug.errors import DeviceNotFound, HostError
from volplug.host.threads import Pool

_BLKGETSIZE64: Final = 0x80081272  # linux/fs.h: _IOR(0x12, 114, size_t)
_GONE: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)
_FIRST_WAIT_S: Final = 0.002
_LONGEST_WAIT_S: Final = 0.1
_RECHECK_S: Final = 2.0

_T = TypeVar("_T")


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Open a path for the length of a `with` block; OSError comes through."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_size_bytes(descriptor: int) -> int:
    """Return the size of an open block device; OSError comes through."""
    answer = fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8))
    return int(struct.unpack("=Q", answer)[0])


def size_bytes(device: str) -> int:
    """Return the size of a block device. Blocks.

    Raises:
        DeviceNotFound: If it is not there.
        HostError: If the kernel does not say.
    """
    try:
        with opened(device, os.O_RDONLY) as descriptor:
            return open_size_bytes(descriptor)
    except OSError as exc:
        raise unusable(device, exc) from exc


def device_number(path: str) -> int | None:
    """Return the device number (rdev) of a block device node, or None if the path is no such thing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_rdev if stat.S_ISBLK(status.st_mode) else None


def is_held_now(device: str) -> bool:
    """Try once to open the device exclusively; the kernel refuses while a filesystem or a program claims it.

    Raises:
        DeviceNotFound: If the device is not there: nothing can be concluded then.
        HostError: If it cannot be opened for another reason than being held.
    """
    try:
        with opened(device, os.O_RDONLY | os.O_EXCL):
            return False
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return True
        raise unusable(device, exc) from exc


async def is_held(pool: Pool, device: str, patience_s: float) -> bool:
    """Try to open the device exclusively until that works or the patience ends.

    Mount namespaces of ended containers go late, hence the patience. Errors are those of `is_held_now`.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience_s
    wait_s = _FIRST_WAIT_S
    while await pool.blocking(is_held_now, device):
        remaining_s = deadline - clock()
        if remaining_s <= 0:
            return True
        await asyncio.sleep(min(wait_s, remaining_s))
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
    return False


def unusable(device: str, exc: OSError) -> HostError:
    """Return the error for a device that cannot be opened or asked."""
    if exc.errno in _GONE:
        return DeviceNotFound(f"the device {device} is not there: {exc.strerror}")
    return HostError(f"the device {device} cannot be used: {exc.strerror}")


async def wait_for(pool: Pool, predicate: Callable[[], _T | None], timeout_s: float) -> _T | None:
    """Wait until the predicate returns something, asking it again after every kernel event of a block device.

    It is also asked every 2 seconds, because events can be lost, and some changes send none.

    Args:
        pool: Threads for the predicate.
        predicate: May block; runs in a thread. None means not yet. What it raises ends the wait.
        timeout_s: How long to wait at most.

    Returns:
        What the predicate returned, or None after the timeout.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    async with _block_events(pool) as events:
        while True:
            events.clear()  # before asking, so that an event during the question is not lost
            if (found := await pool.blocking(predicate)) is not None:
                return found
            remaining_s = deadline - loop.time()
            if remaining_s <= 0:
                return None
            # asyncio.wait_for would forget a cancellation that comes with an event, before Python 3.12.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_RECHECK_S, remaining_s)):
                    await events.wait()


@contextlib.asynccontextmanager
async def _block_events(pool: Pool) -> AsyncIterator[asyncio.Event]:
    """Give an asyncio.Event that each kernel event of the block subsystem sets; without libudev none does."""
    event = asyncio.Event()
    monitor = await pool.blocking(_kernel_monitor)
    if monitor is None:
        yield event
        return
    loop = asyncio.get_running_loop()

    def receive() -> None:
        event.set()
        with contextlib.suppress(OSError):  # ENOBUFS: events were lost, but the question is asked anyway
            while monitor.poll(timeout=0) is not None:
                pass

    loop.add_reader(monitor.fileno(), receive)
    try:
        yield event
    finally:
        loop.remove_reader(monitor.fileno())


def _kernel_monitor() -> Any | None:  # noqa: ANN401 - pyudev has no types
    # Imported here: only hosts with remote devices wait for them. Source "kernel" and not "udev", because
    # a container or a minimal host runs no udevd that would pass events on.
    try:
        import pyudev

        monitor = pyudev.Monitor.from_netlink(pyudev.Context(), source="kernel")
        monitor.filter_by("block")
        monitor.start()
    except (ImportError, OSError):
        return None
    return monitor
