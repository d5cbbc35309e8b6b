"""Loop devices by ioctl. Every function blocks: call it in a thread.

An image file attached twice is a destroyed filesystem, because each loop device has a cache of its own. The
descriptor given to LOOP_CONFIGURE therefore carries an exclusive flock: the kernel keeps that open file, and
with it the lock, exactly as long as the loop device exists, whatever becomes of this process.

Structures and numbers: include/uapi/linux/loop.h. LOOP_CONFIGURE needs Linux 5.8.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import random
import re
import stat
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from volplug.errors import DeviceMismatch, HostError, Unsupported, VolumeInUse
from volplug.host.devices import opened

_LOOP_CLR_FD: Final = 0x4C01
_LOOP_SET_STATUS64: Final = 0x4C04
_LOOP_GET_STATUS64: Final = 0x4C05
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CTL_ADD: Final = 0x4C80
_LOOP_CTL_REMOVE: Final = 0x4C81
_LOOP_CTL_GET_FREE: Final = 0x4C82
_FLAG_READ_ONLY: Final = 1
_FLAG_AUTOCLEAR: Final = 4
_FLAG_DIRECT_IO: Final = 16

# loop_info64: device, inode, rdevice, offset, sizelimit; number, two of encryption, flags; file name, crypt
# name, key; init. loop_config: fd, block size, loop_info64, eight reserved words.
_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG: Final = struct.Struct(f"=2I{_INFO.size}s64x")
_LABEL_BYTES: Final = 63
_FLAGS_FIELD: Final = 8

_LOOP_LINE: Final = re.compile(rb"^ *\d+ +\d+ +\d+ (loop\d+)$", re.MULTILINE)  # not loop0p1, a partition
_CONTROL: Final = "/dev/loop-control"
_SYS_BLOCK: Final = "/sys/block"
_READ_BYTES: Final = 65_536
_ATTACH_TRIES: Final = 200
_LOCK_TRIES: Final = 6
_DETACH_TIMEOUT_S: Final = 5.0
_NOT_ATTACHED: Final = (errno.ENXIO, errno.ENOENT, errno.ENODEV)


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A loop device that has an image.

    Attributes:
        path: Such as /dev/loop3.
        backing_dev: st_dev of the image file.
        backing_inode: st_ino of the image file.
        label: What was given at attach, cut to 63 bytes; for people only.
        direct_io: Whether the image is read and written past the host's page cache.
        autoclear: Whether it will go when its last user closes it: a detach that waits for somebody.
        read_only: Whether it refuses writes.
    """

    path: str
    backing_dev: int
    backing_inode: int
    label: str
    direct_io: bool
    autoclear: bool
    read_only: bool


def attach(image_path: str, label: str, *, direct_io: bool = True, discards: bool = False) -> LoopDevice:
    """Attach an image file to a free loop device, making a new one if all are taken.

    Args:
        image_path: A regular file; its length is the device's size.
        label: Shown by losetup as the file name.
        direct_io: Ask for direct I/O; silently done without where the image's filesystem has none.
        discards: Take a device that passes discards on, as sparse images want, and none for which
            `disable_discard` was called before.

    Raises:
        VolumeInUse: If the image is attached already, by whomever.
        Unsupported: If this host has no loop devices.
        HostError: If the image cannot be opened or the kernel refuses.
    """
    try:
        with opened(image_path, os.O_RDWR) as image:
            if not stat.S_ISREG(os.fstat(image).st_mode):
                raise HostError(f"the image {image_path} is not a regular file")
            _lock(image, image_path)
            _refuse_a_second(image, image_path)
            return _configure(image, label, direct_io, discards)
    except OSError as exc:
        raise HostError(f"the image {image_path} cannot be attached: {exc.strerror}") from exc


def status(path: str) -> LoopDevice | None:
    """Return what a loop device is attached to, or None if it is free or does not exist.

    Raises:
        HostError: If the kernel does not say.
    """
    try:
        with opened(path, os.O_RDONLY) as device:
            return _read_status(device, path)
    except OSError as exc:
        if exc.errno in _NOT_ATTACHED:
            return None
        raise HostError(f"the loop device {path} cannot be asked: {exc.strerror}") from exc


