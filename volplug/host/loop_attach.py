"""Attaches an image to a loop device, and never to a second one. Every function blocks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import signal
import stat
import struct
import time
from collections.abc import Iterator
from typing import Final

from volplug.errors import HostError, Unsupported, VolumeInUse
from volplug.host import loop_discard
from volplug.host.devices import opened
from volplug.host.loopdev import (
    FLAG_DIRECT_IO,
    INFO,
    NOT_ATTACHED,
    LoopDevice,
    all_devices,
    image_path,
    node_path,
    read_status,
)

_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CTL_GET_FREE: Final = 0x4C82
_CONTROL: Final = "/dev/loop-control"
# loop_config: fd, block size, loop_info64, eight reserved words.
_CONFIG: Final = struct.Struct(f"=2I{INFO.size}s64x")
_F_SETSIG: Final = 10  # fcntl(2); the module of Python lacks it
_LABEL_BYTES: Final = 63
_ATTACH_TRIES: Final = 200
_LOCK_TRIES: Final = 6


def attach(path: str, label: str, *, direct_io: bool = True, discards: bool = False) -> LoopDevice:
    """Attach an image file to a free loop device, making a new one if all are taken.

    Args:
        path: The image, a regular file; its length is the device's size.
        label: Shown by losetup as the file name.
        direct_io: Request direct I/O; the kernel uses the page cache where the image's filesystem has none.
        discards: Use a device that passes discards to the image, for sparse images, and none for which
            `disable_discard` was called before.

    Raises:
        VolumeInUse: If the image is attached already, by any of its names, or if that is unknown.
        Unsupported: If this host has no loop devices.
        HostError: If the image cannot be opened, was replaced during the call, or the kernel refuses.
    """
    try:
        with opened(path, os.O_RDWR) as image:
            if not stat.S_ISREG(os.fstat(image).st_mode):
                raise HostError(f"the image {path} is not a regular file")
            _lock(image, path)
            _refuse_replaced(image, path)
            with _write_lease(image) as is_only_user:
                if not is_only_user:
                    _refuse_attached(image, path)
                return _configure(image, label, direct_io, discards)
    except OSError as exc:
        raise HostError(f"the image {path} cannot be attached: {exc.strerror}") from exc


def _lock(image: int, path: str) -> None:
    """Lock the image, with retries: the kernel drops the lock of a detached device with a delay."""
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001 * 2**attempt)
        else:
            return
    _refuse_attached(image, path)
    raise VolumeInUse(f"the image {path} is locked by another program")


def _refuse_replaced(image: int, path: str) -> None:
    """Refuse an image that was renamed or removed before it was locked: writes to it would be lost."""
    opened_file, named = os.fstat(image), os.stat(path)
    if (opened_file.st_dev, opened_file.st_ino) != (named.st_dev, named.st_ino):
        raise HostError(f"the image {path} was replaced while it was being attached", "Try again")


@contextlib.contextmanager
def _write_lease(image: int) -> Iterator[bool]:
    """Take a write lease; yield whether it was taken, which proves that nothing else has the image open.

    During the lease other programs that open the image, such as backups, wait; so it has to be short. The
    kernel notifies the lease's holder by SIGIO, which would end this process; SIGURG is ignored by default.
    See "Leases" in fcntl(2).
    """
    try:
        fcntl.fcntl(image, _F_SETSIG, signal.SIGURG)
        fcntl.fcntl(image, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:  # in use, or its filesystem has no leases
        yield False
        return
    try:
        yield True
    finally:
        fcntl.fcntl(image, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def refuse_attached(image: int, path: str) -> None:
    """Raise if a loop device has an open image, by any of its names; for an image that the caller has locked.

    Raises:
        VolumeInUse: If one has it, or if that is unknown.
    """
    with _write_lease(image) as is_only_user:
        if not is_only_user:
            _refuse_attached(image, path)


def _refuse_attached(image: int, path: str) -> None:
    """Raise if any loop device has the image: losetup takes no lock, and may have used another name."""
    file = os.fstat(image)
    found, unknown = all_devices()
    for device in found:
        if (device.backing_dev, device.backing_inode) == (file.st_dev, file.st_ino):
            name = image_path(os.path.basename(device.path))
            known_as = "" if name == path else f", which knows it as {name}"
            raise VolumeInUse(f"the image {path} is attached to {device.path} already{known_as}")
    if unknown:
        raise VolumeInUse(
            f"{unknown[0]} does not say which image it has, and the image {path} is open elsewhere",
            f"See what {unknown[0]} is attached to: losetup {unknown[0]}",
        )


def _configure(image: int, label: str, direct_io: bool, discards: bool) -> LoopDevice:
    for attempt in range(_ATTACH_TRIES):
        path = _free_device()
        if discards and loop_discard.is_discard_disabled(path):
            loop_discard.recreate(path)
            continue
        try:
            with opened(path, os.O_RDWR) as device:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _config(image, label, direct_io))
                return read_status(device, path)
        except OSError as exc:
            if exc.errno not in (errno.EBUSY, *NOT_ATTACHED):
                raise
            # Another process took the device. Waits of random length keep racing processes apart.
            time.sleep(random.uniform(0, 0.001 * min(attempt + 1, 20)))  # noqa: S311
    raise HostError(f"no free loop device was found in {_ATTACH_TRIES} tries")


def _config(image: int, label: str, direct_io: bool) -> bytes:
    name = label.encode("utf-8", "replace")[:_LABEL_BYTES]
    flags = FLAG_DIRECT_IO if direct_io else 0
    info = INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
    return _CONFIG.pack(image, 0, info)


def _free_device() -> str:
    try:
        with opened(_CONTROL, os.O_RDWR) as control:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    except OSError as exc:
        raise Unsupported(
            f"this host gives no loop devices: {_CONTROL}: {exc.strerror}",
            "Load the kernel module loop and let volplug see /dev",
        ) from exc
    return node_path(f"loop{number}")
