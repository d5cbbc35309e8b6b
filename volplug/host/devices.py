"""Block devices: their size, their number, and whether they are in use."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from typing import Final

from volplug.errors import DeviceNotFound, HostError
from volplug.host.threads import Pool

_BLKGETSIZE64: Final = 0x80081272  # linux/fs.h: _IOR(0x12, 114, size_t)
_GONE: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)
_FIRST_WAIT_S: Final = 0.002
_LONGEST_WAIT_S: Final = 0.1


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
