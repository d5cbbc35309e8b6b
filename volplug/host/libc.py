"""System calls that the os module lacks (section 2 of the manual); a failed one raises OSError."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from types import TracebackType
from typing import Final, Self

# linux/fcntl.h, linux/stat.h
_AT_FDCWD: Final = -100
_AT_NO_AUTOMOUNT: Final = 0x800
_AT_STATX_DONT_SYNC: Final = 0x4000
_STATX_BYTES: Final = 256
_STATX_DEVICES: Final = struct.Struct("=4I")  # rdev_major, rdev_minor, dev_major, dev_minor
_STATX_DEVICES_OFFSET: Final = 128
_STATFS_BYTES: Final = 256  # f_type, a long, is its first field
_TIMEX_BYTES: Final = 256  # of linux/timex.h; 208 at most
_TIME_ERROR: Final = 5
_LONG: Final = struct.Struct("@l")

# The same numbers on every architecture that volplug runs on: asm-generic/unistd.h, linux/mount.h
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_FSOPEN_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6

_libc: Final = ctypes.CDLL(None, use_errno=True)


def mount(device: str, target: str, fs_type: str, flags: int, data: str) -> None:
    """Mount a device on a directory."""
    texts = (os.fsencode(text) for text in (device, target, fs_type))
    _check(_libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(data)))


def umount(target: str, flags: int) -> None:
    """Unmount the topmost mount at a directory, with umount2."""
    _check(_libc.umount2(os.fsencode(target), flags))


def syncfs(descriptor: int) -> None:
    """Write the filesystem of an open file to its device."""
    _check(_libc.syncfs(descriptor))


def device_numbers(path: str) -> tuple[int, int]:
    """Return the device number that a file is (0 for others than device nodes), and that of its filesystem.

    By statx, which unlike os.stat can be kept from querying a file server, which may be dead.
    """
    result = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_STATX_DONT_SYNC | _AT_NO_AUTOMOUNT
    _check(_libc.statx(_AT_FDCWD, os.fsencode(path), flags, 0, result))
    numbers = _STATX_DEVICES.unpack_from(result, _STATX_DEVICES_OFFSET)
    return os.makedev(*numbers[:2]), os.makedev(*numbers[2:])


def filesystem_magic(path: str) -> int:
    """Return which kind of filesystem a file lies on, as a number of linux/magic.h."""
    result = ctypes.create_string_buffer(_STATFS_BYTES)
    _check(_libc.statfs(os.fsencode(path), result))
    return int(_LONG.unpack_from(result.raw)[0]) & 0xFFFFFFFF


def is_clock_synchronised() -> bool:
    """Return whether a time service keeps the clock right, as the kernel knows from it; see adjtimex(2)."""
    query = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes is 0: nothing is set
    return _check(_libc.adjtimex(query)) != _TIME_ERROR


def inotify_watch(path: str, mask: int) -> int:
    """Return a descriptor that does not block, from which the events of a directory can be read."""
    descriptor = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        _check(_libc.inotify_add_watch(descriptor, os.fsencode(path), mask))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


class FsContext:
    """A filesystem context (fsopen): what mount(2) does in one call, step by step, with the kernel's reasons.

    Closed without having been attached to a directory, it ends without a trace.

    Raises:
        OSError: On opening, if the kernel has no fsopen (before Linux 5.2) or does not permit it.
    """

    def __init__(self, fs_type: str) -> None:
        self._descriptor = _check(_libc.syscall(_SYS_FSOPEN, os.fsencode(fs_type), _FSOPEN_CLOEXEC))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def set(self, option: str) -> None:
        """Set an option as written for mount(8), a flag or KEY=VALUE.

        Raises:
            OSError: If the kernel refuses it.
        """
        key, is_pair, value = option.partition("=")
        command = _FSCONFIG_SET_STRING if is_pair else _FSCONFIG_SET_FLAG
        self._configure(command, os.fsencode(key), os.fsencode(value) if is_pair else None)

    def create(self) -> None:
        """Make the filesystem ready for use, as mounting does: its journal is replayed.

        Raises:
            OSError: With the kernel's reason.
        """
        self._configure(_FSCONFIG_CMD_CREATE, None, None)

    def last_message(self) -> str:
        """Return the last message that the kernel has for this context and that was not read, or ""."""
        message = b""
        with contextlib.suppress(OSError):
            while record := os.read(self._descriptor, 4096):
                message = record  # a letter for its severity, a space, the text
        return message[2:].decode("utf-8", "replace").strip()

    def _configure(self, command: int, key: bytes | None, value: bytes | None) -> None:
        _check(_libc.syscall(_SYS_FSCONFIG, self._descriptor, command, key, value, 0))


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