def attached(is_wanted: Callable[[str], bool] = lambda _: True) -> list[LoopDevice]:
    """Return the loop devices of this host that have an image which is not empty.

    Args:
        is_wanted: Given the name of the image without its directory. Other devices are not asked: the kernel
            looks at the image to answer, and somebody else's may lie on a file server that is gone.

    Raises:
        HostError: If they cannot be listed.
    """
    try:
        # One file, however many free loop devices there are: it lists only devices that have a size.
        names = [name.decode() for name in _LOOP_LINE.findall(_read_whole("/proc/partitions"))]
        paths = [_with_node(name) for name in names if is_wanted(_image_name(name))]
    except OSError as exc:
        raise HostError(f"the loop devices cannot be listed: {exc.strerror}") from exc
    return [device for path in paths if (device := status(path)) is not None]


def _image_name(name: str) -> str:
    """Return the name of a device's image as the kernel remembers it, without looking at the image."""
    try:
        image = _read_whole(f"{_SYS_BLOCK}/{name}/loop/backing_file").decode()
    except (OSError, UnicodeDecodeError):
        return ""
    return os.path.basename(image.rstrip("\n").removesuffix(" (deleted)"))


def _read_whole(path: str) -> bytes:
    """Read a file of the kernel; a file object would take several times as long, for each loop device."""
    with opened(path, os.O_RDONLY) as descriptor:
        parts = []
        while part := os.read(descriptor, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)


def find(backing_dev: int, backing_inode: int, image_name: str) -> LoopDevice | None:
    """Return the loop device that has this file.

    Directories are never compared, they differ between mount namespaces; the name only spares asking
    devices of other images.

    Raises:
        DeviceMismatch: If several have it; all writes to it must stop then.
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
    """Detach a loop device that nobody holds, and wait until the kernel has let go of the image.

    LOOP_CLR_FD alone proves nothing: on a device in use it returns 0 and only marks it to be cleared later.

    Args:
        path: A free device, or one that does not exist, is success.
        expected: Refuse if the device has another image by now.

    Raises:
        VolumeInUse: If a filesystem or a program holds the device. Nothing was changed.
        DeviceMismatch: If it has another image than expected. Nothing was changed.
        HostError: If it is still attached after 5 seconds because some program has it open.
    """
    try:
        with opened(path, os.O_RDONLY | os.O_EXCL) as device:
            current = _read_status(device, path)
            if expected is not None and not _is_same_image(current, expected):
                raise DeviceMismatch(f"{path} has the image {current.label}, not {expected.label}")
            fcntl.ioctl(device, _LOOP_CLR_FD)
    except OSError as exc:
        if exc.errno in _NOT_ATTACHED:
            return
        if exc.errno == errno.EBUSY:
            raise VolumeInUse(f"{path} is in use") from exc
        raise HostError(f"the loop device {path} cannot be detached: {exc.strerror}") from exc
    _wait_until_gone(path, current)


def keep(device: LoopDevice) -> LoopDevice | None:
    """Call off a detach that waits for somebody to close the device, so that it does not go under a mount.

    LOOP_CLR_FD on a device in use sets autoclear; whoever closes it last then detaches it, and its number is
    given to the next image.

    Returns:
        The device as it is now, or None if it has gone or has another image.

    Raises:
        HostError: If the kernel refuses.
    """
    try:
        with opened(device.path, os.O_RDONLY) as descriptor:  # from here on it cannot go by itself
            if not _is_same_image(_read_status(descriptor, device.path), device):
                return None
            fields = list(_INFO.unpack(fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_INFO.size))))
            fields[_FLAGS_FIELD] &= ~_FLAG_AUTOCLEAR
            fcntl.ioctl(descriptor, _LOOP_SET_STATUS64, _INFO.pack(*fields))
            return _read_status(descriptor, device.path)
    except OSError as exc:
        if exc.errno in _NOT_ATTACHED:
            return None
        raise HostError(f"the loop device {device.path} cannot be kept: {exc.strerror}") from exc


def disable_discard(path: str) -> bool:
    """Best effort: make the device refuse discards, so that fstrim cannot punch holes into a full image.

    A preallocated image with holes can no longer be filled once the host's disk is full. The setting outlives
    a detach, and newer kernels have no way back: images that want discards say so to `attach`. It takes the
    kernel some milliseconds, but only once for each device number.

    Returns:
        Whether discards are refused now; not where /sys is read-only.
    """
    setting = f"{_queue(path)}/discard_max_bytes"
    if _read_number(setting) == 0:
        return True  # a write of the same number would halt the queue all the same
    try:
        with open(setting, "w", encoding="ascii") as file:
            file.write("0")
    except OSError:
        return False
    return True


def _lock(image: int, image_path: str) -> None:
    """Take the lock; a detach that ended just now may drop its own a moment late."""
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(image, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.001 * 2**attempt)
        else:
            return
    raise VolumeInUse(_already_attached(image, image_path))


def _refuse_a_second(image: int, image_path: str) -> None:
    """Look for devices whose attacher took no lock, such as losetup."""
    file = os.fstat(image)
    if find(file.st_dev, file.st_ino, os.path.basename(image_path)) is not None:
        raise VolumeInUse(_already_attached(image, image_path))


def _already_attached(image: int, image_path: str) -> str:
    file = os.fstat(image)
    device = find(file.st_dev, file.st_ino, os.path.basename(image_path))
    where = f"attached to {device.path} already" if device else "locked by another program"
    return f"the image {image_path} is {where}"


def _configure(image: int, label: str, direct_io: bool, discards: bool) -> LoopDevice:
    for attempt in range(_ATTACH_TRIES):
        path = _free_device()
        if discards and _is_discard_disabled(path):
            _renew(path)
            continue
        try:
            with opened(path, os.O_RDWR) as device:
                fcntl.ioctl(device, _LOOP_CONFIGURE, _config(image, label, direct_io))
                return _read_status(device, path)
        except OSError as exc:
            if exc.errno == errno.EINVAL and direct_io:
                direct_io = False  # the image's filesystem has no direct I/O
            elif exc.errno in (errno.EBUSY, *_NOT_ATTACHED):
                # Another attacher was faster. Waits of random length part those who race.
                time.sleep(random.uniform(0, 0.001 * min(attempt + 1, 20)))  # noqa: S311
            else:
                raise
    raise HostError(f"no free loop device was found in {_ATTACH_TRIES} tries")


def _config(image: int, label: str, direct_io: bool) -> bytes:
    name = label.encode("utf-8", "replace")[:_LABEL_BYTES]
    flags = _FLAG_DIRECT_IO if direct_io else 0
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, flags, name, b"", b"", 0, 0)
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
    return _with_node(f"loop{number}")


def _with_node(name: str) -> str:
    """Return the device's path, after making its node where no devtmpfs does."""
    path = f"/dev/{name}"
    if not os.path.exists(path):
        with open(f"{_SYS_BLOCK}/{name}/dev", encoding="ascii") as file:
            major, minor = (int(part) for part in file.read().split(":"))
        with contextlib.suppress(FileExistsError):
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    return path


