"""Loop devices by ioctl. Every function blocks: call it in a thread.

An image file attached twice is a destroyed filesystem, because each loop device has a cache of its own. The
descriptor given to LOOP_CONFIGURE therefore carries an exclusive flock: the kernel keeps that open file, and
with it the lock, exactly as long as the loop device exists, also after this process has ended.

Structures and numbers: include/uapi/linux/loop.h. LOOP_CONFIGURE needs Linux 5.8.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from volplug.errors import DeviceMismatch, HostError, VolumeInUse
from volplug.host.devices import opened
from volplug.host.threads import BoundedQueries

_LOOP_CLR_FD: Final = 0x4C01
_LOOP_SET_STATUS64: Final = 0x4C04
_LOOP_GET_STATUS64: Final = 0x4C05
_FLAG_READ_ONLY: Final = 1
_FLAG_AUTOCLEAR: Final = 4
FLAG_DIRECT_IO: Final = 16

# loop_info64: device, inode, rdevice, offset, sizelimit; number, two of encryption, flags; file name, crypt
# name, key; init. loop_config: fd, block size, loop_info64, eight reserved words.
INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_LABEL_BYTES: Final = 63
_FLAGS_FIELD: Final = 8

_LOOP_LINE: Final = re.compile(rb"^ *\d+ +\d+ +\d+ (loop\d+)$", re.MULTILINE)  # not loop0p1, a partition
_SYS_BLOCK: Final = "/sys/block"
_DEV: Final = "/dev"
_READ_BYTES: Final = 65_536
_DETACH_TIMEOUT_S: Final = 5.0
DELETED: Final = " (deleted)"  # what the kernel appends to the path of an image that has no name any more
NOT_ATTACHED: Final = (errno.ENXIO, errno.ENOENT, errno.ENODEV)


# A query takes microseconds, unless the image is on a file server that does not respond.
_QUERIES: Final = BoundedQueries(timeout_s=2.0)


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A loop device that has an image.

    Attributes:
        path: Such as /dev/loop3.
        backing_dev: st_dev of the image file.
        backing_inode: st_ino of the image file.
        label: The label given at attach, cut to 63 bytes; for display only.
        direct_io: Whether the image is read and written past the host's page cache.
        autoclear: Whether it is detached when its last user closes it.
        read_only: Whether it refuses writes.
    """

    path: str
    backing_dev: int
    backing_inode: int
    label: str
    direct_io: bool
    autoclear: bool
    read_only: bool


def status(path: str) -> LoopDevice | None:
    """Return what a loop device is attached to, or None if it is free or does not exist.

    Raises:
        HostError: If it cannot be read.
    """
    try:
        with opened(path, os.O_RDONLY) as device:
            return read_status(device, path)
    except OSError as exc:
        if exc.errno in NOT_ATTACHED:
            return None
        raise HostError(f"the loop device {path} cannot be asked: {exc.strerror}") from exc


def attached(is_wanted: Callable[[str], bool] = lambda _: True) -> list[LoopDevice]:
    """Return the loop devices of this host that have an image which is not empty.

    Args:
        is_wanted: Given the name of the image without its directory. Other devices are not queried: for that
            the kernel stats the image, which may be on a file server that does not respond.

    Raises:
        HostError: If they cannot be listed.
    """
    paths = _paths(lambda name: is_wanted(_image_name(name)))
    return [device for path in paths if (device := status(path)) is not None]


def all_devices() -> tuple[list[LoopDevice], list[str]]:
    """Return all loop devices of this host that have an image, and the paths of those whose image is unknown.

    A device does not respond if its image is on a file server that does not; it does not block the others.

    Raises:
        HostError: If they cannot be listed.
    """
    results, unknown = _QUERIES.run(_paths(lambda _: True), status)
    return [device for device in results if device is not None], unknown


def _paths(is_wanted: Callable[[str], bool]) -> list[str]:
    """Return the paths of those loop devices with an image whose names, such as loop3, are wanted."""
    try:
        # One file, however many free loop devices there are: it lists only devices that have a size.
        names = [name.decode() for name in _LOOP_LINE.findall(_read_whole("/proc/partitions"))]
        return [node_path(name) for name in names if is_wanted(name)]
    except OSError as exc:
        raise HostError(f"the loop devices cannot be listed: {exc.strerror}") from exc


def _image_name(name: str) -> str:
    """Return the name of a device's image as the kernel recorded it, without access to the image."""
    return os.path.basename(image_path(name).removesuffix(DELETED))


def image_path(name: str) -> str:
    """Return the path of a device's image as the kernel recorded it, without access to the image."""
    try:
        return _read_whole(f"{_SYS_BLOCK}/{name}/loop/backing_file").decode().rstrip("\n")
    except (OSError, UnicodeDecodeError):
        return ""


