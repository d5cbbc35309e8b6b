"""A filesystem context (fsopen): what mount(2) does in one call, step by step, and the kernel's reasons."""

from __future__ import annotations

import contextlib
import ctypes
import os
from types import TracebackType
from typing import Final, Self

# The same numbers on every architecture that volplug runs on: asm-generic/unistd.h, linux/mount.h
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_FSOPEN_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6

_libc: Final = ctypes.CDLL(None, use_errno=True)


class FsContext:
    """One mount in preparation; closed without being attached anywhere, it ends.

    Raises:
        OSError: On opening, if the kernel has no fsopen (before Linux 5.2) or does not permit it.
    """

    def __init__(self, fs_type: str) -> None:
        self._descriptor = int(_libc.syscall(_SYS_FSOPEN, os.fsencode(fs_type), _FSOPEN_CLOEXEC))
        if self._descriptor < 0:
            raise _last_error()

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

    def said(self) -> str:
        """Return the kernel's last words, empty if it said nothing (more)."""
        said = b""
        with contextlib.suppress(OSError):
            while message := os.read(self._descriptor, 4096):
                said = message  # a letter for its kind, a space, the text
        return said[2:].decode("utf-8", "replace").strip()

    def _configure(self, command: int, key: bytes | None, value: bytes | None) -> None:
        if _libc.syscall(_SYS_FSCONFIG, self._descriptor, command, key, value, 0) != 0:
            raise _last_error()


def _last_error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
