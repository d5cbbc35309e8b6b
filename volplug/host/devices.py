"""Block devices: size, device number, and whether they are in use."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from volplug.errors import DeviceNotFound, HostError
from volplug.host.threads import Pool

_BLKGETSIZE64: Final = 0x80081272  # linux/fs.h: _IOR(0x12, 114, size_t)
_GONE: Final = (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)
_FIRST_WAIT_S: Final = 0.002
_LONGEST_WAIT_S: Final = 0.1


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Open a path for the duration of a `with` block; may raise OSError."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_size_bytes(descriptor: int) -> int:
    """Return the size of an open block device; may raise OSError."""
    answer = fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8))
    return int(struct.unpack("=Q", answer)[0])


def size_bytes(device: str) -> int:
    """Return the size of a block device. Blocks.

    Raises:
        DeviceNotFound: If it is not there.
        HostError: If it cannot be read.
    """
    try:
        with opened(device, os.O_RDONLY) as descriptor:
            return open_size_bytes(descriptor)
    except OSError as exc:
        raise device_error(device, exc) from exc


def device_number(path: str) -> int | None:
    """Return the device number (rdev) of a block device node, or None if the path is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_rdev if stat.S_ISBLK(status.st_mode) else None


def is_held_now(device: str) -> bool:
    """Return whether the device is in use: the kernel refuses a second exclusive open, and a mount is one.

    Raises:
        DeviceNotFound: If the device is not there, which proves nothing about its use.
        HostError: If it cannot be opened for another reason than its use.
    """
    try:
        with opened(device, os.O_RDONLY | os.O_EXCL):
            return False
    except OSError as exc:
        if exc.errno == errno.EBUSY:
            return True
        raise device_error(device, exc) from exc


async def is_held(pool: Pool, device: str, patience_s: float) -> bool:
    """Return whether the device is in use, retrying with backoff for at most `patience_s` until it is free.

    Errors are those of `is_held_now`.
    """
    return await still_held(lambda: pool.blocking(is_held_now, device), patience_s)


async def still_held(test: Callable[[], Awaitable[bool]], patience_s: float) -> bool:
    """Return the result of a release test, repeated for at most `patience_s` until it has passed.

    The retries are for the mount namespaces of ended containers, which the kernel removes with a delay.

    Args:
        test: Returns whether something is in use.
        patience_s: For how long.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience_s
    wait_s = _FIRST_WAIT_S
    while await test():
        remaining_s = deadline - clock()
        if remaining_s <= 0:
            return True
        await asyncio.sleep(min(wait_s, remaining_s))
        wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
    return False


def device_error(device: str, exc: OSError) -> HostError:
    """Return the error to raise for a device that cannot be opened or queried."""
    if exc.errno in _GONE:
        return DeviceNotFound(f"the device {device} is not there: {exc.strerror}")
    return HostError(f"the device {device} cannot be used: {exc.strerror}")