def _read_whole(path: str) -> bytes:
    """Read a file of procfs or sysfs; a file object would take several times as long, for each device."""
    with opened(path, os.O_RDONLY) as descriptor:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)


def find(backing_dev: int, backing_inode: int, image_name: str) -> LoopDevice | None:
    """Return the loop device that has this file.

    Directories are never compared, they differ between mount namespaces; by the name, devices of other
    images need not be queried.

    Raises:
        DeviceMismatch: If several have it; its filesystem must not be written to any more.
    """
    found = [
        device
        for device in attached(lambda name: name == image_name)
        if (device.backing_dev, device.backing_inode) == (backing_dev, backing_inode)
    ]
    if len(found) > 1:
        names = " and ".join(device.path for device in found)
        raise DeviceMismatch(
            f"one image is attached to {names} at once, which destroys it",
            "Stop what uses either, detach the second with losetup -d, then check the filesystem",
        )
    return found[0] if found else None


def detach(path: str, *, expected: LoopDevice | None = None) -> None:
    """Detach a loop device that is not in use, and wait until the kernel has closed the image.

    LOOP_CLR_FD alone proves nothing: on a device in use it returns 0 and only sets autoclear.

    Args:
        path: A free device, or one that does not exist, is success.
        expected: Refuse if the device has another image by now.

    Raises:
        VolumeInUse: If the device is in use. Nothing was changed.
        DeviceMismatch: If it has another image than expected. Nothing was changed.
        HostError: If it is still attached after 5 seconds because a program has it open.
    """
    try:
        with opened(path, os.O_RDONLY | os.O_EXCL) as device:
            current = read_status(device, path)
            if expected is not None and not is_same_image(current, expected):
                raise DeviceMismatch(f"{path} has the image {current.label}, not {expected.label}")
            fcntl.ioctl(device, _LOOP_CLR_FD)
    except OSError as exc:
        if exc.errno in NOT_ATTACHED:
            return
        if exc.errno == errno.EBUSY:
            raise VolumeInUse(f"{path} is in use") from exc
        raise HostError(f"the loop device {path} cannot be detached: {exc.strerror}") from exc
    _wait_until_detached(path, current)


def keep(device: LoopDevice) -> LoopDevice | None:
    """Cancel a pending detach (autoclear), so that the device is not detached while it is mounted.

    LOOP_CLR_FD on a device in use sets autoclear: the last close then detaches the device, and its number is
    given to the next image.

    Returns:
        The device as it is now, or None if it was detached or has another image.

    Raises:
        HostError: If the kernel refuses.
    """
    try:
        with opened(device.path, os.O_RDONLY) as descriptor:  # while it is open, it is not detached
            if not is_same_image(read_status(descriptor, device.path), device):
                return None
            fields = list(INFO.unpack(fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(INFO.size))))
            fields[_FLAGS_FIELD] &= ~_FLAG_AUTOCLEAR
            fcntl.ioctl(descriptor, _LOOP_SET_STATUS64, INFO.pack(*fields))
            return read_status(descriptor, device.path)
    except OSError as exc:
        if exc.errno in NOT_ATTACHED:
            return None
        raise HostError(f"the loop device {device.path} cannot be kept: {exc.strerror}") from exc


def is_same_image(one: LoopDevice | None, other: LoopDevice) -> bool:
    """Tell whether a device still has the image of another description of it."""
    if one is None:
        return False
    return (one.backing_dev, one.backing_inode) == (other.backing_dev, other.backing_inode)


def node_path(name: str) -> str:
    """Return the device's path, after making its node where no devtmpfs does."""
    path = f"{_DEV}/{name}"
    if not os.path.exists(path):
        with open(f"{_SYS_BLOCK}/{name}/dev", encoding="ascii") as file:
            major, minor = (int(part) for part in file.read().split(":"))
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    return path


def read_status(device: int, path: str) -> LoopDevice:
    """Return what an open loop device is attached to; may raise OSError."""
    fields = INFO.unpack(fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(INFO.size)))
    flags = fields[_FLAGS_FIELD]
    return LoopDevice(
        path=path,
        backing_dev=fields[0],
        backing_inode=fields[1],
        label=fields[9].split(b"\0", 1)[0].decode("utf-8", "replace"),
        direct_io=bool(flags & FLAG_DIRECT_IO),
        autoclear=bool(flags & _FLAG_AUTOCLEAR),
        read_only=bool(flags & _FLAG_READ_ONLY),
    )


def _wait_until_detached(path: str, previous: LoopDevice) -> None:
    deadline = time.monotonic() + _DETACH_TIMEOUT_S
    wait_s = 0.001
    while is_same_image(status(path), previous):
        if time.monotonic() > deadline:
            raise HostError(
                f"{path} did not go within {_DETACH_TIMEOUT_S:.0f} s of its detach, some program has it open",
                f"Look for it with: fuser -v {path}",
            )
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, 0.1)
