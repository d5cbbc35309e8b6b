"""The image files: makes and removes them, checks and reports the space for them. Every function blocks."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from cachetools import TTLCache

from volplug.drivers.base import BackendLimit
from volplug.errors import BackendUnavailable, HostError, LimitExceeded, VolumeInUse
from volplug.host.files import sync_directory
from volplug.host.loop_attach import refuse_attached
from volplug.models import Volume
from volplug.sizes import format_size, rounded_size

_SUFFIX: Final = ".img"
_PROMISED_S: Final = 30.0  # how long a sum of promised space is used
_BLOCK: Final = 512  # the unit of st_blocks, see stat(2)

# Attributes of files, include/uapi/linux/fs.h; the numbers say `long`, the kernel reads and writes an int.
_GET_FLAGS: Final = 0x80086601
_SET_FLAGS: Final = 0x40086602
_NO_COPY_ON_WRITE: Final = 0x00800000
_FLAGS: Final = struct.Struct("=I4x")


class Images:
    """The images in one directory.

    Args:
        directory: Where they lie.
        overcommit: How many times the free space may be promised to volumes.
    """

    def __init__(self, directory: Path, overcommit: float) -> None:
        self._directory = directory
        self._overcommit = overcommit
        # Kept, since a scan of 1,000 images takes as long as a creation. It errs by what containers write or
        # discard meanwhile, which is as much in the free space; images that others put there come late.
        self._promised: TTLCache[None, int] = TTLCache(1, _PROMISED_S)
        self._checking = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the path of a volume's image, whether it exists or not."""
        return self._directory / f"{name}{_SUFFIX}"

    def stat(self, name: str) -> os.stat_result | None:
        """Return the image's status, or None if there is no image.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
        try:
            return os.stat(f"{self._directory}/{name}{_SUFFIX}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BackendUnavailable(f"{self.path(name)} cannot be read: {error.strerror}") from error

    def unreserved_bytes(self, name: str) -> int:
        """Return the bytes that a volume's image may still allocate; 0 if there is none.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
        image = self.stat(name)
        return _unallocated(image) if image is not None else 0

    def damage(self, record: Volume, image: os.stat_result | None) -> str:
        """Compare an image's status with its record; return what is wrong, "" if nothing is.

        A larger image has all of the volume's data.
        """
        if image is not None and image.st_size >= record.size_bytes:
            return ""
        path = self.path(record.name)
        if image is None:
            return f"the image is missing: {path}"
        actual, wanted = format_size(image.st_size), format_size(record.size_bytes)
        return (
            f"the image is too small: {path} has {actual}, its record says {wanted}; restore it from a backup"
        )

    def check_room(self, size_bytes: int, *, is_sparse: bool) -> None:
        """Check that a new image fits into the free space that is not promised to sparse images.

        Args:
            size_bytes: Of the image; promised from now on if it is sparse.
            is_sparse: Whether its space will be allocated when it is written.

        Raises:
            LimitExceeded: With the free and the promised space.
        """
        status = os.statvfs(self._directory)
        free = status.f_bavail * status.f_frsize
        with self._checking:
            promised = self._promised.get(None)
            if promised is None or size_bytes + promised > free * self._overcommit:
                promised = self._promised[None] = self._count_promised()
            if size_bytes + promised > free * self._overcommit:
                also = (
                    f", of which {rounded_size(promised)} are promised to sparse volumes" if promised else ""
                )
                room = f"{rounded_size(free)} free{also}"
                raise LimitExceeded(
                    f"{format_size(size_bytes)} do not fit: {self._directory} has {room}",
                    "Free some space, or ask for a smaller size",
                )
            if is_sparse and None in self._promised:
                self._promised[None] = promised + size_bytes

    def limits(self, place: Path) -> Sequence[BackendLimit]:
        """Return the space of the filesystem, and how much of what is free is promised to sparse images.

        Args:
            place: The directory, or the nearest one above it that exists.

        Raises:
            BackendUnavailable: If the disk does not answer.
        """
        try:
            status = os.statvfs(place)
            promised = self._count_promised()  # not kept: a read must not decide what fits
        except OSError as error:
            raise BackendUnavailable(f"{place} cannot be read: {error.strerror}") from error
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        free = status.f_bavail * status.f_frsize
        return (
            BackendLimit("space", used, used + free, "bytes"),
            BackendLimit("promised", promised, int(free * self._overcommit), "bytes"),
        )

    def _count_promised(self) -> int:
        """Add up what images may still allocate."""
        return sum(_promised(image) for image in self._directory.glob(f"*{_SUFFIX}"))

    def make(self, name: str, size_bytes: int, *, is_sparse: bool) -> None:
        """Make a blank image, durably; one that an interrupted creation left is replaced.

        Raises:
            LimitExceeded: If the disk is full; no file remains then.
            HostError: If the disk refuses for other reasons.
        """
        path = self.path(name)
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _overwrite_in_place(descriptor)
            if is_sparse:
                os.ftruncate(descriptor, size_bytes)
            else:
                os.posix_fallocate(descriptor, 0, size_bytes)
            os.fsync(descriptor)
        except OSError as error:
            path.unlink()
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise LimitExceeded(
                    f"{format_size(size_bytes)} do not fit on {self._directory}: {error.strerror}",
                    "Free some space, or ask for a smaller size",
                ) from error
            raise HostError(f"the image {path} cannot be made: {error.strerror}") from error
        finally:
            os.close(descriptor)
        sync_directory(self._directory)

    def remove(self, name: str, before: Callable[[], None]) -> None:
        """Remove an image durably; a missing one is no error.

        Args:
            name: The volume's name.
            before: Called once the image is locked, just before it is removed.

        Raises:
            VolumeInUse: If a loop device has it, by any of its names, or another program has it locked.
                Nothing was changed.
        """
        path = self.path(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            refuse_attached(descriptor, str(path))
            before()
            path.unlink()
        except BlockingIOError as error:
            raise VolumeInUse(f"the image {path} is attached or locked by another program") from error
        finally:
            os.close(descriptor)
        sync_directory(self._directory)


def is_image_name(name: str) -> bool:
    """Tell whether a file has the name of an image."""
    return name.endswith(_SUFFIX)


def _overwrite_in_place(descriptor: int) -> None:
    """Exclude the new, empty file from copy-on-write, where its filesystem has that.

    Btrfs gives every overwrite a new place: a preallocated image would fail on a full disk, and data that
    changes during direct I/O would not match its checksum (btrfs(5), "Checksum data" and "nodatacow").
    """
    with suppress(OSError):  # most filesystems have no such attribute
        flags = _FLAGS.unpack(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_FLAGS.size)))[0]
        fcntl.ioctl(descriptor, _SET_FLAGS, _FLAGS.pack(flags | _NO_COPY_ON_WRITE))


def _promised(image: Path) -> int:
    """Return the bytes that an image may still allocate; 0 if it was removed meanwhile."""
    try:
        return _unallocated(image.stat())
    except FileNotFoundError:
        return 0


def _unallocated(image: os.stat_result) -> int:
    return max(image.st_size - image.st_blocks * _BLOCK, 0)