def _read_status(device: int, path: str) -> LoopDevice:
    fields = _INFO.unpack(fcntl.ioctl(device, _LOOP_GET_STATUS64, bytes(_INFO.size)))
    flags = fields[_FLAGS_FIELD]
    return LoopDevice(
        path=path,
        backing_dev=fields[0],
        backing_inode=fields[1],
        label=fields[9].split(b"\0", 1)[0].decode("utf-8", "replace"),
        direct_io=bool(flags & _FLAG_DIRECT_IO),
        autoclear=bool(flags & _FLAG_AUTOCLEAR),
        read_only=bool(flags & _FLAG_READ_ONLY),
    )


def _is_same_image(one: LoopDevice | None, other: LoopDevice) -> bool:
    if one is None:
        return False
    return (one.backing_dev, one.backing_inode) == (other.backing_dev, other.backing_inode)


def _wait_until_gone(path: str, previous: LoopDevice) -> None:
    deadline = time.monotonic() + _DETACH_TIMEOUT_S
    wait_s = 0.001
    while _is_same_image(status(path), previous):
        if time.monotonic() > deadline:
            raise HostError(
                f"{path} did not go within {_DETACH_TIMEOUT_S:.0f} s of its detach, some program has it open",
                f"Look for it with: fuser -v {path}",
            )
        time.sleep(wait_s)
        wait_s = min(wait_s * 2, 0.1)


def _queue(path: str) -> str:
    return f"{_SYS_BLOCK}/{os.path.basename(path)}/queue"


def _is_discard_disabled(path: str) -> bool:
    queue = _queue(path)
    # A device that never had an image has no discard in hardware either, and gets it with its first image.
    return _read_number(f"{queue}/discard_max_bytes") == 0 < _read_number(f"{queue}/discard_max_hw_bytes")


def _renew(path: str) -> None:
    """Remove a free loop device and make it anew, with the settings that the kernel begins with."""
    number = int(path.removeprefix("/dev/loop"))
    with (
        contextlib.suppress(OSError),
        opened(_CONTROL, os.O_RDWR) as control,
    ):  # taken meanwhile: try the next
        fcntl.ioctl(control, _LOOP_CTL_REMOVE, number)
        fcntl.ioctl(control, _LOOP_CTL_ADD, number)


def _read_number(path: str) -> int:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return -1
